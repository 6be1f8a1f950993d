"""The one connection to the server: who serves, outages, and the state that is told of both."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from magicoder.errors import MagicoderError, ServerError
from magicoder.lsp.context import tokens
from magicoder.lsp.options import Options

if TYPE_CHECKING:
    from magicoder.client import AsyncMagicoder, ModelInfo
    from magicoder.lsp.context.tokens import Counter

State = Literal["starting", "ready", "working", "failed", "off"]
Told = Callable[[State, str | None, str], None]

RETRY = 1.0
"""Seconds from a failure until the server is asked again, unless the user asks."""


@dataclass
class Served:
    """The server as it introduced itself; asked anew after an error, since it may have changed."""

    client: "AsyncMagicoder"
    model: "ModelInfo"
    counter: "Counter"


class Connection:
    """The server in `options`.

    report: gets one line when the server fails, and no more until it has worked again.
    tell: gets the state, the model's name and a message at every change of state.
    """

    def __init__(self, options: Options, report: Callable[[str], None], tell: Told) -> None:
        self.options = options
        self.model: str | None = None
        self.down = False
        self._report, self._tell = report, tell
        self._client: AsyncMagicoder | None = None
        self._serving: asyncio.Task[Served] | None = None
        self._state: tuple[State, str | None, str] | None = None
        self._failed = 0.0

    async def open(self) -> None:
        """Ask once which model is served, so that the first keystroke need not."""
        self.say("starting")
        with suppress(MagicoderError), self.outage():
            await self.served()
        self.rest()

    def mute(self) -> None:
        """Tell nothing any more: another may be speaking."""
        self._report, self._tell = lambda _: None, lambda *_: None

    async def close(self) -> None:
        """End what still runs, and the connection."""
        if self._serving is not None:
            self._serving.cancel()
            with suppress(MagicoderError, asyncio.CancelledError):
                await self._serving
        if self._client is not None:
            await self._client.close()

    def pause(self, now: float) -> float:
        """Seconds to leave a server alone that has just failed; `now` is of time.monotonic."""
        return max(0.0, self._failed + RETRY - now) if self.down else 0.0

    def forget(self) -> None:
        """Ask anew who serves: after an error it may be another."""
        if self._serving is not None and self._serving.done():
            self._serving = None

    async def served(self) -> Served:
        """Whom to ask. Connecting goes on where a caller is cancelled, for the next one.

        Raises:
            MagicoderError: the server cannot be reached, or serves no model.
        """
        if self._serving is None:
            self._serving = asyncio.create_task(self._introduce())
            self._serving.add_done_callback(self._introduced)
        return await asyncio.shield(self._serving)

    async def _introduce(self) -> Served:
        try:
            return await self._ask_who()
        except MagicoderError:
            raise
        except Exception as error:  # whatever a strange server makes of a library
            raise ServerError(f"{self.options.settings.base_url} broke it: {error!r}") from error

    async def _ask_who(self) -> Served:
        if self._client is None:
            self._client = await asyncio.to_thread(_client, self.options)
        model = await self._client.model_info()
        self.model = model.id
        return Served(self._client, model, await tokens.load(self._client, model))

    def _introduced(self, task: asyncio.Task[Served]) -> None:
        """A failure, whatever it was, is not kept: the server may be mended."""
        if not task.cancelled() and task.exception() is not None and task is self._serving:
            self._serving = None

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Tell of an error once, until the server has worked again."""
        try:
            yield
            self.down = False
        except MagicoderError as error:
            self.forget()
            if not self.down:
                self._report(str(error))
            self.down, self._failed = True, time.monotonic()
            self.say("failed", str(error))
            raise

    def rest(self) -> None:
        """Nothing runs for the user any more."""
        if self.down:
            return
        if self.options.automatic:
            self.say("ready")
        else:
            self.say("off", "completions come when you ask for them")

    def say(self, state: State, message: str = "") -> None:
        told = state, self.model, message
        if told != self._state:
            self._state = told
            self._tell(*told)


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
