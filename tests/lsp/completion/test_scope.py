"""How much may be inserted. The cursor is written as a bar."""

import pytest

from magicoder.languages import by_name
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.completion.scope import Extent, Owner, depth, extent
from magicoder.lsp.trees import Source


def of(text: str, language: str = "python") -> Extent:
    offset = text.index("|")
    text = text[:offset] + text[offset + 1 :]
    return extent(Hole.at(text, offset), Source(text, by_name(language)), offset)


def owners(text: str, language: str = "python") -> list[tuple[int, str]]:
    return [(owner.depth, owner.kind) for owner in of(text, language).owners]


@pytest.mark.parametrize("language", ["python", "text"])
@pytest.mark.parametrize("text", ["f(|)\n", "x = |[0]", "  |x", "def f(|) -> int:\n", "if |:\n"])
def test_with_text_behind_the_cursor_one_line_is_all_that_fits(text: str, language: str) -> None:
    assert of(text, language) == Extent("line")


@pytest.mark.parametrize("text", ["x = |\n", "|", "def f():\n    |\n", "|    x\n"])
def test_without_a_grammar_indentation_alone_tells(text: str) -> None:
    assert of(text, "text") == Extent("free")


@pytest.mark.parametrize("text", ["x = |\n", "|", "def f():\n    |\n", "x = [|  \n", "|    x\n"])
def test_else_a_block_may_follow(text: str) -> None:
    assert of(text).kind == "block"


def test_owners_are_the_less_deep_lines_above() -> None:
    text = "class A:\n\n    def f(self):\n        for a in b:\n            c()\n            |"
    assert of(text).owners[1:] == (
        Owner(8, "for", "block"),
        Owner(4, "def", "definition"),
        Owner(0, "class", "list"),
    )
    assert of(text).last == 12
    assert of("|").last == -1


def test_at_the_start_of_a_line_only_definitions_own() -> None:
    text = "class A:\n    def f(self):\n        for a in b:\n            c()\n|\n"
    assert owners(text) == [(4, "definition"), (0, "list")]


@pytest.mark.parametrize(
    ("text", "language", "kinds"),
    [
        ("class A {\n  int f() {\n    |\n  }\n}", "java", ["definition", "list"]),
        ("class A {\n  f() {\n    |\n  }\n}", "javascript", ["definition", "list"]),
        ("const f = (a) => {\n  |\n};", "javascript", ["definition"]),
        ("interface A {\n  |\n}", "typescript", ["list"]),
        ("impl A {\n    fn f() {\n        |\n    }\n}", "rust", ["definition", "list"]),
        ("namespace n {\n  int f() {\n    |\n  }\n}", "cpp", ["definition", "list"]),
        ("static int f(void) {\n  |\n}", "c", ["definition"]),
        ("class A {\n    int F() {\n        |\n    }\n}", "csharp", ["definition", "list"]),
        ("package a\n\nfunc f() {\n\t|\n}", "go", ["definition"]),
        ("module A\n  def f\n    |\n  end\nend", "ruby", ["definition", "list"]),
        ("f() {\n  |\n}", "shell", ["definition"]),
        ("<?php\nclass A {\n  function f() {\n    |\n  }\n}", "php", ["definition", "list"]),
        ("struct A {\n    func f() {\n        |\n    }\n}", "swift", ["definition", "list"]),
        ("class A {\n    fun f() {\n        |\n    }\n}", "kotlin", ["definition", "list"]),
        ("x = foo(\n    |\n)", "python", ["block"]),
        ("for i in x; do\n  |\ndone", "shell", ["block"]),
    ],
)
def test_definitions_are_told_in_each_language(text: str, language: str, kinds: list[str]) -> None:
    assert [kind for _, kind in owners(text, language)] == kinds


@pytest.mark.parametrize(
    "text",
    [
        "def f(\n    a,\n) -> int:\n|",
        'def f():\n    x = """\nnot this\n"""\n|',
        "def f():\n    x = 1\n# nor this\n|",
        "def f():\r\n    x = 1\r\n\r\n|",
        "def f():\n    x = '\ud83d'\n|",
    ],
)
def test_lines_that_begin_nothing_own_nothing(text: str) -> None:
    assert owners(text) == [(0, "definition")]


def test_a_statement_that_is_begun_is_to_be_ended() -> None:
    assert of("def f():\n    return |\n").statement == 4
    assert of("\tx = |\n").statement == 4
    for text in ("    |\n", "# Sum|\n", "@cache|\n"):
        assert of(text).statement is None


def test_depth_counts_a_tab_as_four_columns() -> None:
    assert [depth(line) for line in ("x", "  x", "\tx", "  \tx", "\t x", "")] == [0, 2, 4, 4, 5, 0]
