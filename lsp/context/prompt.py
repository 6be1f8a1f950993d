"""What is asked of the model: the text around the cursor and snippets, within a budget of tokens.

Whatever stands early in a prompt stays the same between keystrokes, so that the server need not
read it again: snippets come first, and the window's edges move in steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magicoder.errors import UsageError
from magicoder.languages import Language
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.context.retrieve import Snippet
from magicoder.lsp.context.tokens import Counter

if TYPE_CHECKING:
    from magicoder.client import ModelInfo

CONTEXT = 2048
"""Tokens of context to count on where the server does not tell."""

RESERVE = 16
"""Tokens of the context kept free for infilling and begin-of-text tokens."""

STEPS = (32, 8, 1)
"""Lines by which the window's first line moves; a smaller step where a larger wastes half of it."""

MARK = "<HOLE/>"
"""Where the missing code goes in what a chat-only model is shown."""

_TASK = (
    f"You complete code. Reply with nothing but the code that belongs in place of {MARK}, in one "
    "fenced block. Repeat nothing of what stands around it."
)


@dataclass(frozen=True)
class Request:
    """What to ask the server.

    prefix: the text before the hole.
    suffix: the text after it; None: the model cannot infill and continues the prefix.
    extra: snippets for the model's own repository-level format; empty where it has none.
    stop: strings that end the answer.
    messages: the conversation to ask of a model that only chats, instead of all the others.
    taken_back: what of the text before the cursor the model writes again.
    """

    prefix: str
    suffix: str | None
    extra: tuple[Snippet, ...]
    stop: list[str]
    messages: list[dict[str, str]] | None
    taken_back: str


def assemble(
    hole: Hole,
    snippets: Sequence[Snippet],
    served: "ModelInfo",
    counter: Counter,
    max_tokens: int,
    language: Language | None,
) -> Request | None:
    """The request for the model that is `served`; None: there is nothing to go by.

    A quarter of the budget at most is for the text after the cursor, and one for snippets.
    Whitespace before the cursor alone is nothing to go by, unless the model sees what follows.

    Raises:
        UsageError: the answer alone fills the context.
    """
    context = served.context or CONTEXT
    budget = min(context - max_tokens - RESERVE, counter.largest)
    if budget <= 0:
        raise UsageError(
            f"max_tokens is {max_tokens}, but the model's context {context}: set a smaller one"
        )
    continues = served.fim is None and not served.chat_only
    if not (hole.before if continues else hole.before + hole.after).strip():
        return None
    suffix = "" if continues else _first_lines(hole.after, counter, budget // 4)
    room = budget - counter.count(suffix)
    in_format = served.fim is not None and served.repository
    extra: list[Snippet] = []
    comments = ""
    spent = 0
    for snippet in snippets:
        shown = f"{snippet.path}\n{snippet.text}" if in_format else _comment(snippet, language)
        cost = counter.count(shown) + 1
        if spent + cost > budget // 4 or not shown:
            continue
        spent += cost
        if in_format:
            extra.append(snippet)
        else:
            comments += shown
    prefix = comments + _last_lines(hole.before, counter, room - spent)
    stop = ["\n"] if hole.inside_line else []
    if served.chat_only:
        return Request(prefix, suffix, (), [], _messages(prefix, suffix, language), "")
    if not continues:
        return Request(prefix, suffix, tuple(extra), stop, None, "")
    # Tokens of code begin with their space, so a model that continues gets the last one back; one
    # that talks ends its code with a fence.
    kept = prefix.removesuffix(" ")
    return Request(kept, None, (), stop or ["\n```"], None, prefix[len(kept) :])


def unfenced(text: str, hole: Hole) -> str:
    """The code in a chat's answer, perhaps still arriving; empty: none has come yet.

    A model that repeats the line before the cursor is cut short.
    """
    if text.lstrip().startswith("`"):
        text = text.lstrip().partition("\n")[2].partition("\n```")[0]
    repeated, said = hole.line_before.lstrip(), text.lstrip()
    if len(said) < len(repeated) and repeated.startswith(said):
        return ""
    return said[len(repeated) :] if repeated and said.startswith(repeated) else text


def _messages(prefix: str, suffix: str, language: Language | None) -> list[dict[str, str]]:
    name = language.name if language else ""
    shown = f"```{name}\n{prefix}{MARK}{suffix}\n```"
    return [{"role": "system", "content": _TASK}, {"role": "user", "content": shown}]


def _comment(snippet: Snippet, language: Language | None) -> str:
    """A snippet as comments that name its file; empty where the language has none."""
    if language is None:
        return ""
    lines = [f"Path: {snippet.path}", *snippet.text.rstrip("\n").split("\n")]
    return "".join(f"{language.comment} {line}".rstrip() + "\n" for line in lines)


def _last_lines(text: str, counter: Counter, size: int) -> str:
    """The last lines of `text` within `size` tokens, from a line whose number is a step's multiple.

    Part of the last line where it does not fit.
    """
    starts: list[int] = []  # of the lines that fit, the last one first
    line, left = text.rfind("\n") + 1, size - counter.count(text[text.rfind("\n") + 1 :])
    while left >= 0:
        starts.append(line)
        if not line:
            break
        end, line = line, text.rfind("\n", 0, line - 1) + 1
        left -= counter.count(text[line:end])
    if not starts:
        return _tail(text[line:], counter, size)
    first = text.count("\n", 0, starts[-1])
    for step in STEPS:
        passed = -first % step
        kept = text[starts[-1 - passed] :] if passed < len(starts) else ""
        if not passed or (kept and 2 * counter.count(kept) >= size):
            return kept
    return text[starts[-1] :]


def _first_lines(text: str, counter: Counter, size: int) -> str:
    """The first lines of `text` within `size` tokens; part of the first where it does not fit."""
    end, left = 0, size
    while end < len(text):
        line = text[end : text.find("\n", end) + 1 or None]
        left -= counter.count(line)
        if left < 0:
            return text[:end] or _head(line, counter, size)
        end += len(line)
    return text


def _tail(line: str, counter: Counter, size: int) -> str:
    while line and counter.count(line) > size:
        line = line[-(len(line) // 2) :] if len(line) > 1 else ""
    return line


def _head(line: str, counter: Counter, size: int) -> str:
    while counter.count(line) > size:
        line = line[: len(line) // 2]
    return line
