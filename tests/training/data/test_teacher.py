"""The teacher's client against a server that misbehaves; what it asks is counted at the server."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from email.utils import formatdate
from itertools import count

import pytest

from magicoder.errors import ServerError
from magicoder.training.data import teacher
from magicoder.training.data.records import Answer, Question, Record, Rejected, Seed
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Account, Teacher


def reply(handler, status, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def answer(text, finish="stop", prompt=10, completion=5):
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text},
    }
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}


def asked(body):
    return body["messages"][0]["content"]


def good(handler, body):
    reply(handler, 200, answer(f"to {asked(body)}"))


def seed(name):
    return Seed(origin="dir:x", path=name, language="python", code=name)


def question(name, **options):
    message = {"role": "user", "content": name}
    return Question(record=seed(name), messages=(message,), **options)


def questions(*names):
    return iter([question(str(name)) for name in names])


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "answers.sqlite")
    yield store
    store.close()


@pytest.fixture
def quick(monkeypatch):
    """Back-off without the waiting."""
    monkeypatch.setattr(teacher, "_LONGEST_WAIT", 0.01)


def ask(server, store, source, account=None, **options):
    who = Teacher(base_url=server.base_url, **{"retries": 0, **options})
    return list(teacher.ask(source, teacher=who, store=store, account=account or Account()))


def texts(found):
    return [item.text if isinstance(item, Answer) else item.reason for item in found]


def test_answers_come_in_the_order_of_the_questions_whatever_the_order_of_arrival(
    faulty_server, store
):
    rest = threading.Semaphore(0)

    def first_comes_last(handler, body):
        if asked(body) == "0":
            for _ in range(19):
                rest.acquire()
        good(handler, body)
        rest.release()

    found = ask(faulty_server(first_comes_last), store, questions(*range(20)), in_flight=4)
    assert texts(found) == [f"to {number}" for number in range(20)]
    assert [item.record.path for item in found] == [str(number) for number in range(20)]


def test_other_records_pass_through_in_their_place(faulty_server, store):
    class Other(Record):
        name: str

    refused = Rejected(reason="no", record=seed("x"))
    source = [Other(name="a"), question("1"), refused, question("2"), Other(name="b")]
    first, one, middle, two, last = ask(faulty_server(good), store, iter(source))
    assert (first, middle, last) == (source[0], refused, source[4])
    assert texts([one, two]) == ["to 1", "to 2"]


def test_the_request_holds_what_the_teacher_and_the_question_say(faulty_server, store):
    server = faulty_server(good)
    extra = {"structured_outputs": {"regex": "a+"}}
    wanted = question("hi", sample=3, extra=extra)
    (found,) = ask(
        server, store, iter([wanted]), model="m", structured="always", top_p=0.9, temperature=0.2
    )
    assert server.requests == [
        (
            "/v1/chat/completions",
            {
                "model": "m",
                "messages": [{"role": "user", "content": "hi"}],
                "temperature": 0.2,
                "top_p": 0.9,
                "max_tokens": 2500,
                "seed": 979,
                **extra,
            },
        )
    ]
    assert (found.teacher, found.sample, found.structured) == ("m", 3, True)
    ask(server, store, iter([wanted]), structured="never", seed=None)
    assert server.requests[1][1] == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "max_tokens": 2500,
    }


def models(**owner):
    return json.dumps({"object": "list", "data": [{"id": "m", "object": "model", **owner}]})


@pytest.mark.parametrize(
    ("owner", "held"), [({"owned_by": "vllm"}, True), ({"owned_by": "acme"}, False), ({}, False)]
)
def test_auto_uses_structured_output_where_the_endpoint_is_vllm_and_counts_it(
    faulty_server, store, owner, held
):
    server = faulty_server(good, models=models(**owner))
    source = [question(str(n), extra={"structured_outputs": {"regex": "a"}}) for n in range(3)]
    account = Account()
    found = ask(server, store, iter([*source, question("bare")]), account)
    asked = {b["messages"][-1]["content"]: "structured_outputs" in b for _, b in server.requests}
    assert asked == {"0": held, "1": held, "2": held, "bare": False}
    assert [item.structured for item in found] == [held] * 3 + [False]
    books = account.summary()
    assert (books["structured"], books["two_sections"]) == ((3, 1) if held else (0, 4))


def test_an_endpoint_is_known_again_without_asking_it(faulty_server, store):
    held = [question("a", extra={"structured_outputs": {"regex": "a"}})]
    server = faulty_server(good, models=models(owned_by="vllm"))
    first = ask(server, store, iter(held), model="m")
    gone = json.dumps({"object": "list", "data": []})
    again = faulty_server(good, models=gone)
    again.base_url, before = server.base_url, len(server.requests)
    assert ask(again, store, iter(held), model="m") == first
    assert len(server.requests) == before


def test_samples_of_one_question_are_different_requests(faulty_server, store):
    server = faulty_server(good)
    source = [question("a", sample=number) for number in (0, 1, 2, 0)]
    account = Account()
    found = ask(server, store, iter(source), account, seed=None)
    assert [item.sample for item in found] == [0, 1, 2, 0]
    assert len(server.requests) == 3


def test_the_same_request_in_flight_is_asked_once(faulty_server, store):
    server = faulty_server(good)
    account = Account()
    found = ask(server, store, questions("a", "b", "a", "a", "b"), account, in_flight=5)
    assert texts(found) == ["to a", "to b", "to a", "to a", "to b"]
    assert Counter(asked(body) for _, body in server.requests) == {"a": 1, "b": 1}
    books = account.summary()
    assert books["coalesced"] + books["from_store"] == 3
    assert (books["requests"], books["answers"]) == (2, 2)


def test_the_bound_is_held_and_reached(faulty_server, store):
    together = threading.Barrier(6, timeout=60)
    lock, now, most = threading.Lock(), 0, 0

    def counted(handler, body):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait()
        with lock:
            now -= 1
        good(handler, body)

    found = ask(faulty_server(counted), store, questions(*range(60)), in_flight=6)
    assert len(found) == 60
    assert most == 6


def test_two_who_share_an_account_share_its_slots(faulty_server, store):
    lock, now, most = threading.Lock(), 0, 0

    def counted(handler, body):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        good(handler, body)

    account = Account()
    who = Teacher(base_url=faulty_server(counted).base_url, in_flight=3)
    options = {"teacher": who, "store": store, "account": account}

    def follow(answers):
        for found in answers:
            yield question(f"then {found.text}")

    first = teacher.ask(questions(*range(30)), **options)
    second = list(teacher.ask(follow(first), **options))
    assert texts(second) == [f"to then to {number}" for number in range(30)]
    assert most == 3
    assert account.summary()["requests"] == 60


def test_questions_are_pulled_as_they_are_needed(faulty_server, store):
    pulled = count()

    def endless():
        for number in pulled:
            yield question(str(number % 7))

    who = Teacher(base_url=faulty_server(good).base_url, in_flight=2)
    found = teacher.ask(endless(), teacher=who, store=store, account=Account())
    for number in range(3000):
        assert next(found).text == f"to {number % 7}"
    found.close()
    assert next(pulled) <= 3000 + 1024


def test_requests_stay_in_flight_while_the_consumer_is_busy(faulty_server, store):
    server = faulty_server(good)
    who = Teacher(base_url=server.base_url, in_flight=2)
    found = teacher.ask(questions(*range(16)), teacher=who, store=store, account=Account())
    next(found)
    deadline = time.monotonic() + 60
    while len(server.requests) < 16 and time.monotonic() < deadline:
        time.sleep(0.01)  # busy with the first
    assert len(server.requests) == 16
    found.close()


def test_a_second_run_asks_for_nothing_and_a_failure_is_asked_again(faulty_server, store):
    server = faulty_server(
        lambda handler, body: reply(handler, 500, {}) if asked(body) == "2" else good(handler, body)
    )
    first = ask(server, store, questions(*range(4)))
    assert texts(first) == ["to 0", "to 1", "teacher: HTTP 500", "to 3"]
    assert first[2].record == seed("2")
    server.answer, server.requests[:] = good, []
    account = Account()
    second = ask(server, store, questions(*range(4)), account)
    assert [asked(body) for _, body in server.requests] == ["2"]
    assert account.summary()["from_store"] == 3
    assert [second[n] for n in (0, 1, 3)] == [first[n] for n in (0, 1, 3)]
    assert ask(server, store, questions(*range(4))) == second
    assert len(server.requests) == 1
    ask(server, store, questions(*range(4)), temperature=0.5)  # other requests
    assert len(server.requests) == 5


def test_more_tokens_ask_only_for_what_was_cut(faulty_server, store):
    def length(handler, body):
        cut = asked(body) == "long" and body["max_tokens"] < 100
        reply(handler, 200, answer("part" if cut else "whole", "length" if cut else "stop"))

    server = faulty_server(length)
    source = ("short", "long", "other")

    def of(max_tokens):
        server.requests[:] = []
        found = ask(server, store, questions(*source), max_tokens=max_tokens)
        return texts(found), {asked(body) for _, body in server.requests}, len(server.requests)

    assert of(10) == (["whole", "part", "whole"], {*source}, 3)
    assert of(10) == (["whole", "part", "whole"], set(), 0)
    assert of(5) == (["whole", "part", "whole"], set(), 0)
    assert of(50) == (["whole", "part", "whole"], {"long"}, 1)
    assert of(100) == (["whole", "whole", "whole"], {"long"}, 1)
    assert of(10) == (["whole", "whole", "whole"], set(), 0)


def cut(handler, _):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id"')
    handler.close_connection = True


def babble(handler, _):
    reply(handler, 200, answer("word " * 100_000, completion=100_000))


@pytest.mark.parametrize(
    ("fault", "reason", "tries"),
    [
        (lambda handler, _: reply(handler, 429, {}, Retry_After="0"), "HTTP 429", 3),
        (lambda handler, _: reply(handler, 408, {}), "HTTP 408", 3),
        (lambda handler, _: reply(handler, 500, {}), "HTTP 500", 3),
        (lambda handler, _: reply(handler, 503, {}), "HTTP 503", 3),
        (cut, "the connection broke", 3),
        (lambda handler, _: reply(handler, 400, {}), "HTTP 400", 1),
        (lambda handler, _: reply(handler, 422, {}), "HTTP 422", 1),
        (lambda handler, _: reply(handler, 200, b"{]"), "not an OpenAI answer", 1),
        (lambda handler, _: reply(handler, 200, b"\xff\xfe"), "not an OpenAI answer", 1),
        (lambda handler, _: reply(handler, 200, {"choices": []}), "not an OpenAI answer", 1),
        (lambda handler, _: reply(handler, 200, answer("")), "empty answer", 1),
        (lambda handler, _: reply(handler, 200, answer(None)), "empty answer", 1),
        (babble, "far longer than asked for", 1),
    ],
)
def test_a_failed_request_costs_no_other_record_and_is_told(
    faulty_server, store, quick, fault, reason, tries
):
    server = faulty_server(lambda *both: (fault if asked(both[1]) == "2" else good)(*both))
    account = Account()
    found = ask(server, store, questions(*range(6)), account, retries=2)
    assert texts(found) == ["to 0", "to 1", f"teacher: {reason}", "to 3", "to 4", "to 5"]
    assert Counter(asked(body) for _, body in server.requests)["2"] == tries
    books = account.summary()
    assert books["failures"] == {reason: 1}
    assert books["retries"] == ({reason: tries - 1} if tries > 1 else {})
    assert (books["requests"], books["answers"]) == (5 + tries, 5)
    server.answer = good
    assert texts(ask(server, store, questions(2))) == ["to 2"]


@pytest.mark.parametrize("when", ["1", "date"])
def test_a_busy_teacher_is_asked_again_when_it_says(faulty_server, store, when):
    told = []

    def busy(handler, body):
        told.append(time.monotonic())
        # A date holds whole seconds
        after = formatdate(time.time() + 2, usegmt=True) if when == "date" else when
        reply(handler, 429, {}, Retry_After=after) if len(told) == 1 else good(handler, body)

    account = Account()
    found = ask(faulty_server(busy), store, questions("a"), account, retries=1)
    assert texts(found) == ["to a"]
    assert account.summary()["retries"] == {"HTTP 429": 1}
    assert told[1] - told[0] >= 0.99


def test_a_request_that_waits_for_its_next_try_holds_no_slot(faulty_server, store, monkeypatch):
    monkeypatch.setattr(teacher, "_LONGEST_WAIT", 3600)
    monkeypatch.setattr(teacher.random, "uniform", lambda low, high: 3600)
    server = faulty_server(
        lambda handler, body: reply(handler, 500, {}) if asked(body) == "0" else good(handler, body)
    )
    who = Teacher(base_url=server.base_url, in_flight=1, retries=1)
    passing = iter([seed("first"), *questions(*range(5))])
    found = teacher.ask(passing, teacher=who, store=store, account=Account())
    assert next(found) == seed("first")
    deadline = time.monotonic() + 60
    while len(server.requests) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [asked(body) for _, body in server.requests] == ["0", "1", "2", "3", "4"]
    found.close()


@pytest.mark.parametrize("drip", [False, True])
def test_a_silent_teacher_is_given_up_on(faulty_server, store, drip):
    over = threading.Event()

    def hang(handler, body):
        if asked(body) != "1":
            return good(handler, body)
        if drip:  # a byte now and then keeps a connection alive for ever
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
        while not over.wait(0.02):
            if drip:
                handler.wfile.write(b" ")
        return None

    server = faulty_server(hang)
    found = ask(server, store, questions(*range(4)), timeout=0.5)
    over.set()
    assert texts(found) == ["to 0", "teacher: no answer in time", "to 2", "to 3"]
    server.answer = good
    assert texts(ask(server, store, questions(1))) == ["to 1"]


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_teacher_that_refuses_us_ends_the_run_and_what_came_is_kept(faulty_server, store, status):
    def later(handler, body):
        refuse = asked(body) == "3"
        reply(handler, status, {"error": {"message": "who?"}}) if refuse else good(handler, body)

    server = faulty_server(later)
    who = Teacher(base_url=server.base_url, in_flight=1)
    found = teacher.ask(questions(*range(9)), teacher=who, store=store, account=Account())
    with pytest.raises(ServerError, match=r"refuses.*check the key") as refused:
        list(found)
    assert refused.value.status == status
    assert [asked(body) for _, body in server.requests] == ["0", "1", "2", "3"]
    server.answer, server.requests[:] = good, []
    assert len(ask(server, store, questions(*range(9)))) == 9
    assert {asked(body) for _, body in server.requests} == set("345678")


def test_a_teacher_that_is_gone_ends_the_run(faulty_server, store):
    server = faulty_server(good)
    server.base_url = "http://127.0.0.1:1/v1"
    for model in (None, "m"):
        with pytest.raises(ServerError, match=r"no server at http://127\.0\.0\.1:1/v1"):
            ask(server, store, questions(1), model=model)


@pytest.mark.parametrize("listed", ["{}", "[]", "{]", '{"object": "list", "data": []}'])
def test_an_endpoint_without_models_is_told(faulty_server, store, listed):
    with pytest.raises(ServerError, match="lists no models"):
        ask(faulty_server(good, models=listed), store, questions(1))


def test_a_fault_of_ours_shows_itself(faulty_server, store, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("full disk")

    monkeypatch.setattr(store, "put", broken)
    with pytest.raises(RuntimeError, match="full disk"):
        ask(faulty_server(good), store, questions(1, 2))


def test_an_error_of_the_source_ends_the_run(faulty_server, store):
    def source():
        yield question("1")
        raise KeyError("x")

    with pytest.raises(KeyError):
        ask(faulty_server(good), store, source())


def test_what_was_paid_is_accounted(faulty_server, store):
    server = faulty_server(lambda handler, _: reply(handler, 200, answer("x", "stop", 1000, 200)))
    account = Account()
    ask(server, store, questions(*range(5)), account, price_in=2.0, price_out=10.0)
    books = account.summary()
    assert (books["prompt_tokens"], books["completion_tokens"]) == (5000, 1000)
    assert books["cost"] == pytest.approx(5000 * 2e-6 + 1000 * 10e-6)
    again = Account()
    ask(server, store, questions(*range(5)), again, price_in=2.0)
    assert (again.summary()["cost"], again.summary()["from_store"]) == (0.0, 5)


def test_requests_in_flight_are_weighed_by_time_until_the_last_is_sent(monkeypatch):
    account = Account()
    account._bound = 2
    events = [(0, "send"), (1, "send"), (4, "end"), (6, "send"), (7, "end"), (9, "end")]
    for moment, what in events:
        monkeypatch.setattr(teacher, "monotonic", lambda moment=moment: 100.0 + moment)
        account._send() if what == "send" else account._ended()
    books = account.summary()
    # One for a second, two for three, one for two; what comes after the last send is no waste
    assert books["in_flight_seconds"] == 1 + 6 + 2
    assert books["slot_seconds"] == 2 * 6
    assert books["seconds"] == 9


@pytest.mark.parametrize(
    ("limit", "length"),
    [
        ({"requests_per_minute": 300}, 1),
        # 90 + 40 / 4 tokens a request
        ({"tokens_per_minute": 30_000, "max_tokens": 90}, 40),
    ],
)
def test_rate_limits_space_the_requests(faulty_server, store, monkeypatch, limit, length):
    sent, send = [], Account._send

    def timed(account):
        sent.append(time.monotonic())
        send(account)

    monkeypatch.setattr(Account, "_send", timed)
    ask(faulty_server(good), store, questions(*(f"{n}" * length for n in range(4))), **limit)
    # Three gaps of 0.2 s; the first may be noted late
    assert sent[3] - sent[0] >= 0.4


SHARING = """
import sys
from pathlib import Path
from magicoder.training.data import teacher
from magicoder.training.data.records import Question, Seed
from magicoder.training.data.store import Store
base_url, path, first, last = sys.argv[1:]
who = teacher.Teacher(base_url=base_url, in_flight=4)
source = (
    Question(
        record=Seed(origin="dir:x", path=str(n), language="python", code="x"),
        messages=({"role": "user", "content": str(n)},),
    )
    for n in range(int(first), int(last))
)
found = list(teacher.ask(source, teacher=who, store=Store(Path(path)), account=teacher.Account()))
assert [item.text for item in found] == [f"to {n}" for n in range(int(first), int(last))], found
"""


@pytest.mark.slow
def test_two_processes_share_a_store(faulty_server, tmp_path):
    server = faulty_server(good)
    path = tmp_path / "answers.sqlite"
    children = [
        subprocess.Popen([sys.executable, "-c", SHARING, server.base_url, path, first, last])
        for first, last in (("0", "200"), ("200", "400"))
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    assert Counter(asked(body) for _, body in server.requests) == {str(n): 1 for n in range(400)}
    subprocess.run([sys.executable, "-c", SHARING, server.base_url, path, "0", "400"], check=True)
    assert len(server.requests) == 400
