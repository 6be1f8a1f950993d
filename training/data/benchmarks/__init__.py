"""The benchmarks that a dataset must not contain: every task, from the hub or a local folder.

A new one is one entry of `BENCHMARKS`. A local folder holds each benchmark's published files in a
folder of its name: JSON lines, plain or gzipped, or a tar.xz of which only the JSON lines are read
(DS-1000's pickles are code, and are never opened).
"""

import gzip
import json
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path

from magicoder.errors import MagicoderError, UsageError, require
from magicoder.training.data.benchmarks.tasks import (
    Benchmark,
    Row,
    Source,
    Task,
    comment,
    docstring,
)

_LANGUAGES = ("cpp", "cs", "go", "java", "js", "php", "rs", "sh", "swift", "ts")
_INFILLING = "https://github.com/openai/human-eval-infilling/raw/master/data/HumanEval-{}.jsonl.gz"


def _function(row: Row) -> tuple[str, str, str]:
    return row["task_id"], docstring(row["prompt"]), row["canonical_solution"]


def _mbpp(row: Row) -> tuple[str, str, str]:
    return f"Mbpp/{row['task_id']}", row["text"], row["code"]


def _mbpp_plus(row: Row) -> tuple[str, str, str]:
    task = str(row["task_id"])
    problem = docstring(row["prompt"]).partition("\nassert ")[0]
    solution = row.get("canonical_solution") or row["code"]  # the file's name, and the hub's
    return task if task.startswith("Mbpp/") else f"Mbpp/{task}", problem, solution


def _infilling(row: Row) -> tuple[str, str, str]:
    whole = row["prompt"] + row["canonical_solution"] + row["suffix"]
    signature, _, body = whole.rpartition('"""' if '"""' in whole else "'''")
    return row["task_id"], docstring(signature + '"""'), body


def _multipl_e(row: Row) -> tuple[str, str, str]:
    return f"{row['_file']}/{row['name']}", comment(row["prompt"]), ""


def _ds1000(row: Row) -> tuple[str, str, str]:
    problem = row["prompt"].partition("\nA:\n")[0].removeprefix("Problem:\n")
    if "metadata" in row:  # the hub's form
        return f"ds1000/{row['metadata']['problem_id']}", problem, row["reference_code"]
    return row["task_id"], problem, row["canonical_solution"]


def _gsm8k(row: Row) -> tuple[str, str, str]:
    return f"gsm8k/{row['_number']}", row["question"], row["answer"]


def _apps(row: Row) -> tuple[str, str, str]:
    return f"apps/{row.get('id', row.get('problem_id'))}", row["question"], ""


BENCHMARKS = {
    "humaneval": Benchmark("*.jsonl.gz", (Source("openai/openai_humaneval"),), _function),
    "humaneval-plus": Benchmark("*.jsonl.gz", (Source("evalplus/humanevalplus"),), _function),
    "mbpp": Benchmark(
        "*.jsonl",
        tuple(
            Source("google-research-datasets/mbpp", "full", split)
            for split in ("train", "validation", "test", "prompt")
        ),
        _mbpp,
    ),
    "mbpp-plus": Benchmark("*.jsonl.gz", (Source("evalplus/mbppplus"),), _mbpp_plus),
    "multipl-e": Benchmark(
        "*.jsonl.gz",
        tuple(
            Source("nuprl/MultiPL-E", f"{task}-{language}")
            for task in ("humaneval", "mbpp")
            for language in _LANGUAGES
        ),
        _multipl_e,
    ),
    "ds-1000": Benchmark("*.tar.xz", (Source("xlangai/DS-1000"),), _ds1000),
    "gsm8k": Benchmark("*.jsonl", (Source("openai/gsm8k", "main"),), _gsm8k),
    "apps": Benchmark(
        "*.jsonl",
        tuple(
            Source("json", split="train", data_files=f"hf://datasets/codeparrot/apps/{name}.jsonl")
            for name in ("test", "train")
        ),
        _apps,
    ),
    "humaneval-infilling": Benchmark(
        "*.jsonl.gz",
        tuple(
            Source("json", split="train", data_files=_INFILLING.format(kind))
            for kind in ("SingleLineInfilling", "MultiLineInfilling")
        ),
        _infilling,
    ),
}

# How other people's files call the two
_PROBLEM = ("problem", "question", "prompt", "instruction", "text")
_SOLUTION = ("solution", "canonical_solution", "code", "response", "answer", "output")


def load(where: str, names: Collection[str] = ()) -> list[Task]:
    """Every task of the benchmarks called `names` (all that there are if it is empty).

    `where` is `hub` or a local folder; of a folder without `names`, those whose files are there.

    Raises:
        UsageError: the folder, or a benchmark that was named, is missing; a row cannot be read.
        MagicoderError: the hub cannot be reached.
    """
    if unknown := sorted(set(names) - BENCHMARKS.keys()):
        raise UsageError(f"no benchmark '{unknown[0]}': use one of {', '.join(BENCHMARKS)}")
    if where == "hub":
        return [task for name in names or BENCHMARKS for task in _from_hub(name)]
    folder = Path(where).expanduser()
    found = [name for name in BENCHMARKS if list((folder / name).glob(BENCHMARKS[name].files))]
    if missing := sorted(set(names) - set(found)):
        files = folder / missing[0] / BENCHMARKS[missing[0]].files
        raise UsageError(f"benchmark '{missing[0]}' has no {files}: put its files there")
    if not found:
        wanted = ", ".join(BENCHMARKS)
        raise UsageError(f"no benchmarks in {folder}: give 'hub', or a folder with {wanted}")
    return [task for name in names or found for task in _from_folder(name, folder / name)]


def from_file(path: Path) -> list[Task]:
    """The tasks of a user's own JSON lines (plain or gzipped), under the file's name.

    The problem is the first of the fields problem, question, prompt, instruction and text, the
    solution the first of solution, canonical_solution, code, response, answer and output.

    Raises:
        UsageError: the file cannot be read, or a row has no problem.
    """

    def read(row: Row) -> tuple[str, str, str]:
        problem = next(row[key] for key in _PROBLEM if row.get(key))
        return str(row.get("task_id", row.get("id", row["_number"]))), str(problem), _solution(row)

    name = path.name.partition(".")[0]
    return _tasks(name, Benchmark("", (), read), _rows(path), path)


def _solution(row: Row) -> str:
    return str(next((row[key] for key in _SOLUTION if row.get(key)), ""))


def _from_folder(name: str, folder: Path) -> list[Task]:
    benchmark = BENCHMARKS[name]
    return [
        task
        for path in sorted(folder.glob(benchmark.files))
        for task in _tasks(name, benchmark, _rows(path), path)
    ]


def _from_hub(name: str) -> Iterator[Task]:
    datasets = require("datasets", "data")
    require("huggingface_hub.utils.logging", "data").set_verbosity_error()
    for source in BENCHMARKS[name].hub:
        try:
            rows = datasets.load_dataset(
                source.path, source.name, split=source.split, data_files=source.data_files
            )
        except (OSError, ValueError) as error:
            where = source.data_files or source.path
            raise MagicoderError(
                f"benchmark '{name}' cannot be had from {where} ({str(error).splitlines()[0]}): "
                "connect to the network, or name a folder that holds it (--benchmarks, or "
                "MAGICODER_BENCHMARKS), or none"
            ) from None
        marked = ({**row, "_file": source.name, "_number": i} for i, row in enumerate(rows))
        yield from _tasks(name, BENCHMARKS[name], marked, source.path)


def _tasks(name: str, benchmark: Benchmark, rows: Iterator[Row], where: object) -> list[Task]:
    try:
        return [Task(name, *benchmark.read(row)) for row in rows]
    except (KeyError, StopIteration, ValueError, TypeError) as error:
        kind = type(error).__name__
        raise UsageError(
            f"{where} is not in the form of {name} ({kind}: {error}): replace the file"
        ) from None


def _rows(path: Path) -> Iterator[Row]:
    """The JSON lines of a file, each with the file's name and its number in it, from 0."""
    try:
        for number, line in enumerate(_lines(path)):
            yield {**json.loads(line), "_file": path.name.partition(".")[0], "_number": number}
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UsageError(f"{path} cannot be read ({error}): fetch it anew") from None


def _lines(path: Path) -> Iterator[bytes]:
    if path.name.endswith(".tar.xz"):
        with tarfile.open(path, "r|xz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".jsonl") else None
                yield from file or ()
    else:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as plain:
            yield from plain
