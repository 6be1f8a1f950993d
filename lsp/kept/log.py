"""Writes down what became of each suggestion: shown, accepted, and how much of it stayed.

Acceptance is told from the edits alone, so that it works in every editor. An insertion where the
suggestion stands, of the next two or more of its characters up to the end of a word, or of all of
it, is an acceptance; single characters, and a line break with the indentation that the editor adds,
are typing.

What the user sees as one suggestion counts as one: the rest of it after some was typed or accepted,
the same text when it comes back, and alternatives in the same place.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from magicoder.lsp.documents import Document, Edit
from magicoder.lsp.kept import records
from magicoder.lsp.kept.records import MARKS, Record, Survival
from magicoder.lsp.kept.track import Span, inserted, parts

if TYPE_CHECKING:
    from magicoder.lsp.completion.engine import Suggestion
    from magicoder.lsp.kept.seeds import Seeds

_PAIRS = {"()", "[]", "{}", '""', "''", "``"}  # one key, and what the editor adds


class Timers(Protocol):
    """What the log needs of the event loop."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any: ...


@dataclass(eq=False)
class _Shown:
    """One suggestion in one place: [origin, at) of the document holds its first `done` characters.

    `choices` are the alternatives, by their text, that agree with what stands there. `shown` adds
    up the seconds that it stood before `since`, which is None while it does not. `run` counts the
    characters that were typed one behind the other up to `at`.
    """

    choices: dict[str, "Suggestion"]
    born: float
    origin: int
    at: int
    since: float | None
    done: int = 0
    run: int = 0
    accepted: int = 0
    shown: float = 0.0
    whole: bool = False
    span: Span = field(default_factory=Span)
    survival: dict[str, float] = field(default_factory=dict)
    timers: list[Any] = field(default_factory=list)

    def hide(self, now: float) -> None:
        if self.since is not None:
            self.shown += now - self.since
            self.since = None

    def is_at(self, source: str, offset: int, text: str) -> bool:
        """Whether `text` at `offset` is the rest of this suggestion."""
        return self.origin <= offset and _plain(source[self.origin : offset]) + text in self.choices


@dataclass(eq=False)
class _Place:
    """A document: its text, what is shown in it, and what was accepted and is still watched.

    `edited` tells whether it was since the last suggestion.
    """

    document: Document
    text: str
    edited: bool = False
    showing: _Shown | None = None
    watched: list[_Shown] = field(default_factory=list)


class Log:
    """The log of one editor's session. All calls come from the event loop's thread."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        seeds: "Seeds | None" = None,
        timers: Timers | None = None,
    ) -> None:
        """`file` is `records.path()` by default; `seeds` takes the code that stayed, if any."""
        self._file = file or records.path()
        self._seeds = seeds
        self._timers: Timers = timers or asyncio.get_running_loop()
        self._places: dict[Document, _Place] = {}
        self._failed = False

    def shown(
        self, document: Document, offset: int, suggestion: "Suggestion", *, end: int | None = None
    ) -> None:
        """The editor was given `suggestion` for `offset` of the document as it now is.

        `end`: it replaces [offset, end), what the user has typed of it. Where it does not begin
        with that, it is the editor's menu that is accepted, and nothing is written down.
        """
        text, typed = _plain(suggestion.text), document.source[offset:end] if end else ""
        offset += len(typed)
        if not text.startswith(typed) or text == typed:
            return
        text = text[len(typed) :]
        if document not in self._places:
            self._places[document] = _Place(document, document.source)
            document.subscribe(self._edited)
        place = self._places[document]
        edited, place.edited = place.edited, False
        now, before = self._timers.time(), place.showing
        if before and before.is_at(place.text, offset, text):
            before.at = offset
            before.done = len(_plain(place.text[before.origin : offset]))
            before.run = min(before.run, before.done)
            before.since = now if before.since is None else before.since
        elif before and before.at == offset and not edited:
            before.choices[_plain(place.text[before.origin : offset]) + text] = suggestion
        else:
            self._over(place)
            place.showing = _Shown({text: suggestion}, time.time(), offset, offset, now)

    def closed(self, document: Document) -> None:
        """The editor closed the document: what is not known of it by now never will be."""
        if place := self._places.pop(document, None):
            self._over(place)
            self._write(place, list(place.watched))

    def close(self) -> None:
        """The session ends: write down what is known."""
        for document in list(self._places):
            self.closed(document)
        if self._seeds:
            self._seeds.close()

    def _edited(self, document: Document, edit: Edit) -> None:
        place = self._places.get(document)
        if place is None:
            return
        old, place.text, place.edited = place.text, document.source, True
        small = parts(edit, old) if place.showing or place.watched else []
        for watched in place.watched:
            for part in small:
                watched.span.edit(part)
        if place.showing:
            self._follow(place, place.showing, small, old)

    def _follow(self, place: _Place, it: _Shown, edits: list[Edit], old: str) -> None:
        """What edits mean to the suggestion that is shown, or was and may come back."""
        new = None
        if it.since is not None and len(edits) == 1:
            new = inserted(edits[0], old, it.at)
            if new is None and self._taken_back(it, edits[0], old):
                return
        agreeing = {
            text: choice
            for text, choice in it.choices.items()
            if new and text.startswith(_plain(new), it.done)
        }
        if new and agreeing:
            it.choices = agreeing
            self._grown(place, it, new)
        elif edits and it.accepted:
            self._over(place)
        elif edits:
            it.hide(self._timers.time())

    def _taken_back(self, it: _Shown, edit: Edit, old: str) -> bool:
        """Whether the edit deletes what was typed along; then as much more is shown again."""
        gone = len(_plain(old[edit.start : edit.end]))
        if edit.text or edit.end != it.at or gone > it.run:
            return False
        it.at, it.done, it.run = edit.start, it.done - gone, it.run - gone
        return True

    def _grown(self, place: _Place, it: _Shown, new: str) -> None:
        """`new`, the suggestion's next characters, was put in where it stands."""
        text = min(it.choices, key=len)
        plain, rest = _plain(new), text[it.done :]
        start, it.at, it.done = it.at, it.at + len(new), it.done + len(plain)
        if _is_acceptance(plain, rest, fresh=it.done == len(plain)):
            it.run = 0
            it.accepted += len(plain)
            it.span.add(start, it.at)
            if it not in place.watched:
                self._watch(place, it)
        else:
            it.run += len(plain)
        if plain == rest:
            it.choices = {text: it.choices[text]}
            it.whole = it.accepted > 0
            self._over(place)

    def _watch(self, place: _Place, it: _Shown) -> None:
        place.watched.append(it)
        it.timers = [
            self._timers.call_later(delay, partial(self._mark, place, it, mark))
            for mark, delay in MARKS.items()
        ]

    def _mark(self, place: _Place, it: _Shown, mark: str) -> None:
        it.survival[mark] = round(it.span.share, 4)
        if mark == list(MARKS)[-1]:
            if it is place.showing:
                place.showing = None
            self._write(place, [it])
            if self._seeds and (extent := it.span.extent):
                self._seeds.take(place.document, *extent, whole=it.span.share == 1)

    def _over(self, place: _Place) -> None:
        """What is shown is no more; where none of it was accepted, its fate is known."""
        it, place.showing = place.showing, None
        if it:
            it.hide(self._timers.time())
            if it not in place.watched:
                self._write(place, [it])

    def _write(self, place: _Place, them: Iterable[_Shown]) -> None:
        for it in them:
            for timer in it.timers:
                timer.cancel()
            if it in place.watched:
                place.watched.remove(it)
            try:
                records.append(self._file, [_record(it).model_dump_json()])
            except OSError as error:
                if (
                    not self._failed
                ):  # the editor's user is not disturbed, and not at each keystroke
                    logging.getLogger(__name__).warning(
                        "%s cannot be written: %s", self._file, error
                    )
                self._failed = True


def _record(it: _Shown) -> Record:
    text, suggestion = next(iter(it.choices.items()))
    return Record(
        id=suggestion.id,
        time=round(it.born, 3),
        language=suggestion.language,
        model=suggestion.model,
        source=suggestion.source,
        lines=text.rstrip("\n").count("\n") + 1,
        characters=len(text),
        latency_ms=round(suggestion.latency * 1000, 1),
        shown_ms=round(it.shown * 1000, 1),
        accepted="whole" if it.whole else "part" if it.accepted else "no",
        accepted_characters=it.accepted,
        typed_characters=max(0, it.done - it.accepted),
        survival=Survival(**it.survival) if it.accepted else None,
    )


def _is_acceptance(new: str, rest: str, *, fresh: bool) -> bool:
    """Whether `new`, a beginning of `rest`, was accepted and not typed.

    `fresh`: nothing of the suggestion was there before. Part of a word was typed: some editors send
    several keys as one edit, and acceptance stops at a word's end.
    """
    if new in _PAIRS or new.isspace():
        return False
    if new == rest:
        return fresh or len(new) > 1
    return len(new) > 1 and not (_in_word(new[-1]) and _in_word(rest[len(new)]))


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
