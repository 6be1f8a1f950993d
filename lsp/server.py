"""The language server: pygls wired to the engine and the instruct tools. Speaks LSP 3.18."""

import asyncio
import os
import sys
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

from magicoder import __version__, languages
from magicoder.errors import MagicoderError
from magicoder.languages import Language
from magicoder.lsp import instruct, options
from magicoder.lsp.completion import Hole
from magicoder.lsp.documents import Document
from magicoder.lsp.engine import Engine, Latest, unless_cancelled
from magicoder.oss_instruct import ParseError

T = TypeVar("T")

CREATE_PROBLEM = "magicoder.createProblem"
PROBLEM_KIND = "refactor.problem"
"""A kind of refactoring, since editors list those at a selection and run none by themselves."""


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

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[PROBLEM_KIND]),
    )
    def code_actions(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction]:
        document = ls.document(params.text_document.uri)
        only = params.context.only
        if document is None or (only and not any(_covers(kind, PROBLEM_KIND) for kind in only)):
            return []
        chosen = _chosen(document, params.range)
        if chosen is None:
            return []
        title = "Create a problem from this code"
        command = types.Command(title, CREATE_PROBLEM, arguments=[document.uri, chosen])
        return [types.CodeAction(title, kind=PROBLEM_KIND, command=command)]

    @server.command(CREATE_PROBLEM)
    async def create_problem(ls: Server, uri: str, range: types.Range) -> str | None:  # noqa: A002
        engine, document = ls.engine, ls.document(uri)
        if engine is None:
            ls.say("mend the settings first")
            return None
        if document is None:
            ls.say(f"open {uri} first")
            return None
        code = instruct.snippet(document.text_in_client_range(range))
        if not code:
            ls.say("select some code first")
            return None
        language = _language(document)
        try:
            problem = await ls.with_progress(
                "Creating a problem",
                lambda report: engine.problem(
                    code,
                    language.name if language else None,
                    lambda text: report(f"{len(text.splitlines())} lines"),
                ),
            )
            if problem is None:
                return None
            markdown = problem.markdown()
            await ls.show(instruct.write_problem(markdown, document.path))
        except ParseError:
            ls.say("the model's answer is no problem: select other code, or serve a larger model")
            return None
        except MagicoderError as error:
            ls.say(str(error))
            return None
        return markdown

    return server


def _chosen(document: Document, selection: types.Range) -> types.Range | None:
    """The selected code, else the function around the cursor."""
    if document.text_in_client_range(selection).strip():
        return selection
    language = _language(document)
    if language is None:
        return None
    lines = instruct.function_at(document.source, selection.start.line, language)
    return lines and types.Range(types.Position(lines[0], 0), types.Position(lines[1] + 1, 0))


def _language(document: Document) -> Language | None:
    return languages.by_name(document.language_id or "") or languages.by_path(document.path)


def _covers(kind: str, wanted: str) -> bool:
    """Whether an editor that asks for `kind` asks for `wanted` too."""
    return not kind or f"{wanted}.".startswith(f"{kind}.")


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
