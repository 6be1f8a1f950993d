"""The loaders of benchmarks on excerpts, and on the whole files where they are at hand."""

import gzip
import io
import json
import os
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from magicoder.errors import UsageError
from magicoder.training.data import benchmarks

EXCERPTS = Path(__file__).parents[2] / "data" / "benchmarks"
WHOLE = os.environ.get("MAGICODER_BENCHMARKS")  # conftest takes it out of the tests' environment
whole = pytest.mark.skipif(not WHOLE, reason="MAGICODER_BENCHMARKS names no folder")


def by_id(tasks):
    return {task.id: task for task in tasks}


def test_every_benchmark_of_the_folder():
    counts = Counter(task.benchmark for task in benchmarks.load(str(EXCERPTS)))
    assert counts == {
        "humaneval": 6,
        "humaneval-plus": 3,
        "mbpp": 4,
        "mbpp-plus": 4,
        "multipl-e": 6,
        "gsm8k": 3,
        "humaneval-infilling": 3,
    }


def test_a_problem_is_words_alone():
    names = ["humaneval", "mbpp", "multipl-e", "humaneval-infilling"]
    tasks = by_id(benchmarks.load(str(EXCERPTS), names))
    first = tasks["HumanEval/0"]
    assert first.problem.startswith("Check if in given list of numbers")
    assert first.problem.endswith("True")
    cpp = tasks["humaneval-cpp/HumanEval_0_has_close_elements"]
    assert cpp.problem.startswith("Check if in given vector of numbers")
    assert "#include" not in cpp.problem
    assert tasks["Mbpp/601"].problem.startswith("Write a function to find the longest chain")
    infilling = tasks["SingleLineInfilling/HumanEval/0/L0"]
    assert infilling.problem == first.problem
    assert "".join(infilling.solution.split()) == "".join(first.solution.split())


def test_mbpp_plus_without_its_assertion():
    task = by_id(benchmarks.load(str(EXCERPTS), ["mbpp-plus"]))["Mbpp/2"]
    assert task.problem == "Write a function to find the shared elements from the given two lists."
    assert "def similar_elements" in task.solution


def test_ds_1000_leaves_pickles_alone(tmp_path):
    trap = tmp_path / "sprung"
    bomb = b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    row = {
        "task_id": "t/1",
        "prompt": "Problem:\nSum it.\nA:\n<code>\nx\n",
        "canonical_solution": "y",
    }
    folder = tmp_path / "ds-1000"
    folder.mkdir()
    with tarfile.open(folder / "data.tar.xz", "w:xz") as archive:
        for name, data in (("a/ans1.pkl", bomb), ("a/Numpy.jsonl", json.dumps(row).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (task,) = benchmarks.load(str(tmp_path), ["ds-1000"])
    assert (task.id, task.problem, task.solution) == ("t/1", "Sum it.", "y")
    assert not trap.exists()
    pickle.loads(bomb)  # the trap works
    assert trap.exists()


def test_a_file_of_the_users_own(tmp_path):
    path = tmp_path / "exam.jsonl.gz"
    rows = [{"question": "Q?", "answer": "A", "id": 7}, {"instruction": "I"}]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    one, two = benchmarks.from_file(path)
    assert (one.benchmark, one.id, one.problem, one.solution) == ("exam", "7", "Q?", "A")
    assert (two.id, two.problem, two.solution) == ("1", "I", "")


@pytest.mark.parametrize(
    ("text", "says"),
    [('{"other": 1}\n', "form of exam"), ("{", "form of exam"), (None, "cannot be read")],
)
def test_a_file_that_cannot_be_used(tmp_path, text, says):
    path = tmp_path / "exam.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=says):
        benchmarks.from_file(path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match="no benchmark 'humanevil': use one of humaneval"):
        benchmarks.load(str(EXCERPTS), ["humanevil"])
    with pytest.raises(UsageError, match="'apps' has no"):
        benchmarks.load(str(EXCERPTS), ["apps"])
    with pytest.raises(UsageError, match="no benchmarks in"):
        benchmarks.load(str(tmp_path))


@whole
def test_every_task_of_the_published_files():
    counts = Counter(task.benchmark for task in benchmarks.load(WHOLE))
    wanted = {"humaneval": 164, "humaneval-plus": 164, "mbpp": 974, "mbpp-plus": 378}
    wanted |= {"ds-1000": 1000, "gsm8k": 1319, "humaneval-infilling": 6848}
    assert {name: counts[name] for name in wanted} == wanted
