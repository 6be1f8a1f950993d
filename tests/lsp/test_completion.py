"""The pure stages of a completion. The cursor is written as a bar."""

import pytest

from magicoder.errors import UsageError
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.completion.text import RESERVE, Request, end, finish, request, window


def hole(text: str) -> Hole:
    before, after = text.split("|")
    return Hole(before, after)


def shown(text: str, answer: str, *, infill: bool = True, cut: bool = False) -> str:
    """What the user gets to see for a model's `answer` at the bar in `text`."""
    at = hole(text)
    asked = request(at, infill=infill)
    assert asked is not None
    return finish(at, asked, answer, cut=cut)


def test_a_hole_has_line_feeds_alone_and_knows_its_line() -> None:
    at = Hole.at("a\r\nb😀c\rd", 5)
    assert at == Hole("a\nb😀", "c\nd")
    assert (at.line_before, at.line_after, at.inside_line) == ("b😀", "c", True)
    assert not Hole("x", "  \ny").inside_line


def test_a_model_that_infills_gets_both_sides() -> None:
    assert request(hole("a = |\nb"), infill=True) == Request("a = ", "\nb", [])
    assert request(hole("f(|)\n"), infill=True) == Request("f(", ")\n", ["\n"])
    assert request(hole("|\nb"), infill=True) == Request("", "\nb", [])


def test_a_model_that_continues_gets_the_prefix_without_its_last_space() -> None:
    assert request(hole("a = |\nb"), infill=False) == Request("a =", None, ["\n```"])
    assert request(hole("    |"), infill=False) is None
    assert request(hole("f(|)"), infill=False) == Request("f(", None, ["\n"])


@pytest.mark.parametrize("infill", [True, False])
def test_nothing_is_asked_of_an_empty_document(infill: bool) -> None:
    assert request(hole("\n  |\n"), infill=infill) is None
    assert request(hole("|\nb"), infill=False) is None


def test_the_space_taken_back_is_not_inserted_twice() -> None:
    assert shown("return |", " a + b", infill=False) == "a + b"
    assert shown("return |", "a + b", infill=False) == "a + b"
    assert shown("return|", " a + b", infill=False) == " a + b"
    assert shown("return |", " a", infill=True) == " a"


@pytest.mark.parametrize("answer", ["", " ", "\n\n  \n", "\r\n"])
def test_white_space_is_nothing(answer: str) -> None:
    assert shown("x = |\n", answer) == ""


def test_inside_a_line_one_line_is_all_that_fits() -> None:
    assert shown("f(|)\n", "a, b\nprint()") == "a, b"
    assert shown("f(|)\n", "\nprint()") == ""
    assert end(hole("f(|)"), "a, b") is None
    assert end(hole("f(|)"), "a, b\n") == 4


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("print(|)", '"hello")', '"hello"'),
        ("foo(bar(|)", "1)", "1)"),
        ("foo(bar(|)", "1))", "1)"),
        ("foo(bar(|))", "1))", "1"),
        ("    a, |)", "bar(x)", "bar(x)"),
        ("    a, |)", "b)", "b"),
        ('x = "|"', 'hello"', "hello"),
        ("def f(a, |) -> int:", "b: int) -> int:", "b: int"),
        ("def f(a, |) -> int:", "b: int)", "b: int"),
        ("foo(|e)", "tree", "tree"),
        ("x[|];", "0];", "0"),
        ("f(|, c)", "a, b,", "a, b"),
    ],
)
def test_what_repeats_the_rest_of_the_line_is_cut(text: str, answer: str, expected: str) -> None:
    assert shown(text, answer) == expected


def test_a_repeated_next_line_ends_it() -> None:
    text = "if (x) {\n  |\n}\nelse y();"
    assert shown(text, "for (;;) {\n    z();\n  }\n}\nelse y();") == "for (;;) {\n    z();\n  }"
    assert shown(text, "a();\n}") == "a();"
    assert end(hole(text), "a();\n}") is None, "the line may still grow"
    assert end(hole(text), "a();\n} \n") == 4


def test_a_completion_that_is_the_next_line_is_nothing() -> None:
    assert shown("def f(a):\n    |\n    return a\n", "return a") == ""
    assert shown("def f(a):\n    |\n    return a\n", "return abs(a)") == "return abs(a)"


def test_a_blank_line_before_shallower_code_ends_it() -> None:
    body = "x = 1\n\n    if x:\n        return 2"
    assert shown("def f():\n    |", f"{body}\n\n# Test") == body
    assert shown("def f():|", f"\n    {body}\n\ndef g():") == f"\n    {body}"
    assert shown("class A:\n    def f(self):|", "\n        pass\n\n    def g") == "\n        pass"
    assert shown("import os|", "\nimport re\n\nx = 1") == "\nimport re"
    assert end(hole("def f():\n    |"), "x\n\n  ") is None, "its depth is not known yet"
    assert end(hole("def f():\n    |"), "x\n\n  y") == 2


def test_shallower_code_without_a_blank_line_goes_on() -> None:
    text = "x();\n  }\n  else {\n    y();\n  }"
    assert shown("  if (a) {\n    |", text) == text


def test_a_last_line_cut_by_the_token_limit_is_dropped() -> None:
    assert shown("x = |\n", "f(\n    a,\n    bcd", cut=True) == "f(\n    a,"
    assert shown("x = |\n", "f(a, b", cut=True) == "f(a, b"
    assert shown("def f():\n    |\n", "x\n\ndef g", cut=True) == "x"


def test_carriage_returns_become_line_feeds() -> None:
    assert shown("def f():|", "\r\n    pass\r\n") == "\n    pass"


def test_the_window_holds_whole_lines_and_fits_in_bytes() -> None:
    before = "".join(f"line {number} 漢字😀\n" for number in range(500)) + "cursor"
    after = "end\n" + "".join(f"next {number} é\n" for number in range(500))
    for context in (200, 500, 2000):
        part = window(Hole(before, after), context, max_tokens=64)
        size = len((part.before + part.after).encode())
        assert context - 64 - RESERVE - 60 < size <= context - 64 - RESERVE
        assert before.endswith(part.before)
        assert after.startswith(part.after)
        assert part.before.startswith("line ")
        assert part.after.endswith("\n")
        assert len(part.after.encode()) <= (context - 64 - RESERVE) // 4


def test_the_window_leaves_short_documents_and_cuts_long_lines() -> None:
    short = Hole("a\nb", "c\nd")
    assert window(short, 4096, 64) == short
    long = window(Hole("漢" * 9999, "字" * 9999), 1000, 64)
    assert set(long.before) == {"漢"}
    assert set(long.after) == {"字"}
    assert len((long.before + long.after).encode()) <= 1000 - 64 - RESERVE


def test_the_window_drops_half_characters() -> None:
    assert window(Hole("a\ud83d", "\ude00b"), 4096, 64).after == "b"


def test_an_answer_that_fills_the_context_is_told() -> None:
    with pytest.raises(UsageError, match="max_tokens is 64, but the model's context 64"):
        window(Hole("a", ""), 64, 64)
