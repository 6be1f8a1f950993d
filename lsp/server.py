"""The language server: pygls wired to the engine and the instruct tools. Speaks LSP 3.18."""

import asyncio
import os
import sys
from contextlib import suppress
from threading import Event

from lsprotocol import types
from pygls.capabilities import get_capability
from pygls.io_ import run_async

from magicoder.errors import MagicoderError
from magicoder.languages import LANGUAGES
from magicoder.lsp import commands
from magicoder.lsp.session import Server


def build(*, alone: bool = True) -> Server:
    """The server with its features, not yet reading; `alone` in its process, it ends with it."""
    server = Server()

    @server.feature(types.INITIALIZE)
    def initialize(ls: Server, params: types.InitializeParams) -> None:
        ls.configure(params.initialization_options)
        if alone and params.process_id is not None and _alive(params.process_id):
            ls.watch = asyncio.create_task(_exit_with(ls, params.process_id))

    @server.feature(types.INITIALIZED)
    async def initialized(ls: Server, _: types.InitializedParams | None) -> None:
        if _watches_files(ls.client_capabilities):
            ls.client_register_capability(types.RegistrationParams([_watchers()]))
        await ls.connect()

    @server.feature(types.SHUTDOWN)
    def shutdown(ls: Server, *_: None) -> None:
        ls.shut_down = True
        ls.retire()

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def changed(ls: Server, params: types.DidChangeConfigurationParams) -> None:
        given = params.settings.get("magicoder") if isinstance(params.settings, dict) else None
        if not isinstance(given, dict):
            if given:
                ls.say("didChangeConfiguration: expected an object of settings under 'magicoder'")
            return
        settings = ls.over_given(given)
        if given and settings != ls.given:
            ls.configure(settings)
            if get_capability(ls.client_capabilities, "workspace.code_lens.refresh_support", False):
                ls.workspace_code_lens_refresh(None)  # trust may be lost or gained
            await ls.connect()

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    async def moved(ls: Server, _: types.DidChangeWorkspaceFoldersParams) -> None:
        ls.configure(ls.given)
        await ls.connect()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    async def changed_outside(ls: Server, params: types.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            await ls.changed_outside(change)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
        ls.opened(params.text_document)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
        ls.closed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline_completion(
        ls: Server, params: types.InlineCompletionParams
    ) -> list[types.InlineCompletionItem]:
        document, engine, log = ls.document(params.text_document.uri), ls.engine, ls.log
        if document is None or engine is None:
            return []
        invoked = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
        at = document.offset_at_position(params.position)
        chosen, span = None, types.Range(params.position, params.position)
        if info := params.context.selected_completion_info:
            span = info.range
            at, end = map(document.offset_at_position, (span.start, span.end))
            chosen = at, max(at, end), info.text
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        if older := ls.asking.get(document.uri):
            older.cancel()
        ls.asking[document.uri] = task
        try:
            found = await engine.complete(document, at, invoked=invoked, selected=chosen)
        except asyncio.CancelledError:
            return []  # replaced, or no longer wanted: it gets an answer all the same
        finally:
            if ls.asking.get(document.uri) is task:
                del ls.asking[document.uri]
        if log is not None:
            for each in found:
                log.shown(document, at, each, end=chosen[1] if chosen else None)
        # VS Code replaces the rest of the line where no range is given.
        return [types.InlineCompletionItem(each.text, range=span) for each in found]

    commands.register(server)
    return server


def _watches_files(able: types.ClientCapabilities) -> bool:
    watching = able.workspace and able.workspace.did_change_watched_files
    return bool(watching and watching.dynamic_registration)


def _watchers() -> types.Registration:
    """Files in the languages that are indexed."""
    endings = sorted(ext[1:] for language in LANGUAGES for ext in language.extensions)
    pattern = f"**/*.{{{','.join(endings)}}}"
    options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher(pattern)])
    return types.Registration("files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


async def _exit_with(ls: Server, pid: int) -> None:
    """Exit when the editor is gone, even where another process keeps its pipe open."""
    while _alive(pid):  # noqa: ASYNC110 - no event tells of a stranger's end
        await asyncio.sleep(2)
    if ls.log is not None:
        ls.log.close()
    os._exit(1)  # a thread is blocked reading the pipe


class _Reader:
    """Reads a connection, and lets each message take effect before the next is read."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def readline(self) -> bytes:
        await asyncio.sleep(0)
        line = await self._reader.readline()
        # Whoever says anything else, such as a browser, is no editor: that is the end.
        return line if line.lower().startswith(b"content-") or not line.strip() else b""

    async def readexactly(self, n: int) -> bytes:
        return await self._reader.readexactly(n)


async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One editor on one connection, until either goes."""
    server = build(alone=False)
    server.protocol.set_writer(writer)
    try:
        # `exit` exits; a line that is far too long is a ValueError
        with suppress(ConnectionError, asyncio.IncompleteReadError, SystemExit, ValueError):
            await run_async(Event(), _Reader(reader), server.protocol)
    finally:
        server.retire()
        writer.close()


async def _listen(host: str, port: int) -> None:
    try:
        listening = await asyncio.start_server(_session, host, port)
    except OSError as error:
        why = error.strerror or str(error)
        raise MagicoderError(f"cannot listen on {host}:{port} ({why}): name another") from None
    for socket in listening.sockets:
        where, number, *_ = socket.getsockname()
        print(f"listening on {where}:{number}", file=sys.stderr, flush=True)
    await listening.serve_forever()


def run(tcp: tuple[str, int] | None = None) -> int:
    """Serve the editor on standard input and output until it goes; gives the exit code.

    tcp: the host and the port to serve editors on instead, each with a session of its own, until
        the process is interrupted.
    """
    if tcp is not None:
        with suppress(KeyboardInterrupt):
            asyncio.run(_listen(*tcp))
        return 0
    # Whatever else prints must not reach the editor.
    editor = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    server = build()
    server.start_io(stdout=editor)
    if server.log is not None:  # the editor went without a word
        server.log.close()
    return 0 if server.shut_down else 1
