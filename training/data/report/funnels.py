"""What the books of the steps tell: counts, reasons with an example, the teacher's account."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from magicoder.errors import UsageError
from magicoder.training.data import runner
from magicoder.training.data.report.figures import Clusters, Count, Reason, Stage, Step

ENDING = ".funnel.json"
EXAMPLE = 600  # characters
NEAR = "similar to an earlier sample"  # the reason; its detail begins with the id of that sample


def beside(dataset: Path) -> list[Path]:
    """The funnels in the dataset's folder, in the order in which they were written."""
    found = dataset.absolute().parent.glob(f"*{ENDING}")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def steps(paths: Sequence[Path]) -> list[Step]:
    """Each funnel with one example a reason, out of the rejects beside it.

    Raises:
        UsageError: a file is no funnel.
    """
    return [_step(path) for path in paths]


def _step(path: Path) -> Step:
    try:
        funnel = runner.Funnel.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        raise UsageError(f"{path} is no funnel: give the *{ENDING} of a step") from None
    wanted = {(stage.stage, reason) for stage in funnel.stages for reason in stage.rejected}
    examples: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rejects(path):
        key = row["stage"], row["reason"]
        if key in wanted:
            wanted.remove(key)
            examples[key] = row
        if not wanted:
            break
    account = funnel.account.get("teacher", funnel.account)
    slots, out = account.get("slot_seconds"), funnel.stages[-1].count_out
    return Step(
        name=path.name.removesuffix(ENDING),
        stages=[
            Stage(
                name=stage.stage,
                count_in=stage.count_in,
                count_out=stage.count_out,
                seconds=round(stage.seconds, 2),
                reasons=[
                    _reason(reason, count, examples.get((stage.stage, reason)))
                    for reason, count in sorted(
                        stage.rejected.items(), key=lambda item: (-item[1], item[0])
                    )
                ],
            )
            for stage in funnel.stages
        ],
        account=account,
        busy=round(account["in_flight_seconds"] / slots, 4) if slots else None,
        cost=round(1000 * account["cost"] / out, 4) if out and "cost" in account else None,
    )


def rejects(funnel: Path) -> Iterator[dict[str, Any]]:
    """The rows of the rejects that belong to a funnel, one at a time; none where they are gone."""
    path = funnel.with_name(funnel.name.removesuffix(ENDING) + ".rejects.jsonl")
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _reason(reason: str, count: int, row: dict[str, Any] | None) -> Reason:
    if row is None:
        return Reason(reason=reason, count=count)
    example = _text(row["record"])
    if len(example) > EXAMPLE:
        example = example[:EXAMPLE] + " ..."
    return Reason(reason=reason, count=count, example=example, detail=row.get("detail", ""))


def _text(record: dict[str, Any]) -> str:
    """What of a rejected record of any type is worth a look."""
    for key in ("problem", "text", "code"):
        if record.get(key):
            return str(record[key])
    inner = record.get("record")
    return _text(inner) if isinstance(inner, dict) else ""


def clusters(paths: Sequence[Path]) -> Clusters | None:
    """The samples that `clean.duplicates.near` left out, by the kept one that each resembles.

    Holds one counter entry a cluster; None where there is none.
    """
    fell = Counter(
        row["detail"].partition(" ")[0]
        for path in paths
        for row in rejects(path)
        if row["reason"] == NEAR
    )
    if not fell:
        return None
    sizes = Counter(count + 1 for count in fell.values())
    rows = [Count(name=str(size), count=count) for size, count in sorted(sizes.items())]
    return Clusters(count=len(fell), fell=fell.total(), sizes=rows)
