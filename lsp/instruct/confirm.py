"""Changes of a document that its user is asked about before they are made."""

from lsprotocol import types
from pygls.capabilities import get_capability
from pygls.exceptions import JsonRpcException

from magicoder.lsp.documents import Document
from magicoder.lsp.instruct.edits import Change
from magicoder.lsp.session import Server

APPLY, DISCARD = "Apply", "Discard"


async def confirmed(
    ls: Server,
    document: Document,
    version: int | None,
    lines: tuple[str, ...],
    change: Change,
    label: str,
) -> bool:
    """Make `change` of the document's `version`, with these lines, if its user wants it.

    Gives whether it was made.

    An editor with change annotations asks by itself and shows the change; others are made to ask.
    """
    name = document.filename or document.uri
    if not change.hunks:
        ls.say(f"{label}: nothing to change", types.MessageType.Info)
        return False
    words = change.summary() + _harm(document, change)
    if _changed(ls, document, version, lines):
        ls.say(f"{label}: {name} has changed meanwhile, nothing was applied: ask again")
        return False
    if get_capability(ls.client_capabilities, "workspace.workspace_edit.change_annotation_support"):
        note = types.ChangeAnnotation(label, needs_confirmation=True, description=words)
        edits = [
            types.AnnotatedTextEdit("magicoder", edit.range, edit.new_text)
            for edit in text_edits(document, change)
        ]
        edit = _versioned(document, version, edits)
        edit.change_annotations = {"magicoder": note}
        return await _apply(ls, edit, label)
    actions = [types.MessageActionItem(APPLY), types.MessageActionItem(DISCARD)]
    question = types.ShowMessageRequestParams(
        types.MessageType.Info, f"{label} in {name}: {words}. Apply it?", actions
    )
    try:
        chosen = await ls.window_show_message_request_async(question)
    except JsonRpcException:  # an editor that cannot ask
        ls.say(f"{label}: this editor cannot ask whether to apply the change, so it was not")
        return False
    if chosen is None or chosen.title != APPLY:
        return False
    if _changed(ls, document, version, lines):
        ls.say(f"{label}: {name} has changed meanwhile, nothing was applied: ask again")
        return False
    plain = text_edits(document, change)
    if get_capability(ls.client_capabilities, "workspace.workspace_edit.document_changes", False):
        return await _apply(ls, _versioned(document, version, plain), label)
    return await _apply(ls, types.WorkspaceEdit(changes={document.uri: plain}), label)


def text_edits(document: Document, change: Change) -> list[types.TextEdit]:
    """The change in the editor's units."""
    lines = document.lines
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    return [
        types.TextEdit(
            types.Range(
                document.position_at(starts[hunk.first]), document.position_at(starts[hunk.end])
            ),
            hunk.text,
        )
        for hunk in change.hunks
    ]


def _harm(document: Document, change: Change) -> str:
    """A warning where the change breaks the syntax of the file."""
    from magicoder.lsp.trees import Source

    if document.language is None:
        return ""
    before = document.syntax.errors
    after = Source(change.applied(document.lines), document.language).errors
    return f"; beware: it leaves {after - before} more syntax errors" if after > before else ""


def _changed(ls: Server, document: Document, version: int | None, lines: tuple[str, ...]) -> bool:
    """The document is closed, was opened again, or is not what it was."""
    same = document.version == version and document.lines == lines
    return ls.document(document.uri) is not document or not same


def _versioned(
    document: Document,
    version: int | None,
    edits: "list[types.TextEdit] | list[types.AnnotatedTextEdit]",
) -> types.WorkspaceEdit:
    identifier = types.OptionalVersionedTextDocumentIdentifier(document.uri, version)
    return types.WorkspaceEdit(document_changes=[types.TextDocumentEdit(identifier, edits)])


async def _apply(ls: Server, edit: types.WorkspaceEdit, label: str) -> bool:
    try:
        result = await ls.workspace_apply_edit_async(types.ApplyWorkspaceEditParams(edit, label))
    except JsonRpcException as error:
        ls.say(f"{label}: the editor could not apply the change: {error}")
        return False
    if not result.applied and result.failure_reason:
        ls.say(f"{label}: the editor did not apply the change: {result.failure_reason}")
    return result.applied
