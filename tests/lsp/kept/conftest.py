"""A clock that tests turn, and an editor that remembers which character came from where."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

from magicoder.lsp.completion.engine import Suggestion
from magicoder.lsp.documents import Document, Edit
from magicoder.lsp.kept import records
from magicoder.lsp.kept.log import Log
from magicoder.lsp.kept.records import Record


@dataclass
class Timer:
    callback: Callable[[], object] | None

    def cancel(self) -> None:
        self.callback = None


@dataclass
class Timers:
    """An event loop's clock, turned by hand."""

    now: float = 0.0
    waiting: list[tuple[float, int, Timer]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self.waiting, (self.now + delay, next(self.numbers), timer))
        return timer

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.waiting and self.waiting[0][0] <= until:
            self.now, _, timer = heapq.heappop(self.waiting)
            if timer.callback:
                timer.callback()
        self.now = until


@dataclass
class Editor:
    """One document, changed as an editor changes it. `accepted[i]`: it came from a suggestion."""

    log: Log
    timers: Timers
    file: Path
    document: Document
    accepted: list[bool]

    def edit(self, start: int, end: int, text: str, *, accepted: bool = False) -> None:
        self.accepted[start:end] = [accepted] * len(text)
        self.document.apply(Edit(start, end, text))

    def insert(self, at: int, text: str) -> int:
        """Where the cursor is then."""
        self.edit(at, at, text)
        return at + len(text)

    def accept(self, at: int, text: str) -> int:
        self.edit(at, at, text, accepted=True)
        return at + len(text)

    def type(self, at: int, text: str) -> int:
        for char in text:
            at = self.insert(at, char)
        return at

    def show(self, at: int, text: str, end: int | None = None, **known: object) -> None:
        made = {"id": "s", "source": "model", "language": "python", "model": "m", "latency": 0.2}
        suggestion = Suggestion(text=text, **made | known)  # type: ignore[arg-type]
        self.log.shown(self.document, at, suggestion, end=end)

    def records(self) -> list[Record]:
        return records.read(self.file)[0] if self.file.exists() else []

    def end(self) -> list[Record]:
        """The editor is closed; all that was written."""
        self.log.close()
        return self.records()


def opened(text: str, uri: str = "file:///w/a.py", language: str = "python") -> Document:
    return Document(types.TextDocumentItem(uri, language, 0, text), PositionCodec())


@pytest.fixture
def edit(tmp_path: Path) -> Callable[[str], Editor]:
    """An editor with a document of this text, whose log is kept in tmp_path."""

    def make(text: str = "") -> Editor:
        timers, file = Timers(), tmp_path / "deep" / "kept.jsonl"
        log = Log(file, timers=timers)
        return Editor(log, timers, file, opened(text), [False] * len(text))

    return make
