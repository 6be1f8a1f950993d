"""Stage 8: a suggestion may not break the file. Pure."""

import re

from magicoder.lsp.completion.scope import depth
from magicoder.lsp.completion.stop import balance
from magicoder.lsp.trees import Source, faults

TRIES = 12
"""Lines that are taken back at most."""

_STRAY = {"ruby": r"^[ \t]*end\b", "shell": r"^[ \t]*(fi|done|esac)\b"}


def clean(text: str, source: Source, offset: int) -> str:
    """The lines of `text`, from the first, that leave the fewest syntax errors, as many as can be.

    Empty where any of them would add one. A single line stays whole or goes: half of one says what
    nobody meant. Passes where no grammar can tell.
    """
    if source.tree is None or not text:
        return text
    if "\n" not in text and not _count(source.filled(offset, text)):
        return text  # mostly so, and soon known
    part, place = _around(source, offset)
    lasting = _lasting(part, place)
    tried: list[tuple[int, str]] = []
    for one in _shorter(text):
        if not _joins(one, part, place, whole=one == text):
            continue
        tried.append((_count(part.filled(place, one)), one))
        if tried[-1][0] <= lasting:
            break
    tried.sort(key=lambda pair: pair[0])  # the longest first among equals
    for errors, one in tried[:2]:
        if not errors or _no_worse(source.filled(offset, one), source):
            return one
    return ""


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


def _joins(text: str, source: Source, offset: int, *, whole: bool) -> bool:
    """Whether lines that end in `text` go with those below: Python's grammar takes any depth."""
    if source.language is None or source.language.name != "python" or (whole and "\n" not in text):
        return True
    begun = source.text[:offset].rpartition("\n")[2] + text.rstrip("\n")
    last = begun.rpartition("\n")[2].rstrip()
    rest = source.text[offset:].split("\n")[0 if text.endswith("\n") else 1 :]
    after = next((line for line in rest if line.strip()), "")
    deeper = depth(after) > depth(last)
    if deeper == last.endswith(":") or balance(begun) > 0 or last.lstrip().startswith("#"):
        return True
    node = source.filled(offset, text).node_at(offset + len(text.rstrip("\n")))
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
    # Where the text is broken, what lies inside a node may seem to stand beside it.
    nodes = [node for node in nodes if node.start_point.column == 0 and not node.has_error]
    begin = max([node.start_byte for node in nodes if node.end_byte < byte][-2:-1], default=0)
    if source.language is not None and source.language.name == "php":
        begin = 0  # it is text up to the first tag
    end = min([node.end_byte for node in nodes if node.start_byte > byte][1:2], default=None)
    code = source.text.encode(errors="replace")
    before = code[begin:byte].decode()
    return Source(before + code[byte:end].decode(), source.language), len(before)


def _lasting(source: Source, offset: int) -> int:
    """How many errors do not touch the cursor, and so no text there will mend."""
    byte = source.byte(offset)
    root = source.tree.root_node if source.tree else None
    # What is missing far away may be missing because of what is written here.
    return sum(
        not (one.is_missing or one.start_byte <= byte <= one.end_byte)
        for one in (faults(root) if root else ())
    )
