"""Lines, positions and edits as LSP counts them, where pygls counts otherwise."""

import random
import re

import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

from magicoder.lsp.documents import Document, Edit, local_path

UNITS = {
    "utf-8": lambda text: len(text.encode()),
    "utf-16": lambda text: len(text.encode("utf-16-le")) // 2,
    "utf-32": len,
}
"""How many units a text has in each position encoding."""


def opened(text: str, encoding: str = "utf-16") -> Document:
    item = types.TextDocumentItem("file:///a.py", "python", 1, text)
    return Document(item, PositionCodec(encoding))


def position(text: str, encoding: str) -> types.Position:
    """Where `text` ends, counted here as the specification says."""
    lines = re.split("\r\n|\r|\n", text)
    return types.Position(len(lines) - 1, UNITS[encoding](lines[-1]))


def change(text: str, start: int, end: int, new: str, encoding: str) -> object:
    span = types.Range(position(text[:start], encoding), position(text[:end], encoding))
    return types.TextDocumentContentChangePartial(range=span, text=new)


def test_lines_end_where_lsp_ends_them() -> None:
    assert opened("a\fb\x0b\x1c\x85\u2028c\nd\r\ne\rf").lines == (
        "a\fb\x0b\x1c\x85\u2028c\n",
        "d\r\n",
        "e\r",
        "f",
    )
    assert opened("").lines == ()


@pytest.mark.parametrize(
    ("encoding", "units"),
    [("utf-8", [0, 3, 7, 8]), ("utf-16", [0, 1, 3, 4]), ("utf-32", [0, 1, 2, 3])],
)
def test_units_become_characters(encoding: str, units: list[int]) -> None:
    document = opened("x\n漢😀a\n", encoding)
    places = [types.Position(1, unit) for unit in units]
    assert [document.offset_at_position(place) for place in places] == [2, 3, 4, 5]
    assert [document.position_at(offset) for offset in (2, 3, 4, 5)] == places


def test_positions_outside_are_clamped_and_not_changed() -> None:
    document = opened("ab\r\ncd")
    far = types.Position(0, 9)
    assert document.offset_at_position(far) == 2
    assert far == types.Position(0, 9)
    assert document.offset_at_position(types.Position(1, 9)) == 6
    assert document.offset_at_position(types.Position(9, 0)) == 6
    assert opened("").offset_at_position(types.Position(3, 3)) == 0
    assert opened("😀\n").offset_at_position(types.Position(1, 0)) == 2
    assert opened("é\nb").offset_at_position(types.Position(0, 9)) == 1


@pytest.mark.parametrize("encoding", UNITS)
def test_ten_thousand_edits_leave_the_editors_text(encoding: str) -> None:
    chance = random.Random(encoding)
    alphabet = ["a", "()", "é", "漢字", "😀", "\n", "\r\n", "\r", "\f", "\u2028", "\x85", "\t"]
    text = "start 😀\r\n漢字\n" + "x = 1\n" * 20
    document = opened(text, encoding)
    assert document.syntax.text == text
    heard: list[Edit] = []
    document.subscribe(lambda _, edit: heard.append(edit))
    for turn in range(10_000):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 0, 0, 1, 2, 7, 30]))
        new = "".join(chance.choices(alphabet, k=chance.randrange(4)))
        if any(text[at - 1 : at + 1] == "\r\n" for at in (start, end) if at):
            continue  # no editor's cursor stands there
        if len(text) > 600:
            end = min(len(text), start + 40)
            if text[end - 1 : end + 1] == "\r\n":
                continue
        document.apply_change(change(text, start, end, new, encoding))
        assert heard.pop() == Edit(start, end, new)
        text = text[:start] + new + text[end:]
        if turn % 10 == 0:
            assert document.source == text
            assert document.syntax.text == text
            assert document.lines == opened(text).lines
            place = chance.randrange(len(text) + 1)
            if text[place - 1 : place + 1] != "\r\n" or not place:
                at = position(text[:place], encoding)
                assert document.offset_at_position(at) == place
                assert document.position_at(place) == at
    assert document.source == text


def test_a_whole_text_replaces_the_old_one() -> None:
    document = opened("a\nb\n")
    heard: list[Edit] = []
    document.subscribe(lambda _, edit: heard.append(edit))
    document.apply_change(types.TextDocumentContentChangeWholeDocument("c\r\n"))
    assert (document.source, document.lines) == ("c\r\n", ("c\r\n",))
    assert heard == [Edit(0, 4, "c\r\n")]


def test_the_language_is_the_editors_else_the_files() -> None:
    def named(language_id: str, uri: str) -> str | None:
        item = types.TextDocumentItem(uri, language_id, 1, "")
        language = Document(item, PositionCodec()).language
        return language and language.name

    assert named("typescriptreact", "file:///a.py") == "tsx"
    assert named("", "file:///a.rs") == "rust"
    assert named("plaintext", "untitled:Untitled-1") is None


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a%20b/c.py", "/a b/c.py"),
        ("file:/a/c.py", "/a/c.py"),
        ("file://localhost/a%20b/c.py", "/a b/c.py"),
        ("FILE://LocalHost/a/c.py", "/a/c.py"),
        ("file:////a/c.py", "/a/c.py"),
        ("file://localhost//a/c.py", "/a/c.py"),
        ("file:///a%23b%3Fc%2525.py", "/a#b?c%25.py"),
        ("file://elsewhere/a/c.py", None),
        ("vscode-remote://ssh/a/c.py", None),
        ("untitled:c.py", None),
    ],
)
def test_a_local_file_has_one_path(uri: str, path: str | None) -> None:
    assert local_path(uri) == path


def test_what_is_no_local_file_is_named_by_its_path() -> None:
    def path(uri: str) -> str:
        return Document(types.TextDocumentItem(uri, "", 1, ""), PositionCodec()).path

    assert path("file://localhost/a/c.py") == "/a/c.py"
    assert path("file://elsewhere/a/c.py") == path("vscode-remote://ssh/a/c.py") == "/a/c.py"
    assert path("untitled:Untitled-1") == "Untitled-1"
