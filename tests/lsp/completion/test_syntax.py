"""Suggestions that would break a file. The cursor is written as a bar."""

import gzip
import json
import os
from pathlib import Path

import pytest

from magicoder.languages import by_name
from magicoder.lsp.completion.syntax import TRIES, clean
from magicoder.lsp.trees import Source

SAMPLES = Path(__file__).parents[2] / "data/benchmarks"
BENCHMARKS = Path(os.environ.get("MAGICODER_BENCHMARKS") or SAMPLES)


def cleaned(text: str, suggestion: str, language: str = "python") -> str:
    offset = text.index("|")
    source = Source(text[:offset] + text[offset + 1 :], by_name(language))
    before = source.errors
    answer = clean(suggestion, source, offset)
    assert Source(source.filled(offset, answer).text, source.language).errors <= before
    assert source.errors == before
    return answer


CASES = [
    ("python", "x = |\n", "foo(1)", "foo(1)"),
    ("python", "x = 1\n|\n", "y = )", ""),
    ("python", "def f():\n    |\n", "return 1\n    y)", "return 1"),
    ("python", "def f():\n    |\n", "a = 1\n    b = (2\n    c = 3\n    d]", "a = 1"),
    ("python", "|x = 1\n", "y = 1\nz = (\n", "y = 1\n"),
    ("python", "def f():\n    |\n\n\ndef g():\n    pass\n", "for a in b:\n        c(", ""),
    ("python", "x = foo(|\n", "a,\n    b)\nbar(", "a,\n    b)"),
    ("python", "def f():\n    if a:\n        |\n        b\n", "c\n    d", "c"),
    ("javascript", "f(() => {\n  |\n});\n", "a();\n}", "a();"),
    ("javascript", "function f() {\n  |\n", "a();\n}", "a();\n}"),
    ("javascript", "function f() {\n  |\n", "a();\n}\n}", "a();\n}"),
    ("c", "int f() {\n  |\n}\n", "int x = 1;\n  y = ;", "int x = 1;"),
    (
        "java",
        "class A {\n  |\n}\n",
        "int f() {\n    return 1;\n  }\n  int",
        "int f() {\n    return 1;\n  }",
    ),
    ("php", "<?php\nfunction f() {\n  |\n}\n", "$a = 1;\n  $b = ;", "$a = 1;"),
    ("rust", "fn f() {\n    |\n}\n", "let x = 1;\n    let y = {", "let x = 1;"),
    ("ruby", "def f\n  |\nend\n", "a\n  end", "a"),
    ("shell", "if a; then\n  |\nfi\n", "b\n  fi", "b"),
    ("shell", "for a in b; do\n  |\ndone\n", "if c; then\n    d\n  fi", "if c; then\n    d\n  fi"),
    ("python", "def f():\n    |\n        return 1\n", "a = 1\n    if a:", "a = 1\n    if a:"),
    ("python", "def f():\n    |\n\n\nx = 1\n", "a = 1\n    if a:", "a = 1"),
    ("python", "for a in |\n", "b:", "b:"),
    ("python", "def f():\n    |\n    return 1\n", "for a in b:", ""),
    ("python", "if a:\n    b()\n|\n", "  c()", ""),
    ("python", "def f():\n    a = 1\n|\n        b()\n    return a\n", "\ndef g():\n    c()", ""),
    ("python", "def f():\n    a = 1\n|\n        b()\n", "    if a:", "    if a:"),
    ("python", "def f(a):\n    if a:\n|\n    return a\n", "        # a\n    b = a", ""),
    ("python", "def f():\n|\n", "return 1", ""),
    ("python", "if a:\n    |\n", "if b:\n    x = 1", ""),
    ("python", "class A:\n    |\n", "def f(self):\n    return 1", ""),
    ("python", "def f():|\n", "\nreturn 1", ""),
    ("python", "def f():|\n", "\n    return 1", "\n    return 1"),
    ("python", "if |:\n    b()\n", 'a == "b" and', ""),
    ("python", "print 1\nif |:\n    print 2\n", "a", "a"),
    ("python", "a = [1, |\nb = 2\n", "f(2", ""),
    ("python", "def f(a,\n      |\n", "b):\n    return a", "b):\n    return a"),
    ("c", "int f() {\n  if (|) {\n    a();\n  }\n}\n", "b) {", ""),
    ("c", "int f() {\n  if (|\n    a();\n}\n", "b) {\n    c();", ""),
    ("c", "int f() {\n  if (|\n    a();\n  }\n}\n", "b) {", "b) {"),
    ("cpp", "struct A {\n  int f(|\n    return 1;\n  }\n};\n", "int a) const;", ""),
    ("rust", "fn f() {\n    match |.a() {\n        _ => 1,\n    };\n}\n", "b {", ""),
    ("typescript", "import {|\nimport {a} from 'b'\n", "c, d, e", ""),
    ("go", "package a\n\nfunc f() {\n\t|\n}\n", "a := 1\n\tb := )", "a := 1"),
    ("text", "|", "((((", "(((("),
    ("python", "|", "", ""),
]


@pytest.mark.parametrize(("language", "text", "suggestion", "expected"), CASES)
def test_what_would_break_the_file_is_left_out(
    language: str, text: str, suggestion: str, expected: str
) -> None:
    assert cleaned(text, suggestion, language) == expected


@pytest.mark.parametrize("broken", ["x = = 1\n", "def f(:\n    pass\n", "class:\n", "a b c\n"])
def test_a_file_that_is_broken_elsewhere_is_no_hindrance(broken: str) -> None:
    far = "\n\ndef g():\n    return 2\n\n\n"
    text = broken + far * 3 + "def f():\n    |\n" + far * 3
    assert cleaned(text, "a = 1\n    return a") == "a = 1\n    return a"
    assert cleaned(text, "a = 1\n    return a)") == "a = 1"


def test_errors_are_counted_and_not_only_seen() -> None:
    text = "x = = 1\n\n\ndef f():\n    |\n"
    assert cleaned(text, "a = )") == ""


def test_nothing_is_taken_back_for_ever() -> None:
    lines = "\n".join(["a = 1", "b = ("] + ["c = 2"] * TRIES * 2)
    assert cleaned("|\n", lines) == ""


def test_what_is_inside_a_name_of_many_bytes_counts_right() -> None:
    text = "é = '漢字 😀 \ud83d'\r\n" * 20 + "def f():\r\n    |\r\n" + "é = '😀'\r\n" * 20
    assert cleaned(text, "a = 1\n    b = )") == "a = 1"


def test_what_people_wrote_is_never_refused() -> None:
    count = 0
    for file in sorted((BENCHMARKS / "humaneval-infilling").glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
            for row in rows[:: len(rows) // 300 or 1]:
                before, after = row["prompt"], row["suffix"]
                solution = row["canonical_solution"].removesuffix("\n")
                source = Source(f"{before}\n{after}", by_name("python"))
                assert clean(solution, source, len(before)) == solution, row["task_id"]
                count += 1
    assert count
