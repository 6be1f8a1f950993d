"""The engine: the stages of a completion around at most one request to the server per document.

exclusion -> gate -> reuse -> pace -> context -> request -> stop -> finish -> syntax, then the next
suggestion ahead. Each is a module of its own; here they meet the server, which may fail.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4
from weakref import WeakKeyDictionary

from magicoder.errors import MagicoderError
from magicoder.lsp.completion import gate, syntax, trace
from magicoder.lsp.completion.ask import Asker, Question
from magicoder.lsp.completion.connection import Connection, Told
from magicoder.lsp.completion.hole import Hole, line_feeds
from magicoder.lsp.completion.pace import Pace
from magicoder.lsp.completion.reuse import Cache, Generation
from magicoder.lsp.completion.trace import Clock, Trace
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.retrieve import Retriever
from magicoder.lsp.documents import Document, Edit
from magicoder.lsp.options import Options

if TYPE_CHECKING:
    from magicoder.client import AsyncMagicoder, ModelInfo

ALTERNATIVES = 2
"""Other suggestions beside the first where the user asked."""

PATIENCE = 1.5
"""Seconds to wait for those, at most; none where the server usually takes longer."""

AHEAD = 0.15
"""Seconds a suggestion is shown before the next one is prepared: most are typed past at once."""


@dataclass(frozen=True)
class Suggestion:
    """Text to insert, where it came from, and the seconds from the question to it."""

    id: str
    text: str
    source: Literal["model", "cache", "attached"]
    language: str
    model: str
    latency: float


class _ClosedError(MagicoderError):
    """The document was closed meanwhile: nothing of it is sent."""


@dataclass
class _Open:
    """What is known of one document; `generation` is the only one alive."""

    cache: Cache = field(default_factory=Cache)
    generation: Generation | None = None
    ahead: asyncio.Task[None] | None = None
    closed: bool = False


class Engine:
    """Completions from the server in `options`.

    report: gets one line when the server fails, and no more until it has worked again.
    tell: gets the state, the model's name and a message at every change of state.
    """

    def __init__(
        self,
        options: Options,
        exclusions: Exclusions,
        retriever: Retriever,
        report: Callable[[str], None],
        tell: Told,
    ) -> None:
        self.options, self.exclusions, self.retriever = options, exclusions, retriever
        self._connection = Connection(options, report, tell)
        self._pace = Pace()
        self._asker = Asker(self._connection, retriever, self._pace)
        self._open: WeakKeyDictionary[Document, _Open] = WeakKeyDictionary()

    async def connect(self) -> None:
        """Ask once which model is served, so that the first keystroke need not."""
        await self._connection.open()

    async def server(self) -> "tuple[AsyncMagicoder, ModelInfo]":
        """The client and the model that it talks to.

        Raises:
            MagicoderError: the server cannot be reached, or serves no model.
        """
        served = await self._connection.served()
        return served.client, served.model

    def forget(self) -> None:
        """Ask anew who serves: after an error it may be another."""
        self._connection.forget()

    async def close(self) -> None:
        """End what still runs, and the connection, without a word."""
        self._connection.mute()
        for document in list(self._open):
            await self.closed(document)
        await self._connection.close()
        await asyncio.to_thread(self.retriever.close)

    def edited(self, document: Document, _: Edit) -> None:
        """The user edited a document: an answer that no longer fits is stopped at once."""
        self._pace.key(time.monotonic())
        known = self._open.get(document)
        if known and known.generation and known.generation.alive:
            known.generation.edited(line_feeds(document.source))

    async def closed(self, document: Document) -> None:
        """The editor closed a document: nothing of it runs on."""
        if known := self._open.pop(document, None):
            known.closed = True
            await _stop(known)

    async def complete(
        self,
        document: Document,
        offset: int,
        *,
        invoked: bool,
        selected: tuple[int, int, str] | None = None,
    ) -> list[Suggestion]:
        """What to insert at `offset`, the best first; empty where there is nothing to say.

        Never raises on account of the server, and never blocks: cancel it when it is not wanted.

        invoked: the user asked; then there may be several.
        selected: [start, end) and the text that the editor's own menu would put there. Suggestions
            begin with that text, and replace the same.
        """
        clock = Clock(_name(document), "invoked" if invoked else "automatic")
        outcome, found = "broken", list[Suggestion]()
        try:
            outcome, found = await self._complete(clock, document, offset, invoked, selected)
        except asyncio.CancelledError:
            outcome = "replaced"
            raise
        except _ClosedError:
            outcome = "the document was closed"
        except MagicoderError:
            outcome = "the server failed"
        finally:
            trace.write(clock.end(outcome, len(found[0].text) if found else 0))
        return found

    async def _complete(
        self,
        clock: Clock,
        document: Document,
        offset: int,
        invoked: bool,
        selected: tuple[int, int, str] | None,
    ) -> tuple[str, list[Suggestion]]:
        """The outcome in a few words, and the suggestions."""
        begun = time.perf_counter()
        with clock.stage("exclusion"):
            if why := self._refusal(document, invoked):
                return why, []
            self.retriever.viewed(document, offset)
        with clock.stage("parse"):
            source, start, shown = document.syntax, offset, ""
            if selected is not None:
                start, end, shown = selected
                source = source.filled(start, shown, end)
                offset = start + len(shown)
            hole = Hole.at(source.text, offset)
            _ = source.tree
        with clock.stage("gate"):
            if why := gate.refusal(hole, source, offset, invoked=invoked):
                return why, []
        known = self._open.setdefault(document, _Open())
        question = Question(document, source, offset, hole)
        origin: Literal["model", "cache", "attached"] = "cache"
        with clock.stage("reuse"):
            text = known.cache.find(hole)
            if text:  # where it no longer fits, it is as if unknown
                text = _recalled(known, question, text) or None
        if text is None or (invoked and not text):
            origin, text = await self._answer(clock, known, question, invoked)
            if text is None:
                return "the document changed", []
        texts = [text] if text else []
        if invoked and texts:
            with clock.stage("alternatives"):
                texts = await self._alternatives(known, question, texts)
        if not texts:
            return ("known to be nothing" if origin == "cache" else "nothing to say"), []
        latency = time.perf_counter() - begun
        name, model = clock.trace.language, self._connection.model or ""
        found = [
            Suggestion(uuid4().hex, shown + each, origin, name, model, latency) for each in texts
        ]
        if selected is None:
            self._prepare(known, question, texts[0])
        return origin, found

    def _refusal(self, document: Document, invoked: bool) -> str | None:
        """Why the settings or the file itself forbid to ask."""
        options = self.options
        if not (invoked or options.automatic):
            return "automatic completions are off"
        named = document.language.name if document.language else document.language_id or ""
        if options.disables(named):
            return "its language is switched off"
        return self.exclusions.reason(Path(document.path), document.source)

    async def _answer(
        self, clock: Clock, known: _Open, question: Question, invoked: bool
    ) -> tuple[Literal["model", "attached"], str | None]:
        """What the server says, from the answer that still arrives or from a new one."""
        document, hole = question.document, question.hole
        text = document.source
        if (left := await self._attached(clock, known, hole)) is not None:
            return "attached", left
        if document.source != text:
            return "attached", None
        await _stop(known)
        line_break = hole.before.endswith("\n") or not hole.line_before.strip()
        with clock.stage("pace"):
            now = time.monotonic()
            wait = self._pace.wait(now, line_break=line_break, invoked=invoked)
            await asyncio.sleep(wait if invoked else max(wait, self._connection.pause(now)))
        generation = await self._start(known, question, clock.trace)
        return "model", await generation.follow(hole)

    async def _attached(self, clock: Clock, known: _Open, hole: Hole) -> str | None:
        """What the answer that still arrives says; None: there is none, or it leads elsewhere.

        A frame of its own: a failed answer keeps the frames that it went through, and one that
        held the answer before would keep that alive as well, and so all of an outage.
        """
        running = known.generation
        if not (running and running.alive and running.agrees(hole)):
            return None
        with clock.stage("attached"):
            return await running.follow(hole)

    async def _alternatives(self, known: _Open, question: Question, texts: list[str]) -> list[str]:
        """The suggestions with others beside them, as far as those come soon."""
        hole = question.hole
        others = (_recalled(known, question, one) for one in known.cache.all(hole))
        found = list(dict.fromkeys([*texts, *filter(None, others)]))
        end = time.monotonic() + PATIENCE
        with suppress(TimeoutError, MagicoderError):
            async with asyncio.timeout(PATIENCE):
                for seed in range(ALTERNATIVES + 1 - len(found)):
                    if (self._pace.latency or 0.0) > end - time.monotonic():
                        break  # it would come too late
                    generation = await self._start(known, question, seed=seed)
                    text = await generation.follow(hole)
                    if text and text not in found:
                        found.append(text)
        if known.generation:
            known.generation.cancel()
        known.cache.keep(hole, texts[0])  # the first stays the first
        return found[: ALTERNATIVES + 1]

    def _prepare(self, known: _Open, question: Question, text: str) -> None:
        """Ask for what comes after a suggestion, as if it had been accepted, once it has stood."""

        async def ahead() -> None:
            await asyncio.sleep(AHEAD)
            if known.generation and known.generation.alive:
                return
            place = _next(question, text)
            if place is None or known.cache.find(place.hole) is not None:
                return
            clock = Clock(_name(question.document), "ahead")
            outcome = "prepared"
            try:
                generation = await self._start(known, place, clock.trace, ahead=True)
                await generation.ended()
            except _ClosedError:
                return
            except MagicoderError:
                outcome = "the server failed"
            trace.write(clock.end(outcome, len(generation.text)))

        if known.ahead:
            known.ahead.cancel()
        known.ahead = asyncio.create_task(ahead())

    async def _start(
        self,
        known: _Open,
        question: Question,
        found: Trace | None = None,
        *,
        seed: int | None = None,
        ahead: bool = False,
    ) -> Generation:
        """Start the one generation of a document; `found` gets what it takes.

        Raises:
            _ClosedError: the document is no longer open.
        """
        while known.generation and known.generation.alive:
            await known.generation.cancelled()
        if known.closed:
            raise _ClosedError("the document was closed")
        source = question.source.filled(question.offset, "")  # the document goes on
        snapshot = replace(question, source=source)
        connection = self._connection

        async def work(generation: Generation) -> str:
            clock = Clock("", "")
            if not ahead and not connection.down:
                connection.say("working")
            try:
                with connection.outage():
                    text = await self._asker.suggestion(clock, snapshot, generation, seed)
            except asyncio.CancelledError:
                self._pace.given_up((clock.trace.server_ms or 0) / 1000)
                raise
            finally:
                connection.rest()
                if found is not None:
                    _merge(found, clock.trace)
            known.cache.keep(question.hole, text)
            return text

        known.generation = Generation(question.hole, work, ahead=ahead)
        return known.generation


def _name(document: Document) -> str:
    return document.language.name if document.language else "text"


async def _stop(known: _Open) -> None:
    """End what runs for a document, and wait until its connection is closed."""
    if known.ahead:
        known.ahead.cancel()
    if known.generation:
        await known.generation.cancelled()


def _recalled(known: _Open, question: Question, text: str) -> str:
    """What of a known `text` leaves the file clean: all where it reads as when it was made."""
    if known.cache.checked(question.hole, text):
        return text
    fit = syntax.clean(text, question.source, question.offset)
    if fit:
        known.cache.keep(question.hole, fit)
    return fit


def _next(question: Question, text: str) -> Question | None:
    """The document with `text` accepted, at its end or, where that is over, at a new line."""
    source, offset = question.source, question.offset
    line = (source.text[:offset] + text).rpartition("\n")[2]
    indent = line[: len(line) - len(line.lstrip())]
    for end in ("", f"\n{indent}"):
        after, at = source.filled(offset, text + end), offset + len(text + end)
        hole = Hole.at(after.text, at)
        if gate.refusal(hole, after, at, invoked=False) is None:
            return Question(question.document, after, at, hole)
        if hole.inside_line:
            break
    return None


def _merge(found: Trace, made: Trace) -> None:
    """Put what a generation took into the trace of the completion that started it."""
    found.stages |= made.stages
    for name in ("first_ms", "server_ms", "prompt_tokens", "cached_tokens", "completion_tokens"):
        setattr(found, name, getattr(made, name))
