"""Open documents. pygls keeps them; these mend where its lines and positions leave LSP's text.

It splits lines as Python does, also at form feeds and U+2028, where LSP and editors do not, so that
every later edit lands on a wrong line; and it puts a position past the end of the last line one
character too early.
"""

import io
from collections.abc import Sequence

from lsprotocol import types
from pygls.workspace import PositionCodec, ServerTextPosition, TextDocument


class Codec(PositionCodec):
    """Positions in utf-8, utf-16 or utf-32 units to code points; what lies outside is clamped."""

    def position_from_client_units(
        self, lines: Sequence[str], position: types.Position
    ) -> ServerTextPosition:
        if not lines:
            return ServerTextPosition(0, 0)
        if position.line >= len(lines):
            return ServerTextPosition(len(lines) - 1, len(lines[-1]))
        line = lines[position.line].rstrip("\r\n")
        units = 0
        for column, char in enumerate(line):
            if units >= position.character:
                return ServerTextPosition(position.line, column)
            units += self.impl.code_units_for_char(char)
        return ServerTextPosition(position.line, len(line))


class Document(TextDocument):
    """A document whose lines end at a line feed, a carriage return or both, and nowhere else."""

    @classmethod
    def opened(cls, item: types.TextDocumentItem, codec: PositionCodec) -> "Document":
        """The document that an editor opened; `codec` tells the position encoding agreed on."""
        return cls(
            item.uri,
            source=item.text,
            version=item.version,
            language_id=item.language_id,
            position_codec=Codec(codec.encoding),
        )

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(io.StringIO(self.source, newline=""))
