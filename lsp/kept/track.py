"""Where accepted characters still stand in a document that is edited on and on."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import takewhile

from magicoder.lsp.documents import Edit


class Span:
    """The characters of one accepted text that nobody has deleted or replaced since.

    Text written between them is not of it. What was deleted does not come back, not even when the
    same is put in again: then someone wrote it.
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[int, int]] = []
        self._accepted = 0

    def add(self, start: int, end: int) -> None:
        """The characters [start, end) of the document were accepted."""
        self._pieces.append((start, end))
        self._accepted += end - start

    def edit(self, edit: Edit) -> None:
        """Follow an edit of the document."""
        grown = len(edit.text) - (edit.end - edit.start)
        halves = (
            half
            for start, end in self._pieces
            for half in (
                (start, min(end, edit.start)),
                (max(start, edit.end) + grown, end + grown),
            )
        )
        self._pieces = [(start, end) for start, end in halves if start < end]

    @property
    def share(self) -> float:
        """How much of what was accepted still stands, 0 to 1."""
        return sum(end - start for start, end in self._pieces) / self._accepted

    @property
    def extent(self) -> tuple[int, int] | None:
        """From the first character that stands to behind the last; None where none does."""
        if not self._pieces:
            return None
        return min(start for start, _ in self._pieces), max(end for _, end in self._pieces)


def parts(edit: Edit, old: str) -> list[Edit]:
    """The same change of `old` in small, each part's offsets before it, the last place first.

    A formatter replaces a whole file to change three lines of it, and some editors send one edit
    for two far ones: what is the same before and after was not changed.
    """
    if edit.start == edit.end or not edit.text:
        return [edit]
    gone, new = (text.splitlines(keepends=True) for text in (old[edit.start : edit.end], edit.text))
    found, at = [], edit.start
    for _, a, b, c, d in SequenceMatcher(None, gone, new).get_opcodes():
        pairs = zip(gone[a:b], new[c:d], strict=False)
        for before, after in pairs if b - a == d - c else [("".join(gone[a:b]), "".join(new[c:d]))]:
            if before != after:
                found.append(_smallest(at, before, after))
            at += len(before)
    return found[::-1]


def _smallest(at: int, before: str, after: str) -> Edit:
    """The edit without what both begin with, and what both end with."""
    head = _alike(before, after)
    tail = _alike(before[head:][::-1], after[head:][::-1])
    return Edit(at + head, at + len(before) - tail, after[head : len(after) - tail])


def _alike(one: str, other: str) -> int:
    pairs: Iterator[tuple[str, str]] = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def inserted(edit: Edit, old: str, at: int) -> str | None:
    """What an edit of `old` puts in at `at`, or None where it does anything else.

    Editors that compare lines find the same change in another place: ")" behind the ")" of "f()"
    is ")" before it.
    """
    text = edit.text
    if edit.start != edit.end or not text:
        return None
    if edit.start >= at:
        passed = old[at : edit.start]
        whole = passed + text
        return whole[: len(text)] if whole[len(text) :] == passed else None
    passed = old[edit.start : at]
    whole = text + passed
    return whole[len(passed) :] if whole[: len(passed)] == passed else None
