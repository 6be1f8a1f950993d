"""The styles: what they ask, and what they read out of an answer or a file."""

import json
import re

import pytest

from magicoder import oss_instruct
from magicoder.errors import UsageError
from magicoder.oss_instruct import ParseError
from magicoder.training.data.records import Answer, Rejected, Sample, Seed
from magicoder.training.data.styles import (
    STYLES,
    asked,
    code_to_problem,
    comment_function,
    self_instruct,
)
from magicoder.training.data.styles.oss_instruct import parse as paper_sections
from magicoder.training.data.styles.oss_instruct import question

TASK = "Write a Python function that adds the numbers of a list and returns their sum."
CODE = "def total(numbers):\n    return sum(numbers)\n"
TESTS = "assert total([]) == 0\nassert total([1, 2]) == 3\nassert total([-1]) == -1\n"
TWO = f"[Problem Description]\n{TASK}\n\n[Solution]\n```python\n{CODE}\n```"
THREE = f"{TWO}\n\n[Tests]\n```python\n{TESTS}```"


def seed(code="x = 1", language="python"):
    return Seed(origin="dir:o", path="a.py", language=language, code=code)


def answer(text, finish="stop", **options):
    return Answer(record=seed(), teacher="m", text=text, finish_reason=finish, **options)


def read(*answers):
    return list(asked.samples(iter(answers), style="oss-instruct", parse=paper_sections))


def test_oss_instruct_asks_with_the_paper_s_prompt():
    found = question(seed("x = {1: 2}"))
    assert list(found.messages) == oss_instruct.messages("x = {1: 2}")
    assert "x = {1: 2}" in found.messages[1]["content"]


@pytest.mark.parametrize(("style", "text"), [("oss-instruct", TWO), ("code-to-problem", THREE)])
def test_the_form_holds_to_sections_and_to_the_seed_s_language(style, text):
    ask = question if style == "oss-instruct" else code_to_problem.question
    (form,) = ask(seed()).extra.values()
    pattern = re.compile(form["regex"])
    assert pattern.fullmatch(text)
    for other in (
        text.replace("```python", "```rust", 1),
        text.replace("[Solution]", ""),
        text.replace(CODE, "x"),
        text + "\nmore",
    ):
        assert not pattern.fullmatch(other)


def test_an_answer_becomes_a_sample_with_its_language_style_and_seed():
    (sample,) = read(answer(TWO, structured=True))
    assert (sample.problem, sample.solution) == (TASK, f"```python\n{CODE}\n```")
    assert (sample.language, sample.style, sample.teacher) == ("python", "oss-instruct", "m")
    assert (sample.structured, sample.seed) == (True, seed())


def test_the_language_is_the_first_code_block_s_else_the_seed_s():
    for fence, language in (("rust", "rust"), ("c++", "cpp"), ("", "python"), ("output", "python")):
        (sample,) = read(answer(TWO.replace("```python", f"```{fence}")))
        assert sample.language == language


def test_only_answers_that_ended_by_themselves_with_both_sections_are_read():
    cases = [(TWO, "length"), (TWO, "tool_calls"), (TWO, ""), ("Hi", "stop")]
    assert [item.reason for item in read(*(answer(*case) for case in cases))] == [
        "cut at the token limit",
        "ended by tool_calls",
        "ended by nothing",
        "the answer lacks a [Problem Description] or a [Solution] section",
    ]


def test_code_to_problem_reads_the_tests_as_bare_code():
    found = code_to_problem.parse(THREE)
    assert found == {"problem": TASK, "solution": f"```python\n{CODE}\n```", "tests": TESTS}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TWO, r"lacks a \[Tests\]"),
        (TWO + "\n\n[Tests]\nTry it.", "no code block"),
        (TWO + "\n\n[Tests]\n```python\n```", "no code block"),
        (f"[Problem Description]\n{TASK}\n[Solution]\n[Tests]\n```\nx\n```", "empty section"),
    ],
)
def test_code_to_problem_says_what_an_answer_lacks(text, says):
    with pytest.raises(ParseError, match=says):
        code_to_problem.parse(text)


def imported(path):
    def never(_):
        raise AssertionError("a teacher is asked")

    rows, samples = STYLES["self-instruct"](path, never).values()
    return list(samples(rows(iter(()))))


ALPACA = [
    {"instruction": "Add.", "input": "1 and 2", "output": "3"},
    {"instruction": "Sort it.", "input": "", "output": "```go\nsort.Ints(x)\n```"},
]


@pytest.mark.parametrize("form", ["list", "lines"])
def test_self_instruct_reads_code_alpaca_as_a_list_and_as_lines(tmp_path, form):
    path = tmp_path / "code_alpaca.json"
    lines = "\n".join(json.dumps(row) for row in ALPACA)
    path.write_text(f" \n{json.dumps(ALPACA)}" if form == "list" else lines + "\n\n")
    first, second = imported(path)
    assert (first.problem, first.solution, first.language) == ("Add.\n\n1 and 2", "3", "")
    assert (second.problem, second.language, second.style) == ("Sort it.", "go", "self-instruct")


def test_self_instruct_reads_the_published_oss_instruct_with_its_seed(tmp_path):
    row = {"lang": "csharp", "raw_index": 7, "index": 9, "seed": "int x;", "problem": "Do."}
    path = tmp_path / "oss.jsonl"
    path.write_text(json.dumps({**row, "openai_fingerprint": None, "solution": "int y;"}))
    (sample,) = imported(path)
    assert (sample.problem, sample.solution, sample.language) == ("Do.", "int y;", "csharp")
    assert (sample.seed.code, sample.seed.origin) == ("int x;", "jsonl:oss.jsonl")


def test_self_instruct_says_which_row_is_wanting(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": " ", "output": "x"}, {"instruction": "x", "output": ""}, ALPACA[0]]
    path.write_text("\n".join(map(json.dumps, rows)))
    *refused, kept = imported(path)
    assert [item.reason for item in refused] == ["no instruction", "no output"]
    assert isinstance(kept, Sample)
    for text, says in (
        ('{"instruction": 3}', "row 1"),
        ("[1]", "row 1"),
        ('{"output": "x"}\n{]', "line 2"),
        ("[{]", "not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=says):
            imported(path)
    path.write_bytes(b'{"output": "\xff"}')
    with pytest.raises(UsageError, match="not JSON"):
        imported(path)
    with pytest.raises(UsageError, match="cannot be read"):
        imported(tmp_path / "none.jsonl")


PAIRS = {
    "python": (
        'import os\n\n@cached\ndef f(x):\n    """Square a number.\n\n    Twice.\n    """\n'
        "    return x * x\n",
        "Square a number.\n\nTwice.",
        "@cached\ndef f(x):\n    return x * x",
    ),
    "java": (
        "class A {\n    /**\n     * Adds two numbers.\n     */\n    int add(int a, int b) {\n"
        "        return a + b;\n    }\n}\n",
        "Adds two numbers.",
        "int add(int a, int b) {\n    return a + b;\n}",
    ),
    "javascript": (
        "// Adds two numbers,\n// whatever they are.\nexport const add = (a, b) => {\n"
        "  return a + b;\n};\n",
        "Adds two numbers,\nwhatever they are.",
        "export const add = (a, b) => {\n  return a + b;\n};",
    ),
    "go": (
        "package a\n\n// Add adds two numbers.\nfunc Add(a, b int) int {\n\treturn a + b\n}\n",
        "Add adds two numbers.",
        "func Add(a, b int) int {\n\treturn a + b\n}",
    ),
    "rust": (
        "/// Adds two numbers.\nfn add(a: i32, b: i32) -> i32 {\n    a + b\n}\n",
        "Adds two numbers.",
        "fn add(a: i32, b: i32) -> i32 {\n    a + b\n}",
    ),
    "php": (
        "/** Adds two numbers. */\nfunction add($a, $b) {\n    return $a + $b;\n}\n",
        "Adds two numbers.",
        "function add($a, $b) {\n    return $a + $b;\n}",
    ),
    "ruby": (
        "# Adds two numbers.\ndef add(a, b)\n  a + b\nend\n",
        "Adds two numbers.",
        "def add(a, b)\n  a + b\nend",
    ),
    "cpp": (
        "int add(int a, int b) {\n    // Adds two numbers.\n    return a + b;\n}\n",
        "Adds two numbers.",
        "int add(int a, int b) {\n    return a + b;\n}",
    ),
    "shell": (
        "# Prints a name twice.\ntwice() {\n  echo $1 $1\n}\n",
        "Prints a name twice.",
        "twice() {\n  echo $1 $1\n}",
    ),
    "kotlin": (
        "/** Adds two numbers. */\nfun add(a: Int, b: Int): Int {\n    return a + b\n}\n",
        "Adds two numbers.",
        "fun add(a: Int, b: Int): Int {\n    return a + b\n}",
    ),
}


@pytest.mark.parametrize("language", PAIRS)
def test_a_function_s_comment_is_the_problem_and_its_code_the_solution(language):
    code, comment, function = PAIRS[language]
    (sample,) = comment_function.pairs(iter([seed(code, language)]))
    assert sample.problem == comment
    assert sample.solution == f"```{language}\n{function}\n```"
    assert (sample.language, sample.style) == (language, "comment-function")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1", "no function"),
        ("def f(x):\n    return x", "no comment"),
        ("# Adds two numbers.\n\n\ndef f(x):\n    return x", "no comment"),
        ("# Adds.\ndef f(x):\n    return x", "comment too short"),
        ('def f(x):\n    """Does nothing at all."""', "function too short"),
    ],
)
def test_a_pair_that_is_none_says_why(code, reason):
    (refused,) = comment_function.pairs(iter([seed(code)]))
    assert isinstance(refused, Rejected)
    assert refused.reason == reason


def test_a_style_that_is_none_names_those_that_are():
    from magicoder.training.data.generate import Generate

    with pytest.raises(ValueError, match="no style 'x': use one of oss-instruct, code-to-problem"):
        Generate(style="x")


def test_self_instruct_has_a_record_for_what_it_refuses():
    (refused,) = self_instruct.samples(iter([self_instruct.Row(number=3)]), name="x")
    assert refused.record.number == 3
