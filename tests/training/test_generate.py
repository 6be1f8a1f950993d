"""The teacher's stage against a server that misbehaves, and one that is killed half way."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from magicoder import oss_instruct
from magicoder.errors import MagicoderError, ServerError, UsageError
from magicoder.training.data import factory, generate
from magicoder.training.data.generate import Teacher
from magicoder.training.data.records import Answer, Rejected, Seed
from magicoder.training.data.store import Store

GOOD = "[Problem Description]\n{0}\n\n[Solution]\n```python\ndef f{1}(x):\n    return x + {1}\n```"


def reply(handler, status, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def answer(text, finish="stop"):
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text},
    }
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def number(body):
    """Which seed a request is about."""
    return int(body["messages"][1]["content"].split("seed_")[1].split(" ")[0])


def good(handler, body):
    which = number(body)
    reply(handler, 200, answer(GOOD.format(f"Write a function that adds {which} to x." * 2, which)))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "answers.sqlite")
    yield store
    store.close()


def seeds(count):
    for place in range(count):
        code = f"seed_{place} = {place}"
        yield Seed(origin="o", path=f"{place}.py", language="python", line=1, code=code)


def ask(server, store, count=6, **options):
    teacher = Teacher(base_url=server.base_url, **{"retries": 0, **options})
    return list(generate.generate(seeds(count), teacher=teacher, store=store))


def test_answers_come_in_the_order_of_the_seeds_whatever_the_order_of_arrival(faulty_server, store):
    def slow_first(handler, body):
        time.sleep(0.2 if number(body) == 0 else 0)
        good(handler, body)

    found = ask(faulty_server(slow_first), store, count=20, in_flight=4)
    assert [item.seed.path for item in found] == [f"{place}.py" for place in range(20)]
    assert all(isinstance(item, Answer) for item in found)


def test_the_request_is_the_paper_s(faulty_server, store):
    server = faulty_server(good)
    ask(server, store, count=1)
    path, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "m",
        "messages": oss_instruct.messages("seed_0 = 0"),
        "temperature": 0,
        "max_tokens": 2500,
        "seed": 976,
    }


def test_the_structured_form_asks_for_code_in_the_seed_s_language(faulty_server, store):
    server = faulty_server(good)
    ask(server, store, count=1, structured=True)
    pattern = re.compile(server.requests[0][1]["structured_outputs"]["regex"])
    task = "Write a Python function that adds the numbers of a list and returns their sum."
    code = "def total(numbers):\n    return sum(numbers)\n"
    text = f"[Problem Description]\n{task}\n\n[Solution]\n```python\n{code}\n```"
    assert pattern.fullmatch(text)
    assert oss_instruct.parse(text).problem == task
    for other in (
        text.replace("```python", "```rust"),
        text.replace("Write a Python", "Write a Swift"),
        text.replace(code, "Python"),
        text.removesuffix("```"),
        text + "More.",
    ):
        assert other != text
        assert not pattern.fullmatch(other)


def test_no_more_than_the_bound_are_in_flight_and_the_bound_is_reached(faulty_server, store):
    now, most, lock = 0, 0, threading.Lock()
    three = threading.Barrier(3, timeout=60)  # breaks if fewer than three come at once

    def counted(handler, body):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        three.wait()
        with lock:
            now -= 1
        good(handler, body)

    found = ask(faulty_server(counted), store, count=12, in_flight=3)
    assert all(isinstance(item, Answer) for item in found)
    assert most == 3


def test_what_arrived_is_never_asked_for_again(faulty_server, store):
    def flaky(handler, body):
        good(handler, body) if number(body) % 3 else reply(handler, 500, {"error": "no"})

    server = faulty_server(flaky)
    first = ask(server, store)
    assert [item.reason for item in first if isinstance(item, Rejected)] == [
        "teacher: HTTP 500"
    ] * 2
    assert len(server.requests) == 6
    server.answer = good
    second = ask(server, store)
    assert [number(body) for _, body in server.requests[6:]] == [0, 3]
    assert [item for item in first if isinstance(item, Answer)] == [second[i] for i in (1, 2, 4, 5)]
    assert ask(server, store) == second
    assert len(server.requests) == 8
    ask(server, store, temperature=0.5)  # another request
    assert len(server.requests) == 14


def cut(handler, _):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id"')
    handler.close_connection = True


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda handler, _: reply(handler, 503, {}), "teacher: HTTP 503"),
        (lambda handler, _: reply(handler, 400, {}), "teacher: HTTP 400"),
        (cut, "teacher: the connection broke"),
        (lambda handler, _: reply(handler, 200, b"{]"), "teacher: not an OpenAI answer"),
        (lambda handler, _: reply(handler, 200, {"choices": []}), "teacher: not an OpenAI answer"),
        (lambda handler, _: reply(handler, 200, answer("")), "teacher: empty answer"),
        (lambda handler, _: reply(handler, 200, answer(None)), "teacher: empty answer"),
    ],
)
def test_one_failed_request_costs_no_other_record_and_is_not_kept(
    faulty_server, store, fault, reason
):
    server = faulty_server(lambda *both: (fault if number(both[1]) == 2 else good)(*both))
    found = ask(server, store)
    assert [getattr(item, "reason", None) for item in found] == [None, None, reason, *[None] * 3]
    server.answer = good
    assert isinstance(ask(server, store)[2], Answer)
    assert len(server.requests) == 7


def test_a_silent_teacher_is_given_up_on(faulty_server, store):
    over = threading.Event()
    server = faulty_server(lambda *_: over.wait(60))
    (silent,) = ask(server, store, count=1, timeout=0.2)
    over.set()
    assert silent.reason == "teacher: no answer in time"
    server.answer = good
    assert isinstance(ask(server, store, count=1)[0], Answer)


def test_a_busy_teacher_is_asked_again(faulty_server, store):
    tries = []

    def busy(handler, body):
        tries.append(1)
        good(handler, body) if len(tries) > 1 else reply(handler, 429, {}, Retry_After="0")

    assert isinstance(ask(faulty_server(busy), store, count=1, retries=1)[0], Answer)
    assert len(tries) == 2


def test_a_teacher_that_is_gone_or_refuses_us_ends_the_run(faulty_server, store):
    server = faulty_server(lambda handler, _: reply(handler, 401, {"error": {"message": "who?"}}))
    with pytest.raises(ServerError, match=r"refuses.*check the key") as refused:
        ask(server, store)
    assert refused.value.status == 401
    server.base_url = "http://127.0.0.1:1/v1"
    for model in (None, "m"):
        with pytest.raises(ServerError, match=r"no server at http://127\.0\.0\.1:1/v1"):
            ask(server, store, model=model)


def test_only_answers_that_ended_by_themselves_with_both_sections_are_parsed():
    seed = next(seeds(1))
    texts = [
        (GOOD.format("Add.", 1), "stop"),
        (GOOD, "length"),
        (GOOD, "tool_calls"),
        ("Hi", "stop"),
    ]
    answers = [Answer(seed=seed, teacher="m", text=text, finish_reason=why) for text, why in texts]
    whole, *rejected = generate.parse(iter(answers))
    assert (whole.problem, whole.solution[:9]) == ("Add.", "```python")
    assert [item.reason for item in rejected] == [
        "cut at the token limit",
        "ended by tool_calls",
        "the answer lacks a [Problem Description] or a [Solution] section",
    ]


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    for place in range(30):
        (folder / f"{place}.py").write_text(f"seed_{place} = 1\n")
    return folder


def config(server, code, output, **options):
    teacher = Teacher(base_url=server.base_url, in_flight=4, retries=0)
    return factory.Config(folders=(code,), teacher=teacher, output=output, **options)


def test_the_factory_makes_a_dataset_and_its_funnel(faulty_server, code, tmp_path):
    def varied(handler, body):
        text = "no sections" if number(body) < 5 else None
        reply(handler, 200, answer(text)) if text else good(handler, body)

    funnel = factory.run(config(faulty_server(varied), code, tmp_path / "out", count=30))
    assert {counts.stage: counts.count_out for counts in funnel.stages} == {
        "documents": 30,
        "seeds": 30,
        "answers": 30,
        "problems": 25,
        "unique": 25,
        "code parses": 25,
        "substantial": 25,
    }
    rows = [json.loads(line) for line in (tmp_path / "out/dataset.jsonl").read_text().splitlines()]
    assert len(rows) == 25
    assert {"problem", "solution", "seed", "teacher"} == rows[0].keys()
    assert {"origin", "path", "language", "line", "code", "hash"} == rows[0]["seed"].keys()


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        ({"a.txt": "text"}, UsageError, "no source code in"),
        ({"a.py": "x"}, MagicoderError, "lacks a"),
    ],
)
def test_an_empty_dataset_says_why(faulty_server, tmp_path, files, error, says):
    code = tmp_path / "few"
    code.mkdir()
    for name, text in files.items():
        (code / name).write_text(text)
    server = faulty_server(lambda handler, _: reply(handler, 200, answer("no sections")))
    with pytest.raises(error, match=says):
        factory.run(config(server, code, tmp_path / "out"))


def rows(path):
    with closing(sqlite3.connect(path, timeout=60)) as db:
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return db.execute("SELECT count(*) FROM answers").fetchone()[0] if tables else 0


KILLED = """
import sys
from magicoder.training.data import factory
factory.run(factory.Config.model_validate_json(sys.argv[1]))
"""


def test_kill_9_pays_for_no_answer_twice_and_ends_with_the_same_bytes(
    faulty_server, code, tmp_path
):
    over = threading.Event()

    def first_fourteen(handler, body):
        if len(server.requests) > 14:
            over.wait(120)  # those in flight when the run is killed
        else:
            good(handler, body)

    server = faulty_server(first_fourteen)
    wanted = config(server, code, tmp_path / "killed", count=30)
    child = subprocess.Popen([sys.executable, "-c", KILLED, wanted.model_dump_json()])
    kept = tmp_path / "killed" / "answers.sqlite"
    while not (kept.exists() and rows(kept) == 14):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    over.set()
    paid = {number(body) for _, body in server.requests[:14]}
    before = len(server.requests)
    assert not (tmp_path / "killed/dataset.jsonl").exists()

    server.answer = good
    factory.run(wanted)
    asked = [number(body) for _, body in server.requests[before:]]
    assert not paid & set(asked)
    assert paid | set(asked) == set(range(30))
    assert len(asked) == 16

    factory.run(config(server, code, tmp_path / "whole", count=30))
    same = [(tmp_path / name / "dataset.jsonl").read_bytes() for name in ("killed", "whole")]
    assert same[0] == same[1]
