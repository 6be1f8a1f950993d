"""Each rule on samples that should pass and samples that should not."""

import pytest

from magicoder.training.data import filters
from magicoder.training.data.records import Sample, Seed

PROBLEM = "Write a Python function that adds two numbers and returns their sum."
CODE = "def add(a, b):\n    return a + b\n"


def sample(problem=PROBLEM, solution=f"```python\n{CODE}```", seed="x = 1", language="python"):
    origin = Seed(origin="o", path="p", language=language, line=1, code=seed)
    return Sample(seed=origin, teacher="t", problem=problem, solution=solution)


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        (f"```python\n{CODE}```", None),
        (f"Text.\n\n```\n{CODE}```\nMore.", None),  # no word after the fence: the seed's language
        ("```rust\nfn add(a: i32, b: i32) -> i32 { a + b }\n```", None),
        (f"```text\n3 + = 4\n```\n```python\n{CODE}```", None),
        ("def add(a, b): return a + b", "no code block"),
        ("```text\n3\n```", "no code block"),
        (f"```python\n{CODE}", "no code block"),  # the fence never closes
        ("```python\ndef add(a, b:\n```", "syntax errors"),
        (f"```python\n{CODE}```\n```rust\nfn (\n```", "syntax errors"),
    ],
)
def test_code_must_parse(solution, reason):
    assert filters.parses(sample(solution=solution)) == reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"problem": "Add two numbers."}, "problem too short"),
        ({"problem": PROBLEM + " Use the code snippet."}, "problem echoes the prompt"),
        ({"solution": "```python\nprint(1)\n```"}, "solution too short"),
        ({"seed": "class A:\n" + CODE}, "solution copies the seed"),
        ({"solution": "```python\n" + "x = x + 1\n" * 9 + "```"}, "solution repeats itself"),
    ],
)
def test_substance(changed, reason):
    assert filters.substantial(sample(**changed)) == reason


def test_exact_duplicates_white_space_aside():
    rule = filters.unique()
    other = {"problem": "Subtract.", "solution": "No.", "seed": "y = 2"}
    assert rule(sample()) is None
    assert rule(sample(**{**other, "seed": "x  =\n1"})) == "same seed as an earlier sample"
    assert (
        rule(sample(**{**other, "problem": PROBLEM + " "})) == "same problem as an earlier sample"
    )
    again = {**other, "solution": f"```python\n{CODE}\n```"}
    assert rule(sample(**again)) == "same solution as an earlier sample"
    assert rule(sample(**other)) is None  # what was rejected leaves no trace


def test_the_stage_keeps_order_and_gives_the_reason():
    samples = [sample(), sample(problem="short"), sample(problem=PROBLEM + "!")]
    kept, rejected, last = filters.keep(iter(samples), rule=filters.substantial)
    assert (kept, last) == (samples[0], samples[2])
    assert (rejected.reason, rejected.record) == ("problem too short", samples[1])
