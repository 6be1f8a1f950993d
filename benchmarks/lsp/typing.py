"""A recorded typing session of 500 keys (`session.json`), replayed in real time.

    python -m benchmarks.lsp.typing [--base-url URL]

The editor does as VS Code does: at each key it cancels what it has asked, and asks again. Ghost
text that has stood for a quarter of a second and says what the session goes on to type is accepted,
whole or its first line. A proxy before the server counts what the language server asks for:
generations started, said to the end, closed early, and wasted (nothing of them was ever shown); how
many live at once; and, polled at /metrics, how soon after a cancellation the server rests.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from benchmarks import measure
from benchmarks.lsp import harness
from benchmarks.lsp.editor import Answer, Editor, editor
from benchmarks.lsp.proxy import Generation, Proxy, counting
from benchmarks.lsp.session import Session, load

NOTICED = 0.25  # seconds until a reader has seen ghost text
ROUNDS = 10  # cancellations that are followed to the server's rest
REST = 0.1  # seconds until then, at most


@dataclass
class Log:
    """What the editor saw. keys: pressed, accepting ones among them; saved: keys not needed.

    answers: those with text, and when they came. cancelled, empty: requests by their end.
    unanswered: requests that the language server never answered.
    """

    keys: int = 0
    accepted: int = 0
    saved: int = 0
    answers: list[tuple[float, Answer]] = field(default_factory=list)
    cancelled: int = 0
    empty: int = 0
    unanswered: int = 0


async def replay(
    session: Session,
    made: Editor,
    uri: str,
    pace: float = 1.0,
    advance: Callable[[int], object] = lambda done: None,
) -> Log:
    """Type the session into an open document; `pace` multiplies the waits.

    advance: called after each key with how many keys of the session are done.
    """
    log, states = Log(), session.states()
    start = len(session.before)
    typed, shown, since = "", "", 0.0
    pending: set[asyncio.Task[None]] = set()
    asked: asyncio.Task[None] | None = None

    async def ask(state: str, began: float) -> None:
        nonlocal shown, since
        answer = await made.complete(uri, start + len(state), since=began)
        if answer.cancelled:
            log.cancelled += 1
        elif not answer.text:
            log.empty += 1
        else:
            log.answers.append((time.perf_counter(), answer))
            if state == typed:
                shown, since = answer.text, time.perf_counter()

    number = 0
    due = time.perf_counter()
    while number < len(session.keys):
        key = session.keys[number]
        due = max(due + key.wait * pace, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())
        seen = shown and time.perf_counter() - since >= NOTICED * pace
        reached = _agrees(shown, typed, states[number:]) if seen else None
        began = time.perf_counter()
        if reached:
            ahead, new = reached
            log.accepted += 1
            log.saved += ahead
            back, text, number = 0, new, number + ahead + 1
        else:
            back, text, number = key.back, key.text, number + 1
        made.edit(uri, start + len(typed) - back, start + len(typed), text)
        typed, shown = typed[: len(typed) - back] + text, ""
        log.keys += 1
        if asked is not None:
            asked.cancel()
        asked = asyncio.create_task(ask(typed, began))
        pending.add(asked)
        asked.add_done_callback(pending.discard)
        advance(number)
    if pending:
        done, late = await asyncio.wait(pending, timeout=60)
        log.unanswered = len(late)
        for task in late:
            task.cancel()
        for task in done:
            task.result()
    return log


def _agrees(shown: str, typed: str, states: list[str]) -> tuple[int, str] | None:
    """How many keys further the session is behind the ghost text, or its first line, and which."""
    for text in dict.fromkeys((shown, shown.partition("\n")[0])):
        if text.strip() and typed + text in states:
            return states.index(typed + text), text
    return None


def wasted(generations: Sequence[Generation], log: Log) -> list[Generation]:
    """Those of which nothing was ever shown. An answer is of the newest one that says its text."""
    used = set()
    for when, answer in log.answers:
        for number in reversed(range(len(generations))):
            one = generations[number]
            if one.started <= when and answer.text.strip() in one.text:
                used.add(number)
                break
    return [one for number, one in enumerate(generations) if number not in used]


async def rests(proxy: Proxy, made: Editor, uri: str) -> list[dict[str, float]]:
    """Cancel running generations; seconds until the socket is closed and until the server rests."""
    metrics = urljoin(proxy.upstream, "/metrics")
    found = []
    async with httpx.AsyncClient(timeout=10) as http:
        for number in range(ROUNDS):
            text = made.texts[uri]
            head = f"\n\ndef example_{number}(items: list[int]) -> int:\n    "
            made.edit(uri, len(text), len(text), head)
            before = len(proxy.generations)
            task = asyncio.create_task(made.complete(uri, len(text) + len(head)))
            if not await _until(partial(_running, proxy, before), 10):
                task.cancel()
                await task
                continue
            cancelled = time.perf_counter()
            task.cancel()
            made.edit(uri, len(text), len(text) + len(head), "")  # agrees with no answer
            while await _requests(http, metrics):  # noqa: ASYNC110 - a state elsewhere
                await asyncio.sleep(0.002)
            rest = time.perf_counter()
            await task
            await _until(lambda: not proxy.alive, 10)
            closed = max(one.ended or rest for one in proxy.generations[before:])
            found.append({"closed": closed - cancelled, "rests": rest - cancelled})
    return found


def _running(proxy: Proxy, before: int) -> bool:
    return any(one.first and one.ended is None for one in proxy.generations[before:])


async def _until(true: Callable[[], object], seconds: float) -> bool:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if true():
            return True
        await asyncio.sleep(0.002)
    return False


async def _requests(http: httpx.AsyncClient, url: str) -> float:
    """How many requests the server works on."""
    lines = (await http.get(url)).text.splitlines()
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))


async def measured(base_url: str, folder: Path, session: Session) -> dict[str, Any]:
    """One replay against a running server."""
    root = folder / "workspace"
    root.mkdir()
    path = root / Path(session.path).name
    path.write_text(session.before + session.after, "utf-8")
    async with (
        counting(base_url) as proxy,
        editor(root, proxy.base_url, folder / "state") as made,
    ):
        uri = path.as_uri()
        made.open(uri, session.before + session.after, session.language)
        await made.complete(uri, 0)  # what is imported and connected at first use
        warm = len(proxy.generations)
        traced = len(made.traces())
        proxy.most = 0
        with harness.progress() as bar:
            task = bar.add_task("typing", total=len(session.keys))
            log = await replay(
                session, made, uri, advance=lambda done: bar.update(task, completed=done)
            )
        await _until(lambda: not proxy.alive, 30)
        generations, most = proxy.generations[warm:], proxy.most
        traces = made.traces()[traced:]
        rest = await rests(proxy, made, uri)
    return record(log, generations, most, traces, rest)


def record(
    log: Log,
    generations: Sequence[Generation],
    most: int,
    traces: list[dict[str, Any]],
    rest: list[dict[str, float]],
) -> dict[str, Any]:
    """The figures."""
    lost = wasted(generations, log)
    asked = [one for one in traces if one["trigger"] != "ahead"]
    return {
        "keys": log.keys,
        "accepted": log.accepted,
        "keys_saved": log.saved,
        "answered_with_text": len(log.answers),
        "answered_empty": log.empty,
        "answered_cancelled": log.cancelled,
        "unanswered": log.unanswered,
        "answer_ms": harness.milliseconds([answer.seconds for _, answer in log.answers]),
        "requests_a_key": len(generations) / max(1, log.keys),
        "outcomes": dict(Counter(one["outcome"] for one in asked).most_common()),
        "outcomes_ahead": dict(
            Counter(one["outcome"] for one in traces if one not in asked).most_common()
        ),
        "generations": {
            "started": len(generations),
            "said_to_the_end": sum(one.finished for one in generations),
            "closed_early": sum(not one.finished for one in generations),
            "wasted": len(lost),
            "tokens": sum(one.pieces for one in generations),
            "tokens_wasted": sum(one.pieces for one in lost),
        },
        "alive_at_once": most,
        "closed_after_cancel_ms": harness.milliseconds([one["closed"] for one in rest]),
        "rests_after_cancel_ms": harness.milliseconds([one["rests"] for one in rest]),
        "good": most <= 1
        and not log.unanswered
        and all(one["rests"] - max(0.0, one["closed"]) <= REST for one in rest),
    }


def _draw(figure: Any, found: dict[str, Any]) -> None:
    """How each key was answered."""
    axes = figure.subplots()
    outcomes = found["outcomes"]
    axes.barh(list(outcomes)[::-1], list(outcomes.values())[::-1], color="#d9480f")
    axes.set(xlabel="keys", title="What became of each key's request")
    axes.spines[["top", "right"]].set_visible(False)


def main(arguments: list[str] | None = None) -> int:
    told = harness.arguments("typing", __doc__).parse_args(arguments)
    session = load()
    with (
        tempfile.TemporaryDirectory() as name,
        harness.served(told.base_url, Path(name)) as base_url,
    ):
        info = asdict(harness.model(base_url))
        found = asyncio.run(measured(base_url, Path(name), session))
    rows = [{"what": key, "": value} for key, value in found.items()]
    harness.table("Typing session", rows)
    folder = measure.results()
    print(measure.write("lsp-typing", {"model": info} | found, folder))
    print(measure.plot(lambda figure: _draw(figure, found), folder / "lsp-typing.png", (8, 4)))
    return 0 if found["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
