"""Self-Instruct: instructions that others made, read into samples; no teacher is asked.

Reads JSONL, or one JSON list, of Code Alpaca's rows (`instruction`, `input`, `output`), of
evol-codealpaca's (`instruction`, `output`), and of the published OSS-Instruct's (`problem`,
`solution`, `lang`, `seed`). JSONL is streamed; a JSON list is held in memory whole.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from magicoder import languages
from magicoder.errors import UsageError
from magicoder.training.data.records import Record, Rejected, Sample, Seed
from magicoder.training.data.runner import Stage
from magicoder.training.data.styles import asked


class Row(Record):
    """A row of one of the formats; its number is the line's, or the place in the list, from 1."""

    number: int
    instruction: str = ""
    input: str = ""
    output: str = ""
    problem: str = ""
    solution: str = ""
    lang: str = ""
    seed: str = ""


def stages(source: Path, ask: Stage) -> dict[str, Stage]:
    """From a file of rows to samples."""
    return {"rows": partial(rows, path=source), "samples": partial(samples, name=source.name)}


def rows(_: Iterator[Record], *, path: Path) -> Iterator[Row]:
    """The rows of a file.

    Raises:
        UsageError: it cannot be read; names the row.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, found in _objects(file):
                try:
                    yield Row.model_validate({**found, "number": number})
                except (TypeError, ValidationError):
                    raise UsageError(
                        f"{path}: row {number} is not of Code Alpaca's or OSS-Instruct's form: "
                        "mend it, or remove it"
                    ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give another") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}): give JSONL or a JSON list") from None


def samples(found: Iterator[Row], *, name: str) -> Iterator[Sample | Rejected]:
    """Instruction and input make the problem; a seed is kept where the row has one."""
    for row in found:
        problem = "\n\n".join(filter(None, (row.instruction.strip(), row.input.strip())))
        problem, solution = problem or row.problem.strip(), (row.output or row.solution).strip()
        if not problem or not solution:
            reason = "no instruction" if not problem else "no output"
            yield Rejected(reason=reason, record=row)
            continue
        known = languages.by_name(row.lang)
        spoken = known.name if known else ""
        seed = None
        if row.seed:
            seed = Seed(
                origin=f"jsonl:{name}", path=str(row.number), language=spoken, code=row.seed
            )
        yield Sample(
            problem=problem,
            solution=solution,
            language=asked.language(solution, spoken),
            style="self-instruct",
            seed=seed,
        )


def _objects(file: Any) -> Iterator[tuple[int, Any]]:
    start = file.read(1)
    while start.isspace():
        start = file.read(1)
    file.seek(0)
    if start == "[":
        yield from enumerate(json.load(file), 1)
        return
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
