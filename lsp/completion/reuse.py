"""What has been asked already: suggestions that are known, and the answer that is still arriving.

A user who types what a suggestion says needs no new one: the rest of it is served. What counts is
the text near the cursor, so that edits elsewhere forget nothing. While an answer still arrives, a
request that agrees with it is attached to it.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from magicoder.lsp.completion.hole import Hole

BEFORE, AFTER = 240, 120
"""Characters before and after the cursor by which a place is known again."""

SCOPE = 4000
"""Characters before the cursor, at most, of what it stands in: that has to be the same too."""

_OPENING = re.compile(r"^[^\s{}()\[\]#/*]", re.MULTILINE)

CLOSERS = ")]}>\"'`"
"""What editors close by themselves."""

SIZE = 64
"""Suggestions kept for each document."""

GRACE = 0.05
"""Seconds that an answer nobody waits for goes on: the editor may ask again."""

TYPING = 0.3
"""The same, from an edit on that agrees with the answer: the editor waits before it asks."""


class Place(NamedTuple):
    """The text around a cursor, always of the same length, and what it stands in up to there."""

    before: str
    after: str
    scope: str

    @classmethod
    def of(cls, hole: Hole) -> "Place":
        before, after = hole.before[-BEFORE:], hole.after[:AFTER]
        return cls(before.rjust(BEFORE, "\0"), after.ljust(AFTER, "\0"), _scope(hole))


def _scope(hole: Hole) -> str:
    """The text from the last line on that begins without indentation, as definitions do."""
    before = hole.before[-SCOPE:]
    return before[max((found.start() for found in _OPENING.finditer(before)), default=0) :]


class Cache:
    """The suggestions of one document, the newest first; the oldest are dropped."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Place, str], int] = OrderedDict()

    def keep(self, hole: Hole, text: str) -> None:
        """Remember what was suggested at a hole; empty: that there is nothing to suggest."""
        key = Place.of(hole), text
        self._kept[key] = _file(hole, text)
        self._kept.move_to_end(key)
        if len(self._kept) > SIZE:
            self._kept.popitem(last=False)

    def find(self, hole: Hole) -> str | None:
        """What is left of a suggestion here, "" where none is worth asking for; None: not known.

        Here is where it was made, or further on, after some of its text has been typed.
        """
        return next(iter(self.all(hole)), None)

    def all(self, hole: Hole) -> list[str]:
        """All different suggestions known here, the newest first."""
        here = Place.of(hole)
        found = (_rest(place, text, here, hole) for place, text in reversed(self._kept))
        return list(dict.fromkeys(rest for rest in found if rest is not None))

    def checked(self, hole: Hole, text: str) -> bool:
        """Whether the whole file with `text` in it reads as when that was kept."""
        return _file(hole, text) in self._kept.values()


def _file(hole: Hole, text: str) -> int:
    """A hash of the file with `text` in it."""
    return hash(hole.before + text + hole.after)


def _rest(place: Place, text: str, here: Place, hole: Hole) -> str | None:
    """What is left at `here` of a `text` suggested at `place`; None: it does not lead here."""
    closed = _closed(here.after, place.after)
    if closed is None:
        return None
    typed = (place.before + text).find(here.before)
    if typed < 0 or (typed == len(text) and text):
        return None
    if not hole.before.endswith(place.scope + text[:typed]):
        return None
    return _unclosed(text[typed:], closed)


def _closed(now: str, then: str) -> str | None:
    """What an editor has closed by itself after the cursor since `then`; None: more has changed"""
    for size in range(4):
        if now[size:] == then[: len(now) - size]:
            return now[:size] if all(char in CLOSERS for char in now[:size]) else None
    return None


def _unclosed(rest: str, closed: str) -> str | None:
    """The rest of a suggestion without its end, which stands there already."""
    rest = rest.rstrip() if closed else rest
    return rest.removesuffix(closed) if rest.endswith(closed) else None


class Generation:
    """One answer while it is made, and those who wait for it.

    `work` gets the generation, calls `add` with what has arrived, and returns the suggestion.
    `ahead`: nobody has asked yet; it runs until it is cancelled.
    """

    def __init__(
        self,
        hole: Hole,
        work: Callable[["Generation"], Coroutine[Any, Any, str]],
        *,
        ahead: bool = False,
    ) -> None:
        self.hole, self.text = hole, ""
        self._followers, self._ahead = 0, ahead
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(work(self))
        self._task.add_done_callback(self._ended)

    @property
    def alive(self) -> bool:
        return not self._task.done()

    def add(self, text: str) -> None:
        """`text` is the answer so far."""
        self.text = text
        self._tell()

    def agrees(self, hole: Hole) -> bool:
        """Whether what was typed since, up to `hole`, is what the answer says or may yet say."""
        typed = self._typed(hole)
        return typed is not None and self._may_say(typed[0])

    def edited(self, text: str) -> None:
        """The document is now `text`: go on a little longer, or stop at once."""
        if self._ahead or not self.alive:
            return
        before, after = self.hole.before, self.hole.after
        middle = text[len(before) : len(text) - len(after)]
        if text == before + middle + after and any(
            self._may_say(middle[: len(middle) - size])
            for size in range(4)
            if all(char in CLOSERS for char in middle[len(middle) - size :])
        ):
            self._wait(TYPING)
        else:
            self.cancel()

    async def follow(self, hole: Hole) -> str | None:
        """What is left to insert at `hole`; None: the answer does not lead there, or was cancelled.

        Cancelling the caller leaves the generation alive for a moment.

        Raises:
            MagicoderError: what the work raised.
        """
        self._ahead = False
        self._followers += 1
        if self._timer:
            self._timer.cancel()
        try:
            while self.alive:
                if not self.agrees(hole):
                    return None
                await self._news.wait()
        finally:
            self._followers -= 1
            self._wait(GRACE)
        return None if self._task.cancelled() else _left(self._task.result(), self._typed(hole))

    def cancel(self) -> None:
        """Stop, and close the connection."""
        self._task.cancel()

    async def cancelled(self) -> None:
        """Stop, and wait until the connection is closed."""
        self.cancel()
        await asyncio.wait([self._task])

    async def ended(self) -> None:
        """Wait for the end.

        Raises:
            MagicoderError: what the work raised.
        """
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    def _typed(self, hole: Hole) -> tuple[str, str] | None:
        """What was typed since, and what the editor closed by itself after it."""
        if not hole.before.startswith(self.hole.before):
            return None
        closed = hole.after[: len(hole.after) - len(self.hole.after)]
        if closed + self.hole.after != hole.after or closed.strip(CLOSERS):
            return None
        return hole.before[len(self.hole.before) :], closed

    def _may_say(self, typed: str) -> bool:
        return self.text.startswith(typed) or typed.startswith(self.text)

    def _wait(self, seconds: float) -> None:
        """Stop after some time, unless somebody follows."""
        if self._timer:
            self._timer.cancel()
        if self.alive and not self._followers and not self._ahead:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.cancel)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _ended(self, task: asyncio.Task[str]) -> None:
        if self._timer:
            self._timer.cancel()
        if not task.cancelled():
            task.exception()  # there may be nobody left to hear of it
        self._tell()


def _left(text: str, typed: tuple[str, str] | None) -> str | None:
    if typed is None or not text.startswith(typed[0]) or typed[0] == text != "":
        return None
    return _unclosed(text[len(typed[0]) :], typed[1])
