"""The runner's books against stages whose counts are known."""

import json

import pytest

from magicoder.training.data import runner
from magicoder.training.data.records import Document, Rejected


def document(number):
    return Document(origin="o", path=str(number), language="python", text="x")


def source(_):
    yield from (document(number) for number in range(10))


def odd(records):
    for record in records:
        even = int(record.path) % 2 == 0
        yield Rejected(reason="even", record=record) if even else record


def test_counts_reasons_and_files(tmp_path):
    seen = []
    stages = {"source": source, "odd": odd}
    funnel = runner.run(stages, tmp_path, watch=lambda now: seen.append(now.stages[1].count_in))
    assert [(c.stage, c.count_in, c.count_out) for c in funnel.stages] == [
        ("source", 0, 10),
        ("odd", 10, 5),
    ]
    assert funnel.stages[1].rejected == {"even": 5}
    assert seen[-1] == 10
    assert len(seen) == 20
    rows = [json.loads(line) for line in (tmp_path / "dataset.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["1", "3", "5", "7", "9"]
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert {(row["stage"], row["reason"]) for row in rejects} == {("odd", "even")}
    assert [row["record"]["path"] for row in rejects] == ["0", "2", "4", "6", "8"]
    assert runner.Funnel.model_validate_json((tmp_path / "funnel.json").read_text()) == funnel


def test_seconds_are_the_stage_s_own(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(runner.time, "perf_counter", lambda: now)

    def taking(seconds, last):
        def stage(records):
            nonlocal now
            for record in records:
                now += seconds
                yield record
            now += last

        return stage

    stages = {
        "source": lambda _: taking(1, 0)(source(_)),
        "slow": taking(5, 7),
        "fast": taking(0.25, 0),
    }
    funnel = runner.run(stages, tmp_path)
    assert [counts.seconds for counts in funnel.stages] == [10, 57, 2.5]


def test_records_flow_one_at_a_time(tmp_path):
    pulled = []

    def counted(_):
        for number in range(10):
            pulled.append(number)
            yield document(number)

    def check(records):
        for number, record in enumerate(records):
            assert len(pulled) == number + 1
            yield record

    runner.run({"source": counted, "check": check}, tmp_path)
    assert len(pulled) == 10


def test_a_stage_that_fails_leaves_the_last_run_s_files(tmp_path):
    def broken(records):
        yield next(records)
        raise RuntimeError("broken")

    runner.run({"source": source}, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
    with pytest.raises(RuntimeError, match="broken"):
        runner.run({"source": source, "broken": broken}, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
