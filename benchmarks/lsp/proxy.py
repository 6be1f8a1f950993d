"""Between the language server and the model's: passes every byte on, and keeps the books.

async with counting(base_url) as proxy:
    ...  # ask proxy.base_url
proxy.generations
"""

import asyncio
import json
import time
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Generation:
    """One answer that the server was asked for. Times are of `time.perf_counter`.

    started: when the request had come here, before anything was done with it.
    first, last: when the first and the last piece of text came by. ended: when the server had said
    all (`finished`) or the language server had closed the socket before.
    """

    path: str
    body: dict[str, Any]
    started: float
    text: str = ""
    pieces: int = 0
    first: float | None = None
    last: float | None = None
    ended: float | None = None
    finished: bool = False
    usage: dict[str, Any] = field(default_factory=dict)

    def take(self, event: bytes) -> None:
        """Note one event of the stream, or a whole answer."""
        try:
            chunk = json.loads(event)
        except ValueError:  # [DONE]
            return
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices", ()):
            told = choice.get("delta") or choice.get("message") or {}
            if text := choice.get("text") or told.get("content"):
                self.text += text
                self.pieces += 1
                self.last = time.perf_counter()
                self.first = self.first or self.last


@dataclass
class Proxy:
    """`generations` in the order in which they were asked for; `most`: alive at once, at most."""

    upstream: str
    base_url: str = ""
    generations: list[Generation] = field(default_factory=list)
    most: int = 0

    @property
    def alive(self) -> int:
        return sum(one.ended is None for one in self.generations)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection of the language server's, and its own to the server."""
        address = urlsplit(self.upstream)
        head, one, writers = b"", None, [writer]
        tasks: list[asyncio.Task[Any]] = []
        try:
            while True:
                head += await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                one = self._asked(head, body, time.perf_counter())
                if len(writers) == 1:
                    back, forth = await asyncio.open_connection(address.hostname, address.port)
                    writers.append(forth)
                forth.write(head + body)
                answer = asyncio.create_task(_relay(back, writer, one))
                gone = asyncio.create_task(reader.read(1))
                tasks = [answer, gone]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done() and not gone.result():  # closed before the answer's end
                    return
                await answer
                self._over(one, finished=True)
                if not (head := await gone):
                    return
        except (IncompleteReadError, ConnectionError):
            pass
        finally:
            self._over(one, finished=False)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in writers:
                each.close()
                with suppress(ConnectionError):
                    await each.wait_closed()

    def _asked(self, head: bytes, body: bytes, now: float) -> Generation | None:
        method, path = head.split(b" ", 2)[:2]
        if method != b"POST":
            return None
        one = Generation(path.decode(), json.loads(body), now)
        self.generations.append(one)
        self.most = max(self.most, self.alive)
        return one

    def _over(self, one: Generation | None, *, finished: bool) -> None:
        if one is not None and one.ended is None:
            one.ended, one.finished = time.perf_counter(), finished


@asynccontextmanager
async def counting(base_url: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the server at `base_url`."""
    proxy = Proxy(base_url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=2**24)
    port = server.sockets[0].getsockname()[1]
    proxy.base_url = f"http://127.0.0.1:{port}{urlsplit(base_url).path}"
    try:
        yield proxy
    finally:
        server.close()


async def _relay(source: StreamReader, writer: StreamWriter, one: Generation | None) -> None:
    """Pass one answer on, whole or in chunks."""
    head = await source.readuntil(b"\r\n\r\n")
    writer.write(head)
    if b"transfer-encoding: chunked" not in head.lower():
        body = await source.readexactly(_length(head))
        writer.write(body)
        if one is not None:
            one.take(body)
        return
    while True:
        size = await source.readuntil(b"\r\n")
        chunk = await source.readexactly(int(size, 16) + 2)
        writer.write(size + chunk)
        if one is not None:
            for line in chunk.split(b"\n"):
                if line.startswith(b"data: "):
                    one.take(line[6:])
        if chunk == b"\r\n":
            return


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
