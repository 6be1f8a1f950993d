"""Answers made fit for their place. The cursor is written as a bar."""

import pytest

from magicoder.languages import by_name
from magicoder.lsp.completion.finish import finish
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.completion.scope import extent
from magicoder.lsp.trees import Source


def shown(text: str, answer: str, language: str = "text", *, cut: bool = False) -> str:
    """What the user gets to see for a model's `answer` at the bar in `text`."""
    offset = text.index("|")
    text = text[:offset] + text[offset + 1 :]
    source, hole = Source(text, by_name(language)), Hole.at(text, offset)
    return finish(hole, extent(hole, source, offset), answer, cut=cut)


@pytest.mark.parametrize("language", ["python", "text"])
@pytest.mark.parametrize("answer", ["", " ", "\n\n  \n", "\r\n", "<|endoftext|>", "```\n```"])
def test_white_space_is_nothing(answer: str, language: str) -> None:
    assert shown("x = |\n", answer, language) == ""


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("a = 1\nb = 2\n|", "a = 1\nb = 2\n", ""),
        ("def f():\n    return 1\n\n\n|", "def f():\n    return 1", ""),
        ("a = 1\nb = 2\n|", "a = 1\nb = 3\n", "a = 1\nb = 3"),
        ("a = 1\n|", "a = 1\n", "a = 1"),
    ],
)
def test_what_stands_right_above_is_not_said_again(text: str, answer: str, expected: str) -> None:
    assert shown(text, answer, "python") == expected


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("print(|)", '"hello")', '"hello"'),
        ("foo(bar(|)", "1)", "1)"),
        ("foo(bar(|)", "1))", "1)"),
        ("foo(bar(|))", "1))", "1"),
        ("foo(bar(|))", "1)", "1"),
        ("foo(|)", "bar(1)", "bar(1)"),
        ("if (foo(|)) {", "a)) {", "a"),
        ("    a, |)", "bar(x)", "bar(x)"),
        ("    a, |)", "b)", "b"),
        ('x = "|"', 'hello"', "hello"),
        ('print(f"{|}")', 'x}")', "x"),
        ("def f(a, |) -> int:", "b: int) -> int:", "b: int"),
        ("def f(a, |) -> int:", "b: int)", "b: int"),
        ("foo(|e)", "tree", "tree"),
        ("x[|];", "0];", "0"),
        ("f(|, c)", "a, b,", "a, b"),
        ("x = {|}", "", ""),
    ],
)
def test_what_repeats_the_rest_of_the_line_is_cut(text: str, answer: str, expected: str) -> None:
    assert shown(text, answer) == expected
    assert shown(text, answer, "python") == expected


@pytest.mark.parametrize("language", ["python", "text"])
@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("def f(a):\n    |\n    return a\n", "return a", ""),
        ("def f(a):\n    |\n    return a\n", "return abs(a)", "return abs(a)"),
        ("f(\n    |\n)\ng()\n", "a,\n    b\n)", "a,\n    b"),
        ("f(\n    |\n)\ng()\n", "a,\n    b\n)\ng()", "a,\n    b"),
        ("f(\n    |\n)\ng(12)\n", "a,\n    b\n)\ng(1", "a,\n    b"),
        ("x = |\n\nfoo(a)\nbar(b)\n", "1\nfoo(a)\nbar(b)", "1"),
        ("x = |\n\nfoo(a)\nbar(b)\n", "1\n\nfoo(a)", "1"),
        ("x = 1|\nx = 11\n", "1", ""),
    ],
)
def test_what_repeats_the_lines_below_is_cut(
    text: str, answer: str, expected: str, language: str
) -> None:
    assert shown(text, answer, language) == expected


def test_it_ends_where_the_watch_would_have_ended_it() -> None:
    body = "x = 1\n\n    if x:\n        return 2"
    for language in ("python", "text"):
        assert shown("def f():\n    |", f"{body}\n\n# Test", language) == body
        assert shown("def f():|", f"\n    {body}\n\ndef g():", language) == f"\n    {body}"
        assert shown("import os|", "\nimport re\n\nx = 1", language) == "\nimport re"
        assert shown("f(|)\n", "a, b\nprint()", language) == "a, b"
        assert shown("f(|)\n", "\nprint()", language) == ""
    text = "class A:\n    def f(self):|"
    assert shown(text, "\n        pass\n\n    def g", "python") == "\n        pass"
    assert shown("x = |\n", "f(a)\nf(b)", "python") == "f(a)"


def test_a_last_line_cut_by_the_token_limit_is_dropped() -> None:
    assert shown("x = |\n", "f(\n    a,\n    bcd", cut=True) == "f(\n    a,"
    assert shown("x = |\n", "f(a, b", cut=True) == "f(a, b"
    assert shown("def f():\n    |\n", "x\n\ndef g", cut=True) == "x"
    assert shown("x = |\n", "f(\n    a,\n    bcd", cut=False) == "f(\n    a,\n    bcd"


def test_carriage_returns_become_line_feeds() -> None:
    assert shown("def f():|", "\r\n    pass\r\n") == "\n    pass"


def test_loops_and_control_tokens_are_cut() -> None:
    assert shown("|", "x\nfoo(a)\nfoo(a)\nfoo(a)") == "x\nfoo(a)"
    assert shown("x = |", "[" + "1, 22, " * 20) == "[1, 22,"
    assert shown("x = |", "1<|fim_middle|>2") == "1"
    assert shown("x = |", "1</s>") == "1"
    assert shown("x = |\n", "<fim_prefix>1") == ""


def test_an_answer_in_a_fence_is_taken_out_of_it() -> None:
    assert shown("x = |\n", "```python\n1 + 2\n```\nThis adds.", "python") == "1 + 2"
    assert shown("f(|)\n", "```\na\n```", "python") == "a"
    assert shown("```\nx\n```\n\n|", "```\ny\n```") == "```\ny\n```"


def test_blanks_are_not_doubled() -> None:
    assert shown("return |", " a + b") == "a + b"
    assert shown("return|", " a + b") == " a + b"
    assert shown("def f():\n    |\n", "    return 1\n    x") == "return 1\n    x"
    assert shown("def f():\n|\n", "    return 1") == "    return 1"
    assert shown("def f():\n  |\n", "  return 1") == "  return 1", "its depth is the model's"
    assert shown("if a:\n    b\n    |\n", "    c") == "c"


def test_a_blank_before_a_word_stays() -> None:
    assert shown("if |a:", "not ") == "not "
    assert shown("x = |+ y", "1 ") == "1"


def test_what_goes_above_a_line_ends_its_own() -> None:
    assert shown("def f():\n|    return x\n", "    x = 1", "python") == "    x = 1\n"
    assert shown("def f():\n|    return x\n", "    x = 1\n    return x", "python") == "    x = 1\n"
    assert shown("def f():\n|    return x\n", "    return x", "python") == ""


FOUR = "if a:\n    b\nif c:\n    d\n"
TWO = "if (a) {\n  b;\n}\nif (c) {\n  d;\n}\n"


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (FOUR + "|", "if e:\n  if f:\n    g\n  h", "if e:\n    if f:\n        g\n    h"),
        (FOUR + "|", "if e:\n    if f:\n        g", "if e:\n    if f:\n        g"),
        (FOUR + "|", "if e:\n\tif f:\n\t\tg", "if e:\n    if f:\n        g"),
        (TWO + "|", "if (e) {\n    f(g,\n      h);\n}", "if (e) {\n    f(g,\n      h);\n}"),
        (TWO + "|", "if (e) {\n    f;\n}", "if (e) {\n  f;\n}"),
        (TWO + "  |", "if (e) {\n      f;\n  }", "if (e) {\n    f;\n  }"),
        ("{\n\ta;\n\tb;\n\t|", "if (c) {\n        d;\n    }", "if (c) {\n\t\td;\n\t}"),
        ("{\n\ta;\n\tb;\n\t|", "if (c) {\n\t\td;\n\t}", "if (c) {\n\t\td;\n\t}"),
        ("if a:\n    b\n|", "if c:\n  if d:\n    e", "if c:\n  if d:\n    e"),
        ("|", "if (c) {\n\t d;\n}", "if (c) {\n\t d;\n}"),
        (FOUR + "|", "x = (1 +\n     2)", "x = (1 +\n     2)"),
    ],
)
def test_lines_are_indented_as_this_file_is(text: str, answer: str, expected: str) -> None:
    assert shown(text, answer) == expected


@pytest.mark.parametrize("language", ["python", "text"])
@pytest.mark.parametrize(
    "char", ["\0", "\x1b", "\x08", "\f", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\u2069"]
)
def test_nothing_is_suggested_that_is_not_seen(char: str, language: str) -> None:
    assert shown("x = |\n", f"1{char}2", language) == "1"
    assert shown(f"# {char}\nx = |\n", f"1{char}2", language) == "1"
    assert shown("x = |\n", f"{char}2", language) == ""


def test_tabs_and_other_scripts_are_seen() -> None:
    assert shown("x = |\n", '"\tשלום 漢字 👩‍💻"') == '"\tשלום 漢字 👩‍💻"'


@pytest.mark.parametrize("mark", ["<EOF>", "<EOS>", "<UNK>", "[/INST]", "<<SYS>>"])
def test_a_control_token_written_as_text_ends_it(mark: str) -> None:
    assert shown("x = |\n", f"1 {mark} more") == "1"
    assert shown(f'END = "{mark}"\nx = |\n', f'"{mark}" + y') == f'"{mark}" + y'
