"""One editor's session: its settings, its engine, and how to talk to its user."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote
from uuid import uuid4

from lsprotocol import types
from pygls.capabilities import get_capability
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from magicoder import __version__
from magicoder.errors import MagicoderError
from magicoder.lsp import options
from magicoder.lsp.completion.engine import Engine, Latest, unless_cancelled
from magicoder.lsp.documents import Document

T = TypeVar("T")


class Server(LanguageServer):
    """One editor's session. `engine` is None while the settings cannot be used."""

    def __init__(self) -> None:
        super().__init__("magicoder", __version__)
        self.engine: Engine | None = None
        self.given: Any = None
        self.latest = Latest()
        self.shut_down = False
        self.watch: asyncio.Task[None] | None = None

    def say(self, message: str, kind: types.MessageType = types.MessageType.Error) -> None:
        """Show one line to the user."""
        self.window_show_message(types.ShowMessageParams(kind, message))

    def configure(self, given: Any) -> None:
        """Take an editor's settings. Bad ones ask no server: code must not go to a wrong one."""
        self.engine, self.given = None, given
        try:
            self.engine = Engine(options.read(given), self.say)
        except MagicoderError as error:
            self.say(str(error))

    def document(self, uri: str) -> Document | None:
        """The open document; files that the editor has not opened are never read."""
        document = self.workspace.text_documents.get(unquote(uri))
        return document if isinstance(document, Document) else None

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
            return await unless_cancelled(task)
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
