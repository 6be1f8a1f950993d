"""The harness of the language server's benchmarks, in small: a real `magicoder lsp`, no model."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import ROOT
from benchmarks.lsp import harness, holes, quality, session, speed, typing
from benchmarks.lsp.editor import Answer, Editor, editor
from benchmarks.lsp.proxy import Generation, Proxy, counting
from magicoder.sandbox import Sandbox
from magicoder.training.data.records import Document
from magicoder.training.data.sources import Wanted

PYTHON = '''import os


def double(number):
    """Twice."""
    result = number * 2
    print(result, os.name)
    return result


def triple(number):
    return number * 3
'''


class Scripted:
    """A server that streams `pieces`, one each `pause` seconds."""

    def __init__(self, *pieces: str, pause: float = 0.0) -> None:
        self.pieces, self.pause = pieces, pause
        self.closed = 0
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other, as HTTP/1.1 does."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if head.startswith("get"):
                    card = {"id": "m", "object": "model", "magicoder": {"context": 8192}}
                    body = json.dumps(card if "/models/m" in head else {"data": [card]})
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                    writer.write(f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
                    continue
                await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
                writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
                for piece in (*self.pieces, None):
                    reason = "stop" if piece is None else None
                    choice = {"index": 0, "text": piece or "", "finish_reason": reason}
                    event = {"id": "1", "object": "c", "created": 1, "model": "m"}
                    event["choices"] = [choice]  # type: ignore[assignment]
                    writer.write(_chunk(f"data: {json.dumps(event)}\n\n"))
                    await writer.drain()
                    await asyncio.sleep(self.pause)
                writer.write(_chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed += 1
        finally:
            writer.close()


def _chunk(text: str) -> bytes:
    return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted("n", " * 2")
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


async def test_the_proxy_passes_all_on_and_keeps_the_books(scripted: Scripted) -> None:
    async with counting(scripted.base_url) as proxy, httpx.AsyncClient() as http:
        for prompt in ("a", "b"):  # one connection, kept
            answer = await http.post(f"{proxy.base_url}/completions", json={"prompt": prompt})
            assert '"text": " * 2"' in answer.text
            assert answer.text.endswith("data: [DONE]\n\n")
        assert (await http.get(f"{proxy.base_url}/models")).json()["data"][0]["id"] == "m"
    one, two = proxy.generations
    assert (one.body, two.body) == ({"prompt": "a"}, {"prompt": "b"})
    assert one.finished
    assert (one.text, one.pieces) == ("n * 2", 2)
    assert one.first is not None
    assert one.last is not None
    assert one.ended is not None
    assert one.started < one.first <= one.last <= one.ended < two.started
    assert (proxy.most, proxy.alive) == (1, 0)


async def test_the_proxy_sees_a_client_hang_up(scripted: Scripted) -> None:
    scripted.pieces, scripted.pause = ("x",) * 1000, 0.01
    async with counting(scripted.base_url) as proxy, httpx.AsyncClient() as http:
        async with http.stream("POST", f"{proxy.base_url}/completions", json={}) as answer:
            await anext(answer.aiter_lines())
            assert proxy.alive == 1
        assert await typing._until(lambda: not proxy.alive, 10)
        assert await typing._until(lambda: scripted.closed, 10)  # and the server sees it too
    assert not proxy.generations[0].finished


async def asked(base_url: str, folder: Path) -> tuple[Editor, list[Answer]]:
    """What a real language server answers at the same place twice."""
    async with editor(folder, base_url, folder / "state") as made:
        uri = (folder / "a.py").as_uri()
        made.open(uri, "# 😀\ndef double(n):\n    return \n", "python")
        made.edit(uri, 4, 4, "# 漢\n")
        place = len(made.texts[uri]) - 1
        answers = [await made.complete(uri, place) for _ in range(2)]
        assert made.memory()[0] > 1e7
        return made, answers


async def test_the_editor_is_shown_what_the_server_says(scripted: Scripted, tmp_path: Path) -> None:
    async with counting(scripted.base_url) as proxy:
        made, answers = await asked(proxy.base_url, tmp_path)
    assert [answer.text for answer in answers] == ["n * 2", "n * 2"]
    assert proxy.generations[0].body["prompt"].startswith("# 😀\n# 漢\ndef")
    assert len(made.traces()) >= 2


def test_the_recorded_session_types_our_code() -> None:
    told = session.load()
    assert len(told.keys) == 500
    assert 60 < sum(key.wait for key in told.keys) < 200
    whole = told.before + told.states()[-1] + told.after
    assert "def by_path(" in told.states()[-1]
    assert "def syntax_errors(" in whole.partition(told.states()[-1])[2]


@pytest.mark.parametrize("seed", range(20))
def test_composed_keys_type_the_text(seed: int) -> None:
    keys = tuple(session.compose(PYTHON, seed))
    assert (
        session.Session("a.py", "python", "", "", keys).states()[-1] == PYTHON.rstrip("\n") + "\n"
    )
    assert all(0 < key.wait < 3 for key in keys)


class Typist:
    """An editor whose answers are known: by what stands before the cursor."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers, self.text = answers, ""

    def edit(self, uri: str, start: int, end: int, new: str) -> None:
        self.text = self.text[:start] + new + self.text[end:]

    async def complete(self, uri: str, offset: int, since: float = 0.0) -> Answer:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            return Answer("", 0.0, cancelled=True)
        return Answer(self.answers.get(self.text[:offset], ""), 0.001)


def typed(text: str) -> session.Session:
    keys = tuple(session.Key(0.02, 0, char) for char in text)
    return session.Session("a.py", "python", "", "", keys)


async def test_ghost_text_that_agrees_is_accepted() -> None:
    made: Any = Typist({"ab": "cd", "abcd": "X", "abcde": "f\nno"})
    log = await typing.replay(typed("abcdefgh"), made, "a", pace=0.5)
    assert made.text == "abcdefgh"
    assert (log.accepted, log.saved, log.keys) == (2, 1, 7)  # "cd" and "f"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typing, "NOTICED", 0.0)


async def test_ghost_text_that_differs_is_typed_past() -> None:
    made: Any = Typist({"ab": "xx", "abc": "dx"})
    log = await typing.replay(typed("abcd"), made, "a", pace=0.5)
    assert made.text == "abcd"
    assert (log.accepted, log.keys, log.unanswered) == (0, 4, 0)


def test_a_generation_that_was_never_shown_is_wasted() -> None:
    def made(text: str, started: float) -> Generation:
        return Generation("/", {}, started, text=text)

    log = typing.Log(answers=[(2.5, Answer("b", 0.1)), (4.0, Answer("zz", 0.1))])
    old, shown, late = made("ab", 1.0), made("abc", 2.0), made("b", 3.0)
    assert typing.wasted([old, shown, late], log) == [old, late]


def test_quantiles_and_shares() -> None:
    assert harness.milliseconds([0.001 * n for n in range(1, 101)]) == {
        "count": 100, "p50": 50.0, "p95": 95.0, "max": 100.0
    }  # fmt: skip
    assert harness.milliseconds([]) == {"count": 0}
    assert harness.share(5, 10) == {"count": 10, "share": 0.5, "low": 0.2366, "high": 0.7634}
    assert harness.sign_test(0, 6) == pytest.approx(2 / 64)
    assert harness.sign_test(3, 3) == 1.0
    assert harness.spread(list(range(10)), 3) == [0, 3, 6]
    assert harness.spread([1, 2], 0) == [1, 2]


def test_a_workspace_of_real_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"stdlib": str(ROOT / "magicoder"), "purelib": str(ROOT / "server")}
    monkeypatch.setattr(speed.sysconfig, "get_paths", lambda: ours)
    texts = speed.modules(45)
    paths = speed.workspace(tmp_path, texts)
    assert len({path.parent for path in paths}) == 2
    long = speed.long_file(texts, 500)
    assert 500 <= long.count("\n") < 3000
    for offset in speed.places(long, 5):
        rest = long[offset:].partition("\n")[0]
        assert rest[: speed.KEYS].isalpha()


def test_overhead_is_what_neither_server_nor_pause_took() -> None:
    key = speed.Keystroke(0, total=0.5, server=0.3, waited=0.15, replayed=0.29)
    found = speed.figures([(key, None)], [], [], None, (2**20, 2**21), [])
    assert found["overhead_ms"]["p50"] == pytest.approx(50)
    found["index_alone"] = {"update_ms": {"module": {"p95": 1.0}}}
    met = {row[""]: row["met"] for row in speed.judged(found)}
    assert met["overhead_ms p50"] == "NO"
    assert met["index_s"] == "not measured"
    assert met["memory_mib"] == "yes"


def test_answers_to_the_raw_api_are_cut_three_ways() -> None:
    task = quality.Task("t", "def f():\n", "    return a\n", "    a = 1\n", "", "f")
    text = "    a = 1\n\n    a = 2\n"
    assert quality.as_it_comes(task, text).program == "def f():\n" + text + "    return a\n"
    assert quality.to_blank_line(task, text).text == "    a = 1"
    assert quality.to_length(task, text).program == "def f():\n    a = 1\n    return a\n"


def test_solutions_are_run() -> None:
    test = "def check(f):\n    assert f() == 1\n"
    task = quality.Task("t", "def f():\n", "    return a\n", "    a = 1\n", test, "f")
    sandbox = Sandbox("none")

    def marks(text: str) -> tuple[bool, bool, bool]:
        done = quality.judge((task, quality.as_it_comes(task, text)), sandbox)
        return done.exact, done.valid, done.passed

    assert marks("    a = 1\n") == (True, True, True)
    assert marks("    a = 2 - 1\n") == (False, True, True)
    assert marks("    a = 2\n") == (False, True, False)
    assert marks("    a = (\n") == (False, False, False)


def test_paired_outcomes_are_compared() -> None:
    good, bad = quality.Outcome("", "", passed=True), quality.Outcome("", "")
    assert quality.against([good, good, bad], [bad, good, good]) == {
        "better": 1, "worse": 1, "p": 1.0
    }  # fmt: skip


@pytest.fixture
def document() -> Document:
    return Document(origin="pypi:x", path="x.py", language="python", license="MIT", text=PYTHON * 4)


def test_holes_of_every_kind_are_cut(document: Document) -> None:
    found = holes.candidates(document)
    assert isinstance(found, dict)
    cut = {kind: {document.text[a:b] for a, b in spans} for kind, spans in found.items()}
    assert "return number * 3" in cut["body"]
    assert "print(result, os.name)" in cut["statement"]
    assert {"number * 2", "result, os.name"} <= cut["expression"]
    assert "os.name)" in cut["line"]
    broken = document.model_copy(update={"text": PYTHON * 4 + "def (:\n"})
    assert holes.candidates(broken) == "syntax errors"


def test_each_kind_is_cut_alike(document: Document) -> None:
    others = [document.model_copy(update={"path": f"{number}.py"}) for number in range(9)]
    wanted = Wanted(("python",), {"python": 20}, 1)
    found = [one for one in holes.cut(iter(others), wanted=wanted) if isinstance(one, holes.Hole)]
    kinds = [one.kind for one in found]
    assert len(found) == 20
    assert {kinds.count(kind) for kind in holes.KINDS} == {5}


def test_what_is_shown_is_marked(document: Document) -> None:
    start = PYTHON.index("number * 2")
    hole = holes.Hole(
        **document.model_dump() | {"text": PYTHON}, kind="expression", start=start, end=start + 10
    )
    assert holes.check(hole, "number * 2", 0.1).exact
    assert holes.check(hole, "2 * number", 0.1).valid
    worse = holes.check(hole, "(2 *", 0.1)
    assert (worse.valid, worse.no_worse) == (False, False)


@pytest.mark.parametrize(
    ("before", "text", "after", "expected"),
    [
        ("a = ", "b\nc = d", "\nc = d\n", True),
        ("    ", "x = 1\n    y = 2", "\n\n    y = 2\n", True),
        ("    ", "if x:\n        y = 2", "\n    y = 2\n", False),
        ("f(", "a, b)", ")", True),
        ("f(", "g(a)", ")", False),
        ("x = ", "y or z", " or z\n", True),
        ("x = ", "", "\nx = \n", False),
    ],
)
def test_repetition_is_seen(before: str, text: str, after: str, expected: bool) -> None:
    assert holes.repeats(before, text, after) is expected


def test_figures_are_of_what_was_shown() -> None:
    one = holes.Filled("x.go:1", "go", "line", "x", 0.2, True, True, False, True)
    rows = holes.summary([one, replace(one, valid=False), replace(one, text="")])
    assert rows["shown"]["share"] == pytest.approx(2 / 3, abs=1e-3)
    assert rows["valid"]["share"] == 0.5
    assert rows["median length"] == 1


async def test_running_generations_are_told_from_new_ones() -> None:
    proxy = Proxy("http://127.0.0.1:1/v1", generations=[Generation("/", {}, 0.0, first=1.0)])
    assert typing._running(proxy, 0)
    assert not typing._running(proxy, 1)
