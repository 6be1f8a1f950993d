"""An editor (pytest-lsp) on a real `magicoder lsp` process, and a server that can misbehave."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_lsp
from cattrs import Converter
from lsprotocol import types
from pygls.protocol import default_converter
from pytest_lsp.client import register_lsp_features

Behaviour = Callable[["Endpoint", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Endpoint:
    """OpenAI's completion protocol, just far enough to break it: vLLM fails on no one's demand.

    `behave` answers a POST; `requests` keeps the bodies; `asked` and `closed` are set when a
    request has come in and when a client closed its socket before the answer ended. `alive` counts
    the answers that are being made, `most` the most at any time. `chat_only`: no completions.
    """

    behave: Behaviour
    fim: str | None = None
    chat_only: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    alive: int = 0
    most: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self.server:
            self.server.close()
            self.server = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get"):
            card = {
                "id": "m",
                "object": "model",
                "magicoder": {"fim": self.fim, "context": 32768, "adapters": []},
            }
            await reply(writer, 200, json.dumps(card if "/models/" in head else {"data": [card]}))
        else:
            size = int(head.partition("content-length: ")[2].split()[0])
            body = json.loads(await reader.readexactly(size))
            if self.chat_only and "/chat/" not in head:
                await reply(writer, 404, '{"error": {"message": "Not Found"}}')
                writer.close()
                return
            self.requests.append(body)
            self.asked.set()
            self.alive += 1
            self.most = max(self.most, self.alive)
            answer = asyncio.create_task(self.answer(self.behave, writer))
            gone = asyncio.create_task(reader.read())
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self.closed.set()
                answer.cancel()
            gone.cancel()
            self.alive -= 1
        writer.close()

    async def answer(self, behave: "Behaviour", writer: asyncio.StreamWriter) -> None:
        await behave(self, writer)
        await writer.drain()

    @staticmethod
    def says(*parts: str) -> "Behaviour":
        """A server that streams these parts."""

        async def behave(_: Endpoint, writer: asyncio.StreamWriter) -> None:
            body = "".join(map(event, parts)) + event("", "stop") + "data: [DONE]\n\n"
            await reply(writer, 200, body, "event-stream")

        return behave

    @staticmethod
    def hangs(*parts: str) -> "Behaviour":
        """A server that streams these parts and then no more."""

        async def behave(_: Endpoint, writer: asyncio.StreamWriter) -> None:
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            if parts:
                writer.write((head + "".join(map(event, parts))).encode())
            await asyncio.Event().wait()

        return behave

    @staticmethod
    def keeps_on(*parts: str, gate: asyncio.Event) -> "Behaviour":
        """A server that streams the first part, and the others once `gate` is set."""

        async def behave(_: Endpoint, writer: asyncio.StreamWriter) -> None:
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            writer.write((head + event(parts[0])).encode())
            await gate.wait()
            body = "".join(map(event, parts[1:])) + event("", "stop") + "data: [DONE]\n\n"
            writer.write(body.encode())

        return behave

    @staticmethod
    def sends(status: int, body: str, kind: str = "json") -> "Behaviour":
        """A server that answers this, whatever it is asked."""

        async def behave(_: Endpoint, writer: asyncio.StreamWriter) -> None:
            await reply(writer, status, body, kind)

        return behave

    @staticmethod
    def breaks_off(*parts: str) -> "Behaviour":
        """A server that promises more than it sends."""

        async def behave(_: Endpoint, writer: asyncio.StreamWriter) -> None:
            head = (
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
            )
            writer.write((head + "".join(map(event, parts))).encode())

        return behave


async def reply(writer: asyncio.StreamWriter, status: int, body: str, kind: str = "json") -> None:
    writer.write(
        f"HTTP/1.1 {status} X\r\nContent-Type: application/{kind}\r\nConnection: close\r\n"
        f"Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()
    )


def event(text: str, finish_reason: str | None = None) -> str:
    """One event of a stream, read both by chats and by completions."""
    choice = {"index": 0, "text": text, "delta": {"content": text}, "finish_reason": finish_reason}
    chunk = {"id": "1", "object": "chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


class Editor:
    """What the tests do in an editor: one open document, and questions about it."""

    def __init__(self, client: pytest_lsp.LanguageClient) -> None:
        self.client = client
        self.capabilities = types.ServerCapabilities()
        self.version = 0
        self.states: list[dict[str, Any]] = []
        """What magicoder/status has told."""
        self.told = asyncio.Event()

        @client.feature("magicoder/status")
        def told(params: Any) -> None:
            self.states.append(params._asdict())
            self.told.set()

    async def reaches(self, state: str) -> None:
        """Wait until magicoder/status has told this state."""
        while state not in [told["state"] for told in self.states]:
            self.told.clear()
            await self.told.wait()

    async def initialize(
        self,
        options: dict[str, Any] | None = None,
        *,
        encodings: Sequence[types.PositionEncodingKind] | None = None,
        window: types.WindowClientCapabilities | None = None,
        process_id: int | None = None,
        folders: Sequence[Path] = (),
        experimental: dict[str, Any] | None = None,
        workspace: types.WorkspaceClientCapabilities | None = None,
    ) -> None:
        general = types.GeneralClientCapabilities(position_encodings=encodings)
        result = await self.client.initialize_session(
            types.InitializeParams(
                capabilities=types.ClientCapabilities(
                    general=general, window=window, experimental=experimental, workspace=workspace
                ),
                initialization_options=options,
                process_id=process_id,
                workspace_folders=[
                    types.WorkspaceFolder(folder.as_uri(), folder.name) for folder in folders
                ],
            )
        )
        self.capabilities = result.capabilities

    def open(self, text: str, uri: str = "file:///w/a.py", language: str = "python") -> None:
        self.client.text_document_did_open(
            types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, language, 0, text))
        )

    def change(self, edit: types.Range | None, text: str, uri: str = "file:///w/a.py") -> None:
        self.version += 1
        change = (
            types.TextDocumentContentChangePartial(range=edit, text=text)
            if edit
            else types.TextDocumentContentChangeWholeDocument(text)
        )
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(self.version, uri), [change]
            )
        )

    def insert(self, line: int, character: int, text: str, uri: str = "file:///w/a.py") -> None:
        """Type something."""
        here = types.Position(line, character)
        self.change(types.Range(here, here), text, uri)

    async def complete(
        self,
        line: int,
        character: int,
        uri: str = "file:///w/a.py",
        *,
        invoked: bool = False,
        selected: types.SelectedCompletionInfo | None = None,
    ) -> list[str]:
        """The texts offered at a position; each is checked to be an insertion right there."""
        position = types.Position(line, character)
        kinds = types.InlineCompletionTriggerKind
        items = await self.client.text_document_inline_completion_async(
            types.InlineCompletionParams(
                types.InlineCompletionContext(
                    kinds.Invoked if invoked else kinds.Automatic, selected
                ),
                types.TextDocumentIdentifier(uri),
                position,
            )
        )
        assert isinstance(items, list)
        span = selected.range if selected else types.Range(position, position)
        assert all(item.range == span for item in items)
        return [str(item.insert_text) for item in items]

    async def actions(
        self, span: tuple[int, int, int, int], only: list[str] | None = None
    ) -> Sequence[types.CodeAction | types.Command]:
        start, end = types.Position(*span[:2]), types.Position(*span[2:])
        return (
            await self.client.text_document_code_action_async(
                types.CodeActionParams(
                    types.TextDocumentIdentifier("file:///w/a.py"),
                    types.Range(start, end),
                    types.CodeActionContext([], only=only),
                )
            )
            or []
        )

    async def run(self, command: types.Command) -> Any:
        return await self.client.workspace_execute_command_async(
            types.ExecuteCommandParams(command.command, command.arguments)
        )

    @property
    def messages(self) -> list[str]:
        """What was shown to the user."""
        return [message.message for message in self.client.messages]


def make_client() -> pytest_lsp.LanguageClient:
    """pytest-lsp's client, which lets lsprotocol take any code action for its command."""

    def converter() -> Converter:
        made = default_converter()
        made.register_structure_hook(
            types.Command | types.CodeAction,
            lambda sent, _: made.structure(sent, types.CodeAction),
        )
        return made

    client = pytest_lsp.LanguageClient(converter_factory=converter)
    register_lsp_features(client)
    return client


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    server = Endpoint(Endpoint.says("1"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Editor]:
    """An editor whose language server runs, caching in tmp_path, but is not initialized yet."""
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    command = [sys.executable, "-m", "magicoder", "lsp"]
    config = pytest_lsp.ClientServerConfig(command, client_factory=make_client)
    client = await config.start()
    assert isinstance(client, pytest_lsp.LanguageClient)
    yield Editor(client)
    await client.shutdown_session()
    await client.stop()
