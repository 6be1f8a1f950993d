"""Where nothing is asked. The cursor is written as a bar."""

import pytest

from magicoder.languages import by_name
from magicoder.lsp.completion.gate import refusal
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.trees import Source


def reason(text: str, language: str, *, invoked: bool = False) -> str | None:
    offset = text.index("|")
    text = text[:offset] + text[offset + 1 :]
    source = Source(text, by_name(language))
    return refusal(Hole.at(text, offset), source, offset, invoked=invoked)


REFUSED = [
    ("foo(|bar)\n", "python", "a word follows"),
    ("ba|r = 1\n", "python", "a word follows"),
    ("ba|r", "text", "a word follows"),
    ("漢|字", "text", "a word follows"),
    ('x = "an old| story"\n', "python", "in the midst of a string"),
    ('let s = `an old| "story" of ${x}`;\n', "typescript", "in the midst of a string"),
    ('let s = "an old| story";\n', "rust", "in the midst of a string"),
    ('foo("x|", b)\n', "python", "the string is complete"),
    ("foo('x|' + y);\n", "javascript", "the string is complete"),
    ("# an old| story\n", "python", "in the midst of a comment"),
    ("/* an old| story */\n", "c", "in the midst of a comment"),
    ("// That is all.|\n", "go", "the comment is complete"),
    ("# Really?|\n", "ruby", "the comment is complete"),
    ("/* an old story */|\n", "java", "the comment is complete"),
    ("x = 1  # for now!|\n", "python", "the comment is complete"),
    ("# ---------|\n", "python", "a line of signs"),
    ("//////////|\n", "rust", "a line of signs"),
    ("foo(a)|\n", "python", "the statement is complete"),
    ("foo(a)  |\n", "python", "the statement is complete"),
    ("foo(a)\r\nb()|\r\nc()\r\n", "python", "the statement is complete"),
    ("x = [1,\n  2]|\n", "python", "the statement is complete"),
    ('def f():\n    """Give."""|\n', "python", "the statement is complete"),
    ("f();|\n", "javascript", "the statement is complete"),
    ("if (x) {\n  y();\n}|\n", "javascript", "the statement is complete"),
    ("func f() {\n\tg()|\n}\n", "go", "the statement is complete"),
    ("class A {\n  void f() {\n    g();|\n  }\n}\n", "java", "the statement is complete"),
    ("fun f() {\n  g()|\n}\n", "kotlin", "the statement is complete"),
    ("foo()|\n", "swift", "the statement is complete"),
    ("foo(a)|\n", "ruby", "the statement is complete"),
    ("int f() {\n  return 1;|\n}\n", "cpp", "the statement is complete"),
    ("class A { int x; }|\n", "csharp", "the statement is complete"),
    ("<?php\nfoo();|\n", "php", "the statement is complete"),
    ('😀 = "\ud83d"\nfoo(a)|\n', "python", "the statement is complete"),
]

ASKED = [
    ("x = |\n", "python"),
    ("def f():\n    |\n", "python"),
    ("x = 1|\n", "python"),
    ("fo|\n", "python"),
    ("foo(|)\n", "python"),
    ("foo(|, b)\n", "python"),
    ("foo(a, |b=c)\n".replace("|b", "| b"), "python"),
    ('foo("|")\n', "python"),
    ('foo("|", b)\n', "python"),
    ('foo("a sto|")\n', "python"),
    ('x = "a sto|";\n', "javascript"),
    ('x = "a sto|\n', "python"),
    ('x = f"{a|} is"\n', "python"),
    ("let x = `${a|} is`;\n", "typescript"),
    ('if x == "a"|\n', "python"),
    ('foo("a"|)\n', "python"),
    ('grep "a"|\n', "shell"),
    ('puts "a"|\n', "ruby"),
    ("# |\n", "python"),
    ("#|\n", "python"),
    ("# Sum the|\n", "python"),
    ("# Sum the numbers:|\n", "python"),
    ("# Sum the numbers.\n|\n", "python"),
    ("# Sum the numbers.\nx = |\n", "python"),
    ("/** Sum the| */\n", "java"),
    ('def f():\n    """Give |\n\n    x.\n    """\n', "python"),
    ("def f(a)|\n", "python"),
    ("if foo(a)|\n", "python"),
    ("if (x)|\n\ny();\n", "javascript"),
    ("int main()|\n", "c"),
    ("int f() {\n  if (x)|\n  return 1;\n}\n", "c"),
    ("class A {\n  void f() {\n    g()|\n  }\n}\n", "java"),
    ("fn f()|\n", "rust"),
    ("fun f()|\n", "kotlin"),
    ("func f()|\n", "swift"),
    ("f()|\n", "shell"),
    ("for (let i = 0;|\n", "javascript"),
    ("foo(\n  bar()|\n)\n", "python"),
    ("x = [\n  {}|\n]\n", "python"),
    ("try {\n  f();\n}|\n", "java"),
    ("f();|\n", "text"),
    ("A story.|\n", "text"),
]


@pytest.mark.parametrize(("text", "language", "why"), REFUSED)
def test_nothing_is_asked(text: str, language: str, why: str) -> None:
    assert reason(text, language) == why


@pytest.mark.parametrize(("text", "language"), ASKED)
def test_it_is_asked(text: str, language: str) -> None:
    assert reason(text, language) is None


@pytest.mark.parametrize(("text", "language"), [row[:2] for row in REFUSED] + ASKED)
def test_the_user_who_presses_the_key_knows_better(text: str, language: str) -> None:
    assert reason(text, language, invoked=True) is None


@pytest.mark.parametrize("invoked", [True, False])
@pytest.mark.parametrize("language", ["python", "text"])
def test_nothing_is_asked_of_an_empty_document(language: str, invoked: bool) -> None:
    assert reason("\n  |\n", language, invoked=invoked) == "the document is empty"
