"""Where a streaming answer ends. The cursor is written as a bar, the end as a cross."""

import pytest

from magicoder.languages import by_name
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.completion.scope import extent
from magicoder.lsp.completion.stop import Watch
from magicoder.lsp.trees import Source


def watch(text: str, language: str = "text") -> Watch:
    offset = text.index("|")
    text = text[:offset] + text[offset + 1 :]
    source, hole = Source(text, by_name(language)), Hole.at(text, offset)
    return Watch(hole, extent(hole, source, offset), source, offset)


def kept(text: str, answer: str, language: str = "text", step: int = 1) -> str:
    """What is kept of an answer that arrives in pieces, and does not end before it is told to."""
    reader = watch(text, language)
    for size in range(step, len(answer) + step, step):
        if (where := reader.end(answer[:size])) is not None:
            assert reader.end(answer[:size]) == where, "asked again, it says the same"
            return answer[:where]
    return answer


CASES = [
    # Inside a line: the line.
    ("python", "f(|)\n", "a, b×\nprint()"),
    ("python", "f(|)\n", "×\nprint()"),
    ("text", "f(|)\n", "a, b×\nprint()"),
    # An empty body: the body.
    ("python", "def f():\n    |\n\nx = 1\n", "a = 1\n\n    return a×\n\ndef g():\n    pass\n"),
    ("python", "def f():|\n", "\n    return 1×\n\n\ndef g():"),
    ("python", "class A:\n    |\n", "x = 1\n\n    def f(self):\n        pass×\n\nclass B:\n"),
    ("python", "if a:\n    |\n", "b()\nelse:\n    c()×\nd()\n"),
    ("javascript", "function f() {\n  |\n}\n", "return 1;×\n}\n\nfunction g() {}\n"),
    ("javascript", "function f() {\n  |\n", "return 1;\n}×\n\nfunction g() {}\n"),
    ("javascript", "function f() {|\n", "\n  return 1;\n}×\ng();\n"),
    ("java", "class A {\n  int f() {\n    |\n  }\n}\n", "return 1;×\n  }\n\n  int g() {\n"),
    ("go", "func f() {\n\t|\n}\n", "g()\n\tif a {\n\t\th()\n\t}×\n}\n\nfunc i() {\n"),
    ("rust", "fn f() -> i32 {\n    |\n}\n", "match a {\n        1 => 2,\n    }×\n}\n\nfn g"),
    ("ruby", "def f\n  |\nend\n", "a.each do |x|\n    puts x\n  end×\nend\n\ndef g\n"),
    ("ruby", "def f\n  |\n", "puts 1\nend×\n\ndef g\n"),
    ("shell", "if a; then\n  |\nfi\n", "for i in x; do\n    b\n  done×\nfi\nc\n"),
    ("c", "int f() {\n  |\n}\n", "#if A\n  g();\n#endif\n  return 1;×\n}\n\nint h() {\n"),
    ("python", "def f():\n    |\n", 'x = """\nflat\n"""\n    return x×\n\ndef g():\n'),
    (
        "python",
        'def f():\n    """Give.\n\n    |\n    """\n    return 1\n',
        'More.\n    """\n    return 2×\n\ndef g():\n',
    ),
    ("python", 'def f():\n    """|\n', 'Give."""\n    return 2×\n\ndef g():\n'),
    ("javascript", "f() {\n  |\n}\n", "x = `\nflat\n`;\n  g();×\n}\nh()\n"),
    ("python", "x = foo(\n    |\n)\n", "a,\n    b,×\n)\ny = 1\n"),
    # A new line in a block: the definition, as far as what stands below allows.
    ("python", "def f():\n    for a in b:\n        c()\n        |\n", "d()\n    return×\n\ndef g"),
    (
        "python",
        "class A:\n    x = 1\n\n    |\n",
        "def f(self):\n        a\n\n        b×\n\n    def g",
    ),
    ("python", "class A:\n    if a:\n        b = 1\n        |\n", "c = 2×\n    d = 3\n"),
    ("python", "def f():\n    a()\n|\n", "    b()\n\n    c()×\n\ndef g():\n"),
    ("javascript", "  if (a) {\n    |\n  }\n  b();\n", "c();×\n  } else {\n    d();\n  }\n"),
    ("javascript", "  if (a) {\n    |\n", "c();\n  }\n  else {\n    d();\n  }×\n\n  e();\n"),
    ("go", "switch a {\ncase 1:\n\t|\n}\n", "b()×\ncase 2:\n\tc()\n"),
    ("go", "switch a {|\n", "\ncase 1:\n\tb()\ncase 2:\n\tc()\n}×\nd()\n"),
    # Where no grammar, or no definition, bounds it: what a blank line separates.
    ("python", "import os|", "\nimport re×\n\nx = 1\n"),
    ("text", "import os|", "\nimport re×\n\nx = 1\n"),
    ("text", "def f():\n    |", "x = 1\n\n    if x:\n        return 2×\n\n# Test"),
    ("text", "  if (a) {\n    |", "x();\n  }\n  else {\n    y();\n  }"),
    # A statement that is begun: its end.
    ("python", "    x = |\n", "foo(\n        a,\n    )×\n    y = 1\n"),
    ("python", "x = |\n", "1×\ny = 2\n"),
    ("python", "def f|\n", "(a):\n    return a×\nx = 1\n"),
    ("python", "# Sum|\n", " the numbers\nx = sum(y)×\n\nz = 1\n"),
    ("c", "int f|\n", "(int a)\n{\n  return a;\n}×\nint g()\n"),
    # The text below the cursor.
    ("python", "a()\n|\nfoo(a)\nbar(b)\n", "x = 1×\nfoo(a)\nbar(b)\n"),
    ("python", "def f():\n    |\n    return a\n", "×return a\n"),
    ("python", "|\nreturn x\nfoo()\n", "if a:\n    b\nreturn x\nbar()\n"),
    ("javascript", "if (x) {\n  |\n}\nelse y();", "for (;;) {\n    z();\n  }×\n}\nelse y();\n"),
    ("python", "def f(x):\n|    return 1\n", "    y = 2×\n    return 1\n"),
    ("javascript", "a(() => {\nb();\n|\n});\nc();\n", "d();×\n});\ne();\n"),
    # Loops, fences, control tokens.
    ("python", "|", "x = 1\nfoo(a)×\nfoo(a)\nfoo(a)\n"),
    ("python", "|", "if a:\n    b()×\nif a:\n    b()\nif a:\n    b()\n"),
    ("text", "foo(a)\n|", "×foo(a)\nfoo(a)\n"),
    ("text", "x = |", "[" + "1, 22, ×" + "1, 22, " * 12),
    ("text", "f(|)", "a, bcd, ×" + "a, bcd, " * 12),
    ("text", "x = |", "10×" + "0" * 40),
    ("text", "x = |", "-1×" + "-1" * 20),
    ("text", "|", "-×" + "-" * 130),
    ("text", "x = |", "0x" + "0" * 16 + "\n"),
    ("python", "|", "a = 1\n×# Path: b.py\n# c\n"),
    ("python", "|", "a = 1\n×# c\n# Path: b.py\n# c\n"),
    ("javascript", "f(1);\n|", "×// c\n// Path: b.js\n// c\n"),
    ("text", "|", "# " + "-" * 90 + "\n" + "=" * 90 + "\n"),
    ("python", "x = 1\n|", "y = 2×\n```\n\nThis"),
    ("text", "```\n|", "x\n```\n\nThis"),
    ("python", "x = |", "1×<|endoftext|>y"),
    ("python", "x = |", "1× <EOT>\n"),
    ("text", "x = |", "1×<｜fim▁end｜>"),
    ("text", "x = |", "1×\n<file_sep>a.py\n"),
    ("text", "x = |", "1×</s>"),
    ("text", "x = |", "a[MIDDLE]".replace("[M", "×[M")),
    ("text", "x = '<EOT>'\ny = |", "'<EOT>' ×<EOT>"),
    ("text", "x = |", "a <b> <c_d> [E] x<y and y>z"),
]


@pytest.mark.parametrize("step", [1, 4, 1000])
@pytest.mark.parametrize(("language", "text", "answer"), CASES)
def test_it_ends(language: str, text: str, answer: str, step: int) -> None:
    expected, _, rest = answer.partition("×")
    got = kept(text, expected + rest, language, step)
    assert got.rstrip() == expected.rstrip() if rest else got == expected


def test_it_ends_as_early_as_can_be_told() -> None:
    reader = watch("def f():\n    |\n", "python")
    assert reader.end("return 1\n\nd") is None, "the line may begin with any word"
    assert reader.end("return 1\n\ndef ") == 8
    reader = watch("if (x) {\n  |\n}\n", "javascript")
    assert reader.end("a();\n}") == 4
    reader = watch("a\n|\nfoo(a)\n")
    assert reader.end("b\nfoo(a)") is None, "the line may still grow"
    assert reader.end("b\nfoo(a)\n") == 1
    reader = watch("f(|)")
    assert reader.end("a, b") is None
    assert reader.end("a, b\n") == 4


def test_the_tree_is_read_only_where_a_bracket_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    filled = Source.filled

    def count(self: Source, offset: int, text: str, end: int | None = None) -> Source:
        asked.append(text)
        return filled(self, offset, text, end)

    monkeypatch.setattr(Source, "filled", count)
    assert kept("f(() => {\ng();\n|\n});\n", "h();\n});\ni();\n", "javascript") == "h();"
    assert len(asked) == 2
    asked.clear()
    kept("def f():\n    |\n", "x = [\n        1,\n    ]\n    return x\n", "python")
    assert not asked
