"""Which code an instruct tool is about, in every language."""

import pytest

from magicoder import languages
from magicoder.lsp.instruct import code as instruct

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
    python = languages.by_name("python")
    assert python
    assert instruct.function_at(PYTHON, line, python) == lines


@pytest.mark.parametrize(
    ("name", "code"),
    {
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
    }.items(),
)
def test_functions_of_every_language(name: str, code: str) -> None:
    language = languages.by_name(name)
    assert language
    assert instruct.function_at(code, 2, language) == (1, 3)
    assert instruct.function_at(code, 0, language) is None


def test_a_snippet_stands_alone() -> None:
    assert instruct.snippet("\n    def f():\n        pass\n\n") == "def f():\n    pass"
    assert instruct.snippet(" \n\n") == ""
