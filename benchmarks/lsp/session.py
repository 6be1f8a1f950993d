"""Composes `session.json`: how a person might type a piece of our own code, key by key.

    python -m benchmarks.lsp.session

The code is `magicoder/languages.py` as it was then; two of its functions are typed anew. Intervals
are of a fluent typist (Dhakal et al. 2018: 120 ms to 240 ms between keys), with pauses before a new
line and to think, typing errors that are seen some keys later, an editor that indents, and a
backspace that takes an indentation back whole. Written once and kept: the replay never changes.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT

FILE = Path(__file__).with_name("session.json")
KEYS = 500
FROM, TO = "def by_path(", "def syntax_errors("
_NEIGHBOURS = dict(zip("abcdefghijklmnopqrstuvwxyz", "snvfrdgjokjknmipwetriewcyx", strict=True))


@dataclass(frozen=True)
class Key:
    """What one key does at the cursor: takes `back` characters back and types `text`.

    wait: seconds since the key before.
    """

    wait: float
    back: int
    text: str


@dataclass(frozen=True)
class Session:
    """A document with a cursor behind `before`, and the keys typed there."""

    path: str
    language: str
    before: str
    after: str
    keys: tuple[Key, ...]

    def states(self) -> list[str]:
        """What stands between `before` and `after`, behind each key."""
        found, typed = [], ""
        for key in self.keys:
            typed = typed[: len(typed) - key.back] + key.text
            found.append(typed)
        return found


def load(path: Path = FILE) -> Session:
    """The recorded session."""
    told = json.loads(path.read_text("utf-8"))
    keys = tuple(Key(ms / 1000, back, text) for ms, back, text in told.pop("keys"))
    return Session(**told, keys=keys)


def compose(text: str, seed: int = 976) -> Iterator[Key]:
    """The keys that type `text`, which starts where a line does."""
    chance = random.Random(seed)  # noqa: S311
    position, since = 0, 0
    while position < len(text):
        char, since = text[position], since + 1
        if char == "\n":
            yield from _line_break(text, position, chance)
            position += 1 + len(_indent(text, position + 1))
            continue
        if since > 45 and text[position - 1] in " (,:":
            since = 0
            yield Key(_between(chance) + chance.uniform(0.9, 2.2), 0, char)
        else:
            yield Key(_between(chance) * (1.0 if char.islower() or char == " " else 1.4), 0, char)
        position += 1
        if char in _NEIGHBOURS and chance.random() < 0.03:
            unseen = text[position : position + chance.randrange(3)].partition("\n")[0]
            yield Key(_between(chance), 0, _NEIGHBOURS[char])  # one key too many
            for late in unseen:
                yield Key(_between(chance), 0, late)
            for number in range(1 + len(unseen)):
                yield Key(chance.uniform(0.09, 0.16) if number else 0.35, 1, "")


def _line_break(text: str, position: int, chance: random.Random) -> Iterator[Key]:
    """Return, the editor's indentation, and what the user makes of it."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    given = _indent(line, 0) + ("    " if line.endswith((":", "(", "[", "{")) else "")
    wanted = _indent(text, position + 1)
    yield Key(chance.uniform(0.25, 0.9), 0, "\n" + given)
    if len(wanted) < len(given):
        for _ in range((len(given) - len(wanted)) // 4):
            yield Key(chance.uniform(0.15, 0.3), 4, "")
    elif wanted != given:
        yield Key(chance.uniform(0.15, 0.3), 0, wanted[len(given) :])


def _indent(text: str, start: int) -> str:
    rest = text[start:]
    return rest[: len(rest) - len(rest.lstrip(" "))]


def _between(chance: random.Random) -> float:
    """Seconds between two keys of a word."""
    return min(0.4, max(0.07, chance.lognormvariate(-1.95, 0.35)))


def main() -> None:
    path = "magicoder/languages.py"
    source = (ROOT / path).read_text("utf-8")
    start, end = source.index(FROM), source.index(TO)
    keys = list(compose(source[start:end].rstrip()))[:KEYS]
    told = {
        "path": path,
        "language": "python",
        "before": source[:start],
        "after": "\n\n\n" + source[end:],
        "keys": [[round(key.wait * 1000), key.back, key.text] for key in keys],
    }
    FILE.write_text(json.dumps(told, ensure_ascii=False) + "\n", "utf-8")
    print(f"{FILE}: {len(keys)} keys, {sum(key.wait for key in keys):.0f} s")


if __name__ == "__main__":
    main()
