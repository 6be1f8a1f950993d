"""The language server: pygls wired to the engine and the instruct tools. Speaks LSP 3.18."""

import asyncio
import os
import sys
from typing import TypeVar
from urllib.parse import unquote

from lsprotocol import types

from magicoder.lsp import commands
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.documents import Document
from magicoder.lsp.session import Server

T = TypeVar("T")


def build() -> Server:
    """The server with its features, not yet reading."""
    server = Server()

    @server.feature(types.INITIALIZE)
    def initialize(ls: Server, params: types.InitializeParams) -> None:
        ls.configure(params.initialization_options)
        if params.process_id is not None and _alive(params.process_id):
            ls.watch = asyncio.create_task(_exit_with(params.process_id))

    @server.feature(types.INITIALIZED)
    async def initialized(ls: Server, _: types.InitializedParams | None) -> None:
        if ls.engine is not None:
            await ls.engine.connect()

    @server.feature(types.SHUTDOWN)
    def shutdown(ls: Server, *_: None) -> None:
        ls.shut_down = True

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def changed(ls: Server, params: types.DidChangeConfigurationParams) -> None:
        given = params.settings.get("magicoder") if isinstance(params.settings, dict) else None
        if given and given != ls.given:
            ls.configure(given)
            await initialized(ls, None)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
        document = Document.opened(params.text_document, ls.workspace.position_codec)
        ls.workspace.text_documents[unquote(document.uri)] = document

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline_completion(
        ls: Server, params: types.InlineCompletionParams
    ) -> list[types.InlineCompletionItem]:
        uri, position = params.text_document.uri, params.position
        document = ls.document(uri)
        if document is None or ls.engine is None:
            return []
        hole = Hole.at(document.source, document.offset_at_position(position))
        text = await ls.latest.run(uri, ls.engine.complete(hole))
        if not text:
            return []
        # VS Code replaces the rest of the line where no range is given.
        return [types.InlineCompletionItem(text, range=types.Range(position, position))]

    commands.register(server)
    return server


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


async def _exit_with(pid: int) -> None:
    """Exit when the editor is gone, even where another process keeps its pipe open."""
    while _alive(pid):  # noqa: ASYNC110 - no event tells of a stranger's end
        await asyncio.sleep(2)
    os._exit(1)  # a thread is blocked reading the pipe


def run() -> int:
    """Serve the editor on standard input and output until it goes; gives the exit code."""
    # Whatever else prints must not reach the editor.
    editor = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    server = build()
    server.start_io(stdout=editor)
    return 0 if server.shut_down else 1
