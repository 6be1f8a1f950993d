"""Runs stages one behind the other and keeps their books.

A stage is a generator over records; in place of a record that it leaves out it yields `Rejected`
with the reason. It knows nothing of counts, clocks, files, shards and progress: those are here.
"""

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel, ValidationError

from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data.records import Record, Rejected

Stage = Callable[[Iterator[Any]], Iterator[Record]]
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of` parts, from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `i/n`.

        Raises:
            UsageError: it is not two numbers with 1 <= i <= n.
        """
        number, _, of = text.partition("/")
        if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
            return cls(int(number), int(of))
        raise UsageError(f"no shard '{text}': write i/n, from 1/n to n/n")

    def block(self, total: int) -> tuple[int, int]:
        """The shard's part of `total` records: its first index, and the one behind its last."""
        return (self.number - 1) * total // self.of, self.number * total // self.of

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Step:
    """Stages by their names. The first is given no records: it is the source.

    The first `whole` stages must see every record (they compare records, or count them); in a shard
    they see them all, and the stages after them only the shard's block. So shards that are put
    together in order are what one run gives. `account` is asked at the end for what the funnel
    shall hold beside the counts.
    """

    stages: Mapping[str, Stage]
    whole: int = 1
    account: Callable[[], dict[str, Any]] = dict


class Counts(BaseModel):
    """One stage's books; `seconds` are its own, without those of the stages before it."""

    stage: str
    count_in: int = 0
    count_out: int = 0
    seconds: float = 0.0
    rejected: Counter[str] = Counter()


class Funnel(BaseModel):
    """What each stage took and let through, in order.

    `whole` and `shard` are those of the step and the run; `account` is the step's.
    """

    stages: list[Counts]
    whole: int = 1
    shard: str = "1/1"
    account: dict[str, Any] = {}


Watch = Callable[[Funnel], None]


def beside(output: Path, what: str) -> Path:
    """The file of the same run as `output`: `rejects.jsonl` or `funnel.json`."""
    return output.with_name(f"{output.stem}.{what}")


def run(
    step: Step, output: Path, *, shard: Shard | None = None, watch: Watch = lambda funnel: None
) -> Funnel:
    """Pull records through the stages of `step` into the JSONL file `output`, one at a time.

    Beside it are written its rejects.jsonl (stage, reason, detail, record; by stage, then in order)
    and its funnel.json; each appears whole or not at all, `output` last. `watch` sees the funnel
    after every record that a stage yields.

    Raises:
        UsageError: `output` cannot be written.
        MagicoderError: nothing is left; the rejects tell why, and an earlier `output` stays.
    """
    funnel = Funnel(
        stages=[Counts(stage=name) for name in step.stages],
        whole=step.whole,
        shard=str(shard or Shard(1, 1)),
    )
    with written(output) as file, ExitStack() as opened:
        rejects = opened.enter_context(written(beside(output, "rejects.jsonl")))
        refused = [
            opened.enter_context(tempfile.TemporaryFile("w+", dir=output.parent, encoding="utf-8"))
            for _ in funnel.stages
        ]

        def book(index: int, record: Record) -> bool:
            counts = funnel.stages[index]
            if isinstance(record, Rejected):
                counts.rejected[record.reason] += 1
                row = {"stage": counts.stage, **record.model_dump()}
                refused[index].write(json.dumps(row, ensure_ascii=False) + "\n")
            else:
                counts.count_out += 1
            watch(funnel)
            return not isinstance(record, Rejected)

        records: Iterator[Record] = iter(())
        for index, stage in enumerate(step.stages.values()):
            records = _metered(index, stage, records, funnel, book)
            if shard and index + 1 == step.whole:
                records = _block(records, shard, output.parent)
        for record in records:
            file.write(record.model_dump_json() + "\n")
        for part in refused:
            part.seek(0)
            shutil.copyfileobj(part, rejects)
        funnel.account = step.account()
        with written(beside(output, "funnel.json")) as books:
            books.write(funnel.model_dump_json(indent=1) + "\n")
        opened.close()
        if not shard and not funnel.stages[-1].count_out:
            raise MagicoderError(_empty(funnel, output))
    watch(funnel)
    return funnel


def _empty(funnel: Funnel, output: Path) -> str:
    left_out = sum((counts.rejected for counts in funnel.stages), start=Counter[str]())
    if not left_out:
        return f"nothing to do: '{funnel.stages[0].stage}' found nothing; give another source"
    most = left_out.most_common(1)[0][0]
    where = beside(output, "rejects.jsonl")
    return f"nothing is left, mostly for '{most}': look into {where}, and change what it names"


def read(_: Iterator[Record], *, path: Path, type: type[R]) -> Iterator[R]:  # noqa: A002
    """The first stage of a step that stands alone: the records of a JSONL file.

    Raises:
        UsageError: there is no such file, or a line is not such a record; names the line.
    """
    name = type.__name__.lower()
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield type.model_validate_json(line)
                except ValidationError as error:
                    first = error.errors()[0]
                    where = ".".join(map(str, first["loc"])) or "the line"
                    raise UsageError(
                        f"{path}:{number} is not a {name} ({where}: {first['msg'].lower()}): "
                        "mend the line, or remove it"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"{path} cannot be read ({why}): give a JSONL file of {name}s") from None


def merge(parts: Sequence[Path], output: Path) -> Funnel:
    """Put the shards of one step together: the bytes that one run gives.

    Whole stages saw everything in each shard: their books and rejects are taken from the first.

    Raises:
        UsageError: a shard is missing or given twice, or a file belongs to another step.
    """
    shards = sorted(_shards(parts), key=lambda found: found[0].number)
    funnels = [funnel for _, funnel, _ in shards]
    first = funnels[0].model_copy(deep=True, update={"shard": "1/1"})
    first.account = _sum(funnel.account for funnel in funnels)
    for funnel in funnels[1:]:
        for mine, theirs in zip(
            first.stages[first.whole :], funnel.stages[first.whole :], strict=True
        ):
            mine.count_in += theirs.count_in
            mine.count_out += theirs.count_out
            mine.seconds += theirs.seconds
            mine.rejected += theirs.rejected
    whole = [counts.stage for counts in first.stages[: first.whole]]
    with written(output) as file, written(beside(output, "rejects.jsonl")) as rejects:
        for counts in first.stages:
            for path in (
                path for shard, _, path in shards if shard.number == 1 or counts.stage not in whole
            ):
                rejects.writelines(
                    line
                    for line in _lines(beside(path, "rejects.jsonl"))
                    if json.loads(line)["stage"] == counts.stage
                )
        for _, _, path in shards:
            file.writelines(_lines(path))
        with written(beside(output, "funnel.json")) as books:
            books.write(first.model_dump_json(indent=1) + "\n")
    return first


def funnel_of(output: Path) -> Funnel:
    """The funnel of the run that wrote `output`.

    Raises:
        UsageError: there is none.
    """
    path = beside(output, "funnel.json")
    try:
        return Funnel.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UsageError(f"{path} cannot be read: give a file that 'magicoder data' made") from None


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): a shard is three files, the output, its "
            "rejects.jsonl and its funnel.json"
        ) from None


def _shards(parts: Sequence[Path]) -> Iterator[tuple[Shard, Funnel, Path]]:
    found = [
        (Shard.parse(funnel.shard), funnel, path) for path in parts for funnel in [funnel_of(path)]
    ]
    of = found[0][0].of
    stages = [[counts.stage for counts in funnel.stages] for _, funnel, _ in found]
    if any(names != stages[0] for names in stages) or any(shard.of != of for shard, _, _ in found):
        raise UsageError(
            "these are not shards of one step: give all that were made with one --shard */n"
        )
    numbers = Counter(shard.number for shard, _, _ in found)
    for number in range(1, of + 1):
        if numbers[number] != 1:
            what = "is missing" if not numbers[number] else "is given twice"
            raise UsageError(f"shard {number}/{of} {what}: give every shard once")
    return iter(found)


def _sum(accounts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Numbers added, tables added key by key; anything else is the first's."""
    total: dict[str, Any] = {}
    for account in accounts:
        for key, value in account.items():
            if isinstance(value, dict):
                total[key] = _sum((total.get(key, {}), value))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                total[key] = total.get(key, 0) + value
            else:
                total.setdefault(key, value)
    return total


def _block(records: Iterator[Record], shard: Shard, folder: Path) -> Iterator[Record]:
    """The shard's block of `records`; they are kept on the disk until their number is known."""
    with tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8") as spool:
        total, kind = 0, Record
        for record in records:
            total, kind = total + 1, type(record)
            spool.write(record.model_dump_json() + "\n")
        spool.seek(0)
        for line in islice(spool, *shard.block(total)):
            yield kind.model_validate_json(line)


def _metered(
    index: int,
    stage: Stage,
    source: Iterator[Record],
    funnel: Funnel,
    book: Callable[[int, Record], bool],
) -> Iterator[Record]:
    """What `stage` lets through, with its records and its own seconds counted."""
    counts = funnel.stages[index]

    def pulled() -> Iterator[Record]:
        for record, seconds in _timed(source):
            counts.seconds -= seconds
            if record is not None:
                counts.count_in += 1
                yield record

    for record, seconds in _timed(stage(pulled())):
        counts.seconds += seconds
        if record is not None and book(index, record):
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
    """A file that appears under its name only when the block ends without an error.

    Raises:
        UsageError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): choose another") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    os.replace(part, path)
