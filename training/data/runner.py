"""Runs stages one behind the other and keeps their books.

A stage is a generator over records; in place of a record that it leaves out it yields `Rejected`
with the reason. It knows nothing of counts, clocks, files and progress: those are here alone.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel

from magicoder.training.data.records import Record, Rejected

Stage = Callable[[Iterator[Any]], Iterator[Record]]


class Counts(BaseModel):
    """One stage's books; `seconds` are its own, without those of the stages before it."""

    stage: str
    count_in: int = 0
    count_out: int = 0
    seconds: float = 0.0
    rejected: Counter[str] = Counter()


class Funnel(BaseModel):
    """What each stage took and let through, in order."""

    stages: list[Counts]


Watch = Callable[[Funnel], None]


def run(stages: Mapping[str, Stage], folder: Path, watch: Watch = lambda funnel: None) -> Funnel:
    """Pull records through `stages` into `folder`, one at a time.

    Writes dataset.jsonl (what the last stage lets through), rejects.jsonl (stage, reason, record)
    and funnel.json; each appears whole or not at all. The first stage is given no records: it is
    the source. `watch` sees the funnel after every record that a stage yields.
    """
    folder.mkdir(parents=True, exist_ok=True)
    funnel = Funnel(stages=[Counts(stage=name) for name in stages])
    with written(folder / "dataset.jsonl") as dataset, written(folder / "rejects.jsonl") as rejects:

        def book(counts: Counts, record: Record) -> bool:
            if isinstance(record, Rejected):
                counts.rejected[record.reason] += 1
                row = {"stage": counts.stage, **record.model_dump()}
                rejects.write(json.dumps(row, ensure_ascii=False) + "\n")
            else:
                counts.count_out += 1
            watch(funnel)
            return not isinstance(record, Rejected)

        records: Iterator[Record] = iter(())
        for counts, stage in zip(funnel.stages, stages.values(), strict=True):
            records = _metered(counts, stage, records, book)
        for record in records:
            dataset.write(record.model_dump_json() + "\n")
    with written(folder / "funnel.json") as file:
        file.write(funnel.model_dump_json(indent=1) + "\n")
    return funnel


def _metered(
    counts: Counts,
    stage: Stage,
    source: Iterator[Record],
    book: Callable[[Counts, Record], bool],
) -> Iterator[Record]:
    """What `stage` lets through, with its records and its own seconds counted."""

    def pulled() -> Iterator[Record]:
        for record, seconds in _timed(source):
            counts.seconds -= seconds
            if record is not None:
                counts.count_in += 1
                yield record

    for record, seconds in _timed(stage(pulled())):
        counts.seconds += seconds
        if record is not None and book(counts, record):
            yield record


def _timed(records: Iterator[Record]) -> Iterator[tuple[Record | None, float]]:
    """Each record, and None at the end, with the seconds that it took to come."""
    record: Record | None
    while True:
        start = time.perf_counter()
        record = next(records, None)
        yield record, time.perf_counter() - start
        if record is None:
            return


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A file that appears under its name only when the block ends without an error."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
