"""Asking the server: one request at a time for each document, and one word about an outage."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from magicoder.errors import MagicoderError
from magicoder.lsp.completion import text as completion
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.options import Options
from magicoder.oss_instruct import Problem

if TYPE_CHECKING:
    from magicoder.client import AsyncMagicoder, ModelInfo

T = TypeVar("T")

CONTEXT = 2048
"""Tokens of context to count on where the server does not tell."""


class Engine:
    """Completions and problems from the server in `options`.

    `report` gets one line when the server fails, and no more until it has worked again.
    """

    def __init__(self, options: Options, report: Callable[[str], None]) -> None:
        self._options, self._report = options, report
        self._served: tuple[AsyncMagicoder, ModelInfo] | None = None
        self._down = False

    async def connect(self) -> None:
        """Ask once which model is served, so that the first keystroke need not."""
        with self._outage():
            await self._server()

    async def complete(self, hole: Hole) -> str:
        """What to insert at the hole; empty where there is nothing to say or no server."""
        with self._outage():
            client, model = await self._server()
            limit = self._options.max_tokens
            hole = completion.window(hole, model.context or CONTEXT, limit)
            asked = completion.request(hole, infill=model.fim is not None)
            if asked is None:
                return ""
            if asked.suffix is None:
                answer = client.complete(
                    asked.prefix, max_tokens=limit, stop=asked.stop, stream=True
                )
            else:
                answer = client.infill(
                    asked.prefix, asked.suffix, max_tokens=limit, stop=asked.stop, stream=True
                )
            text, cut = "", False
            async with await answer as stream:
                async for delta in stream:
                    text += delta
                    if completion.end(hole, text) is not None:
                        break
                else:
                    cut = stream.result.finish_reason == "length"
            return completion.finish(hole, asked, text, cut=cut)
        return ""

    async def problem(
        self, code: str, language: str | None, progress: Callable[[str], None]
    ) -> Problem:
        """A problem inspired by `code`; `progress` gets the text that has arrived so far.

        Raises:
            MagicoderError: the server failed, or its answer holds no problem.
        """
        try:
            client, model = await self._server()
            text = ""
            answer = client.problem_from_code(
                code, language=language, structured=model.structured, stream=True
            )
            async with await answer as stream:
                async for delta in stream:
                    text += delta
                    progress(text)
            return stream.result
        except MagicoderError:
            self._served = None
            raise

    async def _server(self) -> "tuple[AsyncMagicoder, ModelInfo]":
        """The client and what it talks to; asked again after an error, since it may have changed"""
        if self._served is None:
            client = await asyncio.to_thread(_client, self._options)
            self._served = client, await client.model_info()
        return self._served

    @contextmanager
    def _outage(self) -> Iterator[None]:
        try:
            yield
            self._down = False
        except MagicoderError as error:
            self._served = None
            if not self._down:
                self._report(str(error))
            self._down = True


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


class Latest:
    """Runs one task for each key: a newer one cancels the older, whose answer is then None."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def run(self, key: Hashable, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None where a newer call replaced it."""
        if older := self._tasks.get(key):
            older.cancel()
        task = self._tasks[key] = asyncio.create_task(work)
        try:
            return await unless_cancelled(task)
        finally:
            if self._tasks.get(key) is task:
                del self._tasks[key]


async def unless_cancelled(task: asyncio.Task[T]) -> T | None:
    """The result of `task`, None where it was cancelled. Cancelling the caller cancels both."""
    try:
        return await task
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling():
            raise
        return None
