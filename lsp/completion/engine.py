"""The engine: the stages of a completion around at most one request to the server per document.

exclusion -> gate -> reuse -> pace -> context -> request -> stop -> finish -> syntax, then the next
suggestion ahead. Each is a module of its own; here they meet the server, which may fail.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4
from weakref import WeakKeyDictionary

from magicoder.errors import MagicoderError, ServerError
from magicoder.lsp.completion import gate, scope, syntax, trace
from magicoder.lsp.completion.finish import finish
from magicoder.lsp.completion.hole import Hole, line_feeds
from magicoder.lsp.completion.pace import Pace
from magicoder.lsp.completion.reuse import Cache, Generation
from magicoder.lsp.completion.stop import Watch
from magicoder.lsp.completion.trace import Clock, Trace
from magicoder.lsp.context import tokens
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.prompt import Request, assemble, unfenced
from magicoder.lsp.context.retrieve import Retriever
from magicoder.lsp.documents import Document, Edit
from magicoder.lsp.options import Options
from magicoder.lsp.trees import Source

if TYPE_CHECKING:
    from magicoder.client import AsyncMagicoder, AsyncTextStream, Completion, File, ModelInfo
    from magicoder.lsp.context.tokens import Counter

State = Literal["starting", "ready", "working", "failed", "off"]
Told = Callable[[State, str | None, str], None]

ALTERNATIVES = 2
"""Other suggestions beside the first where the user asked."""

PATIENCE = 1.5
"""Seconds to wait for those."""

TEMPERATURE = 0.8
"""At which they are sampled."""

RETRY = 1.0
"""Seconds from a failure until the server is asked again, unless the user asks."""

LONGEST = 8
"""Characters read for each token that was asked for: a server may forget its limit."""

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
class _Served:
    """The server as it introduced itself; asked anew after an error, since it may have changed."""

    client: "AsyncMagicoder"
    model: "ModelInfo"
    counter: "Counter"


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
        self._report, self._tell = report, tell
        self._client: AsyncMagicoder | None = None
        self._serving: asyncio.Task[_Served] | None = None
        self._model: str | None = None
        self._state: tuple[State, str | None, str] | None = None
        self._down = False
        self._failed = 0.0
        self._pace = Pace()
        self._open: WeakKeyDictionary[Document, _Open] = WeakKeyDictionary()

    async def connect(self) -> None:
        """Ask once which model is served, so that the first keystroke need not."""
        self._say("starting")
        with suppress(MagicoderError), self._outage():
            await self._served()
        self._rest()

    async def close(self) -> None:
        """End what still runs, and the connection, without a word: another may be speaking."""
        self._report, self._tell = lambda _: None, lambda *_: None
        for document in list(self._open):
            await self.closed(document)
        if self._serving is not None:
            self._serving.cancel()
            with suppress(MagicoderError, asyncio.CancelledError):
                await self._serving
        if self._client is not None:
            await self._client.close()
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
        origin: Literal["model", "cache", "attached"] = "cache"
        with clock.stage("reuse"):
            text = known.cache.find(hole)
            if text:  # where it no longer fits, it is as if unknown
                text = _recalled(known, source, offset, hole, text) or None
        if text is None or (invoked and not text):
            origin, text = await self._answer(clock, known, document, source, offset, hole, invoked)
            if text is None:
                return "the document changed", []
        texts = [text] if text else []
        if invoked and texts:
            with clock.stage("alternatives"):
                texts = await self._alternatives(known, document, source, offset, hole, texts)
        if not texts:
            return ("known to be nothing" if origin == "cache" else "nothing to say"), []
        latency = time.perf_counter() - begun
        name = clock.trace.language
        found = [
            Suggestion(uuid4().hex, shown + each, origin, name, self._model or "", latency)
            for each in texts
        ]
        if selected is None:
            self._prepare(known, document, source, offset, texts[0])
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
        self,
        clock: Clock,
        known: _Open,
        document: Document,
        source: Source,
        offset: int,
        hole: Hole,
        invoked: bool,
    ) -> tuple[Literal["model", "attached"], str | None]:
        """What the server says, from the answer that still arrives or from a new one."""
        text = document.source
        running = known.generation
        if running and running.alive and running.agrees(hole):
            with clock.stage("attached"):
                left = await running.follow(hole)
            if left is not None:
                return "attached", left
            if document.source != text:
                return "attached", None
        await _stop(known)
        line_break = hole.before.endswith("\n") or not hole.line_before.strip()
        with clock.stage("pace"):
            now = time.monotonic()
            wait = self._pace.wait(now, line_break=line_break, invoked=invoked)
            if self._down and not invoked:
                wait = max(wait, self._failed + RETRY - now)
            await asyncio.sleep(wait)
        generation = await self._start(known, document, source, offset, hole, clock.trace)
        return "model", await generation.follow(hole)

    async def _alternatives(
        self,
        known: _Open,
        document: Document,
        source: Source,
        offset: int,
        hole: Hole,
        texts: list[str],
    ) -> list[str]:
        """The suggestions with others beside them, as far as those come soon."""
        others = (_recalled(known, source, offset, hole, one) for one in known.cache.all(hole))
        found = list(dict.fromkeys([*texts, *filter(None, others)]))
        with suppress(TimeoutError, MagicoderError):
            async with asyncio.timeout(PATIENCE):
                for seed in range(ALTERNATIVES + 1 - len(found)):
                    generation = await self._start(known, document, source, offset, hole, seed=seed)
                    text = await generation.follow(hole)
                    if text and text not in found:
                        found.append(text)
        if known.generation:
            known.generation.cancel()
        known.cache.keep(hole, texts[0])  # the first stays the first
        return found[: ALTERNATIVES + 1]

    def _prepare(
        self, known: _Open, document: Document, source: Source, offset: int, text: str
    ) -> None:
        """Ask for what comes after a suggestion, as if it had been accepted, once it has stood."""

        async def ahead() -> None:
            await asyncio.sleep(AHEAD)
            if known.generation and known.generation.alive:
                return
            place = self._next(source, offset, text)
            if place is None or known.cache.find(place[2]) is not None:
                return
            clock = Clock(_name(document), "ahead")
            outcome = "prepared"
            try:
                generation = await self._start(known, document, *place, clock.trace, ahead=True)
                await generation.ended()
            except _ClosedError:
                return
            except MagicoderError:
                outcome = "the server failed"
            trace.write(clock.end(outcome, len(generation.text)))

        if known.ahead:
            known.ahead.cancel()
        known.ahead = asyncio.create_task(ahead())

    def _next(self, source: Source, offset: int, text: str) -> tuple[Source, int, Hole] | None:
        """The document with `text` accepted, at its end or, where that is over, at a new line."""
        line = (source.text[:offset] + text).rpartition("\n")[2]
        indent = line[: len(line) - len(line.lstrip())]
        for end in ("", f"\n{indent}"):
            after, at = source.filled(offset, text + end), offset + len(text + end)
            hole = Hole.at(after.text, at)
            if gate.refusal(hole, after, at, invoked=False) is None:
                return after, at, hole
            if hole.inside_line:
                break
        return None

    async def _start(
        self,
        known: _Open,
        document: Document,
        source: Source,
        offset: int,
        hole: Hole,
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
        snapshot = source.filled(offset, "")  # the document goes on

        async def work(generation: Generation) -> str:
            clock = Clock("", "")
            if not ahead and not self._down:
                self._say("working")
            try:
                with self._outage():
                    text = await self._generate(
                        clock, generation, document.path, snapshot, offset, hole, seed
                    )
            except asyncio.CancelledError:
                self._pace.given_up((clock.trace.server_ms or 0) / 1000)
                raise
            finally:
                self._rest()
                if found is not None:
                    _merge(found, clock.trace)
            known.cache.keep(hole, text)
            return text

        known.generation = Generation(hole, work, ahead=ahead)
        return known.generation

    async def _generate(
        self,
        clock: Clock,
        generation: Generation,
        path: str,
        source: Source,
        offset: int,
        hole: Hole,
        seed: int | None,
    ) -> str:
        """The suggestion for a hole, fit to be inserted."""
        hole = Hole(_sendable(hole.before), _sendable(hole.after))
        with clock.stage("server"):
            served = await self._served()
        with clock.stage("context"):
            near = await self.retriever.snippets(hole, source, offset, path)
            snippets = [replace(one, text=_sendable(one.text)) for one in near]
            extent = scope.extent(hole, source, offset)
            watch = Watch(hole, extent, source, offset)
        limit, here = self.options.max_tokens, self.retriever.relative(Path(path))
        while True:
            with clock.stage("prompt"):
                asked = assemble(
                    hole, snippets, served.model, served.counter, limit, source.language
                )
            if asked is None:
                return ""
            try:
                text, cut = await self._stream(
                    clock, served, asked, hole, generation, watch, here, seed
                )
                break
            except ServerError as error:
                if served.model.chat_only or not _only_chats(error):
                    raise
                served.model = replace(served.model, chat_only=True)
        with clock.stage("finish"):
            text = finish(hole, extent, text, cut=cut)
        with clock.stage("syntax"):
            return syntax.clean(text, source, offset)

    async def _stream(
        self,
        clock: Clock,
        served: _Served,
        asked: Request,
        hole: Hole,
        generation: Generation,
        watch: Watch,
        path: str,
        seed: int | None,
    ) -> tuple[str, bool]:
        """The answer as far as it counts, and whether the token limit cut it."""
        numbers, begun = clock.trace, time.perf_counter()
        raw, spent = "", 0.0
        sampling: dict[str, Any] = {"max_tokens": self.options.max_tokens, "stop": asked.stop}
        if seed is not None:
            sampling |= {"temperature": TEMPERATURE, "seed": seed}
        longest, shared = LONGEST * self.options.max_tokens, self.options.settings
        try:
            async with (
                _deadline(shared.base_url, shared.timeout) as deadline,
                await _send(served.client, asked, path, sampling) as stream,
            ):
                async for delta in stream:
                    arrived = time.perf_counter()
                    numbers.first_ms = numbers.first_ms or trace.milliseconds(begun)
                    deadline.reschedule(None)  # from here on the client watches over the pauses
                    raw = (raw + delta)[:longest]
                    text = line_feeds(raw).removeprefix(asked.taken_back)
                    if asked.messages is not None:
                        text = unfenced(text, hole)
                    if asked.taken_back.startswith(raw):
                        continue
                    generation.add(text)
                    end = watch.end(text)
                    spent += time.perf_counter() - arrived
                    if end is not None:
                        return text[:end], False
                    if len(raw) == longest:
                        return text, True
                result = stream.result
        finally:
            numbers.server_ms = trace.milliseconds(begun) - spent * 1000
            numbers.stages["stop"] = round(spent * 1000, 3)
        self._pace.answered(numbers.server_ms / 1000)
        if result.usage:
            numbers.prompt_tokens = result.usage.prompt_tokens
            numbers.completion_tokens = result.usage.completion_tokens
            numbers.cached_tokens = getattr(result.usage, "cached_tokens", None)
        text = line_feeds(raw).removeprefix(asked.taken_back)
        if asked.messages is not None:
            text = unfenced(text, hole)
        return text, result.finish_reason == "length"

    async def server(self) -> "tuple[AsyncMagicoder, ModelInfo]":
        """The client and the model that it talks to.

        Raises:
            MagicoderError: the server cannot be reached, or serves no model.
        """
        served = await self._served()
        return served.client, served.model

    def forget(self) -> None:
        """Ask anew who serves: after an error it may be another."""
        if self._serving is not None and self._serving.done():
            self._serving = None

    async def _served(self) -> _Served:
        """Whom to ask. Connecting goes on where a caller is cancelled, for the next one."""
        if self._serving is None:
            self._serving = asyncio.create_task(self._introduce())
            self._serving.add_done_callback(self._introduced)
        return await asyncio.shield(self._serving)

    async def _introduce(self) -> _Served:
        try:
            return await self._ask_who()
        except MagicoderError:
            raise
        except Exception as error:  # whatever a strange server makes of a library
            raise ServerError(f"{self.options.settings.base_url} broke it: {error!r}") from error

    async def _ask_who(self) -> _Served:
        if self._client is None:
            self._client = await asyncio.to_thread(_client, self.options)
        model = await self._client.model_info()
        self._model = model.id
        return _Served(self._client, model, await tokens.load(self._client, model))

    def _introduced(self, task: asyncio.Task[_Served]) -> None:
        """A failure, whatever it was, is not kept: the server may be mended."""
        if not task.cancelled() and task.exception() is not None and task is self._serving:
            self._serving = None

    @contextmanager
    def _outage(self) -> Iterator[None]:
        """Tell of an error once, until the server has worked again."""
        try:
            yield
            self._down = False
        except MagicoderError as error:
            self.forget()
            if not self._down:
                self._report(str(error))
            self._down, self._failed = True, time.monotonic()
            self._say("failed", str(error))
            raise

    def _rest(self) -> None:
        """Nothing runs for the user any more."""
        if self._down:
            return
        if self.options.automatic:
            self._say("ready")
        else:
            self._say("off", "completions come when you ask for them")

    def _say(self, state: State, message: str = "") -> None:
        told = state, self._model, message
        if told != self._state:
            self._state = told
            self._tell(*told)


def _name(document: Document) -> str:
    return document.language.name if document.language else "text"


async def _stop(known: _Open) -> None:
    """End what runs for a document, and wait until its connection is closed."""
    if known.ahead:
        known.ahead.cancel()
    if known.generation:
        await known.generation.cancelled()


def _recalled(known: _Open, source: Source, offset: int, hole: Hole, text: str) -> str:
    """What of a known `text` leaves the file clean: all where it reads as when it was made."""
    if known.cache.checked(hole, text):
        return text
    fit = syntax.clean(text, source, offset)
    if fit:
        known.cache.keep(hole, fit)
    return fit


def _sendable(text: str) -> str:
    """`text` with question marks for halves of surrogate pairs, which no request can hold."""
    return text.encode(errors="replace").decode()


@asynccontextmanager
async def _deadline(url: str, seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Make a wait longer than `seconds` an error: a server that only keeps alive never times out.

    Raises:
        ServerError: it was longer.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            yield deadline
    except TimeoutError:
        raise ServerError(
            f"{url} did not answer within {seconds:g} s: raise MAGICODER_TIMEOUT, or ask for less"
        ) from None


def _merge(found: Trace, made: Trace) -> None:
    """Put what a generation took into the trace of the completion that started it."""
    found.stages |= made.stages
    for name in ("first_ms", "server_ms", "prompt_tokens", "cached_tokens", "completion_tokens"):
        setattr(found, name, getattr(made, name))


async def _send(
    client: "AsyncMagicoder", asked: Request, path: str, sampling: dict[str, Any]
) -> "AsyncTextStream[Completion]":
    """Ask, in the way that the model knows; `path` names the file beside others."""
    if asked.messages is not None:
        return await client.chat(asked.messages, stream=True, **sampling)
    if asked.suffix is None:
        return await client.complete(asked.prefix, stream=True, **sampling)
    extra: list[File] = [{"filename": one.path, "text": one.text} for one in asked.extra]
    return await client.infill(
        asked.prefix, asked.suffix, extra=extra, filename=path, stream=True, **sampling
    )


def _only_chats(error: ServerError) -> bool:
    """Whether a server says that it has no completions, but perhaps a chat."""
    return error.status in (404, 405) or (
        error.status == 400 and re.search(r"not support.*completion", str(error), re.I) is not None
    )


def _client(options: Options) -> "AsyncMagicoder":
    """Import and build the client, off the event loop: openai takes half a second to import."""
    from magicoder.client import AsyncMagicoder

    shared = options.settings
    return AsyncMagicoder(
        base_url=shared.base_url,
        api_key=shared.api_key.get_secret_value() if shared.api_key else None,
        model=shared.model,
        timeout=shared.timeout,
        max_retries=0,
    )
