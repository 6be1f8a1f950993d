"""Where a completion goes: the text around a cursor."""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Hole:
    """The text `before` and `after` a cursor."""

    before: str
    after: str

    @classmethod
    def at(cls, source: str, offset: int) -> "Hole":
        """The hole at `offset`, in code points, of a document; all lines then end in a line feed"""
        before, after = source[:offset], source[offset:]
        return cls(line_feeds(before), line_feeds(after))

    @cached_property
    def line_before(self) -> str:
        """The cursor's line, up to the cursor."""
        return self.before.rpartition("\n")[2]

    @cached_property
    def line_after(self) -> str:
        """The cursor's line, from the cursor on."""
        return self.after.partition("\n")[0]

    @cached_property
    def inside_line(self) -> bool:
        """Whether text follows the cursor on its line, so that one line is all that fits."""
        return bool(self.line_after.strip())


def line_feeds(text: str) -> str:
    """`text` with all its lines ended by a line feed."""
    if "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")
