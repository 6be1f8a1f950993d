"""The pure stages together, on real code: holes whose true text is followed by rubbish."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from magicoder.languages import by_path
from magicoder.lsp.completion.finish import finish
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.completion.scope import depth, extent
from magicoder.lsp.completion.stop import Watch
from magicoder.lsp.completion.syntax import clean
from magicoder.lsp.trees import Source

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "tests/data/sources").glob("*/*"))
OWN = [path for path in sorted((ROOT / "magicoder").glob("*.py")) if "```" not in path.read_text()]
LOOP = "x1 = foo(bar)\n"


def holes(text: str, rng: random.Random, number: int) -> Iterator[tuple[str, int, int]]:
    """Parts of a text that an answer might be: the rest of a line, a line, lines, a block."""
    lines = text.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:row]) for row in range(len(lines))]
    code = [row for row, line in enumerate(lines) if line.strip()]
    for _ in range(number):
        row = last = rng.choice(code)
        indent = len(lines[row]) - len(lines[row].lstrip())
        kind = rng.choice(["rest", "line", "lines", "block"])
        if kind == "rest":
            indent = rng.randint(indent, len(lines[row]))
        elif kind == "lines":
            indent, last = 0, min(row + rng.randint(0, 6), len(lines) - 1)
        elif kind == "block":
            base = depth(lines[row])
            while last + 1 < len(lines) and (
                not lines[last + 1].strip() or depth(lines[last + 1]) >= base > 0
            ):
                last += 1
            while not lines[last].strip():
                last -= 1
        begin, end = starts[row] + indent, starts[last] + len(lines[last])
        if text[begin:end].strip():
            yield kind, begin, end


def rubbish(after: str, rng: random.Random) -> str:
    """What models write behind the answer that was asked for."""
    below = after.split("\n")
    following = "\n".join(below[: rng.choice([2, 3, 6])])
    rows = [row for row, line in enumerate(below) if row and line.strip()]
    begun = "\n".join(below[: rows[2] + 1])[:-1] if len(rows) > 2 else following
    return rng.choice(["", following, begun, "<|endoftext|>a", "\n```\nThis adds", "\n" + LOOP * 5])


def suggested(source: Source, offset: int, answer: str, step: int) -> str:
    """What is shown of an answer that arrives in pieces."""
    hole = Hole.at(source.text, offset)
    scope = extent(hole, source, offset)
    watch = Watch(hole, scope, source, offset)
    for size in range(step, len(answer) + step, step):
        if (where := watch.end(answer[:size])) is not None:
            answer = answer[:where]
            break
    return clean(finish(hole, scope, answer, cut=False), source, offset)


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("path", SAMPLES + OWN, ids=lambda path: path.name)
def test_of_a_true_text_with_rubbish_the_true_text_is_left(path: Path, crlf: bool) -> None:
    rng = random.Random(path.name)
    text = path.read_text()
    found = []
    for kind, begin, end in holes(text, rng, 30):
        true, before, after = text[begin:end].rstrip(), text[:begin], text[end:]
        raw = (before.replace("\n", "\r\n"), after.replace("\n", "\r\n"))
        source = Source("".join(raw) if crlf else before + after, by_path(path))
        offset = len(raw[0]) if crlf else len(before)
        errors = source.errors
        shown = suggested(source, offset, text[begin:end] + rubbish(after, rng), rng.choice([1, 5]))
        # A copy of a line that could well stand there is left of a loop.
        assert true.startswith(shown.rstrip()) or shown == f"{true}\n{LOOP.rstrip()}"
        assert Source(source.filled(offset, shown).text, source.language).errors <= errors
        below = [line for line in after.split("\n")[1:] if line.strip()]
        last = (before + shown).rstrip().rpartition("\n")[2]
        repeated = bool(shown and below) and last.rstrip() == below[0].rstrip()
        assert not repeated or shown.rstrip() == true
        found.append((kind, shown.rstrip() == true))
    # Many lines reach into what was not asked for; the other kinds are a place's own.
    whole = [exact for kind, exact in found if kind != "lines"]
    assert sum(whole) >= 0.7 * len(whole)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.parent.name)
def test_rubbish_alone_breaks_nothing(path: Path) -> None:
    rng = random.Random(path.name)
    text = path.read_text()
    words = text.split() + list("(){}[];:\"'\n") + ["\n    ", "end", "\n"]
    for kind, begin, end in holes(text, rng, 30):
        source = Source(text[:begin] + text[end:], by_path(path))
        answer = "".join(
            rng.choice(words) + rng.choice(["", " "]) for _ in range(rng.randint(1, 20))
        )
        shown = suggested(source, begin, answer, 3)
        assert Source(source.filled(begin, shown).text, source.language).errors <= source.errors
        assert shown == "" or shown.strip()
        assert "<|" not in shown, kind
