"""Problems as documents, and as rows that `magicoder data` reads."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from magicoder.cli import cli
from magicoder.errors import MagicoderError
from magicoder.lsp.instruct import problem
from magicoder.lsp.instruct.problem import Made
from magicoder.training.data.records import Sample

SEED = {
    "origin": "dir:w",
    "version": "",
    "path": "a.py",
    "language": "python",
    "license": "MIT",
    "line": 3,
    "kind": "lines",
    "code": 'print("-->")  # 漢字',
}
MADE = Made(seed=SEED, teacher="m", style="oss-instruct", structured=True)
SOLUTION = """\
So:

```python
# Tests
def triple(x):
    return x * 3
```"""
TEXT = "# Problem Description\n\nWrite Python code that triples a number.\n\n# Solution\n\n"
WHOLE = MADE.line() + TEXT + SOLUTION + "\n\n# Tests\n\n```python\nassert triple(2) == 6\n```\n"


def test_a_document_remembers_where_it_comes_from() -> None:
    assert MADE.line().count("-->") == 1, "a comment in HTML ends at the first"
    assert problem.is_problem(WHOLE)
    assert problem.is_problem(WHOLE.replace("\n", "\r\n"))
    found = problem.read(WHOLE)
    assert found.made == MADE
    assert (found.problem, found.solution) == ("Write Python code that triples a number.", SOLUTION)
    assert found.test_code() == "assert triple(2) == 6\n"
    code = found.code()
    assert code
    assert (code[0].name, code[1]) == ("python", "# Tests\ndef triple(x):\n    return x * 3\n")


def test_a_row_is_a_sample_with_origin_and_license() -> None:
    row = problem.read(WHOLE).sample()
    sample = Sample.model_validate_json(json.dumps(row))
    assert sample.seed
    assert {key: getattr(sample.seed, key) for key in SEED} == SEED
    assert (sample.language, sample.style, sample.teacher) == ("python", "oss-instruct", "m")
    assert (sample.tests, sample.structured) == ("assert triple(2) == 6\n", True)
    assert problem._id(row).startswith(sample.id)


@pytest.mark.parametrize(
    ("text", "why"),
    {
        "no head": (TEXT + SOLUTION, "no problem of magicoder's"),
        "not json": ("<!-- magicoder: {x} -->\n" + TEXT + SOLUTION, "no problem of magicoder's"),
        "another json": ('<!-- magicoder: {"a": 1} -->\n' + TEXT, "no problem of magicoder's"),
        "no solution": (MADE.line() + TEXT, "lacks"),
        "nothing": (MADE.line(), "lacks"),
    }.values(),
)
def test_what_is_no_problem_is_told(text: str, why: str) -> None:
    with pytest.raises(MagicoderError, match=why):
        problem.read(text)


@pytest.mark.parametrize(
    ("solution", "language"),
    [
        ("```js\nlet a\n```", "javascript"),
        ("```python\na\n```\n```js\nlet abcdef\n```", "python"),
        ("no code", None),
        ("```\na = 1\n```", "python"),
    ],
)
def test_the_code_is_in_the_seeds_language_if_it_can_be(solution: str, language: str) -> None:
    found = problem.read(MADE.line() + TEXT + solution).code()
    assert (found and found[0].name) == language


def test_tests_need_no_fence() -> None:
    text = MADE.line() + TEXT + SOLUTION + "\n# Tests\nassert triple(1) == 3\n"
    assert problem.read(text).test_code() == "assert triple(1) == 3"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_problem_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "problems.jsonl"
    first = problem.read(WHOLE).sample()
    assert problem.add(first, path)
    assert not problem.add(first, path)
    other = first | {"solution": "```python\nb\n```"}
    path.write_text(path.read_text().rstrip("\n"))
    assert problem.add(other, path)
    assert rows(path) == [first, other]
    assert {each.name for each in path.parent.iterdir()} == {"problems.jsonl", "problems.lock"}


def test_editors_may_add_at_once(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    row = problem.read(WHOLE).sample()
    with ThreadPoolExecutor(8) as pool:
        added = pool.map(lambda n: problem.add(row | {"problem": str(n % 10)}, path), range(40))
    assert sum(added) == 10
    assert len(rows(path)) == 10


def test_the_data_commands_read_the_file(tmp_path: Path) -> None:
    path, cleaned = tmp_path / "problems.jsonl", tmp_path / "dataset.jsonl"
    problem.add(problem.read(WHOLE).sample(), path)
    words = ["data", "clean", str(path), "-o", str(cleaned), "--benchmarks", "none"]
    done = CliRunner().invoke(cli, [*words, "--embedding", "none"])
    assert done.exit_code == 0, done.output
    [row] = rows(cleaned)
    assert (row["seed"]["origin"], row["seed"]["license"]) == ("dir:w", "MIT")
