"""Open documents: their text, kept equal to the editor's edit by edit, and who wants to hear of it.

Lines end at a line feed, a carriage return or both, and nowhere else, as LSP says; pygls, which
keeps the documents, splits them as Python does, also at form feeds and U+2028. The starts of lines
are mended edit by edit: a keystroke in a long file costs no pass over all of it.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from lsprotocol import types
from pygls.uris import to_fs_path, urlparse, urlunparse
from pygls.workspace import PositionCodec, TextDocument

from magicoder import languages
from magicoder.languages import Language
from magicoder.lsp.trees import Source

_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True)
class Edit:
    """`text` in place of [start, end), in code points of the text before it."""

    start: int
    end: int
    text: str


Listener = Callable[["Document", Edit], None]


class Document(TextDocument):
    """An open document; offsets are code points into `source`."""

    def __init__(self, item: types.TextDocumentItem, codec: PositionCodec) -> None:
        """What an editor opened; `codec` tells the position encoding agreed on."""
        super().__init__(item.uri, item.text, item.version, item.language_id, position_codec=codec)
        self.path: str = local_path(item.uri) or urlparse(item.uri)[2]
        self._text = item.text
        self._starts = [0, *_line_starts(item.text, 0, len(item.text))]
        self._listeners: list[Listener] = []

    @property
    def source(self) -> str:
        return self._text

    @property
    def language(self) -> Language | None:
        """By the editor's word, else by the file's name; None for plain text."""
        return languages.by_name(self.language_id or "") or languages.by_path(self.path)

    @cached_property
    def syntax(self) -> Source:
        """The text with its tree; follows the edits from its first use on."""
        return Source(self._text, self.language)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with the document and each edit, after it is applied."""
        self._listeners.append(listener)

    def unsubscribe(self) -> None:
        """Nobody hears of edits any more."""
        self._listeners.clear()

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        """Take one change of the editor's."""
        start, end = 0, len(self._text)
        if isinstance(change, types.TextDocumentContentChangePartial):
            start = self.offset_at_position(change.range.start)
            end = max(start, self.offset_at_position(change.range.end))
        self.apply(Edit(start, end, change.text))

    def apply(self, edit: Edit) -> None:
        """Take one edit, and tell those who subscribed."""
        # The line before too: a line feed right after its carriage return would join it.
        first = bisect_right(self._starts, max(edit.start - 1, 0)) - 1
        after = bisect_right(self._starts, edit.end)
        grown = len(edit.text) - (edit.end - edit.start)
        text = self._text = self._text[: edit.start] + edit.text + self._text[edit.end :]
        rest = self._starts[after:]
        stop = rest[0] + grown if rest else len(text)
        fresh = _line_starts(text, self._starts[first], stop)
        if rest:  # the line after begins where the last fresh one ends
            fresh.pop()
        self._starts[first + 1 :] = fresh + (rest if not grown else [at + grown for at in rest])
        if "syntax" in self.__dict__:
            self.syntax.edit(edit.start, edit.end, edit.text)
        for listener in self._listeners:
            listener(self, edit)

    @property
    def lines(self) -> tuple[str, ...]:
        ends = [*self._starts[1:], len(self._text)]
        found = (self._text[a:b] for a, b in zip(self._starts, ends, strict=True))
        return tuple(line for line in found if line)

    def offset_at_position(self, client_position: types.Position) -> int:
        """The offset of a position; what lies outside the text is clamped."""
        number, units = client_position.line, client_position.character
        if number >= len(self._starts):
            return len(self._text)
        start = self._starts[number]
        line = self._text[start : self._line_stop(number)].rstrip("\r\n")
        if line.isascii():
            return start + min(units, len(line))
        size = self.position_codec.impl.code_units_for_char
        for column, char in enumerate(line):
            if units <= 0:
                return start + column
            units -= size(char)
        return start + len(line)

    def position_at(self, offset: int) -> types.Position:
        """The position of an offset, in the editor's units."""
        number = bisect_right(self._starts, offset) - 1
        before = self._text[self._starts[number] : offset]
        return types.Position(number, self.position_codec.client_num_units(before))

    def text_in_client_range(self, range: types.Range) -> str:  # noqa: A002
        start, end = map(self.offset_at_position, (range.start, range.end))
        return self._text[start:end]

    def _line_stop(self, number: int) -> int:
        """Where the line after begins."""
        return self._starts[number + 1] if number + 1 < len(self._starts) else len(self._text)


def local_path(uri: str) -> str | None:
    """The path of a file on this machine, as in RFC 8089; None: `uri` names none.

    One file has one path, so that what ignore files say of it holds: pygls would take an authority
    into it, and a path of two slashes lies in no folder.
    """
    scheme, authority, path, *_ = urlparse(uri)
    if authority.lower() not in ("", "localhost"):
        return None
    return to_fs_path(urlunparse((scheme, "", re.sub("^//+", "/", path), "", "", "")))


def _line_starts(text: str, start: int, stop: int) -> list[int]:
    """Where lines begin in text[start:stop], after their predecessor's end."""
    return [found.end() for found in _LINE_END.finditer(text, start, stop)]
