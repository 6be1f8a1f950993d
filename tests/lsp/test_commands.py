"""The instruct tools through an editor: offered, asked, streamed, and never applied silently."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams, JsonRpcRequestCancelled
from pygls.workspace import PositionCodec

from magicoder.lsp import server
from magicoder.lsp.documents import Document
from tests.lsp.conftest import Editor, make_client

FUNCTION = "\n\nimport a\n@cached\ndef add(a, b):\n    c = a\n    return c + b\n\n\nsize = 1\n"
HERE = types.Range(types.Position(5, 6), types.Position(5, 6))
URI = "file:///w/a.py"
TOOLS = {
    "createProblem": "refactor.problem",
    "explain": "refactor.explain",
    "document": "refactor.rewrite.document",
    "writeTests": "refactor.tests",
}


@dataclass
class Desk:
    """An editor that shows documents, applies edits, and answers what its user is asked."""

    editor: Any
    texts: dict[str, Document] = field(default_factory=dict)
    edits: list[types.ApplyWorkspaceEditParams] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    answer: str | None = "Apply"
    asked: Callable[[], None] = lambda: None
    opens: bool = True
    takes: bool = True
    counts: bool = True
    showing: asyncio.Event = field(default_factory=asyncio.Event)
    edited: asyncio.Event = field(default_factory=asyncio.Event)
    refreshed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        client = self.editor.client
        client.protocol.fm.features.pop(types.WINDOW_SHOW_DOCUMENT)

        @client.feature(types.WINDOW_SHOW_DOCUMENT)
        def show(params: types.ShowDocumentParams) -> types.ShowDocumentResult:
            client.shown_documents.append(params)
            if self.opens:
                self.open(Path(unquote(urlparse(params.uri).path)).read_text(), params.uri)
            self.showing.set()
            return types.ShowDocumentResult(True)

        @client.feature(types.WORKSPACE_APPLY_EDIT)
        def apply(params: types.ApplyWorkspaceEditParams) -> types.ApplyWorkspaceEditResult:
            self.edits.append(params)
            if self.takes:
                self.apply(params.edit)
            self.edited.set()
            return types.ApplyWorkspaceEditResult(self.takes)

        @client.feature(types.WORKSPACE_CODE_LENS_REFRESH)
        def refresh(_: None) -> None:
            self.refreshed.set()

        @client.feature(types.WINDOW_SHOW_MESSAGE_REQUEST)
        def ask(params: types.ShowMessageRequestParams) -> types.MessageActionItem | None:
            self.questions.append(params.message)
            self.asked()
            assert [action.title for action in params.actions or ()] == ["Apply", "Discard"]
            return types.MessageActionItem(self.answer) if self.answer else None

    async def start(
        self,
        endpoint: Any,
        *,
        shows: bool = True,
        annotations: bool = False,
        versions: bool = True,
        **options: Any,
    ) -> None:
        edit = types.WorkspaceEditClientCapabilities(
            document_changes=versions or None,
            change_annotation_support=types.ChangeAnnotationsSupportOptions()
            if annotations
            else None,
        )
        await self.editor.initialize(
            {"base_url": endpoint.base_url, **options},
            window=types.WindowClientCapabilities(
                work_done_progress=True,
                show_document=types.ShowDocumentClientCapabilities(support=shows),
            ),
            workspace=types.WorkspaceClientCapabilities(
                apply_edit=True,
                workspace_edit=edit,
                code_lens=types.CodeLensWorkspaceClientCapabilities(refresh_support=True),
            ),
        )

    def open(self, text: str, uri: str = URI, language: str = "") -> None:
        item = types.TextDocumentItem(uri, language or "python", 0, text)
        if uri.endswith(".md"):
            item.language_id = "markdown"
        self.texts[uri] = Document(item, PositionCodec(types.PositionEncodingKind.Utf16))
        self.editor.client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def change(self, changes: list[Any], uri: str = URI) -> None:
        document = self.texts[uri]
        for each in changes:
            document.apply_change(each)
        document.version = (document.version or 0) + self.counts
        identifier = types.VersionedTextDocumentIdentifier(document.version, uri)
        self.editor.client.text_document_did_change(
            types.DidChangeTextDocumentParams(identifier, changes)
        )

    def type(self, text: str, uri: str = URI) -> None:
        top = types.Range(types.Position(0, 0), types.Position(0, 0))
        self.change([types.TextDocumentContentChangePartial(range=top, text=text)], uri)

    def apply(self, edit: types.WorkspaceEdit) -> None:
        edits = list((edit.changes or {}).items())
        for each in edit.document_changes or ():
            assert isinstance(each, types.TextDocumentEdit)
            assert each.text_document.version == self.texts[each.text_document.uri].version
            edits.append((each.text_document.uri, each.edits))
        for uri, changes in edits:
            last_first = sorted(changes, key=lambda e: e.range.start.line, reverse=True)
            self.change(
                [
                    types.TextDocumentContentChangePartial(range=each.range, text=each.new_text)
                    for each in last_first
                ],
                uri,
            )

    async def run(self, name: str, *arguments: Any) -> Any:
        return await self.editor.client.workspace_execute_command_async(
            types.ExecuteCommandParams(f"magicoder.{name}", list(arguments))
        )

    async def actions(
        self,
        span: types.Range = HERE,
        *,
        only: list[str] | None = None,
        uri: str = URI,
        diagnostics: tuple[types.Diagnostic, ...] = (),
    ) -> dict[str, types.CodeAction]:
        """The commands that are offered, by name."""
        found = await self.editor.client.text_document_code_action_async(
            types.CodeActionParams(
                types.TextDocumentIdentifier(uri),
                span,
                types.CodeActionContext(list(diagnostics), only=only),
            )
        )
        return {each.command.command.removeprefix("magicoder."): each for each in found or ()}

    @property
    def messages(self) -> list[str]:
        found: list[str] = self.editor.messages
        return found

    @property
    def shown(self) -> list[Path]:
        shown = self.editor.client.shown_documents
        return [Path(unquote(urlparse(each.uri).path)) for each in shown]

    def text(self, path: Path) -> str:
        return self.texts[path.as_uri()].source


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """An editor on a language server in this process, which starts sooner than one of its own."""
    for name in ("MAGICODER_CACHE_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    listening = await asyncio.start_server(server._session, "127.0.0.1", 0)
    client = make_client()
    await client.start_tcp(*listening.sockets[0].getsockname()[:2])
    yield Desk(Editor(client))
    await client.shutdown_session()
    await client.stop()
    listening.close()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.py"))


def says(endpoint: Any, text: str, size: int = 12) -> None:
    """Have the model answer `text` in parts."""
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    endpoint.behave = endpoint.says(*parts)


def prompt(endpoint: Any) -> str:
    return str(endpoint.requests[-1]["messages"][-1]["content"])


def block(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\n"


# What is offered


async def test_the_tools_are_offered_for_code(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    offered = await desk.actions()
    assert {name: str(action.kind) for name, action in offered.items()} == TOOLS
    action = offered["createProblem"]
    assert action.title == "Create a problem from this code"
    assert action.command
    whole = {"start": {"line": 3, "character": 0}, "end": {"line": 7, "character": 0}}
    assert list(action.command.arguments) == [URI, whole]
    selection = types.Range(types.Position(9, 0), types.Position(9, 4))
    offered = await desk.actions(selection)
    assert offered["explain"].command.arguments[1]["start"] == {"line": 9, "character": 0}
    empty = types.Range(types.Position(9, 4), types.Position(9, 4))
    assert await desk.actions(empty) == {}, "no function here"
    blank = types.Range(types.Position(0, 0), types.Position(1, 0))
    assert await desk.actions(blank) == {}, "nothing but blank lines selected"


@pytest.mark.parametrize(
    ("only", "offered"),
    [
        ("", set(TOOLS)),
        ("refactor", set(TOOLS)),
        ("refactor.rewrite", {"document"}),
        ("refactor.problem", {"createProblem"}),
        ("ref", set()),
        ("source", set()),
        ("quickfix", set()),
    ],
)
async def test_only_the_kinds_asked_for(
    desk: Desk, endpoint: Any, only: str, offered: set[str]
) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    assert set(await desk.actions(only=[only])) == offered


async def test_what_the_code_asks_for_is_offered(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open("# magicoder: use a set\ndef f():\n    # TODO: it\n    pass\n")
    at = types.Range(types.Position(3, 0), types.Position(3, 0))
    assert set(await desk.actions(at)) == {*TOOLS, "solve", "refactor"}


async def test_a_text_offers_to_solve_what_is_selected(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open("Write a sort.\n", "file:///w/a.md")
    span = types.Range(types.Position(0, 0), types.Position(0, 5))
    assert set(await desk.actions(span, uri="file:///w/a.md")) == {"solve", "createProblem"}


def diagnostic(line: int, message: str) -> types.Diagnostic:
    span = types.Range(types.Position(line, 4), types.Position(line, 5))
    return types.Diagnostic(span, message, source="lint")


async def test_each_diagnostic_offers_a_fix(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    found = diagnostic(5, "c is\nunused " + "x" * 80)
    offered = await desk.actions(only=["quickfix"], diagnostics=(found,))
    action = offered["fix"]
    assert action.title == "Fix with Magicoder: c is unused " + "x" * 48 + "…"
    assert list(action.diagnostics or ()) == [found]


# New documents


def problem_answer(problem: str, solution: str) -> str:
    return f"[Problem Description]\n{problem}\n\n[Solution]\n{solution}"


async def test_a_problem_streams_into_a_new_document(
    desk: Desk, endpoint: Any, tmp_path: Path
) -> None:
    await desk.start(endpoint)
    start, end = problem_answer("Add numbers.\n|", block("def add(a, b): ...")).split("|")

    async def until_seen(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + sse(start))
        while not desk.edited.is_set():
            writer.write(sse("More 😀 漢") + sse("字\n"))
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(sse(end) + sse("", "stop") + b"data: [DONE]\n\n")

    endpoint.behave = until_seen
    desk.open(FUNCTION)
    [action] = [(await desk.actions())["createProblem"]]
    markdown = await desk.editor.run(action.command)
    [path] = desk.shown
    assert path.parent == tmp_path / "problems"
    head, _, text = desk.text(path).partition("\n")
    assert text == markdown
    assert text.startswith("# Problem Description\n\nAdd numbers.\nMore 😀 漢字\n")
    made = json.loads(head.removeprefix("<!-- magicoder: ").removesuffix(" -->"))
    code = "@cached\ndef add(a, b):\n    c = a\n    return c + b"
    assert made["seed"]["code"] == code
    assert (made["seed"]["path"], made["seed"]["line"]) == ("a.py", 4)
    assert made["teacher"] == "m"
    assert code in prompt(endpoint)
    assert len(desk.edits) >= 2
    assert [edit.metadata and edit.metadata.is_refactoring for edit in desk.edits] == [
        *[None] * (len(desk.edits) - 1),
        True,
    ]
    assert all(edit.label is None for edit in desk.edits), "Neovim prints the label of each"
    [reports] = desk.editor.client.progress_reports.values()
    assert reports[0].cancellable
    assert reports[-1].kind == "end"
    assert desk.messages == []
    assert await desk.run("createProblem", URI, HERE), "the function around the cursor"
    again = json.loads(
        desk.text(desk.shown[-1])
        .partition("\n")[0]
        .removeprefix("<!-- magicoder: ")
        .removesuffix(" -->")
    )
    assert again["seed"] == made["seed"]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def sse(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    chunk = {"id": "1", "object": "chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


@pytest.mark.parametrize("way", ["shows no documents", "does not open it", "takes no edits"])
async def test_other_editors_get_the_whole_file(
    desk: Desk, endpoint: Any, tmp_path: Path, way: str
) -> None:
    await desk.start(endpoint, shows=way != "shows no documents")
    desk.opens, desk.takes = way != "does not open it", way != "takes no edits"
    says(endpoint, problem_answer("p", "s"))
    desk.open(FUNCTION)
    markdown = await desk.run("createProblem", URI, HERE_WHOLE)
    assert markdown == "# Problem Description\n\np\n\n# Solution\n\ns\n"
    files = sorted((tmp_path / "problems").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert files[-1].read_text().endswith(f"-->\n{markdown}")
    if way == "shows no documents":
        assert desk.messages == [f"wrote {files[0]}"]
    else:
        assert desk.shown[-1] == files[-1]
    assert len(files) == (2 if way == "takes no edits" else 1)


HERE_WHOLE = types.Range(types.Position(3, 0), types.Position(7, 0))


async def test_a_document_that_its_user_edits_is_left_alone(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    gate = asyncio.Event()

    async def behave(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + sse("It adds.\n"))
        await writer.drain()
        await gate.wait()
        writer.write(sse("Well.\n") + sse("", "stop") + b"data: [DONE]\n\n")

    endpoint.behave = behave
    desk.open(FUNCTION)
    running = asyncio.create_task(desk.run("explain", URI, HERE))
    await desk.showing.wait()
    desk.type("mine ", desk.shown[0].as_uri())
    await desk.actions()  # answered once the edit has been taken
    gate.set()
    assert await running == "It adds.\nWell."
    first, second = desk.shown
    assert desk.text(first).startswith("mine # a.py, lines 4 to 7")
    assert desk.text(second) == second.read_text() == "# a.py, lines 4 to 7\n\nIt adds.\nWell.\n"
    assert desk.messages == [
        f"{first.name} was changed while it was written: {second.name} is the whole of it"
    ]
    assert desk.edits == []


async def test_a_command_can_be_cancelled(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    endpoint.behave = endpoint.hangs("[Problem Description]\nAdd")
    desk.open(FUNCTION)
    running = asyncio.create_task(desk.run("createProblem", URI, HERE_WHOLE))
    await endpoint.asked.wait()
    [token] = desk.editor.client.progress_reports
    desk.editor.client.window_work_done_progress_cancel(types.WorkDoneProgressCancelParams(token))
    assert await running is None
    await endpoint.closed.wait()
    assert desk.editor.client.progress_reports[token][-1].kind == "end"
    assert desk.messages == []


async def test_a_cancelled_request_ends_its_command(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    endpoint.behave = endpoint.hangs("[Problem Description]\nAdd")
    desk.open(FUNCTION)
    params = types.ExecuteCommandParams("magicoder.createProblem", [URI, HERE_WHOLE])
    request = desk.editor.client.protocol.send_request_async
    running = asyncio.create_task(request(types.WORKSPACE_EXECUTE_COMMAND, params, msg_id="it"))
    await endpoint.asked.wait()
    desk.editor.client.cancel_request(types.CancelParams("it"))
    with pytest.raises(JsonRpcRequestCancelled):
        await running
    await endpoint.closed.wait()
    [reports] = desk.editor.client.progress_reports.values()
    assert reports[-1].kind == "end"
    assert desk.messages == []


async def test_an_answer_to_a_cancelled_command_is_left(
    desk: Desk, endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    says(endpoint, block("def add(a, b):\n    return a + b"))
    desk.asked = lambda: desk.editor.client.cancel_request(types.CancelParams("it"))
    params = types.ExecuteCommandParams("magicoder.document", [URI, HERE])
    request = desk.editor.client.protocol.send_request_async
    with pytest.raises(JsonRpcRequestCancelled):
        await request(types.WORKSPACE_EXECUTE_COMMAND, params, msg_id="it")
    await desk.actions()
    assert (len(desk.questions), desk.edits, desk.messages) == (1, [], [])
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == []


@pytest.mark.parametrize("arguments", [None, [], [URI]])
async def test_missing_arguments_are_invalid(
    desk: Desk, endpoint: Any, arguments: list[Any] | None
) -> None:
    await desk.start(endpoint)
    count = len(arguments or ())
    with pytest.raises(JsonRpcInvalidParams, match=f"Expected 2 arguments, got {count}$"):
        await desk.editor.client.workspace_execute_command_async(
            types.ExecuteCommandParams("magicoder.explain", arguments)
        )


async def test_a_failure_is_told_each_time(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    says(endpoint, "Sorry, I cannot.")
    assert await desk.run("createProblem", URI, HERE_WHOLE) is None
    assert await desk.run("document", URI, HERE) is None
    says(endpoint, "")
    assert await desk.run("explain", URI, HERE) is None
    await endpoint.stop()
    assert await desk.run("explain", URI, HERE) is None
    lacks, no_code, nothing, down = desk.messages
    assert lacks.startswith("the model's answer is no problem: ")
    assert no_code.startswith("the model answered without code: ")
    assert nothing.startswith("the model said nothing: ")
    assert "start one with `magicoder serve`" in down


async def test_a_problem_in_words_is_solved(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open("Write a sort.\nNot this.\n", "file:///w/a.md")
    says(endpoint, block("a.sort()"))
    span = types.Range(types.Position(0, 0), types.Position(1, 0))
    assert await desk.run("solve", "file:///w/a.md", span) == block("a.sort()").strip()
    [path] = desk.shown
    text = desk.text(path).partition("\n")[2]
    assert text == f"# Problem Description\n\nWrite a sort.\n\n# Solution\n\n{block('a.sort()')}"
    assert "The problem:\n```\nWrite a sort.\n```" in prompt(endpoint)
    again = await desk.run("solve", path.as_uri(), types.Range(span.start, span.start))
    assert again, "a problem of ours can be solved again"
    assert "The problem:\n```\nWrite a sort.\n```" in prompt(endpoint)


async def test_tests_go_beside_the_file(desk: Desk, endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(FUNCTION)
    uri = path.as_uri()
    await desk.start(endpoint)
    desk.open(FUNCTION, uri)
    tests = "from a import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
    says(endpoint, block(tests.strip()))
    assert await desk.run("writeTests", uri, HERE) == tests
    assert desk.shown == [tmp_path / "test_a.py"]
    assert desk.text(desk.shown[0]) == tests
    assert "`from a import` what you test" in prompt(endpoint)
    await desk.run("writeTests", uri, HERE)
    assert desk.shown[1:] == [tmp_path / "test_a_2.py"]
    says(endpoint, "No.")
    assert await desk.run("writeTests", uri, HERE) is None
    assert names(tmp_path) == [
        "a.py",
        "test_a.py",
        "test_a_2.py",
    ]
    desk.open(FUNCTION)
    assert await desk.run("writeTests", URI, HERE) is None
    assert desk.messages[-1] == "save the file first: its tests go beside it"


# Edits

BETTER = "@cached\ndef add(a, b):\n    return a + b"
CHANGED = FUNCTION.replace("    c = a\n    return c + b", "    return a + b")
EDITING: dict[str, tuple[Any, ...]] = {
    "document": (),
    "solve": (),
    "refactor": ("one line",),
    "fix": ([diagnostic(5, "c is not needed")],),
}


@pytest.mark.parametrize("name", EDITING)
@pytest.mark.parametrize("annotations", [True, False])
async def test_an_edit_is_asked_about(
    desk: Desk, endpoint: Any, name: str, annotations: bool
) -> None:
    await desk.start(endpoint, annotations=annotations)
    desk.open(FUNCTION)
    says(endpoint, block(BETTER))
    assert await desk.run(name, URI, HERE, *EDITING[name]) == BETTER
    assert desk.texts[URI].source == CHANGED
    [applied] = desk.edits
    [change] = applied.edit.document_changes or ()
    assert isinstance(change, types.TextDocumentEdit)
    assert change.text_document.version == 0
    words = "1 line added, 2 removed, at line 6"
    if annotations:
        [note] = (applied.edit.change_annotations or {}).values()
        assert note.needs_confirmation
        assert note.description == words
        assert all(isinstance(each, types.AnnotatedTextEdit) for each in change.edits)
        assert desk.questions == []
    else:
        [question] = desk.questions
        assert question.endswith(f" in a.py: {words}. Apply it?")
    assert "import a" in prompt(endpoint)
    assert desk.messages == []


async def test_an_edit_without_versions(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint, versions=False)
    desk.open("#\r\n" + FUNCTION.replace("\n", "\r\n").replace("size", "😀 = 1; size"))
    says(endpoint, block(BETTER))
    here = types.Range(types.Position(6, 6), types.Position(6, 6))
    assert await desk.run("document", URI, here) == BETTER
    [applied] = desk.edits
    assert applied.edit.document_changes is None
    expected = "#\r\n" + CHANGED.replace("\n", "\r\n").replace("size", "😀 = 1; size")
    assert desk.texts[URI].source == expected


@pytest.mark.parametrize("answer", ["Discard", None])
async def test_what_is_not_wanted_is_not_applied(
    desk: Desk, endpoint: Any, answer: str | None
) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    desk.answer = answer
    says(endpoint, block(BETTER))
    assert await desk.run("document", URI, HERE) is None
    assert len(desk.questions) == 1
    assert desk.edits == []


async def test_an_editor_that_cannot_ask_changes_nothing(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.editor.client.protocol.fm.features.pop(types.WINDOW_SHOW_MESSAGE_REQUEST)
    desk.open(FUNCTION)
    says(endpoint, block(BETTER))
    assert await desk.run("document", URI, HERE) is None
    assert desk.edits == []
    assert "cannot ask" in desk.messages[0]


@pytest.mark.parametrize("when", ["while the model writes", "while the user is asked"])
@pytest.mark.parametrize("counts", [True, False])
async def test_an_edit_never_lands_in_changed_text(
    desk: Desk, endpoint: Any, when: str, counts: bool
) -> None:
    desk.counts = counts  # an editor whose versions do not grow must be safe too
    await desk.start(endpoint)
    desk.open(FUNCTION)
    if when == "while the user is asked":
        desk.asked = lambda: desk.type("x")
        says(endpoint, block(BETTER))
        assert await desk.run("document", URI, HERE) is None
    else:
        gate = asyncio.Event()
        parts = endpoint.says(block(BETTER))

        async def behave(server: Any, writer: asyncio.StreamWriter) -> None:
            await gate.wait()
            await parts(server, writer)

        endpoint.behave = behave
        running = asyncio.create_task(desk.run("document", URI, HERE))
        await endpoint.asked.wait()
        desk.type("x")
        await desk.actions()  # answered once the edit has been taken
        gate.set()
        assert await running is None
        assert desk.questions == []
    assert desk.edits == []
    assert desk.messages == [
        "Write documentation: a.py has changed meanwhile, nothing was applied: ask again"
    ]


async def test_an_edit_that_changes_nothing_is_told(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    says(endpoint, block("@cached\ndef add(a, b):\n    c = a\n    return c + b"))
    assert await desk.run("document", URI, HERE) is None
    assert (desk.edits, desk.questions) == ([], [])
    assert desk.messages == ["Write documentation: nothing to change"]


async def test_a_file_gets_no_second_package(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    above = 'package shapes\n\nimport "fmt"\n\n'
    desk.open(above + "func One() int {\n\treturn 1\n}\n", "file:///w/a.go", "go")
    new = "func One() int {\n\treturn 2\n}"
    says(endpoint, f'```go\npackage main\n\nimport "fmt"\n\n{new}\n```')
    inside = types.Range(types.Position(5, 1), types.Position(5, 1))
    assert await desk.run("document", "file:///w/a.go", inside) == new
    assert desk.texts["file:///w/a.go"].source == above + new + "\n"


@pytest.mark.parametrize("annotations", [True, False])
async def test_an_edit_that_breaks_the_syntax_is_told(
    desk: Desk, endpoint: Any, annotations: bool
) -> None:
    await desk.start(endpoint, annotations=annotations)
    desk.open(FUNCTION)
    says(endpoint, block("@cached\ndef add(a, b):\n    return (a + b"))
    await desk.run("document", URI, HERE)
    if annotations:
        [note] = (desk.edits[0].edit.change_annotations or {}).values()
        told = note.description or ""
    else:
        [told] = desk.questions
    assert "; beware: it leaves 1 more syntax error" in told


async def test_a_refusing_editor_is_told(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint, annotations=True)
    desk.open(FUNCTION)
    desk.takes = False
    says(endpoint, block(BETTER))
    assert await desk.run("document", URI, HERE) is None
    assert desk.texts[URI].source == FUNCTION


async def test_a_fix_tells_the_diagnostics(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION)
    says(endpoint, block(BETTER))
    await desk.run("fix", URI, HERE, [diagnostic(5, "no\nneed"), diagnostic(6, "why")])
    assert "- line 3: no need (lint)\n- line 4: why (lint)" in prompt(endpoint)
    size = types.Range(types.Position(9, 0), types.Position(9, 4))
    await desk.run("fix", URI, size, [diagnostic(9, "no")])
    assert "- line 8: no (lint)" in prompt(endpoint), "no function: the lines around"
    assert await desk.run("fix", URI, HERE, []) is None
    assert desk.messages[-1] == "there is no diagnostic here to fix"


async def test_a_refactoring_is_asked_for_by_words_or_a_comment(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open(FUNCTION.replace("@cached", "# magicoder: use a set\n@cached"))
    here = types.Range(types.Position(6, 6), types.Position(6, 6))
    says(endpoint, block(BETTER))
    await desk.run("refactor", URI, here)
    assert "as asked: use a set" in prompt(endpoint)
    desk.open(FUNCTION)
    await desk.run("refactor", URI, HERE, "use a map")
    assert "as asked: use a map" in prompt(endpoint)
    assert await desk.run("refactor", URI, HERE, None) is None
    assert desk.messages == [
        "say what to change: write a comment `magicoder: ...` in the code or right above it"
    ]


# What may not be done


@pytest.mark.parametrize(
    "name", ["createProblem", "solve", "explain", "document", "writeTests", "refactor", "fix"]
)
async def test_nothing_of_an_excluded_file_is_sent(desk: Desk, endpoint: Any, name: str) -> None:
    await desk.start(endpoint, exclude=["*.py"])
    desk.open(FUNCTION)
    arguments = {"fix": [[diagnostic(5, "no")]], "refactor": ["so"]}.get(name, [])
    assert await desk.run(name, URI, HERE_WHOLE, *arguments) is None
    assert desk.messages[0].startswith("a.py is not sent to the server: ")
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("explain", [HERE]), ("verifyProblem", []), ("runTests", []), ("addToDataset", [])],
)
async def test_what_is_not_open_is_not_read(
    desk: Desk, endpoint: Any, name: str, arguments: list[Any]
) -> None:
    await desk.start(endpoint)
    assert await desk.run(name, URI, *arguments) is None
    assert desk.messages == [f"open {URI} first"]


async def test_too_much_code_is_told(desk: Desk, endpoint: Any) -> None:
    await desk.start(endpoint)
    desk.open("x = 1\n" * 6000)
    span = types.Range(types.Position(0, 0), types.Position(6000, 0))
    assert await desk.run("explain", URI, span) is None
    assert await desk.run("createProblem", URI, span) is None
    assert [message[:27] for message in desk.messages] == ["too much code for the model"] * 2
    assert endpoint.requests == []


PROBLEM = """\
<!-- magicoder: {"seed": null, "teacher": "m", "style": "oss-instruct"} -->
# Problem Description

Triple a number.

# Solution

```python
def triple(x):
    return x * 3
```

# Tests

assert triple(2) == 6
"""


async def lenses(desk: Desk, uri: str) -> list[str]:
    params = types.CodeLensParams(types.TextDocumentIdentifier(uri))
    found = await desk.editor.client.text_document_code_lens_async(params)
    return [lens.command.command.removeprefix("magicoder.") for lens in found or ()]


async def test_an_untrusted_workspace_runs_nothing(
    desk: Desk, endpoint: Any, tmp_path: Path
) -> None:
    await desk.start(endpoint, trusted=False)
    uri = (tmp_path / "a.md").as_uri()
    desk.open(PROBLEM, uri)
    assert await lenses(desk, uri) == ["addToDataset"]
    assert set(await desk.actions(HERE, uri=uri)) == {"addToDataset", "solve"}
    (tmp_path / "a.py").write_text("")
    tests = (tmp_path / "test_a.py").as_uri()
    desk.open("def test_a(): pass\n", tests)
    assert await lenses(desk, tests) == []
    for name in ("verifyProblem", "runTests"):
        assert await desk.run(name, uri) is None
    assert desk.messages == ["this workspace is not trusted: nothing of it is run"] * 2


@pytest.mark.parametrize("gained", [True, False])
async def test_trust_may_be_gained_and_lost(desk: Desk, endpoint: Any, gained: bool) -> None:
    await desk.start(endpoint, trusted=not gained)
    uri = "file:///w/a.md"
    desk.open(PROBLEM.replace("python", "cobol"), uri)
    both = ["verifyProblem", "addToDataset"]
    assert await lenses(desk, uri) == (both[1:] if gained else both)
    desk.editor.client.workspace_did_change_configuration(
        types.DidChangeConfigurationParams(
            {"magicoder": {"base_url": endpoint.base_url, "trusted": gained}}
        )
    )
    await desk.refreshed.wait()
    assert await lenses(desk, uri) == (both if gained else both[1:])
    assert await desk.run("verifyProblem", uri) is None
    refused = "this workspace is not trusted: nothing of it is run"
    tried = "the solution has no code block in a language that can be run"
    assert desk.messages == [tried if gained else refused]


async def test_a_problem_is_verified(desk: Desk, endpoint: Any, needs: Callable[..., None]) -> None:
    needs("bwrap")
    await desk.start(endpoint)
    uri = "file:///w/a.md"
    desk.open(PROBLEM, uri)
    assert await lenses(desk, uri) == ["verifyProblem", "addToDataset"]
    found = await desk.run("verifyProblem", uri)
    assert found["passed"], found
    assert desk.messages == ["the solution compiles, runs and passes its tests"]
    desk.open(PROBLEM.replace("x * 3", "x * 4"), uri)
    found = await desk.run("verifyProblem", uri)
    assert not found["passed"]
    assert "fails its tests" in desk.messages[1]
    assert endpoint.requests == []


async def test_tests_are_run(
    desk: Desk, endpoint: Any, tmp_path: Path, needs: Callable[..., None]
) -> None:
    needs("bwrap")
    (tmp_path / "a.py").write_text("def one():\n    return 1\n")
    uri = (tmp_path / "test_a.py").as_uri()
    await desk.start(endpoint)
    desk.open("from a import one\n\n\ndef test_one():\n    assert one() == 1\n", uri)
    assert await lenses(desk, uri) == ["runTests"]
    assert "runTests" in await desk.actions(HERE, uri=uri)
    assert (await desk.run("runTests", uri))["passed"]
    desk.open("def one():\n    return 2\n", (tmp_path / "a.py").as_uri())
    found = await desk.run("runTests", uri)
    assert not found["passed"], "the open document counts, not the file"
    assert "AssertionError" in found["output"]
    assert desk.messages[0] == "the tests pass"
    assert desk.messages[1].startswith("the tests fail: ")
    desk.open("", "file:///w/test_b.py")
    assert await desk.run("runTests", "file:///w/test_b.py") is None
    assert desk.messages[2] == "test_b.py does not name a file beside it that it tests"


async def test_a_problem_is_added_to_the_dataset_once(
    desk: Desk, endpoint: Any, tmp_path: Path
) -> None:
    await desk.start(endpoint)
    desk.open(PROBLEM, "file:///w/a.md")
    assert await desk.run("addToDataset", "file:///w/a.md") is True
    assert await desk.run("addToDataset", "file:///w/a.md") is False
    added, known = desk.messages
    path = Path(added.removeprefix("added to "))
    assert known == f"{path} has this problem and solution already"
    [row] = rows(path)
    assert (row["problem"], row["language"]) == ("Triple a number.", "python")
    desk.open(FUNCTION)
    assert await desk.run("addToDataset", URI) is None
    assert "is no problem of magicoder's" in desk.messages[-1]
