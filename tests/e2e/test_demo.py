"""`magicoder demo`, killed twice on its way: the third run finishes, and nothing is done twice."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def start(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "magicoder", "demo", "--out", str(out)]
    log = (out.parent / "demo.log").open("a")
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True)


def kill_when(demo: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Kill the demo with -9 once it has got so far, and see its children end by themselves."""
    while not reached():
        assert demo.poll() is None, "the demo ended before it was killed"
        time.sleep(0.5)
    children = psutil.Process(demo.pid).children(recursive=True)
    demo.kill()
    demo.wait()
    _, alive = psutil.wait_procs(children, timeout=180)
    assert not alive


def answers(out: Path) -> int:
    """How many answers of the teacher are kept."""
    store = out / "data" / "answers.sqlite"
    if not store.is_file():
        return 0
    with closing(sqlite3.connect(store)) as connection:
        try:
            return int(connection.execute("select count(*) from answer").fetchone()[0])
        except sqlite3.OperationalError:  # the table is not there yet
            return 0


def lines(file: Path) -> list[str]:
    return file.read_text().split("\n")[:-1] if file.is_file() else []


def test_a_demo_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    metrics = out / "training" / "metrics.jsonl"
    kill_when(start(out), lambda: answers(out) >= 4)
    paid = answers(out)
    kill_when(start(out), lambda: len(lines(metrics)) >= 3)
    before = lines(metrics)[:2]  # the recipe keeps a checkpoint every second step
    assert start(out).wait() == 0, (tmp_path / "demo.log").read_text()[-2000:]

    assert paid <= answers(out)
    samples = [json.loads(line) for line in lines(out / "data" / "dataset.jsonl")]
    assert len(samples) >= 10
    assert all(sample["problem"] and "```" in sample["solution"] for sample in samples)
    assert lines(metrics)[:2] == before
    kept = json.loads((out / "demo.json").read_text())
    assert [stage["name"] for stage in kept["stages"]] == ["data", "train", "serve", "complete"]
    assert kept["stages"][0]["count_out"] == len(samples)
    assert kept["last"] < kept["first"], "the loss did not fall"
    assert (out / "training" / "adapter" / "adapter_model.safetensors").is_file()
    assert kept["completion"]["text"]
    assert [turn["model"] for turn in kept["transcript"]] == ["smollm2-135m", "demo"]
    assert (out / "index.html").read_text().count("<details") == len(samples)
    assert kept["completion"]["text"].splitlines()[0] in (out / "transcript.md").read_text()
    assert "The loop in small" in (tmp_path / "demo.log").read_text()
