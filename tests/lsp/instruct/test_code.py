"""Which code a tool is about, in every language, and what of its surroundings is sent along."""

import pytest

from magicoder import languages
from magicoder.lsp.instruct import code as instruct
from magicoder.lsp.instruct.code import Subject

PYTHON = """\
import a


@cache
@other(
    1,
)
def outer(x):
    y = x

    def inner():
        return y

    return inner


@dataclass
class A:
    def method(self):
        return 1

    size: int = 0
short = lambda: 1
"""


def function_at(code: str, line: int, name: str) -> tuple[int, int] | None:
    language = languages.by_name(name)
    assert language
    return instruct.function_at(languages.parser(language).parse(code.encode()).root_node, line)


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        *((line, (3, 13)) for line in (3, 5, 7, 8, 9, 13)),
        *((line, (10, 11)) for line in (10, 11)),
        *((line, (18, 19)) for line in (18, 19)),
        *((line, None) for line in (0, 14, 16, 17, 20, 21, 22, 99)),
    ],
)
def test_the_innermost_function_and_its_decorators(
    line: int, lines: tuple[int, int] | None
) -> None:
    assert function_at(PYTHON, line, "python") == lines


CODE = {
    "java": "class A {\n  int f() {\n    return 1;\n  }\n}",
    "javascript": "\nconst f = (a) => {\n  return [1].map(x => x);\n};",
    "typescript": "class A {\n  f(a: number): number {\n    return a;\n  }\n}",
    "tsx": "\nfunction F() {\n  return <a/>;\n}",
    "cpp": "\nint A::f() {\n  return 1;\n}",
    "c": "\nint f(void) {\n  return 1;\n}",
    "csharp": "class A {\n  int F() {\n    return 1;\n  }\n}",
    "rust": "impl A {\n  fn f() -> i32 {\n    1\n  }\n}",
    "php": "<?php\nfunction f() {\n  return 1;\n}",
    "swift": "class A {\n  init() {\n    x = 1\n  }\n}",
    "shell": "\nf() {\n  echo 1\n}",
    "go": "\nfunc (a A) f() int {\n  return 1\n}",
    "ruby": "class A\n  def self.f\n    1\n  end\nend",
    "python": "\nasync def f():\n    # 漢字😀\n    return 1",
}


@pytest.mark.parametrize(("name", "code"), CODE.items())
def test_functions_of_every_language(name: str, code: str) -> None:
    assert function_at(code, 2, name) == (1, 3)
    assert function_at(code, 0, name) is None


IMPORTS = {
    "python": (
        "import a\nfrom b import (\n    c,\n)\n\nclass A(c):\n",
        "    def f(self):\n        pass\n",
    ),
    "java": ("import a.B;\nclass A {\n", "  int f() {\n    return 1;\n  }\n}"),
    "typescript": ('import {a} from "a";\nclass A {\n', "  f() {\n    return a;\n  }\n}"),
    "cpp": ("#include <map>\nclass A {\n", "  int f() {\n    return 1;\n  }\n};"),
    "rust": ("use a::B;\nimpl A {\n", "  fn f() {\n    1\n  }\n}"),
    "csharp": ("using A;\nclass B {\n", "  int F() {\n    return 1;\n  }\n}"),
    "go": ('package a\nimport "fmt"\n', "func f() int {\n  return 1\n}"),
    "php": ("<?php\nuse A\\B;\nclass C {\n", "  function f() {\n    return 1;\n  }\n}"),
    "kotlin": ("import a.B\nclass A {\n", "  fun f(): Int {\n    return 1\n  }\n}"),
}


@pytest.mark.parametrize(("name", "above", "below"), [(k, *v) for k, v in IMPORTS.items()])
def test_imports_and_the_class_are_sent_along(name: str, above: str, below: str) -> None:
    language = languages.by_name(name)
    assert language
    lines = (above + "\n\n" + below).splitlines(keepends=True)
    first = above.count("\n") + 2
    root = languages.parser(language).parse("".join(lines).encode()).root_node
    subject = Subject.of(lines, first, first + below.count("\n") - 1)
    assert subject
    wanted = [line for line in above.splitlines() if line not in ("<?php", "")]
    assert instruct.surroundings(root, lines, subject) == wanted


def test_nothing_of_the_code_itself_is_in_its_surroundings() -> None:
    python = languages.by_name("python")
    assert python
    lines = ["import a\n", "def f():\n", "    import b\n", "    return b\n", "import c\n"]
    root = languages.parser(python).parse("".join(lines).encode()).root_node
    subject = Subject.of(lines, 1, 3)
    assert subject
    assert instruct.surroundings(root, lines, subject) == ["import a"]


GO = 'package b\n\nimport (\n\t"fmt"\n)\n\n'
ONE = "func one() int {\n\treturn 1\n}\n"


@pytest.mark.parametrize(
    ("name", "above", "code", "kept"),
    [
        ("go", GO, "package b\n\n" + ONE, ONE),
        ("go", GO, "package main\n\n" + ONE, ONE),
        ("go", GO, GO + ONE, ONE),
        ("go", GO, 'package main\nimport "os"\n' + ONE, 'import "os"\n' + ONE),
        ("go", GO, "// one is 1.\n" + ONE, "// one is 1.\n" + ONE),
        ("go", "", "package main\n" + ONE, "package main\n" + ONE),
        (
            "java",
            "package a.b;\n\nimport c.D;\n\n",
            "package x;\nimport c.D;\nint f;\n",
            "int f;\n",
        ),
        ("php", "<?php\nnamespace A;\n\n", "<?php\n\nfunction f() {}\n", "function f() {}\n"),
        ("python", "import a\nx = 1\n", "import a\nx = 1\n", "x = 1\n"),
        ("python", "@a\ndef f(): pass\n", "@a\ndef g(): pass\n", "@a\ndef g(): pass\n"),
        ("python", "import a\n", "import a\n", "import a\n"),
    ],
)
def test_what_a_file_has_once_is_not_repeated(name: str, above: str, code: str, kept: str) -> None:
    language = languages.by_name(name)
    assert language
    lines = (above + ONE).splitlines(keepends=True)
    root = languages.parser(language).parse("".join(lines).encode()).root_node
    first = above.count("\n")
    subject = Subject.of(lines, first, first + 2)
    assert subject
    assert instruct.without_head(root, lines, subject, code) == kept


LINES = ["\n", "    if a:\r\n", "\n", "        b\r\n", " \n", "c"]


@pytest.mark.parametrize(
    ("span", "found"),
    [
        ((0, 4), Subject(1, 3, "if a:\n\n    b", "    ")),
        ((3, 3), Subject(3, 3, "b", "        ")),
        ((0, 99), Subject(1, 5, "    if a:\n\n        b\n\nc")),
        ((4, 4), None),
        ((9, 9), None),
    ],
)
def test_a_subject_is_whole_lines(span: tuple[int, int], found: Subject | None) -> None:
    assert Subject.of(LINES, *span) == found


@pytest.mark.parametrize("answer", ["if a:\n    b\n", "    if a:\n        b\n", "\n\nif a:\n    b"])
def test_new_code_is_indented_as_the_old(answer: str) -> None:
    assert Subject(0, 0, "x", "\t").fitted(answer) == "\tif a:\n\t    b"


def test_a_snippet_stands_alone() -> None:
    assert instruct.snippet("\n    def f():\n        pass\n\n") == "def f():\n    pass"
    assert instruct.snippet(" \n\n") == ""


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("# TODO: more", True),
        ("/* FIXME */", True),
        ("    raise NotImplementedError", True),
        ("todo!()", True),
        ("todos = 1  # mastodon", False),
        ("return 1", False),
    ],
)
def test_code_tells_that_it_is_unfinished(code: str, found: bool) -> None:
    assert instruct.unfinished(code) is found


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["def f():", "    # magicoder: use a set", "    pass"], "use a set"),
        (["/* Magicoder: use a set */", "", "x", "int f() {", "}"], None),
        (["/* Magicoder: use a set */", "// more", "x", "int f() {", "}"], "use a set"),
        (["# magicoder: one", "# magicoder: two", "x", "y", "z"], "two"),
        (["# magicoder:", "x"], None),
        (["# about magicoder", "x"], None),
    ],
)
def test_the_nearest_comment_asks(lines: list[str], wanted: str | None) -> None:
    subject = Subject.of(lines, max(len(lines) - 2, 0), len(lines) - 1)
    assert subject
    assert instruct.asked(lines, subject) == wanted
