"""The whole step: seeds in, samples out, its funnel, and what a kill costs."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing

import pytest
from click.testing import CliRunner

from magicoder.cli.data.generate import generate as command
from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data import generate, runner
from magicoder.training.data.generate import Generate
from magicoder.training.data.records import Sample, Seed
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Teacher

GOOD = "[Problem Description]\n{0}\n\n[Solution]\n```python\ndef f{1}(x):\n    return x + {1}\n```"


def number(body):
    """Which seed a request is about."""
    return int(body["messages"][1]["content"].split("seed_")[1].split(" ")[0])


def send(handler, text, status=200, **headers):
    message = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    data = json.dumps({"choices": [message], "usage": usage}).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def good(handler, body):
    which = number(body)
    send(handler, GOOD.format(f"Write a function that adds {which} to x.", which))


@pytest.fixture
def seeds(tmp_path):
    path = tmp_path / "seeds.jsonl"
    found = (
        Seed(origin="dir:o", path=f"{n}.py", language="python", code=f"seed_{n} = {n}")
        for n in range(30)
    )
    path.write_text("".join(seed.model_dump_json() + "\n" for seed in found))
    return path


def run(server, seeds, output, shard=None, **options):
    teacher = Teacher(base_url=server.base_url, **{"in_flight": 4, "retries": 0, **options})
    with closing(Store(output.with_name("answers.sqlite"))) as store:
        step = generate.step(Generate(), source=seeds, teacher=teacher, store=store)
        return runner.run(step, output, shard=shard)


def test_seeds_become_samples_and_the_funnel_tells_what_it_cost(faulty_server, seeds, tmp_path):
    faults = {3: "no sections", 7: ""}

    def varied(handler, body):
        which = number(body)
        send(handler, faults[which]) if which in faults else good(handler, body)

    server = faulty_server(varied)
    output = tmp_path / "generate.jsonl"
    funnel = run(server, seeds, output, price_in=1.0, price_out=2.0)
    books = {counts.stage: (counts.count_in, counts.count_out) for counts in funnel.stages}
    assert books == {
        "seeds": (0, 30),
        "questions": (30, 30),
        "answers": (30, 29),
        "problems": (29, 28),
    }
    assert funnel.account["requests"] == 30
    assert funnel.account["failures"] == {"empty answer": 1}
    assert funnel.account["cost"] == pytest.approx(29 * (100 * 1e-6 + 50 * 2e-6))
    samples = [Sample.model_validate_json(line) for line in output.read_text().splitlines()]
    assert [sample.seed.path for sample in samples] == [
        f"{n}.py" for n in range(30) if n not in faults
    ]
    refused = (tmp_path / "generate.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in refused] == [
        "teacher: empty answer",
        "the answer lacks a [Problem Description] or a [Solution] section",
    ]


def test_shards_put_together_are_one_run(faulty_server, seeds, tmp_path):
    server = faulty_server(good)
    run(server, seeds, tmp_path / "whole" / "generate.jsonl")
    parts = [tmp_path / "parts" / f"{n}.jsonl" for n in (1, 2, 3)]
    for place, part in enumerate(parts, 1):
        run(server, seeds, part, shard=runner.Shard(place, 3))
    merged = runner.merge(parts, tmp_path / "merged.jsonl")
    whole = (tmp_path / "whole" / "generate.jsonl").read_bytes()
    assert (tmp_path / "merged.jsonl").read_bytes() == whole
    assert merged.account["requests"] == 30


def kept(path):
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=60)) as db:
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return db.execute("SELECT count(*) FROM answer").fetchone()[0] if tables > 1 else 0


KILLED = """
import sys
from pathlib import Path
from magicoder.training.data import generate, runner
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Teacher
base_url, seeds, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
teacher = Teacher(base_url=base_url, in_flight=4, retries=0)
store = Store(output.with_name("answers.sqlite"))
step = generate.step(generate.Generate(), source=seeds, teacher=teacher, store=store)
runner.run(step, output)
"""


def test_kill_9_pays_for_no_answer_twice_and_ends_with_the_same_bytes(
    faulty_server, seeds, tmp_path
):
    over, answered, lock = threading.Event(), Counter(), threading.Lock()
    allowed = 0

    def some(handler, body):
        with lock:
            held = sum(answered.values()) >= allowed
            if not held:
                answered[number(body)] += 1
        over.wait(120) if held else good(handler, body)

    server = faulty_server(some)
    output = tmp_path / "killed" / "generate.jsonl"
    for allowed in (5, 14, 21):
        child = subprocess.Popen([sys.executable, "-c", KILLED, server.base_url, seeds, output])
        deadline = time.monotonic() + 120
        while kept(output.with_name("answers.sqlite")) < allowed:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not output.exists()
    allowed = 1000
    run(server, seeds, output)
    over.set()
    assert answered == dict.fromkeys(range(30), 1)
    server.answer = good
    run(server, seeds, tmp_path / "whole" / "generate.jsonl")
    assert output.read_bytes() == (tmp_path / "whole" / "generate.jsonl").read_bytes()


def test_the_command_asks_as_its_options_say(faulty_server, seeds, tmp_path, monkeypatch):
    server = faulty_server(good)
    monkeypatch.setenv("MAGICODER_BASE_URL", server.base_url)
    output = tmp_path / "out" / "generate.jsonl"
    options = "--temperature 0.3 --max-tokens 77 --sampling-seed 5 --model large --in-flight 2"
    made = CliRunner().invoke(command, [str(seeds), "-o", str(output), *options.split()])
    assert made.exit_code == 0, made.output
    assert made.stdout == f"{output}\n"
    assert len(output.read_text().splitlines()) == 30
    body = server.requests[0][1]
    wanted = {"temperature": 0.3, "max_tokens": 77, "seed": 5, "model": "large"}
    assert body.items() >= wanted.items()
    assert (tmp_path / "out" / "answers.sqlite").exists()
    elsewhere = tmp_path / "other.jsonl"
    store = ["--store", str(tmp_path / "out" / "answers.sqlite")]
    arguments = [str(seeds), "-o", str(elsewhere), *options.split(), *store]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    assert len(server.requests) == 30
    assert elsewhere.read_bytes() == output.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["--style", "x"], UsageError, "no style 'x': use one of"),
        (["--in-flight", "0"], UsageError, "'in_flight'"),
        (["--model", "m"], MagicoderError, "no server at"),
    ],
)
def test_the_command_names_the_mend(seeds, tmp_path, arguments, error, says):
    options = ["--base-url", "http://127.0.0.1:1/v1", "--retries", "0"]
    output = ["-o", str(tmp_path / "x.jsonl")]
    made = CliRunner().invoke(command, [str(seeds), *output, *options, *arguments])
    assert isinstance(made.exception, error)
    assert says in str(made.exception)
