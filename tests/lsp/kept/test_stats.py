"""The figures, counted by hand."""

from typing import Any

from magicoder.lsp.kept import stats
from magicoder.lsp.kept.records import Record


def record(**known: Any) -> Record:
    made = {"id": "a", "time": 0, "language": "python", "model": "m", "source": "model"}
    made |= {"lines": 1, "characters": 10, "latency_ms": 100, "shown_ms": 100, "accepted": "no"}
    return Record.model_validate(made | known)


RECORDS = [
    record(accepted="whole", accepted_characters=90, lines=3, survival={"s30": 1, "min2": 0.5}),
    record(accepted="part", accepted_characters=10, survival={"s30": 0, "min2": 0, "min10": 0}),
    record(shown_ms=750, latency_ms=300, typed_characters=10),
    record(shown_ms=749, latency_ms=200, language="go", model="n"),
]


def test_all() -> None:
    row = stats.rows(RECORDS)[0]
    assert (row.by, row.name) == ("all", "all")
    assert (row.shown, row.read, row.whole, row.part) == (4, 3, 1, 1)
    assert (row.accepted, row.accepted_of_read) == (0.5, 0.6667)
    assert (row.accepted_characters, row.typed_characters) == (100, 10)
    assert row.survival == {"s30": 0.9, "min2": 0.45, "min10": 0}, "of characters"
    assert row.known == {"s30": 2, "min2": 2, "min10": 1}, "of suggestions"
    assert row.latency_ms == {"p50": 100, "p95": 300}


def test_groups() -> None:
    rows = stats.rows(RECORDS)
    assert [(row.by, row.name, row.shown) for row in rows] == [
        ("all", "all", 4),
        ("language", "python", 3),
        ("language", "go", 1),
        ("length", "one line", 3),
        ("length", "block", 1),
        ("model", "m", 3),
        ("model", "n", 1),
    ]


def test_of_nothing_there_is_no_share() -> None:
    (go,) = (row for row in stats.rows(RECORDS) if row.name == "go")
    assert (go.accepted, go.accepted_of_read) == (0, None)
    assert go.survival == {"s30": None, "min2": None, "min10": None}
    assert stats.rows([]) == []


def test_percentiles() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert (stats.percentile(hundred, 0.5), stats.percentile(hundred, 0.95)) == (50, 95)
    assert (stats.percentile([7.0], 0.5), stats.percentile([7.0], 0.95)) == (7, 7)
    assert stats.percentile([], 0.5) is None
