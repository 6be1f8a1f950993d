"""A text with its syntax tree, parsed again only where an edit touched it.

Offsets are code points; tree-sitter counts bytes of UTF-8. Half a surrogate pair, which an editor
may leave for a moment, is one question mark there, so that both keep in step.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from magicoder.languages import Language, parser

if TYPE_CHECKING:
    from tree_sitter import Node, Tree


LARGEST = 1_000_000
"""Bytes of a text at most that is parsed."""


class Source:
    """A text in a language; without one, and of a huge text, there is no tree.

    Where the text has no error, the tree is the one that parsing it anew gives; where it has some,
    tree-sitter may mend them in another way, and count one more or less. Not safe for use by two
    threads at once.
    """

    def __init__(self, text: str, language: Language | None) -> None:
        self.text = text
        self.language = language
        self._bytes = _encode(text)
        self._place = 0, 0  # an offset, and where it is in UTF-8
        self._tree: Tree | None = None
        self._stale = True
        self._errors: int | None = None

    def edit(self, start: int, end: int, new: str) -> None:
        """Put `new` in place of the code points from `start` to `end`."""
        if start == end and not new:
            return
        first, last = self.byte(start), self.byte(end)
        inserted = _encode(new)
        old = self._bytes
        self.text = self.text[:start] + new + self.text[end:]
        self._bytes = old[:first] + inserted + old[last:]
        self._place = start, first
        if self._tree is not None:
            until = first + len(inserted)
            row = old.count(b"\n", 0, first)
            points = [
                (row + text.count(b"\n", first, byte), byte - text.rfind(b"\n", 0, byte) - 1)
                for text, byte in ((old, first), (old, last), (self._bytes, until))
            ]
            self._tree.edit(first, last, until, *points)
        self._stale, self._errors = True, None

    @property
    def tree(self) -> "Tree | None":
        """The tree of the text as it is now."""
        if len(self._bytes) > LARGEST:
            self._tree = None
        elif self._stale and self.language is not None:
            built = parser(self.language)
            self._tree = (
                built.parse(self._bytes)
                if self._tree is None
                else built.parse(self._bytes, self._tree)
            )
            self._stale = False
        return self._tree

    @property
    def errors(self) -> int:
        """How many places the grammar cannot read: ERROR and missing nodes; 0 without a tree."""
        if self._errors is None:
            self._errors = 0 if self.tree is None else sum(1 for _ in faults(self.tree.root_node))
        return self._errors

    def node_at(self, offset: int) -> "Node | None":
        """The smallest named node that holds the character before `offset`, or else at it."""
        if self.tree is None:
            return None
        byte = self.byte(offset)
        return self.tree.root_node.named_descendant_for_byte_range(max(byte - 1, 0), byte)

    def filled(self, offset: int, text: str, end: int | None = None) -> "Source":
        """A copy with `text` at `offset`, in place of what stands there until `end`."""
        copy = Source.__new__(Source)
        copy.text, copy.language = self.text, self.language
        copy._bytes, copy._place = self._bytes, self._place
        copy._tree = None if self.tree is None else self.tree.copy()
        copy._stale, copy._errors = copy._tree is None, self._errors
        copy.edit(offset, offset if end is None else end, text)
        return copy

    def byte(self, offset: int) -> int:
        """The place of `offset` in UTF-8."""
        if len(self._bytes) == len(self.text):
            return min(offset, len(self.text))
        offset, (known, byte) = min(offset, len(self.text)), self._place
        if offset < known:
            byte -= len(_encode(self.text[offset:known]))
        else:
            byte += len(_encode(self.text[known:offset]))
        self._place = offset, byte
        return byte


def faults(node: "Node") -> Iterator["Node"]:
    """ERROR and missing nodes at and below `node`; looks only where the parser saw an error."""
    stack = [node]
    while stack:
        node = stack.pop()
        if node.is_error or node.is_missing:
            yield node
        if node.has_error:
            stack.extend(node.children)


def _encode(text: str) -> bytes:
    return text.encode(errors="replace")
