"""Where the user was lately: spans of text that were edited or looked at, across files."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magicoder.lsp.documents import Document, Edit

SPANS = 16
"""Spans that are kept, at most."""

LINES = 8
"""Lines before and after a place that belong to its span."""


@dataclass(frozen=True)
class Span:
    """A piece of a document as it was last; `start` is its offset."""

    path: str
    start: int
    text: str


class Ring:
    """The last spans, each place once, the newest last."""

    def __init__(self) -> None:
        self.spans: tuple[Span, ...] = ()

    def edited(self, document: "Document", edit: "Edit") -> None:
        """The user changed the document; a change of all of it tells no place."""
        if len(edit.text) < len(document.source):
            self.viewed(document, edit.start + len(edit.text))

    def viewed(self, document: "Document", offset: int) -> None:
        """The user's cursor stands at `offset`."""
        span = _span(document.path, document.source, offset)
        others = [one for one in self.spans if not _same(one, span)]
        kept = [*others, span] if span.text.strip() else others
        self.spans = tuple(kept[-SPANS:])

    def forget(self, path: str) -> None:
        """Keep nothing of the document at `path`."""
        self.spans = tuple(span for span in self.spans if span.path != path)


def _span(path: str, text: str, offset: int) -> Span:
    start = end = min(offset, len(text))
    for _ in range(LINES + 1):
        start = text.rfind("\n", 0, max(start, 0))
    end -= 1
    for _ in range(LINES + 1):
        end = text.find("\n", end + 1)
        if end == -1:
            end = len(text)
    return Span(path, start + 1, text[start + 1 : end])


def _same(one: Span, other: Span) -> bool:
    """Whether two spans overlap, or say the same."""
    if one.path != other.path:
        return False
    near = one.start < other.start + len(other.text) and other.start < one.start + len(one.text)
    return near or one.text == other.text
