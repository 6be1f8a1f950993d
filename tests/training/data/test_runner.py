"""The runner's books, files and shards against stages whose counts are known."""

import json
import os

import pytest

from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data import runner
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.runner import Shard, Step


def document(number):
    return Document(origin="o", path=str(number), language="python", text="x")


def source(_):
    yield from (document(number) for number in range(10))


def odd(records):
    for record in records:
        even = int(record.path) % 2 == 0
        yield Rejected(reason="even", detail="by 2", record=record) if even else record


def no_three(records):
    for record in records:
        three = int(record.path) % 3 == 0
        yield Rejected(reason="three", record=record) if three else record


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_counts_reasons_and_files(tmp_path):
    seen = []
    output = tmp_path / "new" / "out.jsonl"
    step = Step({"source": source, "odd": odd}, account=lambda: {"tokens": 5})
    funnel = runner.run(step, output, watch=lambda now: seen.append(now.stages[1].count_in))
    assert [(c.stage, c.count_in, c.count_out) for c in funnel.stages] == [
        ("source", 0, 10),
        ("odd", 10, 5),
    ]
    assert funnel.stages[1].rejected == {"even": 5}
    assert funnel.account == {"tokens": 5}
    assert seen[-1] == 10
    assert len(seen) == 21
    assert [row["path"] for row in rows(output)] == ["1", "3", "5", "7", "9"]
    rejects = rows(output.with_name("out.rejects.jsonl"))
    assert {(r["stage"], r["reason"], r["detail"]) for r in rejects} == {("odd", "even", "by 2")}
    assert [row["record"] for row in rejects] == [document(n).model_dump() for n in (0, 2, 4, 6, 8)]
    assert runner.funnel_of(output) == funnel
    assert sorted(os.listdir(output.parent)) == [
        "out.funnel.json",
        "out.jsonl",
        "out.rejects.jsonl",
    ]


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
    funnel = runner.run(Step(stages), tmp_path / "out.jsonl")
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

    runner.run(Step({"source": counted, "check": check}), tmp_path / "out.jsonl")


def test_a_failing_stage_leaves_the_earlier_output(tmp_path):
    output = tmp_path / "out.jsonl"
    runner.run(Step({"source": source}), output)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(records):
        yield next(records)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        runner.run(Step({"source": source, "broken": broken}), output)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 10, 13])
def test_merged_shards_are_the_bytes_of_one_run(tmp_path, parts):
    step = Step({"source": source, "odd": odd, "no three": no_three}, whole=2)
    one = tmp_path / "one.jsonl"
    funnel = runner.run(step, one)
    outputs = [tmp_path / f"part-{number}.jsonl" for number in range(1, parts + 1)]
    for number, output in enumerate(outputs, 1):
        runner.run(step, output, shard=Shard(number, parts))
    merged = tmp_path / "merged.jsonl"
    books = runner.merge(outputs[::-1], merged)
    assert merged.read_bytes() == one.read_bytes()
    rejects = [path.with_name(f"{path.stem}.rejects.jsonl") for path in (one, merged)]
    assert rejects[0].read_bytes() == rejects[1].read_bytes()
    for theirs, mine in zip(funnel.stages, books.stages, strict=True):
        assert mine.model_dump(exclude={"seconds"}) == theirs.model_dump(exclude={"seconds"})
    assert books.shard == "1/1"


def test_shards_that_do_not_fit_are_refused(tmp_path):
    step = Step({"source": source, "odd": odd})
    outputs = [tmp_path / f"part-{number}.jsonl" for number in range(1, 4)]
    for number, output in enumerate(outputs, 1):
        runner.run(step, output, shard=Shard(number, 3))
    other = tmp_path / "other.jsonl"
    runner.run(Step({"source": source}), other, shard=Shard(2, 3))
    for given, words in [
        (outputs[:2], "shard 3/3 is missing"),
        ([*outputs, outputs[0]], "shard 1/3 is given twice"),
        ([outputs[0], other, outputs[2]], "not shards of one step"),
        ([tmp_path / "none.jsonl"], "cannot be read"),
    ]:
        with pytest.raises(UsageError, match=words):
            runner.merge(given, tmp_path / "merged.jsonl")
    assert not (tmp_path / "merged.jsonl").exists()


def test_accounts_of_shards_are_added(tmp_path):
    outputs = []
    for number in (1, 2):
        account = {"tokens": number, "model": "m", "retries": {"429": number, str(number): 1}}
        step = Step({"source": source}, account=lambda account=account: account)
        outputs.append(tmp_path / f"{number}.jsonl")
        runner.run(step, outputs[-1], shard=Shard(number, 2))
    merged = runner.merge(outputs, tmp_path / "merged.jsonl")
    assert merged.account == {
        "tokens": 3,
        "model": "m",
        "retries": {"429": 3, "1": 1, "2": 1},
    }


def test_nothing_left_is_an_error_that_keeps_the_earlier_output(tmp_path):
    output = tmp_path / "out.jsonl"
    runner.run(Step({"source": source, "odd": odd}), output)
    before = output.read_bytes()

    def none(records):
        yield from (Rejected(reason="all", record=record) for record in records)

    with pytest.raises(MagicoderError, match=r"mostly for 'all': look into .*out\.rejects\.jsonl"):
        runner.run(Step({"source": source, "none": none}), output)
    assert output.read_bytes() == before
    assert len(rows(tmp_path / "out.rejects.jsonl")) == 10
    with pytest.raises(MagicoderError, match="'source' found nothing"):
        runner.run(Step({"source": iter}), tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()
    empty = runner.run(Step({"source": iter}), tmp_path / "shard.jsonl", shard=Shard(2, 2))
    assert empty.stages[0].count_out == 0


def test_a_shard_without_its_rejects_is_named(tmp_path):
    outputs = [tmp_path / f"{number}.jsonl" for number in (1, 2)]
    for number, output in enumerate(outputs, 1):
        runner.run(Step({"source": source, "odd": odd}), output, shard=Shard(number, 2))
    (tmp_path / "2.rejects.jsonl").unlink()
    with pytest.raises(UsageError, match=r"2\.rejects\.jsonl cannot be read"):
        runner.merge(outputs, tmp_path / "merged.jsonl")
    assert not (tmp_path / "merged.jsonl").exists()


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/0"])
def test_no_shard(text):
    with pytest.raises(UsageError, match="write i/n"):
        Shard.parse(text)


def test_blocks_cover_everything_once():
    for of in range(1, 9):
        for total in range(20):
            blocks = [range(*Shard(number, of).block(total)) for number in range(1, of + 1)]
            assert [i for block in blocks for i in block] == list(range(total))


def test_reading_names_the_line(tmp_path):
    path = tmp_path / "in.jsonl"
    good = document(1).model_dump_json()
    path.write_text(f"{good}\n\n{good}\n")
    assert list(runner.read(iter(()), path=path, type=Document)) == [document(1)] * 2
    for text, words in [
        (f'{good}\n{{"origin": "o"}}\n', r"in\.jsonl:2 is not a document \(path: field required\)"),
        ("{", r"in\.jsonl:1 is not a document"),
    ]:
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            list(runner.read(iter(()), path=path, type=Document))
    path.write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        list(runner.read(iter(()), path=path, type=Document))
    with pytest.raises(UsageError, match="No such file"):
        list(runner.read(iter(()), path=tmp_path / "none", type=Document))
