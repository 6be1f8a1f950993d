"""A new document that grows in the editor while the model writes it.

The file is made with what has come first, and shown; the rest reaches the open document as edits,
so that an editor never finds its file changed behind its back, and saves it like any other. Whoever
takes no such edits gets the whole file at the end.
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from lsprotocol import types
from pygls.capabilities import get_capability
from pygls.exceptions import JsonRpcException

from magicoder.errors import MagicoderError
from magicoder.lsp.documents import Document
from magicoder.lsp.session import Server

PACE = 0.2
"""Seconds between two edits at least: each is a step that the editor draws."""

PATIENCE = 2.0
"""Seconds in which an editor tells of a document that it has opened, or of an edit it has made."""


class Result:
    """The document at `path`, which must not exist before. What it holds are whole lines."""

    def __init__(self, ls: Server, path: Path) -> None:
        self._ls, self._path = ls, path
        self._written = ""
        self._at = 0.0
        shows = get_capability(ls.client_capabilities, "window.show_document.support", False)
        edits = get_capability(ls.client_capabilities, "workspace.apply_edit", False)
        self._live = bool(shows and edits)

    async def update(self, text: str) -> None:
        """Show the whole lines of the text so far, unless that was done a moment ago."""
        lines = text[: text.rfind("\n") + 1]
        if self._live and lines.strip() and time.monotonic() - self._at >= PACE:
            await self._put(lines)
            self._at = time.monotonic()

    async def finish(self, text: str) -> None:
        """Show the whole text, or write the file where the editor does not show it."""
        text = text.rstrip("\n") + "\n"
        if self._written and self._live:
            await self._put(text, last=True)
        if self._written == text:
            return
        if self._written and self._ls.document(self._path.as_uri()) is not None:
            name = self._path.name
            self._path = self._path.with_stem(f"{self._path.stem}_{uuid4().hex[:4]}")
            self._ls.say(
                f"{name} was changed while it was written: {self._path.name} is the whole of it",
                types.MessageType.Warning,
            )
        await asyncio.to_thread(write, self._path, text)
        await self._ls.show(self._path)

    async def _put(self, text: str, *, last: bool = False) -> None:
        if not self._written:
            await asyncio.to_thread(write, self._path, text)
            self._written = text
            await self._ls.show(self._path)
        elif text != self._written:
            document = await self._in_step()
            if document is None or not await self._edit(document, text, last):
                self._live = False
            else:
                self._written = text

    async def _in_step(self) -> Document | None:
        """The open document, once it holds what was written; None: it is closed, or changed."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            document = self._ls.document(self._path.as_uri())
            if document is not None and _plain(document.source) == self._written:
                return document
            await asyncio.sleep(0.01)
        return None

    async def _edit(self, document: Document, text: str, last: bool) -> bool:
        old, new = document.lines, text.splitlines(keepends=True)
        same = 0
        while same < min(len(old), len(new)) and _plain(old[same]) == new[same]:
            same += 1
        span = types.Range(types.Position(same, 0), document.position_at(len(document.source)))
        edit = types.TextDocumentEdit(
            types.OptionalVersionedTextDocumentIdentifier(document.uri, document.version),
            [types.TextEdit(span, "".join(new[same:]))],
        )
        params = types.ApplyWorkspaceEditParams(types.WorkspaceEdit(document_changes=[edit]))
        if last:  # VS Code saves what a refactoring changed
            params.metadata = types.WorkspaceEditMetadata(is_refactoring=True)
        try:
            return (await self._ls.workspace_apply_edit_async(params)).applied
        except JsonRpcException:
            return False


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        MagicoderError: its folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name that no one knows: what lies in a stranger's folder must not be written through.
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.replace(part, path)
    except OSError as error:
        raise MagicoderError(f"{path} cannot be written: {error.strerror}") from None
