"""HumanEval-Infilling through the language server, beside the raw API of the same model.

    MAGICODER_BENCHMARKS=FOLDER python -m benchmarks.lsp.quality [--base-url URL] [--limit 200]

Each task is a document with an empty line where the hole is, and the cursor in it; what the editor
is shown there is inserted. The raw API gets the same text around the hole (as an infilling request
where the model can infill, else the prefix alone) and as many tokens. It is taken three ways: as it
comes, which is how the published harness takes it, ended at a blank line as any client can have it
by a stop string, and cut to the reference's number of lines, which no editor knows. Every program
that parses is run against the task's tests in the sandbox.

--limit takes that many tasks of each of the two files, evenly spread; 0 takes all (1,033 and
5,815).
"""

import ast
import asyncio
import gzip
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.lsp import harness
from benchmarks.lsp.editor import Editor, editor
from magicoder.client import AsyncMagicoder, ModelInfo
from magicoder.sandbox import Limits, Sandbox

FILES = {
    "single-line": "HumanEval-SingleLineInfilling.jsonl.gz",
    "multi-line": "HumanEval-MultiLineInfilling.jsonl.gz",
}
ENGINE, RAW, STOPPED, CUT = "language server", "raw API", "raw, blank line", "raw, known length"
METHODS = (ENGINE, RAW, STOPPED, CUT)
LIMITS = Limits(seconds=5)


@dataclass(frozen=True)
class Task:
    """One hole: the text around it, what was there, and the tests."""

    id: str
    prompt: str
    suffix: str
    solution: str
    test: str
    entry: str


@dataclass
class Outcome:
    """What one method put into one hole."""

    text: str
    program: str = field(repr=False)
    exact: bool = False
    valid: bool = False
    passed: bool = False


def tasks(kind: str, limit: int) -> list[Task]:
    """Tasks of one of `FILES`, evenly spread."""
    path = harness.benchmarks("humaneval-infilling") / FILES[kind]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        Task(
            row["task_id"], row["prompt"], row["suffix"], row["canonical_solution"], row["test"],
            row["entry_point"],
        )
        for row in harness.spread(rows, limit)
    ]  # fmt: skip


async def by_engine(
    made: Editor, folder: Path, chosen: Sequence[Task], parallel: int, advance: Any
) -> list[Outcome]:
    """What the editor is shown, `parallel` documents at a time."""
    turn = asyncio.Semaphore(parallel)

    async def one(number: int, task: Task) -> Outcome:
        async with turn:
            uri = (folder / f"task_{number}.py").as_uri()
            made.open(uri, f"{task.prompt}\n{task.suffix}", "python")
            answer = await made.complete(uri, len(task.prompt))
            made.close(uri)
            advance()
            return Outcome(answer.text, f"{task.prompt}{answer.text}\n{task.suffix}")

    return await asyncio.gather(*(one(number, task) for number, task in enumerate(chosen)))


async def by_api(
    base_url: str,
    info: ModelInfo,
    chosen: Sequence[Task],
    max_tokens: int,
    parallel: int,
    advance: Any,
) -> list[str]:
    """What the server answers, as it comes."""
    turn = asyncio.Semaphore(parallel)

    async def one(client: AsyncMagicoder, task: Task) -> str:
        async with turn:
            if info.fim is None:
                answer = await client.complete(task.prompt, max_tokens=max_tokens)
            else:
                answer = await client.infill(task.prompt, task.suffix, max_tokens=max_tokens)
            advance()
            return answer.text

    async with AsyncMagicoder(base_url=base_url, timeout=600) as client:
        return await asyncio.gather(*(one(client, task) for task in chosen))


def as_it_comes(task: Task, text: str) -> Outcome:
    return Outcome(text, task.prompt + text + task.suffix)


def to_blank_line(task: Task, text: str) -> Outcome:
    """Up to the first blank line behind some code."""
    head = len(text) - len(text.lstrip())
    text = text[:head] + text[head:].partition("\n\n")[0]
    return Outcome(text, f"{task.prompt}{text}\n{task.suffix}")


def to_length(task: Task, text: str) -> Outcome:
    """As many lines as the reference has."""
    lines = text.split("\n")[: task.solution.count("\n")]
    text = "\n".join(lines) + "\n"
    return Outcome(text, task.prompt + text + task.suffix)


def judge(pair: tuple[Task, Outcome], sandbox: Sandbox) -> Outcome:
    """The outcome with its marks. A program that Python cannot parse is not run."""
    task, found = pair
    found.exact = _lines(found.text) == _lines(task.solution)
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(found.program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return found
    found.valid = True
    program = f"{found.program}\n{task.test}\ncheck({task.entry})\n"
    result = sandbox.run([["python3", "main.py"]], files={"main.py": program}, limits=LIMITS)
    found.passed = result[-1].exit_code == 0
    return found


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").split("\n")]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One method's marks. `valid shown` is the share of what was shown that leaves a whole file."""
    count, shown = len(outcomes), [one for one in outcomes if one.text.strip()]
    return {
        "pass": harness.share(sum(one.passed for one in outcomes), count),
        "exact": harness.share(sum(one.exact for one in outcomes), count),
        "valid": harness.share(sum(one.valid for one in outcomes), count),
        "shown": len(shown),
        "valid shown": harness.share(sum(one.valid for one in shown), len(shown)),
    }


def against(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> dict[str, Any]:
    """Tasks that one alone passes, and how likely chance alone makes such a difference."""
    better = sum(a.passed and not b.passed for a, b in zip(ours, theirs, strict=True))
    worse = sum(b.passed and not a.passed for a, b in zip(ours, theirs, strict=True))
    return {"better": better, "worse": worse, "p": round(harness.sign_test(better, worse), 4)}


async def answers(
    base_url: str, folder: Path, chosen: Sequence[Task], max_tokens: int, parallel: int
) -> tuple[dict[str, list[Outcome]], dict[str, float]]:
    """What each method puts into each hole, and how long the engine and the raw API took."""
    info = harness.model(base_url)
    seconds = {}
    root = folder / "workspace"
    root.mkdir(exist_ok=True)
    with harness.progress() as bar:
        async with editor(root, base_url, folder / "state", max_tokens=max_tokens) as made:
            step = bar.add_task(ENGINE, total=len(chosen))
            begun = time.perf_counter()
            shown = await by_engine(made, root, chosen, parallel, partial(bar.advance, step))
            seconds[ENGINE] = time.perf_counter() - begun
        step = bar.add_task(RAW, total=len(chosen))
        begun = time.perf_counter()
        texts = await by_api(
            base_url, info, chosen, max_tokens, parallel, partial(bar.advance, step)
        )
        seconds[RAW] = time.perf_counter() - begun
    made_of = {RAW: as_it_comes, STOPPED: to_blank_line, CUT: to_length}
    raw = {
        name: [make(*pair) for pair in zip(chosen, texts, strict=True)]
        for name, make in made_of.items()
    }
    return {ENGINE: shown} | raw, seconds


def judged(chosen: Sequence[Task], found: dict[str, list[Outcome]]) -> None:
    """Mark all outcomes, on two threads."""
    pairs = [
        (task, one)
        for outcomes in found.values()
        for task, one in zip(chosen, outcomes, strict=True)
    ]
    with harness.progress() as bar, ThreadPoolExecutor(2) as pool:
        marked = pool.map(partial(judge, sandbox=Sandbox()), pairs)
        for _ in bar.track(marked, total=len(pairs), description="tests"):
            pass


def main(arguments: list[str] | None = None) -> int:
    parser = harness.arguments("quality", __doc__)
    parser.add_argument("--limit", type=int, default=200, help="tasks of each file; 0: all")
    parser.add_argument("--max-tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--parallel", type=int, default=8, help="documents at once")
    told = parser.parse_args(arguments)
    record: dict[str, Any] = {"max_tokens": told.max_tokens, "parallel": told.parallel}
    good = True
    with (
        tempfile.TemporaryDirectory() as name,
        harness.served(told.base_url, Path(name)) as base_url,
    ):
        record["model"] = asdict(harness.model(base_url))
        for kind in FILES:
            chosen = tasks(kind, told.limit)
            folder = Path(name) / kind
            folder.mkdir()
            found, seconds = asyncio.run(
                answers(base_url, folder, chosen, told.max_tokens, told.parallel)
            )
            judged(chosen, found)
            marks = {method: summary(outcomes) for method, outcomes in found.items()}
            versus = {m: against(found[ENGINE], found[m]) for m in METHODS if m != ENGINE}
            record[kind] = {
                "tasks": len(chosen),
                "seconds": seconds,
                "methods": marks,
                "against": versus,
            }
            harness.table(
                f"{kind}: {len(chosen)} tasks",
                [{"": method} | row | {"better, worse, p": _versus(versus.get(method))}
                 for method, row in marks.items()],
            )  # fmt: skip
            lost = versus[RAW]
            good &= not (lost["worse"] > lost["better"] and lost["p"] < 0.05)
    folder = measure.results()
    print(measure.write("lsp-quality", record, folder))
    draw = partial(_draw, record=record)
    print(measure.plot(draw, folder / "lsp-quality.png", (9, 4)))
    return 0 if good else 1


def _versus(pair: dict[str, Any] | None) -> str | None:
    return None if pair is None else f"{pair['better']}, {pair['worse']}, {pair['p']}"


def _draw(figure: Any, record: dict[str, Any]) -> None:
    """Tasks passed, and whole files, with their intervals."""
    for axes, kind in zip(figure.subplots(1, len(FILES), sharey=True), FILES, strict=True):
        methods = record[kind]["methods"]
        for shift, key, color in ((-0.12, "pass", "#d9480f"), (0.12, "valid", "#5c7cfa")):
            marks = [methods[method][key] for method in METHODS]
            shares = [100 * mark["share"] for mark in marks]
            spans = (
                [max(0.0, 100 * (mark["share"] - mark["low"])) for mark in marks],
                [max(0.0, 100 * (mark["high"] - mark["share"])) for mark in marks],
            )
            places = [place + shift for place in range(len(METHODS))]
            axes.errorbar(places, shares, yerr=spans, fmt="o", capsize=3, color=color, label=key)
        axes.set_xticks(range(len(METHODS)), METHODS, rotation=15, fontsize=8)
        axes.set_title(f"{kind}, {record[kind]['tasks']} tasks", fontsize=10)
        axes.set_ylabel("% of the tasks")
        axes.grid(axis="y", color="#e9ecef")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


if __name__ == "__main__":
    sys.exit(main())
