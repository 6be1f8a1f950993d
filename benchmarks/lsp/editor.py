"""An editor without a screen: a `magicoder lsp` process of its own, spoken to over stdio."""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient

AUTOMATIC = types.InlineCompletionTriggerKind.Automatic
INVOKED = types.InlineCompletionTriggerKind.Invoked


@dataclass(frozen=True)
class Answer:
    """What came back: the text to insert ("" for nothing), in how many seconds.

    `cancelled`: the server says that the request was cancelled, as the editor asked.
    """

    text: str
    seconds: float
    cancelled: bool = False


class Editor:
    """One workspace with open documents. Offsets count code points; lines end in line feeds.

    texts: each open document by its URI, as the editor has it.
    told: every notification of the server's own state, with its time (`time.perf_counter`).
    """

    def __init__(self, client: LanguageClient, state: Path) -> None:
        self.client, self.state = client, state
        self.texts: dict[str, str] = {}
        self.told: list[tuple[float, str, Any]] = []
        self._versions = itertools.count(1)
        self._requests = itertools.count(1)

    @property
    def pid(self) -> int:
        """Of the language server."""
        assert self.client._server is not None  # noqa: S101 - pygls has no public way
        return self.client._server.pid

    def memory(self) -> tuple[int, int]:
        """Bytes that the language server holds now, and held at most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024

    def open(self, uri: str, text: str, language: str) -> None:
        self.texts[uri] = text
        item = types.TextDocumentItem(uri, language, next(self._versions), text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def close(self, uri: str) -> None:
        del self.texts[uri]
        closed = types.TextDocumentIdentifier(uri)
        self.client.text_document_did_close(types.DidCloseTextDocumentParams(closed))

    def edit(self, uri: str, start: int, end: int, new: str) -> None:
        """Replace what stands from `start` to `end`."""
        text = self.texts[uri]
        span = types.Range(_position(text, start), _position(text, end))
        self.texts[uri] = text[:start] + new + text[end:]
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(next(self._versions), uri),
                [types.TextDocumentContentChangePartial(range=span, text=new)],
            )
        )

    async def complete(
        self,
        uri: str,
        offset: int,
        kind: types.InlineCompletionTriggerKind = AUTOMATIC,
        since: float | None = None,
    ) -> Answer:
        """The first suggestion at `offset`; timed from `since` (`time.perf_counter`) or from now.

        Cancelling this cancels the request, as VS Code does at each keystroke.

        Raises:
            RuntimeError: the answer is no insertion at `offset`, or the server failed.
        """
        since = time.perf_counter() if since is None else since
        position = _position(self.texts[uri], offset)
        params = types.InlineCompletionParams(
            types.InlineCompletionContext(kind), types.TextDocumentIdentifier(uri), position
        )
        number = next(self._requests)
        sent = self.client.protocol.send_request_async(
            types.TEXT_DOCUMENT_INLINE_COMPLETION, params, msg_id=number
        )
        answer = asyncio.ensure_future(sent)
        try:
            items = await asyncio.shield(answer)
        except asyncio.CancelledError:
            self.client.protocol.notify(types.CANCEL_REQUEST, types.CancelParams(number))
            try:
                await answer  # a replaced request is always answered
            except JsonRpcException:
                return Answer("", time.perf_counter() - since, cancelled=True)
            return Answer("", time.perf_counter() - since, cancelled=True)
        except JsonRpcException as error:
            raise RuntimeError(f"the language server failed: {error}") from None
        seconds = time.perf_counter() - since
        items = items.items if isinstance(items, types.InlineCompletionList) else items or []
        for item in items:
            if item.range not in (None, types.Range(position, position)):
                raise RuntimeError(f"not an insertion at the cursor: {item}")
        return Answer(str(items[0].insert_text) if items else "", seconds)

    def traces(self) -> list[dict[str, Any]]:
        """A record for each completion that the engine worked on, the oldest first."""
        path = self.state / "magicoder" / "lsp" / "traces.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


@asynccontextmanager
async def editor(root: Path, base_url: str, state: Path, **options: Any) -> AsyncIterator[Editor]:
    """An editor on the workspace `root`, its language server asking `base_url`.

    options: further initializationOptions. state: an empty folder, for the language server's files.
    """
    client = LanguageClient("benchmark", "1")
    made = Editor(client, state)

    @client.feature(types.WINDOW_WORK_DONE_PROGRESS_CREATE)
    def _create(*_: Any) -> None:
        pass

    @client.feature(types.CLIENT_REGISTER_CAPABILITY)
    def _register(*_: Any) -> None:
        pass

    for name in (types.PROGRESS, types.WINDOW_SHOW_MESSAGE, types.WINDOW_LOG_MESSAGE,
                 "magicoder/status"):  # fmt: skip
        _listen(made, name)
    environment = os.environ | {"XDG_STATE_HOME": str(state)}
    await client.start_io(sys.executable, "-m", "magicoder", "lsp", env=environment)
    drained = asyncio.create_task(_drain(client))
    general = types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf32])
    await client.initialize_async(
        types.InitializeParams(
            capabilities=types.ClientCapabilities(
                general=general,
                window=types.WindowClientCapabilities(work_done_progress=True),
                experimental={"magicoder": {"status": True}},
            ),
            initialization_options={"base_url": base_url, **options},
            workspace_folders=[types.WorkspaceFolder(root.as_uri(), root.name)],
            root_uri=root.as_uri(),
            process_id=os.getpid(),
        )
    )
    client.initialized(types.InitializedParams())
    made.told.append((time.perf_counter(), "initialized", None))
    try:
        yield made
    finally:
        with suppress(Exception):
            await asyncio.wait_for(client.shutdown_async(None), 10)
            client.exit(None)
        await client.stop()
        drained.cancel()


def _listen(made: Editor, name: str) -> None:
    @made.client.feature(name)
    def _tell(*given: Any) -> None:
        made.told.append((time.perf_counter(), name, given[-1]))


async def _drain(client: LanguageClient) -> None:
    """Pass on what the language server logs: a pipe that nobody reads would stop it."""
    assert client._server is not None  # noqa: S101
    assert client._server.stderr is not None  # noqa: S101
    async for line in client._server.stderr:
        sys.stderr.write(f"magicoder lsp: {line.decode(errors='replace')}")


def _position(text: str, offset: int) -> types.Position:
    return types.Position(text.count("\n", 0, offset), offset - text.rfind("\n", 0, offset) - 1)
