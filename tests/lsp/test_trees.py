"""A text and its tree under edits, against parsing it anew."""

import random
from pathlib import Path

import pytest

from magicoder.languages import by_name, by_path, syntax_errors
from magicoder.lsp.trees import Source

SAMPLES = sorted((Path(__file__).parents[1] / "data/sources").glob("*/*"))
TYPED = ["(", ")", "{", "}", "[", "]", "\n", "\n\t", "\n  ", "x", "end", "😀", "\ud83d", '"', "/*"]
TYPED += ["*/", "#", "=", ";", "\r\n", "漢", "'"]


def shape(source: Source) -> list[tuple[str, int, int, bool]]:
    assert source.tree is not None
    nodes, found = [source.tree.root_node], []
    while nodes:
        node = nodes.pop()
        found.append((node.type, node.start_byte, node.end_byte, node.is_missing))
        nodes.extend(node.children)
    return found


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.parent.name)
def test_edits_leave_the_tree_that_parsing_anew_gives(path: Path) -> None:
    language, text = by_path(path), path.read_text()
    rng = random.Random(path.name)
    source = Source(text, language)
    sound = 0
    for number in range(400):
        start = rng.randint(0, len(source.text))
        end = min(start + rng.choice([0, 0, 1, 5, 40]), len(source.text))
        piece = rng.randint(0, len(text))
        new = rng.choice([rng.choice(TYPED), text[piece : piece + rng.randint(0, 30)]])
        expected = source.text[:start] + new + source.text[end:]
        if number % 2:
            # What a suggestion would make of it, and the text itself as it was.
            before = shape(source)
            filled = source.filled(start, new, end)
            assert shape(source) == before
            check(filled, expected)
            sound += not filled.errors
        else:
            source.edit(start, end, new)
            check(source, expected)
        if number % 10 == 0:
            source.edit(0, len(source.text), text)
            check(source, text)
            assert source.errors == 0
    assert sound > 3


def check(source: Source, text: str) -> None:
    assert source.text == text
    fresh = Source(text, source.language)
    assert (source.errors == 0) == (fresh.errors == 0)
    if not fresh.errors:
        assert shape(source) == shape(fresh)
    assert source.language is not None
    assert fresh.errors == syntax_errors(text, source.language)


def test_without_a_grammar_there_is_no_tree() -> None:
    source = Source("a", None)
    source.edit(0, 1, "((")
    assert (source.text, source.tree, source.errors, source.node_at(1)) == ("((", None, 0, None)
    assert source.filled(1, "x").text == "(x("


def test_errors_are_counted_for_the_text_as_it_is() -> None:
    source = Source("f(a);\ng(b);\n", by_name("c"))
    assert source.errors == 0
    source.edit(3, 4, "")
    assert source.errors == 1
    assert source.filled(3, ")").errors == 0
    assert source.errors == 1
    source.edit(3, 3, ")")
    assert source.errors == 0


def test_a_missing_bracket_is_one_error() -> None:
    assert Source("int f() { return 1;", by_name("c")).errors == 1


def test_the_node_at_a_cursor_holds_the_character_before_it() -> None:
    source = Source('é = "😀 is"\nf(é)', by_name("python"))
    for offset, kind in ((1, "identifier"), (6, "string_content"), (12, "identifier")):
        node = source.node_at(offset)
        assert node is not None
        assert node.type == kind
    assert source.byte(6) == 10
    first = source.node_at(0)
    assert first is not None
    assert first.start_byte == 0


def test_a_huge_text_has_no_tree_until_it_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magicoder.lsp.trees.LARGEST", 10)
    source = Source("x = 1\n", by_name("python"))
    assert source.tree is not None
    source.edit(0, 0, "y = (\n")
    assert source.tree is None
    assert (source.errors, source.node_at(3)) == (0, None)
    assert source.filled(0, "", 6).tree is not None
    source.edit(0, 6, "")
    assert shape(source) == shape(Source("x = 1\n", by_name("python")))
