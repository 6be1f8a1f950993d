"""From keystroke to answer, beside the server's own time for the same request.

    python -m benchmarks.lsp.speed [--base-url URL] [--files 2000] [--lines 5000] [--places 20]

A workspace of copies of installed modules and, open in the editor, one long Python file. At places
all over that file a line is cut where a word begins and typed on, one key at a time. Each key's
completion goes through a proxy, which tells when the server was asked and when the last piece of
its answer came by; then the same body is sent again, straight to the server, and read to the same
piece. The engine's overhead is what the editor waited less the server's time by the proxy, paired,
and less the wait for a pause in typing, which is told apart. The language server's memory, and how
long it lets other requests wait while it reads the workspace, come from the same run.
"""

import asyncio
import json
import random
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import measure
from benchmarks.lsp import harness
from benchmarks.lsp.editor import Answer, Editor, editor
from benchmarks.lsp.proxy import Generation, Proxy, counting
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.index import Index

TARGETS = {
    "overhead_ms p50": 10.0,
    "overhead_ms p95": 25.0,
    "typed_through_ms p95": 5.0,
    "index_s": 10.0,
    "update_ms p95": 20.0,
    "memory_mib": 200.0,
}
KEYS = 3  # typed at each place
PING = 0.02  # seconds between two requests that need no model
UPDATES = 5  # of each file that changes
QUIET = 1.2  # seconds in which the index has read a change
PATIENCE = 120  # seconds for the index


@dataclass(frozen=True)
class Keystroke:
    """One key and the answer to it. Seconds; server is None where it was not asked.

    waited: for a pause in typing, by the trace. replayed: the same body, straight to the server.
    """

    place: int
    total: float
    server: float | None = None
    waited: float = 0.0
    replayed: float | None = None
    text: str = ""


def modules(count: int, seed: int = 976) -> list[str]:
    """The text of `count` installed modules of at most 50 KB; smaller ones come again, renamed."""
    folders = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    paths = sorted({path for folder in folders for path in folder.rglob("*.py")})
    random.Random(seed).shuffle(paths)  # noqa: S311
    texts: list[str] = []
    for path in paths:
        if len(texts) == count:
            break
        if path.stat().st_size <= 50_000:
            text = path.read_text("utf-8", errors="replace")
            if "\r" not in text and text.strip():
                texts.append(text)
    return [texts[number % len(texts)] for number in range(count)]


def workspace(root: Path, texts: Sequence[str]) -> list[Path]:
    """Write the modules in folders of 40, under names of their own."""
    paths = []
    for number, text in enumerate(texts):
        path = root / f"package_{number // 40:02}" / f"module_{number:04}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        paths.append(path)
    return paths


def long_file(texts: Sequence[str], lines: int) -> str:
    """One file of `lines` lines or a little more."""
    parts: list[str] = []
    count = 0
    for text in texts:
        parts.append(text.rstrip("\n") + "\n\n\n")
        count += parts[-1].count("\n")
        if count >= lines:
            break
    return "".join(parts)


def places(text: str, count: int, seed: int = 976) -> list[int]:
    """Offsets in `text` where a word begins in the middle of a line of code, in order."""
    found, offset = [], 0
    for line in text.splitlines(keepends=True):
        body = line.strip()
        for mark in (" = ", "return ", "("):
            at = line.find(mark)
            rest = line[at + len(mark) :].rstrip("\n")
            if at > 0 and body[0].isalpha() and len(rest) > KEYS and rest[:KEYS].isalpha():
                found.append(offset + at + len(mark))
                break
        offset += len(line)
    return sorted(random.Random(seed).sample(found, min(count, len(found))))  # noqa: S311


async def typed(
    made: Editor, uri: str, offset: int, place: int, proxy: Proxy
) -> tuple[list[tuple[Keystroke, Generation | None]], list[float]]:
    """Cut the line at `offset` and type its first characters again.

    Gives each key with what the server was asked for, and the seconds of keys that an answer had
    said before.
    """
    text = made.texts[uri]
    end = text.index("\n", offset)
    rest = text[offset:end]
    made.edit(uri, offset, end, "")
    found: list[tuple[Keystroke, Generation | None]] = []
    through = []
    answer = Answer("", 0.0)
    for number in range(KEYS):
        await asyncio.sleep(0.5)  # a key after a pause
        asked = len(proxy.generations)
        began = time.perf_counter()
        made.edit(uri, offset + number, offset + number, rest[number])
        answer = await made.complete(uri, offset + number + 1, since=began)
        new = [one for one in proxy.generations[asked:] if one.started < began + answer.seconds]
        one = new[0] if new else None
        server = None
        if one is not None and one.last is not None:
            until = one.ended if one.finished and one.ended else one.last
            server = min(until, began + answer.seconds) - one.started
        found.append((Keystroke(place, answer.seconds, server, text=answer.text), one))
    typed_on = offset + KEYS
    for char in answer.text[:3].partition("\n")[0]:
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        made.edit(uri, typed_on, typed_on, char)
        typed_on += 1
        expected = answer.text[typed_on - offset - KEYS :]
        hit = await made.complete(uri, typed_on, since=began)
        if hit.text and expected.startswith(hit.text):
            through.append(hit.seconds)
    made.edit(uri, offset, typed_on, rest)
    return found, through


async def replayed(http: httpx.AsyncClient, base_url: str, one: Generation) -> float:
    """Seconds until the same request, straight to the server, has said as many pieces."""
    began, pieces = time.perf_counter(), 0
    url = base_url.removesuffix("/v1") + one.path
    async with http.stream("POST", url, json=one.body) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            choices = json.loads(line[6:]).get("choices", ())
            pieces += sum(bool(choice.get("text")) for choice in choices)
            if pieces >= one.pieces and not one.finished:
                break
    return time.perf_counter() - began


async def pings(made: Editor, uri: str, offset: int, stop: asyncio.Event) -> list[float]:
    """Seconds that requests which need no model wait, until `stop`."""
    found = []
    while not stop.is_set():
        found.append((await made.complete(uri, offset)).seconds)
        await asyncio.sleep(PING)
    return found


async def indexed(made: Editor) -> float | None:
    """Seconds from `initialized` until the thread that reads the workspace rests.

    It is the one, beside the first, that has worked longest; it rests when it has used no processor
    time for half a second. None: it never worked, or does not rest.
    """
    begun, process = made.told[0][0], psutil.Process(made.pid)
    used, since = 0.0, begun
    while (now := time.perf_counter()) - begun < PATIENCE:
        others = (one for one in process.threads() if one.id != made.pid)
        busiest = max((one.user_time + one.system_time for one in others), default=0.0)
        if busiest > used + 0.01:  # a tick may come of the answers to `pings`
            used, since = busiest, now
        if now - since > 0.5 and now - begun > 3:
            return since - begun if used > 0.1 else None
        await asyncio.sleep(0.05)
    return None


def index_alone(root: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """The index in this process: seconds to read the workspace, and what its thread then spends on
    each file that changes."""
    index = Index([root], Exclusions([root], ()))
    begun = time.perf_counter()
    index.start()
    while not index.progress.done:
        time.sleep(0.01)
    seconds = time.perf_counter() - begun
    thread = next(one for one in threading.enumerate() if one.name == "index")
    assert thread.ident is not None  # noqa: S101
    clock = time.pthread_getcpuclockid(thread.ident)
    spent: dict[str, list[float]] = {}
    for path in paths:
        text = path.read_text("utf-8")
        index.update(path, text)  # opened
        time.sleep(QUIET)
        for number in range(UPDATES):
            text = f"{text}\n\ndef changed_{number}(value):\n    return value\n"
            before = time.clock_gettime(clock)
            index.update(path, text)
            time.sleep(QUIET)
            key = f"{text.count(chr(10)) // 1000},000 lines" if len(text) > 50_000 else "module"
            spent.setdefault(key, []).append(time.clock_gettime(clock) - before)
    found = {"files": index.progress.files, "seconds": seconds}
    index.close()
    return found | {"update_ms": {key: harness.milliseconds(each) for key, each in spent.items()}}


async def measured(base_url: str, folder: Path, root: Path, path: Path, count: int) -> Any:
    """One run against a running server, with the workspace `root` and the long file `path`."""
    text = path.read_text("utf-8")  # noqa: ASYNC240 - before anything is measured
    found: list[tuple[Keystroke, Generation | None]] = []
    through: list[float] = []
    async with (
        counting(base_url) as proxy,
        editor(root, proxy.base_url, folder / "state") as made,
        httpx.AsyncClient(timeout=600) as http,
    ):
        quiet = (root / "quiet.py").as_uri()
        made.open(quiet, 'TEXT = "done"\n', "python")
        stop = asyncio.Event()
        waits = asyncio.create_task(pings(made, quiet, len('TEXT = "done"'), stop))
        index_s = await indexed(made)
        stop.set()
        stalls = await waits
        uri = path.as_uri()
        made.open(uri, text, "python")
        await made.complete(uri, len(text))  # what is loaded at first use
        offsets = places(text, count)
        with harness.progress() as bar:
            for place, offset in enumerate(bar.track(offsets, description="keys")):
                traced = len(made.traces())
                keys, hits = await typed(made, uri, offset, place, proxy)
                await _quiet(proxy)
                waited = [_waited(one) for one in made.traces()[traced:] if _direct(one)]
                for (key, one), pause in zip(keys, waited + [0.0] * KEYS, strict=False):
                    again = None
                    if one is not None and one.pieces:
                        again = await replayed(http, base_url, one)
                    found.append((_with(key, pause, again), one))
                through += hits
        traces = made.traces()
        memory = made.memory()
    record = figures(found, through, stalls, index_s, memory, traces)
    return record | {"lines": text.count("\n")}


async def _quiet(proxy: Proxy) -> None:
    while proxy.alive:  # noqa: ASYNC110 - the books tell no one
        await asyncio.sleep(0.01)


def _direct(trace: dict[str, Any]) -> bool:
    return bool(trace.get("trigger") != "ahead")


def _waited(trace: dict[str, Any]) -> float:
    return float(trace["stages"].get("pace", 0.0)) / 1e3


def _with(key: Keystroke, waited: float, again: float | None) -> Keystroke:
    return Keystroke(key.place, key.total, key.server, waited, again, key.text)


def figures(
    found: Sequence[tuple[Keystroke, Generation | None]],
    through: Sequence[float],
    stalls: Sequence[float],
    index_s: float | None,
    memory: tuple[int, int],
    traces: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The figures."""
    keys = [key for key, _ in found]
    asked = [key for key in keys if key.server is not None]
    overhead = [key.total - key.waited - (key.server or 0.0) for key in asked]
    stages: dict[str, list[float]] = {}
    for trace in traces:
        for name, took in trace["stages"].items():
            stages.setdefault(name, []).append(took / 1e3)
    return {
        "keys": len(keys),
        "asked": len(asked),
        "total_ms": harness.milliseconds([key.total for key in asked]),
        "server_ms": harness.milliseconds([key.server for key in asked if key.server]),
        "replayed_ms": harness.milliseconds([key.replayed for key in asked if key.replayed]),
        "waited_ms": harness.milliseconds([key.waited for key in asked]),
        "overhead_ms": harness.milliseconds(overhead),
        "typed_through_ms": harness.milliseconds(through),
        "stages_ms": {name: harness.milliseconds(took) for name, took in stages.items()},
        "index_s": index_s,
        "answers_while_indexing_ms": harness.milliseconds(stalls),
        "memory_mib": memory[0] / 2**20,
        "memory_peak_mib": memory[1] / 2**20,
    }


def judged(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target beside what was measured."""
    updates = [each["p95"] for each in record["index_alone"]["update_ms"].values()]
    found = {
        "overhead_ms p50": record["overhead_ms"].get("p50"),
        "overhead_ms p95": record["overhead_ms"].get("p95"),
        "typed_through_ms p95": record["typed_through_ms"].get("p95"),
        "index_s": record["index_s"],
        "update_ms p95": max(updates, default=None),
        "memory_mib": record["memory_mib"],
    }
    return [
        {"": name, "found": found[name], "target": target, "met": _met(found[name], target)}
        for name, target in TARGETS.items()
    ]


def _met(found: float | None, target: float) -> str:
    return "not measured" if found is None else "yes" if found <= target else "NO"


def _draw(figure: Any, record: dict[str, Any]) -> None:
    """What a key waits for, and the engine's stages."""
    left, right = figure.subplots(1, 2)
    names = ("total_ms", "server_ms", "replayed_ms", "overhead_ms", "typed_through_ms")
    _bars(left, {name.removesuffix("_ms"): record[name] for name in names}, "milliseconds, log")
    left.set_xscale("log")
    stages = {name: took for name, took in record["stages_ms"].items() if took["p95"] >= 0.01}
    _bars(right, stages, "milliseconds of each stage, log")
    right.set_xscale("log")


def _bars(axes: Any, rows: dict[str, dict[str, float]], label: str) -> None:
    names = [name for name, found in rows.items() if "p50" in found][::-1]
    for key, color in (("p95", "#ffc9a8"), ("p50", "#d9480f")):
        axes.barh(names, [rows[name][key] for name in names], color=color, label=key)
    axes.set_xlabel(label)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def main(arguments: list[str] | None = None) -> int:
    parser = harness.arguments("speed", __doc__)
    parser.add_argument("--files", type=int, default=2000, help="of the workspace")
    parser.add_argument("--lines", type=int, default=5000, help="of the file that is open")
    parser.add_argument("--places", type=int, default=20, help="to type at, three keys each")
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "workspace"
        paths = workspace(root, modules(told.files))
        path = root / "long.py"
        path.write_text(long_file(modules(told.files, seed=1), told.lines), "utf-8")
        with harness.served(told.base_url, Path(name)) as base_url:
            info = asdict(harness.model(base_url))
            record = asyncio.run(measured(base_url, Path(name), root, path, told.places))
        record["index_alone"] = index_alone(root, [path, *paths[:3]])
    record = {"model": info, "files": told.files} | record
    record["targets"] = judged(record)
    shown = [{"": key} | value for key, value in record.items() if key.endswith("_ms") and
             key != "stages_ms" and "p50" in value]  # fmt: skip
    harness.table(f"{record['asked']} of {record['keys']} keys asked the server", shown)
    stages = [{"stage": name} | found for name, found in record["stages_ms"].items()]
    if stages:
        harness.table("stages (ms)", stages)
    harness.table("targets", record["targets"])
    folder = measure.results()
    print(measure.write("lsp-speed", record, folder))
    print(measure.plot(lambda figure: _draw(figure, record), folder / "lsp-speed.png", (11, 4.5)))
    return 0 if all(row["met"] == "yes" for row in record["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
