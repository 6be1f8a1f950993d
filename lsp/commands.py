"""The instruct tools on the wire: code actions, and commands with progress."""

from lsprotocol import types

from magicoder import languages
from magicoder.errors import MagicoderError
from magicoder.languages import Language
from magicoder.lsp.documents import Document
from magicoder.lsp.instruct import code as instruct
from magicoder.lsp.session import Server
from magicoder.oss_instruct import ParseError

CREATE_PROBLEM = "magicoder.createProblem"
PROBLEM_KIND = "refactor.problem"
"""A kind of refactoring, since editors list those at a selection and run none by themselves."""


def register(server: Server) -> None:
    """Give the server its instruct tools."""

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
