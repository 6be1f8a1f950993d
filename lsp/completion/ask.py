"""One request to the server: context -> request -> stop -> finish -> syntax."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicoder.errors import ServerError
from magicoder.lsp.completion import scope, syntax, trace
from magicoder.lsp.completion.connection import Connection, Served
from magicoder.lsp.completion.finish import finish, not_below
from magicoder.lsp.completion.hole import Hole, line_feeds
from magicoder.lsp.completion.pace import Pace
from magicoder.lsp.completion.reuse import Generation
from magicoder.lsp.completion.stop import Watch
from magicoder.lsp.completion.trace import Clock
from magicoder.lsp.context.prompt import Request, assemble, unfenced
from magicoder.lsp.context.retrieve import Retriever
from magicoder.lsp.documents import Document
from magicoder.lsp.trees import Source

if TYPE_CHECKING:
    from magicoder.client import AsyncMagicoder, AsyncTextStream, Completion, File

TEMPERATURE = 0.8
"""At which alternatives are sampled."""

LONGEST = 8
"""Characters read for each token that was asked for: a server may forget its limit."""


@dataclass(frozen=True)
class Question:
    """What to insert at `offset` of `source`, which a document is or would be; `hole` is there."""

    document: Document
    source: Source
    offset: int
    hole: Hole


class Asker:
    """Asks a server for suggestions; `pace` learns how long it takes."""

    def __init__(self, connection: Connection, retriever: Retriever, pace: Pace) -> None:
        self._connection, self._retriever, self._pace = connection, retriever, pace

    async def suggestion(
        self, clock: Clock, question: Question, generation: Generation, seed: int | None
    ) -> str:
        """The answer to a question, fit to be inserted; `generation` hears of it as it arrives.

        seed: samples an alternative; None: the likeliest.

        Raises:
            MagicoderError: the server failed.
        """
        source, offset, path = question.source, question.offset, question.document.path
        hole = Hole(_sendable(question.hole.before), _sendable(question.hole.after))
        with clock.stage("server"):
            served = await self._connection.served()
        with clock.stage("context"):
            near = await self._retriever.snippets(hole, source, offset, path)
            snippets = [replace(one, text=_sendable(one.text)) for one in near]
            extent = scope.extent(hole, source, offset)
            watch = Watch(hole, extent, source, offset)
        limit = self._connection.options.max_tokens
        while True:
            with clock.stage("prompt"):
                asked = assemble(
                    hole, snippets, served.model, served.counter, limit, source.language
                )
            if asked is None:
                return ""
            try:
                text, cut = await self._stream(
                    clock, served, asked, question, generation, watch, seed
                )
                break
            except ServerError as error:
                if served.model.chat_only or not _only_chats(error):
                    raise
                served.model = replace(served.model, chat_only=True)
        with clock.stage("finish"):
            text = finish(hole, extent, text, cut=cut)
        with clock.stage("syntax"):
            text = syntax.clean(text, source, offset)
            # what is left of it may end in what stands below
            kept = not_below(hole, text)
            return text if kept == text else syntax.clean(kept, source, offset)

    async def _stream(
        self,
        clock: Clock,
        served: Served,
        asked: Request,
        question: Question,
        generation: Generation,
        watch: Watch,
        seed: int | None,
    ) -> tuple[str, bool]:
        """The answer as far as it counts, and whether the token limit cut it."""
        numbers, begun = clock.trace, time.perf_counter()
        raw, text, spent = "", "", 0.0
        options = self._connection.options
        sampling: dict[str, Any] = {"max_tokens": options.max_tokens, "stop": asked.stop}
        if seed is not None:
            sampling |= {"temperature": TEMPERATURE, "seed": seed}
        longest, shared = LONGEST * options.max_tokens, options.settings
        path = self._retriever.relative(Path(question.document.path))
        try:
            async with (
                _deadline(shared.base_url, shared.timeout) as deadline,
                await _send(served.client, asked, path, sampling) as stream,
            ):
                async for delta in stream:
                    arrived = time.perf_counter()
                    numbers.first_ms = numbers.first_ms or trace.milliseconds(begun)
                    # The client's own limit is for bytes: what keeps a connection alive renews it.
                    deadline.reschedule(asyncio.get_running_loop().time() + shared.timeout)
                    raw = (raw + delta)[:longest]
                    text = line_feeds(raw).removeprefix(asked.taken_back)
                    if asked.messages is not None:
                        text = unfenced(text, question.hole)
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
        return text, result.finish_reason == "length"


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
