"""Stage 7: an answer made fit for its place. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from magicoder.lsp.completion.hole import Hole, line_feeds
from magicoder.lsp.completion.scope import TAB, Extent, depth
from magicoder.lsp.completion.stop import Watch, balance, below, lowest
from magicoder.lsp.trees import Source

NEAR = 4000
"""Characters on each side of the cursor that show how this file is indented."""

_HEAD = re.compile(
    r"\{$|^\s*(async|case|class|def|elif|else|except|finally|for|if|match|try|while|with)\b.*:$"
)
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters, line separators, and what shows code in another order than it is read."""

_MARK = re.compile(r"<(BOS|EO[FS]|PAD|UNK)>|\[/?INST\]|<</?SYS>>")
"""Control tokens that models also write as text; those of infilling end the answer before."""

_FENCE = re.compile(r"\s*```[^\n`]*\n")


def finish(hole: Hole, extent: Extent, text: str, *, cut: bool) -> str:
    """What to insert for an answer; empty: nothing. `cut`: the token limit ended it."""
    text = _visible(hole, line_feeds(text))
    if "```" not in hole.before + hole.after:
        text = _FENCE.sub("", text, count=1) if _FENCE.match(text) else text
    text = _indented(hole, text)
    watch = Watch(hole, extent, Source("", None), 0)
    if cut and watch.end(text) is None and "\n" in text:
        text = text.rpartition("\n")[0]
    text = text[: watch.end(text + "\n")]
    text = not_below(hole, text)
    text = text[: len(text) - _overlap(hole, text)]
    kept = text.rstrip()
    if not kept.strip() or _above(hole, kept):
        return ""
    if hole.inside_line and not hole.line_before:
        return kept + "\n"
    # "not " before a name needs its blank.
    return kept + " " if kept != text and re.match(r"\w", hole.line_after) else kept


def _visible(hole: Hole, text: str) -> str:
    """`text` up to what no user would see, or to a control token that the file does not quote."""
    marks = (m for m in _MARK.finditer(text) if m[0] not in hole.before + hole.after)
    ends = [found.start() for found in (_UNSEEN.search(text), next(marks, None)) if found]
    return text[: min(ends, default=None)]


def not_below(hole: Hole, text: str) -> str:
    """`text` without last lines that are the first ones below the cursor."""
    following = [line.rstrip() for line in below(hole) if line.strip()]
    lines = (hole.line_before + text).split("\n")
    ends = [number for number, line in enumerate(lines) if line.strip()]
    for size in range(min(len(following), len(ends)), 0, -1):
        last = [lines[number].rstrip() for number in ends[-size:]]
        # The answer may have ended in the midst of a line.
        part = size > 1 and following[size - 1].startswith(last[-1])
        if last[:-1] == following[: size - 1] and (part or last[-1] == following[size - 1]):
            first = ends[-size]
            return "\n".join(lines[:first])[len(hole.line_before) :] if first else ""
    return text


def _above(hole: Hole, text: str) -> bool:
    """Whether `text` is nothing but the lines right above the cursor once more."""
    lines = [line.rstrip() for line in (hole.line_before + text).split("\n") if line.strip()]
    above = [line.rstrip() for line in hole.before[-NEAR:].split("\n")[:-1] if line.strip()]
    return len(lines) > 1 and lines == above[-len(lines) :]


def _overlap(hole: Hole, text: str) -> int:
    """How many characters at the end of `text` repeat what follows the cursor on its line.

    A closing bracket is no repetition where the line needs both.
    """
    if not hole.line_before:
        return 0
    rest = hole.line_after.strip()
    surplus = lowest(text) < 0 and lowest(hole.line_before + text + rest) < 0
    for size in range(min(len(rest), len(text)), 0, -1):
        tail = rest[:size]
        if text.endswith(tail) and (size == len(rest) or not re.search(r"[\w\s]", tail)):
            return size if surplus or balance(tail) >= 0 else 0
    return 0


def _indented(hole: Hole, text: str) -> str:
    """`text` with the blanks that this file begins its lines with."""
    first, *rest = text.split("\n")
    if hole.line_before and not hole.line_before.strip():
        first = _led(hole, first)
    elif hole.line_before.endswith(" "):
        first = first.lstrip(" ")
    if not rest:
        return first
    lines = (hole.before[-NEAR:] + hole.after[:NEAR]).split("\n")
    tabs = sum(line.startswith("\t") for line in lines)
    spaces = sum(line.startswith("  ") for line in lines)
    base = depth(hole.line_before + first)
    unit = TAB if tabs > spaces else _step(lines, least=2)
    own = _step([hole.line_before + first, *rest])
    deeper = [depth(line) - base for line in rest if line.strip() and depth(line) > base]
    scaled = unit and own and unit != own and not any(deep % own for deep in deeper)

    def blanks(deep: int) -> str:
        if scaled and deep > base:
            deep = base + (deep - base) // own * unit
        return "\t" * (deep // TAB) + " " * (deep % TAB) if tabs > spaces else " " * deep

    if scaled or (tabs or spaces):
        rest = [blanks(depth(line)) + line.lstrip(" \t") if line.strip() else line for line in rest]
    return "\n".join([first, *rest])


def _led(hole: Hole, first: str) -> str:
    """An answer's first line, without the blanks that the cursor's line has already."""
    above = hole.before.rpartition("\n")[0].rstrip().rpartition("\n")[2]
    deepest = depth(above) + (TAB if re.search(r"[:({\[]$", above.rstrip()) else 0)
    return first if depth(hole.line_before + first) <= deepest else first.lstrip(" \t")


def _step(lines: Sequence[str], least: int = 1) -> int:
    """By how many columns lines go deeper behind a block's head, if `least` times; else 0."""
    steps = Counter(
        depth(below) - depth(line)
        for line, below in pairwise(lines)
        if _HEAD.search(line.rstrip()) and depth(below) > depth(line)
    )
    step, times = (steps.most_common(1) or [(0, 0)])[0]
    return step if times > max(0.8 * steps.total(), least - 1) else 0
