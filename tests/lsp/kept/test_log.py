"""What counts as shown, accepted and surviving, told from edits alone."""

import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from magicoder.lsp.documents import Edit
from magicoder.lsp.kept.log import Log
from magicoder.lsp.kept.records import Record

from .conftest import Editor, Timers, opened

Make = Callable[[str], Editor]


def only(found: list[Record]) -> Record:
    assert len(found) == 1, found
    return found[0]


def test_accepted_whole_and_kept(edit: Make) -> None:
    editor = edit("x = 1\n")
    editor.show(6, "print(x)\nprint(x)", id="7", source="attached", latency=0.1234)
    editor.timers.wait(2)
    editor.accept(6, "print(x)\nprint(x)")
    editor.timers.wait(599)
    assert not editor.records(), "its fate is not known"
    editor.timers.wait(1)
    record = only(editor.records())
    assert record.model_dump(exclude={"time"}) == {
        "id": "7",
        "language": "python",
        "model": "m",
        "source": "attached",
        "lines": 2,
        "characters": 17,
        "latency_ms": 123.4,
        "shown_ms": 2000,
        "accepted": "whole",
        "accepted_characters": 17,
        "typed_characters": 0,
        "survival": {"s30": 1, "min2": 1, "min10": 1},
    }
    assert editor.end() == [record], "nothing is written twice"


def test_not_accepted_is_written_when_another_is_shown(edit: Make) -> None:
    editor = edit("x = ")
    editor.show(4, "one", id="1")
    editor.timers.wait(1)
    editor.insert(4, "2")
    editor.timers.wait(60)
    assert not editor.records(), "it may come back"
    editor.show(5, " + y", id="2")
    record = only(editor.records())
    assert (record.id, record.accepted, record.survival) == ("1", "no", None)
    assert record.shown_ms == 1000, "it stood until the other key"
    assert [record.id for record in editor.end()] == ["1", "2"]


def test_no_code_is_in_it(edit: Make) -> None:
    editor = edit("secret_name = ")
    editor.show(14, "hidden_value + 1")
    editor.accept(14, "hidden_value + 1")
    editor.end()
    text = editor.file.read_text()
    assert "secret" not in text
    assert "hidden" not in text
    assert "a.py" not in text
    assert stat.S_IMODE(editor.file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "step", "accepted", "typed"),
    [
        ("return x", ["return x"], "whole", 0),
        (")", [")"], "whole", 0),  # one character, at once
        ("return x", ["return", " x"], "whole", 0),  # by words
        ("a\n  b", ["a\n", "  b"], "whole", 0),  # by lines
        ("return x", ["return"], "part", 0),
        ("return x", ["r", "e", "turn x"], "whole", 2),
        ("return x", list("return x"), "no", 8),  # typed to its end
        ("return x", list("retur"), "no", 5),
        ("return x", ["re", "tu", "rn"], "part", 4),  # keys in twos; only the last ends a word
        ("if x:\n    y", [*"if x:", "\n    ", "y"], "no", 11),  # the editor indents
        ("()", ["()"], "no", 2),  # and closes
        ("my_name", ["my"], "no", 2),  # not the end of a word
        ("return x", ["break"], "no", 0),
        ("return x", ["return y"], "no", 0),
        ("return x", ["return x + 1"], "no", 0),
        ("return x", ["return", "!"], "part", 0),
        ("return x", ["return", " ", "x"], "whole", 2),
    ],
)
def test_acceptance_and_typing(
    edit: Make, text: str, step: list[str], accepted: str, typed: int
) -> None:
    editor = edit("ab\ncd\n")
    editor.show(3, text)
    at = 3
    for part in step:
        at = editor.insert(at, part)
    record = only(editor.end())
    assert (record.accepted, record.typed_characters) == (accepted, typed)
    taken = sum(map(len, step)) - typed if accepted != "no" else 0
    assert record.accepted_characters == taken - ("!" in step)


def test_what_is_left_after_typing_or_a_word_is_the_same_suggestion(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "return foo(x)", id="first")
    at = editor.type(0, "re")
    editor.show(at, "turn foo(x)", id="typed through", source="cache")
    at = editor.accept(at, "turn ")
    editor.show(at, "foo(x)", id="a word", source="cache")
    at = editor.type(at, "fo")
    editor.show(at, "o(x)", id="typed again", source="cache")
    editor.accept(at, "o(x)")
    record = only(editor.end())
    assert (record.id, record.source) == ("first", "model")
    assert (record.accepted, record.typed_characters) == ("whole", 4)
    assert record.accepted_characters == len("turn o(x)")


def test_a_mistake_that_is_mended_brings_back_the_same(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "return x", id="1")
    editor.timers.wait(1)
    at = editor.type(0, "rw")
    editor.timers.wait(5)
    editor.edit(at - 1, at, "")
    editor.show(1, "eturn x", id="2")
    editor.timers.wait(1)
    editor.accept(1, "eturn x")
    record = only(editor.end())
    assert (record.id, record.accepted, record.typed_characters) == ("1", "whole", 1)
    assert record.shown_ms == 2000


def test_backspace_over_what_was_typed_along_keeps_it(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "return x")
    editor.type(0, "ret")
    editor.edit(1, 3, "")
    editor.accept(1, "eturn x")
    record = only(editor.end())
    assert (record.accepted, record.typed_characters) == ("whole", 1)


def test_backspace_over_what_was_accepted_ends_it(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "return x")
    editor.accept(0, "return")
    editor.edit(5, 6, "")
    editor.show(5, "n x", id="other")
    first, other = editor.end()[::-1]
    assert (first.id, first.accepted, first.accepted_characters) == ("s", "part", 6)
    assert (other.id, other.accepted) == ("other", "no")


def test_backspace_counts_only_what_was_typed_last(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "return x y")
    editor.type(0, "ret")
    editor.accept(3, "urn x")
    editor.edit(7, 8, "")
    editor.accept(7, "x y")
    record = only(editor.end())
    assert (record.accepted, record.accepted_characters) == ("part", 5)


def test_another_text_is_another_suggestion(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "return x", id="1")
    editor.type(0, "r")
    editor.show(1, "aise", id="2")
    assert [(r.id, r.typed_characters) for r in editor.end()] == [("1", 1), ("2", 0)]


def test_alternatives_count_as_one_and_the_accepted_one_is_told(edit: Make) -> None:
    editor = edit("")
    for number, text in enumerate(("return x", "raise", "return y + 1")):
        editor.show(0, text, id=str(number))
    editor.accept(0, "return y + 1")
    record = only(editor.end())
    assert (record.id, record.accepted, record.characters) == ("2", "whole", 12)


def test_an_alternative_that_begins_another_is_told_from_it(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "return x", id="long")
    editor.show(0, "return", id="short")
    editor.accept(0, "return")
    record = only(editor.end())
    assert (record.id, record.accepted, record.characters) == ("short", "whole", 6)


def test_a_last_line_break_is_no_line(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "x = 1\n")
    assert only(editor.end()).lines == 1


def test_a_deletion_beyond_what_was_typed_hides_it(edit: Make) -> None:
    editor = edit("ab")
    editor.show(2, "return x")
    editor.type(2, "retw")
    editor.edit(3, 6, "")
    editor.show(3, "eturn x")
    editor.edit(0, 3, "")
    editor.insert(0, " x")
    assert only(editor.end()).accepted == "no"


def test_an_edit_before_it_ends_it(edit: Make) -> None:
    editor = edit("import os\nx = ")
    editor.show(14, "os.name", id="1")
    editor.insert(0, "import sys\n")
    editor.show(25, "os.name", id="2")
    assert [record.id for record in editor.end()] == ["1", "2"]


def test_an_edit_behind_it_hides_it(edit: Make) -> None:
    editor = edit("x = \ny = 2\n")
    editor.show(4, "os.name")
    editor.edit(9, 10, "3")
    editor.insert(4, "os.name")
    assert only(editor.end()).accepted == "no", "it was not there any more"


@pytest.mark.parametrize(
    ("before", "at", "text", "edit_as"),
    [
        ("f()", 2, "a)", Edit(2, 2, "a)")),
        ("f()", 2, "a)", Edit(2, 3, "a))")),  # the rest of the line is replaced
        ("f()", 2, "a)", Edit(0, 3, "f(a))")),  # or the line
        ("f()\n", 2, ")a", Edit(3, 3, "a)")),  # found by comparing lines
        ("a\n\n\n", 2, "b\n", Edit(3, 3, "b\n")),  # this is another place
        ("aab", 2, "ab", Edit(0, 0, "aa")),
        ("f(xy)", 2, "xy", Edit(4, 4, "zz")),
        ("xy", 2, "xy", Edit(0, 0, "zz")),
    ],
)
def test_editors_say_the_same_edit_in_other_words(
    edit: Make, before: str, at: int, text: str, edit_as: Edit
) -> None:
    editor = edit(before)
    editor.show(at, text)
    editor.document.apply(edit_as)
    after = before[:at] + text + before[at:]
    expected = "whole" if editor.document.source == after else "no"
    assert only(editor.end()).accepted == expected


def test_what_the_menu_would_replace_was_typed_before(edit: Make) -> None:
    editor = edit("x = pri\n")
    editor.show(4, "print(y)", end=7)
    editor.document.apply(Edit(4, 7, "print(y)"))
    record = only(editor.end())
    assert (record.accepted, record.characters, record.accepted_characters) == ("whole", 5, 5)


@pytest.mark.parametrize("text", ["print(y)", "PRI"])
def test_what_is_not_a_continuation_is_not_followed(edit: Make, text: str) -> None:
    editor = edit("x = PRI\n")
    editor.show(4, text, end=7)
    assert not editor.end()


def test_line_ends_of_the_file_are_not_a_difference(edit: Make) -> None:
    editor = edit("a\r\n")
    editor.show(3, "b\nc")
    editor.accept(3, "b\r\nc")
    editor.edit(3, 4, "")
    record = only(editor.end())
    assert (record.accepted, record.accepted_characters, record.characters) == ("whole", 3, 3)


def test_survival_is_looked_at_three_times(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "0123456789")
    editor.accept(0, "0123456789")
    editor.timers.wait(29)
    editor.edit(0, 1, "")
    editor.timers.wait(2)
    editor.edit(0, 1, "")
    editor.timers.wait(90)
    editor.insert(4, "new\n")
    editor.edit(3, 8, "")  # that, and one more of it
    editor.timers.wait(500)
    survival = only(editor.records()).survival
    assert survival is not None
    assert (survival.s30, survival.min2) == (0.9, 0.8)
    assert survival.min10 == 0.7


def test_a_formatter_that_changes_lines_around_it_leaves_it(edit: Make) -> None:
    editor = edit("a\n\nb\n")
    editor.show(2, "one two")
    editor.accept(2, "one two")
    editor.document.apply(Edit(0, 12, "aaaa\none two\nc\n"))
    editor.timers.wait(30)
    survival = only(editor.end()).survival
    assert survival is not None
    assert survival.s30 == 1


def test_what_is_not_known_at_the_end_is_null(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "one two")
    editor.accept(0, "one two")
    editor.timers.wait(31)
    editor.log.closed(editor.document)
    survival = only(editor.records()).survival
    assert survival is not None
    assert survival.model_dump() == {"s30": 1, "min2": None, "min10": None}
    editor.timers.wait(1000)
    assert len(editor.end()) == 1, "its timers are off"


def test_a_document_opened_again_is_a_new_one(edit: Make) -> None:
    editor = edit("")
    editor.show(0, "one two")
    editor.log.closed(editor.document)
    editor.document.apply(Edit(0, 0, "one two"))
    editor.document = opened("")
    editor.show(0, "one two")
    editor.accept(0, "one two")
    assert [record.accepted for record in editor.end()] == ["no", "whole"]


def test_documents_do_not_disturb_one_another(edit: Make) -> None:
    editor, other = edit(""), opened("", "file:///w/b.py")
    editor.show(0, "one two")
    other.apply(Edit(0, 0, "x"))
    editor.accept(0, "one two")
    assert only(editor.end()).accepted == "whole"


def test_a_log_that_cannot_be_written_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deep").write_text("a file, where the folder should be")
    log, timers = Log(tmp_path / "deep" / "kept.jsonl", timers=Timers()), Timers()
    editor = Editor(log, timers, tmp_path / "x", opened(""), [])
    for text in ("one", "two", "three"):
        editor.show(0, text)
        editor.insert(0, "\n")
    log.close()
    assert len(caplog.messages) == 1
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("formatter", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_survival_against_a_model_that_tags_every_character(
    edit: Make, seed: int, formatter: bool
) -> None:
    """Random sessions. Characters are unlike all others, so that each edit means one thing.

    Line breaks are not; so what is accepted has none where a formatter replaces the whole text.
    """
    chance = random.Random(seed)
    fresh = map(chr, range(0x4E00, 0x9FFF))

    def some(most: int, breaks: float = 0.0 if formatter else 0.1) -> str:
        length = chance.randint(1, most)
        return "".join("\n" if chance.random() < breaks else next(fresh) for _ in range(length))

    editor = edit(some(60, 0.1))
    expected = []
    for _ in range(5):
        at = chance.randint(0, len(editor.accepted))
        text = f"{next(fresh)}{some(20)} {some(20)}{next(fresh)}"
        editor.show(at, text)
        editor.accepted = [False] * len(editor.accepted)  # only this one's characters
        cut = chance.choice([len(text), text.index(" "), 1, chance.randint(2, len(text) - 1)])
        editor.accept(at, text[:cut])
        ends_a_word = cut == len(text) or not text[cut - 1 : cut + 1].isalnum()
        shares = []
        for seconds in (30, 90, 480):
            for _ in range(chance.randint(0, 6)):
                change(editor, chance, some, formatter)
            editor.timers.wait(seconds)
            shares.append(sum(editor.accepted))
        if cut > 1 and ends_a_word:
            expected.append((cut, [round(left / cut, 4) for left in shares]))
    found = [
        (record.accepted_characters, list(record.survival.model_dump().values()))
        for record in editor.end()
        if record.survival
    ]
    assert found == expected


def change(
    editor: Editor, chance: random.Random, some: Callable[..., str], formatter: bool
) -> None:
    """One random edit: a deletion, an insertion or a replacement, or the same as a whole text."""
    size = len(editor.accepted)
    start = chance.randint(0, size)
    end = min(size, start + chance.choice([0, chance.randint(0, 12)]))
    new = "" if chance.random() < 0.4 else some(10, 0.0 if end > start else 0.1)
    if formatter:
        source = editor.document.source
        editor.accepted[start:end] = [False] * len(new)
        editor.document.apply(Edit(0, size, source[:start] + new + source[end:]))
    else:
        editor.edit(start, end, new)
