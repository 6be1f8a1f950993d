"""The instruct tools on the wire: code actions, code lenses, and commands with progress."""

from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lsprotocol import types

from magicoder.errors import MagicoderError
from magicoder.lsp.documents import Document
from magicoder.lsp.instruct import code as instruct
from magicoder.lsp.instruct import problem, testing, tools
from magicoder.lsp.instruct.code import Subject
from magicoder.lsp.session import Server

T = TypeVar("T")

CREATE_PROBLEM = "magicoder.createProblem"
VERIFY_PROBLEM = "magicoder.verifyProblem"
ADD_TO_DATASET = "magicoder.addToDataset"
SOLVE = "magicoder.solve"
EXPLAIN = "magicoder.explain"
FIX = "magicoder.fix"
DOCUMENT = "magicoder.document"
WRITE_TESTS = "magicoder.writeTests"
RUN_TESTS = "magicoder.runTests"
REFACTOR = "magicoder.refactor"

# Kinds of refactoring, since editors list those at a selection and run none by themselves.
KINDS = {
    CREATE_PROBLEM: "refactor.problem",
    SOLVE: "refactor.rewrite.solve",
    EXPLAIN: "refactor.explain",
    DOCUMENT: "refactor.rewrite.document",
    WRITE_TESTS: "refactor.tests",
    REFACTOR: "refactor.rewrite",
    VERIFY_PROBLEM: "refactor.verify",
    ADD_TO_DATASET: "refactor.dataset",
    RUN_TESTS: "refactor.run",
    FIX: "quickfix",
}
TITLES = {
    CREATE_PROBLEM: "Create a problem from this code",
    SOLVE: "Solve this",
    EXPLAIN: "Explain this code",
    DOCUMENT: "Write documentation",
    WRITE_TESTS: "Write tests",
    REFACTOR: "Refactor as the comment asks",
    VERIFY_PROBLEM: "Verify this solution",
    ADD_TO_DATASET: "Add to the dataset",
    RUN_TESTS: "Run these tests",
}


def register(server: Server) -> None:
    """Give the server its instruct tools."""

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=sorted(set(KINDS.values()))),
    )
    def code_actions(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction]:
        document, only = ls.document(params.text_document.uri), params.context.only
        if document is None:
            return []
        return [
            action
            for action in _actions(ls, document, params)
            if not only or any(_covers(kind, str(action.kind)) for kind in only)
        ]

    @server.feature(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensOptions())
    def code_lenses(ls: Server, params: types.CodeLensParams) -> list[types.CodeLens]:
        document = ls.document(params.text_document.uri)
        top = types.Range(types.Position(0, 0), types.Position(0, 0))
        names = [] if document is None else _of_document(ls, document)
        return [types.CodeLens(top, _command(name, params.text_document.uri)) for name in names]

    @server.command(CREATE_PROBLEM)
    async def create_problem(ls: Server, uri: str, range: types.Range) -> str | None:  # noqa: A002
        return await _told(ls, tools.create_problem(ls, uri, range))

    @server.command(SOLVE)
    async def solve(ls: Server, uri: str, range: types.Range) -> str | None:  # noqa: A002
        return await _told(ls, tools.solve(ls, uri, range))

    @server.command(EXPLAIN)
    async def explain(ls: Server, uri: str, range: types.Range) -> str | None:  # noqa: A002
        return await _told(ls, tools.explain(ls, uri, range))

    @server.command(FIX)
    async def fix(
        ls: Server,
        uri: str,
        range: types.Range,  # noqa: A002
        diagnostics: list[types.Diagnostic],
    ) -> str | None:
        return await _told(ls, tools.fix(ls, uri, range, diagnostics))

    @server.command(DOCUMENT)
    async def document(ls: Server, uri: str, range: types.Range) -> str | None:  # noqa: A002
        return await _told(ls, tools.document(ls, uri, range))

    @server.command(WRITE_TESTS)
    async def write_tests(ls: Server, uri: str, range: types.Range) -> str | None:  # noqa: A002
        return await _told(ls, tools.write_tests(ls, uri, range))

    @server.command(REFACTOR)
    async def refactor(
        ls: Server,
        uri: str,
        range: types.Range,  # noqa: A002
        *instruction: str | None,
    ) -> str | None:
        words = next(filter(None, instruction), "")
        return await _told(ls, tools.refactor(ls, uri, range, words))

    @server.command(VERIFY_PROBLEM)
    async def verify(ls: Server, uri: str) -> dict[str, Any] | None:
        return await _told(ls, tools.verify(ls, uri))

    @server.command(RUN_TESTS)
    async def run_tests(ls: Server, uri: str) -> dict[str, Any] | None:
        return await _told(ls, tools.run_tests(ls, uri))

    @server.command(ADD_TO_DATASET)
    async def add_to_dataset(ls: Server, uri: str) -> bool | None:
        return await _told(ls, tools.add_to_dataset(ls, uri))


async def _told(ls: Server, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; an error is shown to the user, and the result None."""
    try:
        return await work
    except MagicoderError as error:
        ls.say(str(error))
        return None


def _actions(
    ls: Server, document: Document, params: types.CodeActionParams
) -> Iterator[types.CodeAction]:
    for diagnostic in params.context.diagnostics:
        yield _fix(document, diagnostic)
    for name in _of_document(ls, document):
        yield _action(name, document.uri)
    chosen = _chosen(document, params.range)
    if chosen is None:
        if document.language is None and problem.is_problem(document.source):
            yield _action(SOLVE, document.uri, params.range)
        return
    yield _action(CREATE_PROBLEM, document.uri, chosen)
    if document.language is None:
        yield _action(SOLVE, document.uri, chosen)
        return
    yield _action(EXPLAIN, document.uri, chosen)
    yield _action(DOCUMENT, document.uri, chosen)
    yield _action(WRITE_TESTS, document.uri, chosen)
    if instruct.unfinished(document.text_in_client_range(chosen)):
        yield _action(SOLVE, document.uri, chosen)
    lines = document.lines
    subject = Subject.of(lines, chosen.start.line, chosen.end.line)
    if subject is not None and instruct.asked(lines, subject):
        yield _action(REFACTOR, document.uri, chosen)


def _of_document(ls: Server, document: Document) -> Iterator[str]:
    """The commands that are about the whole of a document."""
    if problem.is_problem(document.source):
        if _trusts(ls):
            yield VERIFY_PROBLEM
        yield ADD_TO_DATASET
    language = document.language
    if language and _trusts(ls) and testing.tested(Path(document.path), language):
        yield RUN_TESTS


def _trusts(ls: Server) -> bool:
    """Whether code of the workspace may be run now; the tools that run it ask again."""
    return ls.engine is not None and ls.engine.options.trusted


def _action(name: str, uri: str, *arguments: Any) -> types.CodeAction:
    return types.CodeAction(TITLES[name], kind=KINDS[name], command=_command(name, uri, *arguments))


def _command(name: str, uri: str, *arguments: Any) -> types.Command:
    return types.Command(TITLES[name], name, arguments=[uri, *arguments])


def _fix(document: Document, diagnostic: types.Diagnostic) -> types.CodeAction:
    message = diagnostic.message
    words = " ".join((message if isinstance(message, str) else message.value).split())
    title = f"Fix with Magicoder: {words[:60]}{'…' if len(words) > 60 else ''}"
    arguments = [document.uri, diagnostic.range, [diagnostic]]
    return types.CodeAction(
        title,
        kind=KINDS[FIX],
        diagnostics=[diagnostic],
        command=types.Command(title, FIX, arguments=arguments),
    )


def _chosen(document: Document, selection: types.Range) -> types.Range | None:
    """The selected code, else the function around the cursor."""
    if document.text_in_client_range(selection).strip():
        return selection
    tree = document.syntax.tree
    if tree is None:
        return None
    lines = instruct.function_at(tree.root_node, selection.start.line)
    return lines and types.Range(types.Position(lines[0], 0), types.Position(lines[1] + 1, 0))


def _covers(kind: str, wanted: str) -> bool:
    """Whether an editor that asks for `kind` asks for `wanted` too."""
    return not kind or f"{wanted}.".startswith(f"{kind}.")
