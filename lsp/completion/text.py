"""The stages of an inline completion, all pure: the text around the cursor goes in, text comes out.

`window` (what fits the model), `request` (what to ask, or nothing), `end` (may the stream stop
here?), `finish` (what is shown). The engine runs them around one request to the server.
"""

import re
from dataclasses import dataclass

from magicoder.errors import UsageError
from magicoder.lsp.completion.hole import Hole, line_feeds

RESERVE = 16
"""Tokens of the context kept free for infilling and begin-of-text tokens."""

LARGEST = 8192
"""UTF-8 bytes around the cursor at most: a longer prompt costs time at each keystroke."""


@dataclass(frozen=True)
class Request:
    """What to ask the server: to fill the hole, or, without a suffix, to continue the prefix."""

    prefix: str
    suffix: str | None
    stop: list[str]


def window(hole: Hole, context: int, max_tokens: int) -> Hole:
    """The whole lines around the cursor that fit `context` tokens beside an answer.

    A token is at least one byte in every tokenizer served here, so bytes bound tokens from above.
    A quarter at most is for the text after the cursor.

    Raises:
        UsageError: the answer alone fills the context.
    """
    size = min(context - max_tokens - RESERVE, LARGEST)
    if size <= 0:
        raise UsageError(
            f"max_tokens is {max_tokens}, but the model's context {context}: set a smaller one"
        )
    after = _first_bytes(hole.after, size // 4)
    return Hole(_last_bytes(hole.before, size - len(after.encode())), after)


def request(hole: Hole, *, infill: bool) -> Request | None:
    """What to ask a model that can `infill`, or one that can only continue; None: ask nothing.

    Tokens of code begin with their space, so a model that continues gets the last one back.
    """
    stop = ["\n"] if hole.inside_line else []
    if infill:
        return (
            Request(hole.before, hole.after, stop) if (hole.before + hole.after).strip() else None
        )
    if not hole.before.strip():
        return None
    # A model that talks ends its code with a fence.
    return Request(hole.before.removesuffix(" "), None, stop or ["\n```"])


def end(hole: Hole, text: str) -> int | None:
    """Where in `text`, perhaps still arriving, the completion is over; None: more may come.

    One line where text follows the cursor. Else it ends before a line that repeats the next one of
    the document, and at a blank line after which the code is less deep than it was.
    """
    if hole.inside_line:
        return text.find("\n") if "\n" in text else None
    following = next((line for line in hole.after.split("\n")[1:] if line.strip()), None)
    lines = text.split("\n")
    depth = None
    after_blank = False
    start = 0
    for number, line in enumerate(lines):
        whole = line if number else hole.line_before + line
        arrived = number < len(lines) - 1
        if arrived and following is not None and whole.rstrip() == following.rstrip():
            return max(start - 1, 0)
        if number and line.strip():
            if depth is None:
                depth = max(_indent(hole.line_before), _indent(line), 1)
            if after_blank and _indent(line) < depth:
                return start - 1
        after_blank = not whole.strip()
        start += len(line) + 1
    return None


def finish(hole: Hole, asked: Request, text: str, *, cut: bool) -> str:
    """What to insert for a whole answer; empty: nothing. `cut`: the token limit ended it."""
    taken_back = hole.before[len(asked.prefix) :]
    text = line_feeds(text).removeprefix(taken_back)
    if cut and end(hole, text) is None and "\n" in text:
        text = text.rpartition("\n")[0]
    text = text[: end(hole, text + "\n")]
    text = text[: len(text) - _overlap(hole, text)].rstrip()
    return text if text.strip() else ""


def _overlap(hole: Hole, text: str) -> int:
    """How many characters at the end of `text` repeat what follows the cursor on its line.

    A closing bracket is no repetition where the line needs both.
    """
    rest = hole.line_after.strip()
    surplus = _depth(text) < 0 and _depth(hole.line_before + text + rest) < 0
    for size in range(min(len(rest), len(text)), 0, -1):
        tail = rest[:size]
        if text.endswith(tail) and (size == len(rest) or not re.search(r"[\w\s]", tail)):
            return size if surplus or _depth(tail) == 0 else 0
    return 0


def _depth(text: str) -> int:
    """Opening less closing brackets."""
    return sum((char in "([{") - (char in ")]}") for char in text)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _last_bytes(text: str, size: int) -> str:
    """The last whole lines of `text` within `size` bytes; part of a line where none fits."""
    kept = text[-size:].encode(errors="ignore")[-size:].decode(errors="ignore")
    return kept if len(kept) == len(text) else kept.partition("\n")[2] or kept


def _first_bytes(text: str, size: int) -> str:
    """The first whole lines of `text` within `size` bytes; part of a line where none fits."""
    kept = text[:size].encode(errors="ignore")[:size].decode(errors="ignore")
    return kept if len(kept) == len(text) else "".join(kept.rpartition("\n")[:2]) or kept
