"""Stage 8: a suggestion may not break the file. Pure."""

import ast
import math
import re
import warnings
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from magicoder.languages import Language
from magicoder.lsp.completion.scope import depth
from magicoder.lsp.completion.stop import balance
from magicoder.lsp.trees import Source

if TYPE_CHECKING:
    from tree_sitter import Node

TRIES = 12
"""Lines that are taken back at most."""

SIMPLE = ("x", "(x)", "x)", "x;", "x);", "x {", "x) {")
"""What ends most things that may have been begun at the cursor."""

PARSED = 20_000
"""Characters at most that Python parses, in some 5 ms."""

_STRAY = {"ruby": r"^[ \t]*end\b", "shell": r"^[ \t]*(fi|done|esac)\b"}


def clean(text: str, source: Source, offset: int) -> str:
    """The lines of `text`, from the first, as many as do not break the file.

    What breaks it leaves more syntax errors than one of `SIMPLE`, or than the cursor's line left
    out. A single line stays whole or goes: half of one says what nobody meant. Passes where no
    grammar can tell.
    """
    if source.tree is None or not text:
        return text
    part, place = _around(source, offset)
    before, after = part.text[:place], part.text[place:]
    begun = bool(before.rpartition("\n")[2].strip())
    if balance(text) <= 0:  # else the parser may go to the end of the file
        filled = source.filled(offset, text)
        joins = _joins(text, filled, offset, whole=begun)
        code = before + text + after
        if joins and not _count(filled) and _python(code, len(before + text), source.language):
            return text  # mostly so, and soon known
    best = _best(part, place)
    tried: list[tuple[int, str]] = []
    for one in _shorter(text):
        filled = part.filled(place, one)
        if not _joins(one, filled, place, whole=begun and one == text):
            continue
        errors = _errors(filled, place + len(one), best)
        if errors <= best:
            tried.append((errors, one))
        if not errors:
            break
    for errors, one in sorted(tried, key=lambda pair: pair[0])[:2]:  # the longest among equals
        if not errors or _no_worse(source.filled(offset, one), source):
            return one
    return ""


def _best(part: Source, place: int) -> int:
    """The fewest errors that something simple at the cursor leaves, or in place of its line."""
    before, after = part.text[:place], part.text[place:]
    start = before.rfind("\n") + 1
    end = place + len(after.partition("\n")[0])
    lines: list[str] = [""]
    if part.language is not None and part.language.name == "python":
        above, below = before[:start].rstrip().rpartition("\n")[2], after.partition("\n")[2]
        below = next((line for line in below.split("\n") if line.strip()), "")
        blanks = [line[: len(line) - len(line.lstrip())] for line in (above, below)]
        deeper = f"{blanks[0]}    x"
        lines = [f"{blanks[0]}if x:", f"{blanks[0]}x", f"{blanks[1]}x", deeper, ""]
    best = _errors(part, place)
    for text, first, last in (
        *((text, place, place) for text in SIMPLE),
        *((line, start, end) for line in lines),
    ):
        if best:
            best = min(best, _errors(part.filled(first, text, last), first + len(text), best))
    return best


def _errors(part: Source, place: int, most: float = math.inf) -> int:
    """The errors of a part; of more than `most`, Python is not asked as well."""
    count = _count(part)
    return count if count > most else count + (not _python(part.text, place, part.language))


def _python(text: str, place: int, language: Language | None) -> bool:
    """Whether Python can parse it, if it is Python: the grammar takes any indentation.

    The block of a head that ends at `place` may be empty as yet.
    """
    if language is None or language.name != "python" or len(text) > PARSED:
        return True
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(text)
    except IndentationError as error:
        row = text.count("\n", 0, place) + 1
        return re.search(rf"^expected an indented block .* on line {row}$", error.msg) is not None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _no_worse(filled: Source, source: Source) -> bool:
    return filled.errors <= source.errors and _count(filled) <= _count(source)


def _count(source: Source) -> int:
    """Errors, and ends that end nothing: where they are no reserved words they parse as names."""
    if source.tree is None or source.language is None or source.language.name not in _STRAY:
        return source.errors
    ends = re.finditer(_STRAY[source.language.name], source.text, re.MULTILINE)
    nodes = (source.node_at(end.end()) for end in ends)
    names = ("identifier", "word", "command_name")
    return source.errors + sum(node is not None and node.type in names for node in nodes)


def _joins(text: str, filled: Source, offset: int, *, whole: bool) -> bool:
    """Whether lines that end in `text`, which `filled` has at `offset`, go with those below.

    Python's grammar takes any depth.
    """
    if filled.language is None or filled.language.name != "python" or (whole and "\n" not in text):
        return True
    begun = filled.text[:offset].rpartition("\n")[2] + text.rstrip("\n")
    last = begun.rpartition("\n")[2].rstrip()
    rest = filled.text[offset + len(text) :].split("\n")[0 if text.endswith("\n") else 1 :]
    after = next((line for line in rest if line.strip()), "")
    deeper = depth(after) > depth(last)
    if deeper == last.endswith(":") or balance(begun) > 0 or last.lstrip().startswith("#"):
        return True
    node = filled.node_at(offset + len(text.rstrip("\n")))
    return node is not None and "string" in node.type


def _shorter(text: str) -> list[str]:
    """`text`, and what is left as its lines are taken back from the last."""
    lines = text.rstrip("\n").split("\n")
    end = "\n" if text.endswith("\n") else ""
    sizes = range(len(lines), max(len(lines) - TRIES, 0), -1)
    parts = ("\n".join(lines[:size]).rstrip() for size in sizes)
    return list(dict.fromkeys([text, *(part + end for part in parts if part)]))


def _around(source: Source, offset: int) -> tuple[Source, int]:
    """What stands around the cursor at the top of the file, and where the cursor is in it.

    A bracket that is left open sends the parser to the end of the text, which is far in a long one.
    """
    byte = source.byte(offset)
    nodes = [] if source.tree is None else source.tree.root_node.children
    above = _second([node for node in nodes if node.end_byte < byte][::-1])
    below = _second([node for node in nodes if node.start_byte > byte])
    php = source.language is not None and source.language.name == "php"
    begin = 0 if above is None or php else above.start_byte  # PHP is text up to the first tag
    end = None if below is None else below.end_byte
    code = source.text.encode(errors="replace")
    before = code[begin:byte].decode()
    return Source(before + code[byte:end].decode(), source.language), len(before)


def _second(nodes: "Sequence[Node]") -> "Node | None":
    """The second of `nodes` that stands at the top of the file.

    Where the text is broken, what lies inside a node may seem to stand beside it.
    """
    sound = (node for node in nodes if node.start_point.column == 0 and not node.has_error)
    return next(islice(sound, 1, None), None)
