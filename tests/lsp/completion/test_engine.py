"""The engine against a server that counts requests and sees closed sockets, in one process."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

from magicoder.errors import ServerError
from magicoder.lsp import options
from magicoder.lsp.completion import ask, connection, trace
from magicoder.lsp.completion import engine as engines
from magicoder.lsp.completion.connection import Connection
from magicoder.lsp.completion.engine import Engine
from magicoder.lsp.completion.pace import Pace
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.retrieve import Retriever
from magicoder.lsp.documents import Document, Edit
from tests.lsp.conftest import event


@dataclass
class Desk:
    """An engine with one open document, and someone who types in it."""

    engine: Engine
    reported: list[str] = field(default_factory=list)
    states: list[tuple[str, str | None, str]] = field(default_factory=list)

    def open(self, text: str, name: str = "/w/a.py") -> Document:
        item = types.TextDocumentItem(f"file://{name}", "", 0, text)
        document = Document(item, PositionCodec())
        document.subscribe(self.engine.edited)
        return document

    async def ask(self, document: Document, offset: int | None = None, **how: Any) -> list[str]:
        at = len(document.source) if offset is None else offset
        found = await self.engine.complete(document, at, **{"invoked": False, **how})
        return [each.text for each in found]


def type_(document: Document, text: str) -> None:
    end = len(document.source)
    document.apply(Edit(end, end, text))


@pytest.fixture
async def desk(
    endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    made = desk_of(endpoint, tmp_path)
    yield made
    await made.engine.close()


def desk_of(endpoint: Any, root: Path, **given: Any) -> Desk:
    chosen = options.read({"base_url": endpoint.base_url, **given})
    reported: list[str] = []
    states: list[tuple[str, str | None, str]] = []
    engine = Engine(
        chosen,
        Exclusions([root], chosen.exclude),
        Retriever(),
        reported.append,
        lambda *told: states.append(told),
    )
    return Desk(engine, reported, states)


def outcomes() -> list[tuple[str, str]]:
    return [(each.trigger, each.outcome) for each in trace.read()]


async def until(endpoint: Any, requests: int) -> None:
    """Wait until so many requests have come in."""
    while len(endpoint.requests) < requests:
        endpoint.asked.clear()
        await endpoint.asked.wait()


@pytest.fixture
def no_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is prepared ahead, so that every request is the user's."""
    monkeypatch.setattr(engines, "AHEAD", 3600)


@pytest.mark.usefixtures("no_ahead")
async def test_what_is_typed_as_predicted_asks_no_server(desk: Desk, endpoint: Any) -> None:
    endpoint.behave = endpoint.says("foo(a, b)")
    document = desk.open("x = ")
    assert await desk.ask(document) == ["foo(a, b)"]
    for char in "foo(a,":
        type_(document, char)
        [rest] = await desk.ask(document)
        assert document.source + rest == "x = foo(a, b)"
    assert len(endpoint.requests) == 1
    assert await desk.ask(document, 4) == [], "a word follows"
    document.apply(Edit(4, 10, ""))
    assert await desk.ask(document) == ["foo(a, b)"], "back where it was made"
    assert len(endpoint.requests) == 1
    type_(document, "g")
    endpoint.behave = endpoint.says("et()")
    assert await desk.ask(document) == ["et()"]
    assert len(endpoint.requests) == 2
    assert [outcome for _, outcome in outcomes()] == [
        *("model", "cache", "cache", "cache", "cache", "cache", "cache"),
        *("a word follows", "cache", "model"),
    ]


@pytest.mark.usefixtures("no_ahead")
async def test_edits_elsewhere_forget_nothing(desk: Desk, endpoint: Any) -> None:
    document = desk.open("import os\n" + "# a comment\n" * 40 + "x = ")
    assert await desk.ask(document) == ["1"]
    document.apply(Edit(0, 9, "import sys"))
    assert await desk.ask(document) == ["1"]
    assert len(endpoint.requests) == 1


@pytest.mark.usefixtures("no_ahead")
async def test_a_bracket_that_the_editor_closed_is_no_disagreement(
    desk: Desk, endpoint: Any
) -> None:
    endpoint.behave = endpoint.says("f(a, b)")
    document = desk.open("x = \ny = 2\n")
    assert await desk.ask(document, 4) == ["f(a, b)"]
    document.apply(Edit(4, 4, "f()"))
    assert await desk.ask(document, 6) == ["a, b"]
    document.apply(Edit(6, 7, ") + [0]"))
    endpoint.behave = endpoint.says("1")
    assert await desk.ask(document, 6) == ["1"], "more follows than what it closes"
    assert len(endpoint.requests) == 2


@pytest.mark.usefixtures("no_ahead")
async def test_nothing_to_say_is_remembered_until_the_user_asks(desk: Desk, endpoint: Any) -> None:
    endpoint.behave = endpoint.says(" ")
    document = desk.open("x = 1")
    for _ in range(2):
        assert await desk.ask(document) == []
    assert len(endpoint.requests) == 1
    endpoint.behave = endpoint.says(" + 2")
    assert await desk.ask(document, invoked=True) == [" + 2"]


@pytest.mark.usefixtures("no_ahead")
@pytest.mark.parametrize("typed", ["f", "foo(b", "foo(bar, baz"])
async def test_a_request_that_agrees_is_attached_to_the_running_answer(
    desk: Desk, endpoint: Any, typed: str
) -> None:
    gate = asyncio.Event()
    endpoint.behave = endpoint.keeps_on("foo(b", "ar, ba", "z)", gate=gate)
    document = desk.open("x = ")
    older = asyncio.create_task(desk.ask(document))
    await until(endpoint, 1)
    older.cancel()
    await asyncio.sleep(0)
    for char in typed:
        type_(document, char)
    newer = asyncio.create_task(desk.ask(document))
    await asyncio.sleep(0.1)  # longer than the grace: it follows
    gate.set()
    [rest] = await newer
    assert document.source + rest == "x = foo(bar, baz)"
    assert (len(endpoint.requests), endpoint.closed.is_set()) == (1, False)
    assert outcomes() == [("automatic", "replaced"), ("automatic", "attached")]


@pytest.mark.usefixtures("no_ahead")
async def test_an_answer_that_turns_out_otherwise_is_left(desk: Desk, endpoint: Any) -> None:
    gate = asyncio.Event()
    endpoint.behave = endpoint.keeps_on("foo", "(bar)", gate=gate)
    document = desk.open("x = ")
    older = asyncio.create_task(desk.ask(document))
    await until(endpoint, 1)
    older.cancel()
    type_(document, "foo(baz")
    newer = asyncio.create_task(desk.ask(document))
    await asyncio.sleep(0.05)
    endpoint.behave = endpoint.says(", 1)")
    gate.set()
    assert await newer == [", 1)"]
    assert endpoint.most == 1


@pytest.mark.usefixtures("no_ahead")
@pytest.mark.parametrize("begun", [(), ("foo",)])
async def test_an_edit_that_disagrees_closes_the_connection_at_once(
    desk: Desk, endpoint: Any, begun: tuple[str, ...]
) -> None:
    endpoint.behave = endpoint.hangs(*begun)
    document = desk.open("x = ")
    waiting = asyncio.create_task(desk.ask(document))
    await until(endpoint, 1)
    if begun:
        await asyncio.sleep(0.1)  # its beginning arrives
    document.apply(Edit(0, 1, "y"))
    await endpoint.closed.wait()
    assert await waiting == []
    assert len(endpoint.requests) == 1


@pytest.mark.usefixtures("no_ahead")
async def test_a_cancelled_request_frees_the_server(desk: Desk, endpoint: Any) -> None:
    endpoint.behave = endpoint.hangs("foo")
    document = desk.open("x = ")
    waiting = asyncio.create_task(desk.ask(document))
    await until(endpoint, 1)
    waiting.cancel()
    await endpoint.closed.wait()
    assert desk.states[-1][0] == "ready"


@pytest.mark.usefixtures("no_ahead")
async def test_one_generation_is_alive_at_most(desk: Desk, endpoint: Any) -> None:
    endpoint.behave = endpoint.hangs("zzz")
    document = desk.open("x = ")
    for char in "quite other":
        waiting = asyncio.create_task(desk.ask(document))
        await asyncio.sleep(0.01)
        waiting.cancel()
        type_(document, char)
    endpoint.behave = endpoint.says("1")
    await desk.ask(document)
    assert endpoint.most == 1


async def test_the_next_suggestion_is_there_when_one_is_accepted(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "AHEAD", 0)
    endpoint.behave = endpoint.says("first()")
    document = desk.open("def f():\n    ")
    assert await desk.ask(document) == ["first()"]
    endpoint.behave = endpoint.says("second()")
    await until(endpoint, 2)
    assert endpoint.requests[1]["prompt"] == "def f():\n    first()\n   ", "a new line comes next"
    async with asyncio.timeout(10):
        while ("ahead", "prepared") not in outcomes():  # noqa: ASYNC110 - told by a file
            await asyncio.sleep(0.01)
    monkeypatch.setattr(engines, "AHEAD", 3600)
    type_(document, "first()")
    assert await desk.ask(document) == [], "the statement is complete"
    type_(document, "\n    ")
    assert await desk.ask(document) == ["second()"]
    assert len(endpoint.requests) == 2


async def test_an_accepted_suggestion_attaches_to_what_is_prepared(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "AHEAD", 0)
    gate = asyncio.Event()
    endpoint.behave = endpoint.says("first")
    document = desk.open("x = ")
    assert await desk.ask(document) == ["first"]
    endpoint.behave = endpoint.keeps_on(" + ", "second", gate=gate)
    await until(endpoint, 2)
    type_(document, "first")
    newer = asyncio.create_task(desk.ask(document))
    await asyncio.sleep(0.1)
    gate.set()
    assert await newer == [" + second"]
    assert len(endpoint.requests) == 2


async def test_what_is_prepared_yields_to_a_key_that_needs_the_server(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "AHEAD", 0)
    endpoint.behave = endpoint.says("first()")
    document = desk.open("def f():\n    ")
    assert await desk.ask(document) == ["first()"]
    endpoint.behave = endpoint.hangs("zzz")
    await until(endpoint, 2)
    type_(document, "f")
    assert await desk.ask(document) == ["irst()"], "as predicted: it goes on"
    assert not endpoint.closed.is_set()
    monkeypatch.setattr(engines, "AHEAD", 3600)
    type_(document, "oo")
    endpoint.behave = endpoint.says("()")
    assert await desk.ask(document) == ["()"]
    assert endpoint.closed.is_set()
    assert endpoint.most == 1


@pytest.mark.usefixtures("no_ahead")
async def test_who_asks_gets_alternatives(desk: Desk, endpoint: Any) -> None:
    answers = iter(["one", "two", "one", "three"])

    async def behave(server: Any, writer: asyncio.StreamWriter) -> None:
        await server.says(next(answers))(server, writer)

    endpoint.behave = behave
    document = desk.open("x = ")
    assert await desk.ask(document, invoked=True) == ["one", "two"]
    assert [(body["temperature"], body.get("seed")) for body in endpoint.requests] == [
        (0.0, None),
        (ask.TEMPERATURE, 0),
        (ask.TEMPERATURE, 1),
    ]
    assert endpoint.most == 1
    assert await desk.ask(document) == ["one"], "the first stays the first"
    assert await desk.ask(document, invoked=True) == ["one", "two", "three"]


@pytest.mark.usefixtures("no_ahead")
async def test_alternatives_that_are_slow_are_not_waited_for(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "PATIENCE", 0.2)
    document = desk.open("x = ")
    assert await desk.ask(document) == ["1"]
    endpoint.behave = endpoint.hangs()
    assert await desk.ask(document, invoked=True) == ["1"]
    await endpoint.closed.wait()


@pytest.mark.usefixtures("no_ahead")
async def test_alternatives_are_not_asked_of_a_server_too_slow_for_them(
    desk: Desk, endpoint: Any
) -> None:
    document = desk.open("x = ")
    assert await desk.ask(document) == ["1"]
    desk.engine._pace.answered(10 * engines.PATIENCE)
    endpoint.behave = endpoint.says("2")
    assert await desk.ask(document, invoked=True) == ["1"]
    assert len(endpoint.requests) == 1


@pytest.mark.usefixtures("no_ahead")
async def test_a_suggestion_extends_what_the_menu_has_selected(desk: Desk, endpoint: Any) -> None:
    endpoint.behave = endpoint.says("(1)")
    document = desk.open("x = pr\n")
    [text] = await desk.ask(document, 4, selected=(4, 6, "print"))
    assert text == "print(1)"
    assert endpoint.requests[-1]["prompt"] == "x = print"
    assert document.source == "x = pr\n"


@pytest.mark.usefixtures("no_ahead")
@pytest.mark.parametrize("invoked", [True, False])
async def test_what_the_settings_forbid_asks_nothing(
    endpoint: Any, tmp_path: Path, invoked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    desk = desk_of(endpoint, tmp_path, disabled_languages=["go"], exclude=["*_pb2.py"])
    for name in ("ignored.py", "a_pb2.py", ".env", "a.go", "id_rsa"):
        document = desk.open("x = ", str(tmp_path / name))
        assert await desk.ask(document, invoked=invoked) == [], name
    document = desk.open("-----BEGIN PRIVATE KEY-----\nx = ", str(tmp_path / "b.py"))
    assert await desk.ask(document, invoked=invoked) == []
    assert endpoint.requests == []
    assert all(outcome != "model" for _, outcome in outcomes())
    await desk.engine.close()


@pytest.mark.usefixtures("no_ahead")
async def test_without_automatic_only_who_asks_is_answered(
    endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    desk = desk_of(endpoint, tmp_path, automatic=False)
    await desk.engine.connect()
    assert desk.states[-1][:2] == ("off", "m")
    document = desk.open("x = ")
    assert await desk.ask(document) == []
    assert endpoint.requests == []
    assert await desk.ask(document, invoked=True) == ["1"]
    assert [state for state, _, _ in desk.states][-2:] == ["working", "off"]
    await desk.engine.close()


@pytest.mark.usefixtures("no_ahead")
async def test_a_server_that_only_chats_is_asked_in_a_chat(desk: Desk, endpoint: Any) -> None:
    endpoint.chat_only = True
    endpoint.behave = endpoint.says("```python\n", "1 + 2", "\n```")
    document = desk.open("x = \n")
    assert await desk.ask(document, 4) == ["1 + 2"]
    [body] = endpoint.requests
    assert "x = " in body["messages"][-1]["content"]
    type_(document, "y = ")
    assert await desk.ask(document) == ["1 + 2"]
    assert desk.reported == []


@pytest.mark.usefixtures("no_ahead")
async def test_the_state_is_told_at_each_change(desk: Desk, endpoint: Any) -> None:
    await desk.engine.connect()
    document = desk.open("x = ")
    await desk.ask(document)
    await endpoint.stop()
    for text in ("y", " = "):
        type_(document, text)
        await desk.ask(document)
    assert [state for state, _, _ in desk.states] == [
        "starting", "ready", "working", "ready", "working", "failed",
    ]  # fmt: skip
    assert desk.states[1][1] == "m"
    assert desk.reported == [desk.states[-1][2]]
    await endpoint.start()
    type_(document, "1 +")
    assert await desk.ask(document) == ["1"]
    assert desk.states[-1] == ("ready", "m", "")


@pytest.mark.usefixtures("no_ahead")
async def test_a_server_slow_to_introduce_itself_is_asked_once(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, asked = asyncio.Event(), []
    introduce = Connection._introduce

    async def slowly(self: Connection) -> Any:
        asked.append(1)
        await gate.wait()
        return await introduce(self)

    monkeypatch.setattr(Connection, "_introduce", slowly)
    document = desk.open("x = ")
    for _ in range(3):
        waiting = asyncio.create_task(desk.ask(document))
        await asyncio.sleep(0.01)
        waiting.cancel()
        type_(document, "1 + ")
    gate.set()
    assert await desk.ask(document) == ["1"]
    assert asked == [1]


@pytest.mark.usefixtures("no_ahead")
async def test_a_trace_tells_the_stages_and_holds_no_code(desk: Desk, endpoint: Any) -> None:
    document = desk.open("secret_name = ")
    await desk.ask(document)
    [found] = trace.read()
    assert (found.language, found.trigger, found.outcome) == ("python", "automatic", "model")
    assert list(found.stages) == [
        "exclusion", "parse", "gate", "reuse", "pace", "server", "context", "prompt", "stop",
        "finish", "syntax",
    ]  # fmt: skip
    assert found.characters == 1
    assert found.server_ms
    assert found.first_ms
    assert "secret" not in trace.path().read_text()


@pytest.mark.usefixtures("no_ahead")
async def test_a_closed_document_ends_what_runs_for_it(desk: Desk, endpoint: Any) -> None:
    endpoint.behave = endpoint.hangs()
    document = desk.open("x = ")
    waiting = asyncio.create_task(desk.ask(document))
    await until(endpoint, 1)
    await desk.engine.closed(document)
    await endpoint.closed.wait()
    assert await waiting == []


@pytest.mark.usefixtures("no_ahead")
async def test_a_document_closed_before_anything_was_sent_is_never_sent(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "wait", lambda *_, **__: 0.05)
    document = desk.open("x = ")
    waiting = asyncio.create_task(desk.ask(document))
    await asyncio.sleep(0.01)
    await desk.engine.closed(document)
    assert await waiting == []
    assert endpoint.requests == []
    assert outcomes() == [("automatic", "the document was closed")]


@pytest.mark.usefixtures("no_ahead")
async def test_an_outage_makes_no_new_clients_and_few_requests(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETRY", 3600)
    made = []
    build = connection._client

    def counted(chosen: options.Options) -> Any:
        made.append(1)
        return build(chosen)

    monkeypatch.setattr(connection, "_client", counted)
    endpoint.behave = endpoint.sends(503, "no")
    document = desk.open("x = ")
    for _ in range(3):
        assert await desk.ask(document, invoked=True) == []
    assert len(endpoint.requests) == 3, "who asks does not wait"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.ask(document), 0.1)
    assert len(endpoint.requests) == 3
    endpoint.behave = endpoint.says("1")
    assert await desk.ask(document, invoked=True) == ["1"]
    type_(document, "y + ")
    assert await desk.ask(document) == ["1"], "it is over"
    assert made == [1]


@pytest.mark.usefixtures("no_ahead")
async def test_an_outage_keeps_no_more_than_its_last_error(desk: Desk, endpoint: Any) -> None:
    def errors() -> int:
        gc.collect()
        return sum(type(each) is ServerError for each in gc.get_objects())

    endpoint.behave = endpoint.sends(503, "no")
    document, before = desk.open("x = "), errors()
    for _ in range(5):
        assert await desk.ask(document, invoked=True) == []
    assert errors() - before <= 1


@pytest.mark.usefixtures("no_ahead")
async def test_half_a_surrogate_pair_is_sent_as_a_question_mark(desk: Desk, endpoint: Any) -> None:
    document = desk.open("s = '\ud83d'\nx = ")
    assert await desk.ask(document) == ["1"]
    assert endpoint.requests[-1]["prompt"] == "s = '?'\nx ="
    assert desk.reported == []


@pytest.mark.usefixtures("no_ahead")
async def test_an_answer_without_end_is_read_no_further(
    endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    desk = desk_of(endpoint, tmp_path, max_tokens=4)
    endpoint.behave = endpoint.hangs(*["some more "] * 50)
    document = desk.open("# ", "/w/a.txt")
    [text] = await desk.ask(document, invoked=True)
    assert text
    assert len(text) <= ask.LONGEST * 4
    await endpoint.closed.wait()
    await desk.engine.close()


@pytest.mark.parametrize("said", ["", event("1")], ids=["nothing", "a piece"])
@pytest.mark.usefixtures("no_ahead")
async def test_a_server_that_only_keeps_the_connection_alive_times_out(
    endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    desk = desk_of(endpoint, tmp_path, timeout=1)

    async def comments(_: Any, writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        writer.write((head + said).encode())
        while True:
            writer.write(b": here\n\n")
            await asyncio.sleep(0.1)

    endpoint.behave = comments
    assert await desk.ask(desk.open("x = ")) == []
    assert "did not answer within 1 s" in desk.reported[0]
    await endpoint.closed.wait()
    await desk.engine.close()


@pytest.mark.usefixtures("no_ahead")
async def test_an_introduction_that_breaks_a_library_is_asked_for_again(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: Any) -> Any:
        raise RuntimeError("no such thing")

    load = connection.tokens.load
    monkeypatch.setattr(connection.tokens, "load", breaks)
    document = desk.open("x = ")
    assert await desk.ask(document) == []
    assert desk.states[-1][0] == "failed"
    monkeypatch.setattr(connection.tokens, "load", load)
    assert await desk.ask(document, invoked=True) == ["1"]


@pytest.mark.usefixtures("no_ahead")
async def test_a_known_suggestion_that_no_longer_parses_is_asked_for_anew(
    desk: Desk, endpoint: Any
) -> None:
    pad = f"    # {'-' * 50}\n" * 90  # so far that the key of the cache holds nothing of it
    endpoint.behave = endpoint.says("**kw,")
    document = desk.open(f"foo(\n{pad}    \n{pad})\n")
    at = len(f"foo(\n{pad}    ")
    assert await desk.ask(document, at) == ["**kw,"]
    document.apply(Edit(0, 4, "if x:"))
    document.apply(Edit(len(document.source) - 2, len(document.source) - 1, "    pass"))
    endpoint.behave = endpoint.says("y = 1")
    assert await desk.ask(document, at + 1) == ["y = 1"]
    assert len(endpoint.requests) == 2


@pytest.mark.usefixtures("no_ahead")
async def test_a_request_waits_for_the_first_connection(
    desk: Desk, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, introduce = asyncio.Event(), Connection._introduce

    async def slowly(self: Connection) -> Any:
        await gate.wait()
        return await introduce(self)

    monkeypatch.setattr(Connection, "_introduce", slowly)
    connecting = asyncio.create_task(desk.engine.connect())
    waiting = asyncio.create_task(desk.ask(desk.open("x = ")))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    gate.set()
    assert await waiting == ["1"]
    await connecting
