"""Figures of the log: how much was accepted, and how much of that stayed."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from magicoder.lsp.kept.records import MARKS, Record

READ_MS = 750
"""A suggestion that stood for less was hardly read, unless it was accepted."""

BY: dict[str, Callable[[Record], str]] = {
    "all": lambda record: "all",
    "language": lambda record: record.language,
    "length": lambda record: "one line" if record.lines == 1 else "block",
    "model": lambda record: record.model,
}


@dataclass(frozen=True)
class Row:
    """One group of suggestions.

    `accepted` is the share of those shown of which some was accepted, `accepted_of_read` of those
    read; `typed_characters` those that were typed although they were shown. `survival` has for each
    mark the share of all accepted characters that still stood, of those where it is known; `known`
    how many suggestions these are. A share of nothing is None.
    """

    by: str
    name: str
    shown: int
    read: int
    whole: int
    part: int
    accepted: float | None
    accepted_of_read: float | None
    accepted_characters: int
    typed_characters: int
    survival: dict[str, float | None]
    known: dict[str, int]
    latency_ms: dict[str, float | None]


def rows(found: Iterable[Record]) -> list[Row]:
    """All, then by language, length and model, the most shown first."""
    found = list(found)
    made = []
    for by, name_of in BY.items():
        groups: dict[str, list[Record]] = {}
        for record in found:
            groups.setdefault(name_of(record), []).append(record)
        made += [_row(by, *group) for group in sorted(groups.items(), key=_most_shown)]
    return made


def _most_shown(group: tuple[str, list[Record]]) -> tuple[int, str]:
    return -len(group[1]), group[0]


def _row(by: str, name: str, group: Sequence[Record]) -> Row:
    accepted = [record for record in group if record.accepted != "no"]
    read = sum(record.shown_ms >= READ_MS or record.accepted != "no" for record in group)
    standing = {mark: _survival(accepted, mark) for mark in MARKS}
    latencies = [record.latency_ms for record in group]
    return Row(
        by,
        name,
        shown=len(group),
        read=read,
        whole=sum(record.accepted == "whole" for record in group),
        part=sum(record.accepted == "part" for record in group),
        accepted=share(len(accepted), len(group)),
        accepted_of_read=share(len(accepted), read),
        accepted_characters=sum(record.accepted_characters for record in accepted),
        typed_characters=sum(record.typed_characters for record in group),
        survival={mark: stood for mark, (stood, _) in standing.items()},
        known={mark: count for mark, (_, count) in standing.items()},
        latency_ms={"p50": percentile(latencies, 0.5), "p95": percentile(latencies, 0.95)},
    )


def _survival(accepted: Sequence[Record], mark: str) -> tuple[float | None, int]:
    """The share of characters, and of how many suggestions."""
    known = [
        (stood, record.accepted_characters)
        for record in accepted
        if (stood := getattr(record.survival, mark, None)) is not None
    ]
    stood = sum(part * characters for part, characters in known)
    return share(stood, sum(characters for _, characters in known)), len(known)


def share(part: float, whole: float) -> float | None:
    """`part` of `whole`, with four digits; None of nothing."""
    return round(part / whole, 4) if whole else None


def percentile(values: Iterable[float], at: float) -> float | None:
    """The smallest value that a share `at` of them does not exceed; None of none."""
    ordered = sorted(values)
    return ordered[math.ceil(at * len(ordered)) - 1] if ordered else None
