"""The clean step at 10,000, 75,000 and 300,000 records, and its indexes beside their peers.

    MAGICODER_BENCHMARKS=FOLDER python -m benchmarks.clean [--embedding NAME|FOLDER] [SIZE...]

The records are put together at random from the documented functions of Python's own library: some
sentences, three functions with names of their own; one in 50 is an earlier one, edited. Each size
runs in a process of its own, with every benchmark of FOLDER, and writes what the command writes.
"""

import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import measure, texts
from magicoder.training.data import benchmarks, runner
from magicoder.training.data.clean import Clean, duplicates, minhash, step
from magicoder.training.data.clean.layers import Exact
from magicoder.training.data.clean.text import batched, code, squash
from magicoder.training.data.records import Sample, Seed

SIZES = (10_000, 75_000, 300_000)
PEERS = 10_000  # records for datasketch
NESTED = 100  # records for the nested loop
_NAME = re.compile(r"\b[a-z][a-z_]{3,}\b")


def records(count: int, seed: int = 976) -> Iterator[Sample]:
    """Records of about 2 KB, of which 2% are edited copies of the one 50 before them."""
    pool = texts.draw(2000, seed)
    sentences = sorted({s.strip() for one in pool for s in one.problem.split(".") if len(s) > 30})
    names = sorted({name for one in pool for name in _NAME.findall(one.problem.lower())})
    functions = [code(one) for one in pool if len(code(one)) < 900]
    chance = random.Random(seed)  # noqa: S311
    earlier: list[Sample] = []
    for number in range(count):
        if number % 50 == 49:
            old = earlier.pop()
            new = {"problem": f"{old.problem} {chance.choice(sentences)}.", "seed": None}
            yield old.model_copy(update=new | {"solution": f"{old.solution} So it is."})
            continue
        problem = ". ".join(chance.sample(sentences, 8))
        body = "\n".join(chance.sample(functions, 3))
        for name in sorted(set(_NAME.findall(body)) & set(names))[:12]:
            body = body.replace(f"{name}(", f"{chance.choice(names)}_{number % 97}(")
        origin = Seed(origin="o", path="p", language="python", code=f"seed {number}")
        solution = f"{chance.choice(sentences)}:\n\n```python\n{body}\n```\n\n{problem[:100]}"
        sample = Sample(problem=problem, solution=solution, language="python", seed=origin)
        if number % 50 == 0:
            earlier.append(sample)
        yield sample


def clean(count: int, config: Clean, folder: str) -> dict[str, Any]:
    """One run of the whole step in this process: seconds by stage, and the peak of memory."""
    source = Path(folder) / "verify.jsonl"
    start = time.perf_counter()
    funnel = runner.run(step(config, source=source), Path(folder) / "dataset.jsonl")
    seconds = time.perf_counter() - start
    return {
        "records": count,
        "bytes": source.stat().st_size,
        "seconds": seconds,
        "processor seconds": time.process_time(),
        "microseconds a record": seconds / count * 1e6,
        "peak bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "kept": funnel.stages[-1].count_out,
        "stages": {one.stage: one.model_dump(exclude={"stage"}) for one in funnel.stages},
        "tasks": sum(funnel.account["tasks"].values()),
    }


def alone(count: int, config: Clean) -> dict[str, Any]:
    """`clean` of `count` records in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "verify.jsonl").open("w") as file:
            for sample in records(count):
                file.write(sample.model_dump_json() + "\n")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(clean, (count, config, folder))


def peers(folder: str) -> dict[str, Any]:
    """Our near-duplicates and exact matching beside what others do, on the same texts."""
    samples = list(records(PEERS))
    tasks = benchmarks.load(folder)
    ours = _timed(lambda: list(duplicates.near(iter(samples), threshold=0.7)), PEERS)
    layer = Exact(tasks, 30)
    matched = _timed(lambda: [hit for batch in batched(samples) for hit in layer(batch)], PEERS)
    needles = sorted({text for one in tasks for text in (one.problem, one.solution) if text})

    def nested() -> None:
        for one in samples[:NESTED]:
            text = f"{one.problem}\n{one.solution}"
            for needle in needles:
                if needle in text:
                    break

    found: dict[str, Any] = {
        "near-duplicates, magicoder": ours,
        "exact, magicoder": matched,
        "exact, nested loop": _timed(nested, NESTED),
        "strings looked for": len(needles),
    }
    if find_spec("datasketch"):
        found["near-duplicates, datasketch"] = _timed(lambda: _datasketch(samples), PEERS)
    if not find_spec("text_dedup"):
        found["near-duplicates, text-dedup"] = "skipped: text-dedup is not installed"
    return found


def _datasketch(samples: Sequence[Sample]) -> None:
    """datasketch's MinHash and LSH with our shingles, bands and order rule."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

    values = minhash.BANDS * minhash.ROWS
    index = MinHashLSH(num_perm=values, params=(minhash.BANDS, minhash.ROWS))
    for number, one in enumerate(samples):
        text = squash(f"{one.problem}\n{code(one)}").ljust(minhash.WIDTH)
        runs = {text[i : i + minhash.WIDTH] for i in range(len(text) - minhash.WIDTH + 1)}
        signature = MinHash(num_perm=values)
        signature.update_batch(runs)
        if not index.query(signature):
            index.insert(number, signature)


def _timed(run: Callable[[], object], count: int) -> float:
    """Microseconds a record."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / count * 1e6


def main(arguments: Sequence[str]) -> int:
    folder = os.environ.get("MAGICODER_BENCHMARKS")
    if not folder:
        print("set MAGICODER_BENCHMARKS to a folder of benchmarks", file=sys.stderr)
        return 2
    config = Clean()
    if arguments[:1] == ["--embedding"]:
        config, arguments = Clean(embedding=arguments[1]), arguments[2:]
    sizes = [int(size) for size in arguments] or SIZES
    record = {
        "runs": [alone(size, config) for size in sizes],
        "microseconds a record": peers(folder),
    }
    print(measure.write("clean", record, measure.results()))
    print(measure.plot(lambda figure: _draw(figure, record), measure.results() / "clean.png"))
    print(json.dumps(record, indent=1))
    for one in record["runs"]:
        print(f"{one['records']:8} {one['seconds']:8.1f} s {one['peak bytes'] / 2**20:8.0f} MiB")
    return 0


def _draw(figure: Any, record: dict[str, Any]) -> None:
    """Time a record by size, stacked by stage."""
    axes = figure.subplots()
    runs = record["runs"]
    labels, below = [f"{one['records']:,}" for one in runs], [0.0] * len(runs)
    for name in runs[0]["stages"]:
        each = [one["stages"][name]["seconds"] / one["records"] * 1e6 for one in runs]
        axes.bar(labels, each, bottom=below, label=name)
        below = [sum(pair) for pair in zip(below, each, strict=True)]
    axes.set(xlabel="records", ylabel="microseconds a record")
    axes.legend(fontsize=7)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
