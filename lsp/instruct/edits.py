"""A change of code as edits of lines, as small as they can be, and told in a few words."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Hunk:
    """`text` in place of the lines from `first` up to and without `end`, counted from 0."""

    first: int
    end: int
    text: str


@dataclass(frozen=True)
class Change:
    """What a tool wants to change; `hunks` from the top, none of them touching another."""

    hunks: tuple[Hunk, ...]
    added: int
    removed: int

    def applied(self, lines: Sequence[str]) -> str:
        """The text of `lines` with the change made."""
        changed = list(lines)
        for hunk in reversed(self.hunks):
            changed[hunk.first : hunk.end] = [hunk.text]
        return "".join(changed)

    def summary(self) -> str:
        """The size of the change: `2 lines added, 1 removed, at line 7`."""
        sizes = ((self.added, "added"), (self.removed, "removed"))
        counts = [f"{number} {what}" for number, what in sizes if number]
        number, _, rest = ", ".join(counts).partition(" ")
        lines = "line" if number == "1" else "lines"
        return f"{number} {lines} {rest}, at line {self.hunks[0].first + 1}"


def change(lines: Sequence[str], first: int, last: int, code: str) -> Change:
    """What makes `code` of the lines `first` to `last`; their kind of line break is kept."""
    old = list(lines[first : last + 1])
    ends = [line[len(line.rstrip("\r\n")) :] for line in [*old, *lines[:1]]]
    end = next(filter(None, ends), "\n")
    new = [line + end for line in code.splitlines()]
    if new and old and not old[-1].endswith(("\n", "\r")):
        new[-1] = new[-1].removesuffix(end)
    hunks = [
        (Hunk(first + a, first + b, "".join(new[c:d])), d - c, b - a)
        for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
    return Change(
        tuple(hunk for hunk, _, _ in hunks),
        sum(added for _, added, _ in hunks),
        sum(removed for _, _, removed in hunks),
    )
