"""Changes as edits: applied, they give the new code, and touch nothing else."""

import random

import pytest

from magicoder.lsp.instruct.edits import Change, Hunk, change

LINES = ["a\n", "b\n", "c\n", "d\n", "e"]


@pytest.mark.parametrize(
    ("span", "code", "hunks", "summary"),
    [
        ((1, 2), "b\nc", (), None),
        ((1, 2), "b\nx", (Hunk(2, 3, "x\n"),), "1 line added, 1 removed, at line 3"),
        ((1, 3), "b\nd", (Hunk(2, 3, ""),), "1 line removed, at line 3"),
        ((1, 1), "x\ny\nb", (Hunk(1, 1, "x\ny\n"),), "2 lines added, at line 2"),
        ((4, 4), "e\nf", (Hunk(4, 5, "e\nf"),), "2 lines added, 1 removed, at line 5"),
        (
            (0, 2),
            "x\nb\ny",
            (Hunk(0, 1, "x\n"), Hunk(2, 3, "y\n")),
            "2 lines added, 2 removed, at line 1",
        ),
    ],
)
def test_only_what_differs_is_edited(
    span: tuple[int, int], code: str, hunks: tuple[Hunk, ...], summary: str | None
) -> None:
    found = change(LINES, *span, code)
    assert found.hunks == hunks
    if summary:
        assert found.summary() == summary


def test_the_lines_keep_their_kind_of_break() -> None:
    lines = ["a\r\n", "b\r\n"]
    assert change(lines, 0, 1, "a\nx\nb").applied(lines) == "a\r\nx\r\nb\r\n"
    assert change(["a"], 0, 0, "a\nb").applied(["a"]) == "a\nb"
    assert change(["x\r\n", "a"], 1, 1, "a\nb").applied(["x\r\n", "a"]) == "x\r\na\r\nb"


def test_random_changes_give_the_new_code() -> None:
    draw = random.Random(0)
    for _ in range(300):
        lines = [draw.choice("abc") + "\n" for _ in range(draw.randint(1, 9))]
        if draw.random() < 0.3:
            lines[-1] = lines[-1][:-1]
        first = draw.randrange(len(lines))
        last = draw.randrange(first, len(lines))
        code = "\n".join(draw.choice("abcd") for _ in range(draw.randint(1, 6)))
        end = "" if last == len(lines) - 1 and not lines[-1].endswith("\n") else "\n"
        found: Change = change(lines, first, last, code)
        expected = "".join(lines[:first]) + code + end + "".join(lines[last + 1 :])
        assert found.applied(lines) == expected
