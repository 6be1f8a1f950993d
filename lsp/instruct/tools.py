"""The tools: what each asks the model about an open document, and what becomes of the answer."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from lsprotocol import types

from magicoder import oss_instruct, settings
from magicoder.errors import MagicoderError, ServerError
from magicoder.languages import Language
from magicoder.lsp.completion.engine import Engine
from magicoder.lsp.documents import Document
from magicoder.lsp.instruct import answer, code, edits, origin, problem, prompts, testing
from magicoder.lsp.instruct.code import Subject
from magicoder.lsp.instruct.confirm import confirmed
from magicoder.lsp.instruct.problem import Made
from magicoder.lsp.instruct.prompts import Ask
from magicoder.lsp.instruct.result import Result
from magicoder.lsp.session import Server

if TYPE_CHECKING:
    from magicoder.client import AsyncTextStream

T = TypeVar("T")
Report = Callable[[str], None]

CONTEXT = 4096
"""Tokens of context to count on where the server does not tell."""

ANSWER = 2048
"""Tokens of an answer at most, and a third of the context at most."""

EXPLANATION = 512
"""Tokens of an explanation at most: it is asked to be short, and a weak model repeats itself."""

TEMPLATE = 200
"""Tokens at most that a chat's template adds to its messages."""

AROUND = 10
"""Lines above and below a diagnostic that is in no function."""


@dataclass(frozen=True)
class Target:
    """The document that a command is about, as it is now, and whom to ask."""

    engine: Engine
    document: Document
    version: int | None
    lines: tuple[str, ...]
    path: Path

    @property
    def language(self) -> Language | None:
        return self.document.language

    @property
    def root(self) -> Any:
        """The root of the document's tree; None without a grammar."""
        tree = self.document.syntax.tree
        return tree.root_node if tree else None

    def subject(self, span: types.Range) -> Subject:
        """The selected lines, or else the function around the cursor.

        Raises:
            MagicoderError: there is neither.
        """
        first, last = span.start.line, span.end.line
        if span.end.character == 0 and last > first:
            last -= 1
        found = Subject.of(self.lines, first, last) if span.start != span.end else None
        if found is None and self.root is not None:
            rows = code.function_at(self.root, first)
            found = Subject.of(self.lines, *rows) if rows else None
        if found is None:
            raise MagicoderError("select some code first, or put the cursor into a function")
        return found

    def ask(self, task: str, subject: Subject) -> Ask:
        around = code.surroundings(self.root, self.lines, subject) if self.root else ()
        return Ask(task, subject.code, self.language, around)


def opened(ls: Server, uri: str) -> tuple[Engine, Document]:
    """The engine and the open document.

    Raises:
        MagicoderError: the settings cannot be used, or the document is not open.
    """
    if ls.engine is None:
        raise MagicoderError("mend the settings first")
    document = ls.document(uri)
    if document is None:
        raise MagicoderError(f"open {uri} first")
    return ls.engine, document


def target(ls: Server, uri: str) -> Target:
    """The document to ask about; errors as `opened`, and where nothing of it may be sent."""
    engine, document = opened(ls, uri)
    path = Path(document.path)
    if why := engine.exclusions.reason(path, document.source):
        raise MagicoderError(f"{path.name} is not sent to the server: {why}")
    return Target(engine, document, document.version, document.lines, path)


async def create_problem(ls: Server, uri: str, span: types.Range) -> str | None:
    """A new document with a problem inspired by the selection, or the function there; its text."""
    about = target(ls, uri)
    chosen, first = about.document.text_in_client_range(span), span.start.line
    if not chosen.strip():
        subject = about.subject(span)
        chosen, first = subject.code, subject.first
    selected = code.snippet(chosen)
    name = about.language.name if about.language else ""

    async def work(report: Report) -> str:
        client, model = await about.engine.server()
        size = len(str(oss_instruct.messages(selected)).encode(errors="replace"))
        tokens = _fit(size, model.context, 1024)
        seed = await asyncio.to_thread(origin.seed, about.path, ls.roots, selected, first + 1, name)
        head = Made(
            seed=seed, teacher=model.id, style="oss-instruct", structured=model.structured
        ).line()
        result = Result(ls, _new(about.path, "problems"))

        async def arrived(text: str) -> None:
            await result.update(head + text.replace("[Problem Description]\n", TITLE))

        stream = await client.problem_from_code(
            selected,
            language=name or None,
            structured=model.structured,
            stream=True,
            max_tokens=tokens,
        )
        await _read(stream, report, arrived)
        try:
            markdown = stream.result.markdown()
        except oss_instruct.ParseError:
            raise MagicoderError(
                "the model's answer is no problem: select other code, or serve a larger model"
            ) from None
        await result.finish(head + markdown)
        return markdown

    return await _with(ls, about.engine, "Creating a problem", work)


TITLE = "# Problem Description\n\n"


async def solve(ls: Server, uri: str, span: types.Range) -> str | None:
    """Finish the code at `span`; in a text, solve the problem that it tells, in a new document."""
    about = target(ls, uri)
    if about.language is not None:
        subject = about.subject(span)
        return await _edit(ls, about, "Solve", subject, prompts.solve(about.language))
    return await _solve_problem(ls, about, span)


async def _solve_problem(ls: Server, about: Target, span: types.Range) -> str | None:
    source = about.document.source
    selected = about.document.text_in_client_range(span).strip()
    written = problem.read(source) if problem.is_problem(source) else None
    told = selected or (written.problem if written else source.strip())
    if not told:
        raise MagicoderError("write the problem first")

    async def work(report: Report) -> str:
        _, model = await about.engine.server()
        made = Made(
            seed=written.made.seed if written else None,
            teacher=model.id,
            style=written.made.style if written else "editor",
        )
        head = made.line() + f"{TITLE}{told}\n\n# Solution\n\n"
        ask = Ask(prompts.solve_problem(), told, None, noun="problem")
        result = Result(ls, _new(about.path, "solutions"))
        solution = await _ask(
            about.engine, ask, report, arrived=lambda text: result.update(head + text)
        )
        await result.finish(head + solution.strip())
        return solution.strip()

    return await _with(ls, about.engine, "Solving the problem", work)


async def explain(ls: Server, uri: str, span: types.Range) -> str | None:
    """Explain the code at `span` in a new document; the explanation."""
    about = target(ls, uri)
    subject = about.subject(span)
    where = f"lines {subject.first + 1} to {subject.last + 1}"
    head = f"# {about.path.name}, {where}\n\n"

    async def work(report: Report) -> str:
        result = Result(ls, _new(about.path, "explanations"))
        text = await _ask(
            about.engine,
            about.ask(prompts.explain(), subject),
            report,
            tokens=EXPLANATION,
            arrived=lambda text: result.update(head + text),
        )
        if not text.strip():
            raise MagicoderError("the model said nothing: ask again, or serve a larger model")
        await result.finish(head + text.strip())
        return text.strip()

    return await _with(ls, about.engine, "Explaining", work)


async def fix(
    ls: Server, uri: str, span: types.Range, diagnostics: Sequence[types.Diagnostic]
) -> str | None:
    """Mend what the editor's diagnostics tell of the function, or the lines, around `span`."""
    if not diagnostics:
        raise MagicoderError("there is no diagnostic here to fix")
    about = target(ls, uri)
    rows = code.function_at(about.root, span.start.line) if about.root else None
    first, last = rows or (span.start.line, span.end.line)
    if rows is None:
        first, last = max(first - AROUND, 0), last + AROUND
    subject = Subject.of(about.lines, first, last)
    if subject is None:
        raise MagicoderError("there is no code here to fix")
    problems = [_told(each, subject.first) for each in diagnostics]
    return await _edit(ls, about, "Fix", subject, prompts.fix(about.language, problems))


def _told(diagnostic: types.Diagnostic, first: int) -> str:
    line = diagnostic.range.start.line - first + 1
    message = diagnostic.message
    words = message if isinstance(message, str) else message.value
    source = f" ({diagnostic.source})" if diagnostic.source else ""
    return f"line {line}: {' '.join(words.split())[:500]}{source}"


async def document(ls: Server, uri: str, span: types.Range) -> str | None:
    """Write documentation into the code at `span`."""
    about = target(ls, uri)
    task = prompts.document(about.language, code.style(about.language))
    return await _edit(ls, about, "Write documentation", about.subject(span), task)


async def refactor(ls: Server, uri: str, span: types.Range, instruction: str) -> str | None:
    """Change the code at `span` as asked by `instruction`, or else by a comment of its own."""
    about = target(ls, uri)
    subject = about.subject(span)
    wanted = instruction.strip() or code.asked(about.lines, subject)
    if not wanted:
        raise MagicoderError(
            "say what to change: write a comment `magicoder: ...` in the code or right above it"
        )
    return await _edit(ls, about, "Refactor", subject, prompts.refactor(about.language, wanted))


async def write_tests(ls: Server, uri: str, span: types.Range) -> str | None:
    """Write tests of the code at `span` to a new file beside it; their text."""
    about = target(ls, uri)
    language = about.language
    if language is None:
        raise MagicoderError("no tests for plain text: select code in a language with a grammar")
    if not about.path.is_file():
        raise MagicoderError("save the file first: its tests go beside it")
    subject = about.subject(span)
    path = testing.new_file(about.path, language)
    task = prompts.tests(language, testing.form(about.path, path, language))

    async def work(report: Report) -> str:
        result = Result(ls, path)
        text = await _ask(
            about.engine,
            about.ask(task, subject),
            report,
            language=language,
            arrived=lambda text: result.update(answer.code_so_far(text)),
        )
        tests = answer.code(text, language)
        await result.finish(tests)
        return tests

    return await _with(ls, about.engine, "Writing tests", work)


async def verify(ls: Server, uri: str) -> dict[str, Any] | None:
    """Run the solution of the problem in the document `uri`: whether it passed, and a line."""
    engine, opened_document = _trusted(ls, uri)
    written = problem.read(opened_document.source)

    async def work(_: Report) -> dict[str, Any]:
        from magicoder.lsp.instruct import running

        return _say(ls, await asyncio.to_thread(running.verify, written))

    return await _with(ls, engine, "Verifying the solution", work)


async def run_tests(ls: Server, uri: str) -> dict[str, Any] | None:
    """Run the tests in the document `uri`: whether they passed, a line, and what they printed."""
    engine, tests = _trusted(ls, uri)
    path, language = Path(tests.path), tests.language
    source = testing.tested(path, language) if language else None
    if language is None or source is None:
        raise MagicoderError(f"{path.name} does not name a file beside it that it tests")
    tested = ls.document(source.as_uri())
    text = tested.source if tested else await asyncio.to_thread(_text, source)
    job = testing.job((path, tests.source), (source, text), language)

    async def work(_: Report) -> dict[str, Any]:
        from magicoder.lsp.instruct import running

        return _say(ls, await asyncio.to_thread(running.run, job, language))

    return await _with(ls, engine, "Running the tests", work)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MagicoderError(f"{path.name} cannot be read: {error}") from None


def _trusted(ls: Server, uri: str) -> tuple[Engine, Document]:
    engine, document = opened(ls, uri)
    if not engine.options.trusted:
        raise MagicoderError("this workspace is not trusted: nothing of it is run")
    return engine, document


def _say(ls: Server, outcome: Any) -> dict[str, Any]:
    kind = types.MessageType.Info if outcome.passed else types.MessageType.Warning
    ls.say(outcome.says, kind)
    if outcome.output:
        ls.window_log_message(types.LogMessageParams(types.MessageType.Log, outcome.output))
    return {"passed": outcome.passed, "message": outcome.says, "output": outcome.output}


async def add_to_dataset(ls: Server, uri: str) -> bool:
    """Append the problem in the document `uri` to the user's dataset; False: it is there."""
    _, opened_document = opened(ls, uri)
    sample = problem.read(opened_document.source).sample()
    path = problem.dataset()
    added = await asyncio.to_thread(problem.add, sample, path)
    words = f"added to {path}" if added else f"{path} has this problem and solution already"
    ls.say(words, types.MessageType.Info)
    return added


async def _edit(ls: Server, about: Target, label: str, subject: Subject, task: str) -> str | None:
    """Have the code changed, and apply that if the user agrees; the new code, None if not."""

    async def work(report: Report) -> str:
        ask = about.ask(task, subject)
        text = await _ask(about.engine, ask, report, language=about.language)
        new = answer.code(text, about.language)
        return subject.fitted(code.without_head(about.root, about.lines, subject, new))

    fitted = await _with(ls, about.engine, label, work)
    if fitted is None:
        return None
    change = edits.change(about.lines, subject.first, subject.last, fitted)
    made = await confirmed(ls, about.document, about.version, about.lines, change, label)
    return fitted if made else None


async def _ask(
    engine: Engine,
    ask: Ask,
    report: Report,
    *,
    language: Language | None = None,
    tokens: int = ANSWER,
    arrived: Callable[[str], Awaitable[None]] | None = None,
) -> str:
    """The model's answer; `arrived` gets what has come so far.

    A weak model is held to one code block where code in a `language` is wanted.
    """
    client, model = await engine.server()
    tokens = _fit(0, model.context, tokens)
    room = (model.context or CONTEXT) - tokens - TEMPLATE
    held = prompts.held(language) if model.structured and language else {}
    stream = await client.chat(
        ask.within(room).messages(), stream=True, max_tokens=tokens, extra_body=held
    )
    return await _read(stream, report, arrived)


async def _read(
    stream: "AsyncTextStream[Any]",
    report: Report,
    arrived: Callable[[str], Awaitable[None]] | None,
) -> str:
    text = ""
    async with stream:
        async for delta in stream:
            text += delta
            report(f"{len(text.splitlines())} lines")
            if arrived is not None:
                await arrived(text)
    return text


def _fit(size: int, context: int | None, wanted: int) -> int:
    """Tokens that an answer may have beside `size` bytes, each of which may be a token.

    Raises:
        MagicoderError: they leave too little room.
    """
    tokens = min(wanted, (context or CONTEXT) // 3)
    if size + tokens + TEMPLATE > (context or CONTEXT):
        raise MagicoderError(
            "too much code for the model: select less, or serve a model with a longer context"
        )
    return tokens


async def _with(
    ls: Server, engine: Engine, title: str, work: Callable[[Report], Coroutine[Any, Any, T]]
) -> T | None:
    """The result of `work` with progress; None: the user cancelled."""
    try:
        return await ls.with_progress(title, work)
    except ServerError:
        engine.forget()
        raise


def _new(path: Path, kind: str) -> Path:
    """A name for a new document made from the file at `path`, in the cache folder."""
    folder = settings.cache_dir() / kind
    return folder / f"{path.stem or 'untitled'}-{uuid4().hex[:8]}.md"
