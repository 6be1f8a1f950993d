"""One editor's session: its documents, settings and engine, and how to talk to its user."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote
from uuid import uuid4

from lsprotocol import types
from pygls.capabilities import get_capability
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method

from magicoder import __version__
from magicoder.errors import MagicoderError
from magicoder.lsp import options
from magicoder.lsp.completion.connection import State
from magicoder.lsp.completion.engine import Engine
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.retrieve import Retriever
from magicoder.lsp.documents import Document, local_path

if TYPE_CHECKING:
    from magicoder.lsp.kept.log import Log

T = TypeVar("T")

STATUS = "magicoder/status"
"""The notification of the state, for editors that announce that they show it."""


class _Protocol(LanguageServerProtocol):
    """pygls' own, with its faults mended."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        """pygls gives a request that it cannot read no answer."""
        try:
            return super().structure_message(data)
        except JsonRpcException:
            if "id" in data and "method" in data:
                error = JsonRpcInvalidParams().to_response_error()
                self._send_response(data["id"], error=error)
            raise

    def _handle_response(self, *args: Any, **kwargs: Any) -> None:
        """pygls fails at an answer that a cancelled command no longer waits for."""
        with suppress(InvalidStateError):
            super()._handle_response(*args, **kwargs)

    @lsp_method(types.WORKSPACE_EXECUTE_COMMAND)
    async def lsp_workspace__execute_command(  # type: ignore[override]
        self, params: types.ExecuteCommandParams
    ) -> Any:
        """Run a command in the task of its request: pygls' own is not cancelled with that."""
        params.arguments = params.arguments or []  # pygls does not count those that are left out
        command, args, kwargs = next(super().lsp_workspace__execute_command(params))
        return await command(*args, **kwargs)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(
        self, params: types.DidChangeTextDocumentParams
    ) -> Iterator[Any]:
        """pygls fails at a document that is not open; there is nothing to change."""
        if unquote(params.text_document.uri) in self.workspace.text_documents:
            yield from super().lsp_text_document__did_change(params)


class Server(LanguageServer):
    """One editor's session. `engine` is None while the settings cannot be used."""

    def __init__(self) -> None:
        super().__init__("magicoder", __version__, protocol_cls=_Protocol)
        self.engine: Engine | None = None
        self.log: Log | None = None
        self.given: Any = None
        self.documents: dict[str, Document] = {}
        self.asking: dict[str, asyncio.Task[Any]] = {}
        self.shut_down = False
        self.watch: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def say(self, message: str, kind: types.MessageType = types.MessageType.Error) -> None:
        """Show one line to the user."""
        self.window_show_message(types.ShowMessageParams(kind, message))

    def tell(self, state: State, model: str | None, message: str) -> None:
        """Show the state to an editor that announced a place for it."""
        announced = self.client_capabilities.experimental
        ours = announced.get("magicoder") if isinstance(announced, dict) else None
        if isinstance(ours, dict) and ours.get("status") is True:
            self.protocol.notify(STATUS, {"state": state, "model": model, "message": message})

    @property
    def roots(self) -> list[Path]:
        """The folders of the workspace."""
        uris = list(self.workspace.folders) or [self.workspace.root_uri]
        return [Path(path) for uri in uris if uri and (path := local_path(uri))]

    def over_given(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings over those given before; null takes one back to its default."""
        held = self.given if isinstance(self.given, dict) else {}
        return held | settings

    def configure(self, given: Any) -> None:
        """Take an editor's settings. Bad ones ask no server: code must not go to a wrong one."""
        self.retire()
        self.given = given
        try:
            chosen = options.read(given)
        except MagicoderError as error:
            self.say(str(error))
            self.tell("failed", None, str(error))
            return
        exclusions = Exclusions(self.roots, chosen.exclude)
        retriever = Retriever(self.roots, exclusions)
        retriever.start()
        self.engine = Engine(chosen, exclusions, retriever, self.say, self.tell)
        if chosen.keep_log:
            self.log = _log(self.roots, exclusions if chosen.collect_seeds else None)
        for document in self.documents.values():
            self._attach(document)

    async def connect(self) -> None:
        """Find out which model is served, if the settings can be used."""
        if self.engine is not None:
            await _unless_cancelled(self.engine.connect())  # by other settings

    def retire(self) -> None:
        """End the engine and the log."""
        for task in self.asking.values():
            task.cancel()
        for document in self.documents.values():
            document.unsubscribe()
        if self.engine is not None:
            self.spawn(self.engine.close())
        if self.log is not None:
            self.log.close()
        self.engine = self.log = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def document(self, uri: str) -> Document | None:
        """The open document; files that the editor has not opened are never shown to a model."""
        return self.documents.get(unquote(uri))

    def opened(self, item: types.TextDocumentItem) -> None:
        """The editor opened a document, perhaps without having closed an older one."""
        self.closed(item.uri)
        document = Document(item, self.workspace.position_codec)
        key = unquote(document.uri)
        self.documents[key] = self.workspace.text_documents[key] = document
        self._attach(document)
        path = Path(document.path)
        if self.engine and self.engine.exclusions.reason(path, document.source) is None:
            _ = document.syntax.tree  # parsed now, not at the first key

    def closed(self, uri: str) -> None:
        """The editor closed a document."""
        document = self.documents.pop(unquote(uri), None)
        if document is None:
            return
        if task := self.asking.get(document.uri):
            task.cancel()
        if self.engine is not None:
            self.spawn(self.engine.closed(document))
        if self.log is not None:
            self.log.closed(document)

    async def changed_outside(self, change: types.FileEvent) -> None:
        """A file changed on the disk; what the editor has open counts as it is there."""
        path = local_path(change.uri)
        if path is None or self.engine is None or self.document(change.uri):
            return
        if change.type == types.FileChangeType.Deleted:
            self.engine.retriever.remove(Path(path))
        else:
            self.engine.retriever.changed(Path(path))

    def _attach(self, document: Document) -> None:
        """Let a document's edits be heard."""
        if self.engine is not None:
            document.subscribe(self.engine.edited)
            self.engine.retriever.watch(document)

    async def with_progress(
        self, title: str, work: Callable[[Callable[[str], None]], Coroutine[Any, Any, T]]
    ) -> T | None:
        """The result of `work`, which gets a function to report with; None: the user cancelled."""
        if not get_capability(self.client_capabilities, "window.work_done_progress", False):
            return await work(lambda _: None)
        token, bar = str(uuid4()), self.work_done_progress
        await bar.create_async(token)
        bar.begin(token, types.WorkDoneProgressBegin(title, cancellable=True))
        task = asyncio.create_task(
            work(lambda text: bar.report(token, types.WorkDoneProgressReport(message=text)))
        )
        bar.tokens[token].add_done_callback(lambda _: task.cancel())
        try:
            return await _unless_cancelled(task)
        finally:
            bar.end(token, types.WorkDoneProgressEnd())
            del bar.tokens[token]

    async def show(self, path: Path) -> None:
        """Open a file in the editor, or say where it is."""
        if get_capability(self.client_capabilities, "window.show_document.support", False):
            params = types.ShowDocumentParams(path.as_uri(), take_focus=True)
            with suppress(JsonRpcException):  # an editor's own trouble while opening it
                if (await self.window_show_document_async(params)).success:
                    return
        self.say(f"wrote {path}", types.MessageType.Info)


def _log(roots: list[Path], exclusions: Exclusions | None) -> "Log":
    """A log, which also keeps seeds where it is told what to leave out."""
    from magicoder.lsp.kept.log import Log
    from magicoder.lsp.kept.seeds import Seeds

    return Log(seeds=Seeds(roots, exclusions) if exclusions else None)


async def _unless_cancelled(work: Awaitable[T]) -> T | None:
    """The result of `work`, None where it was cancelled. Cancelling the caller cancels both."""
    try:
        return await work
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling():
            raise
        return None
