"""Stage 5: how much may be inserted: the rest of a line, a block, or what indentation tells. Pure.

A line belongs to the nearest line above it that is less deep, its owner: the head of a block, the
opening of a call, a definition. The cursor's own column tells which block is meant; at the start of
a line it tells nothing, and then only definitions bound what comes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.trees import Source

TAB = 4
"""Columns of a tab, where depths are compared."""

LOOK = 2000
"""Lines above the cursor in which owners are looked for."""

Kind = Literal["list", "definition", "block"]

_LIST = re.compile(
    r"(abstract_|singleton_)?(class|struct|impl|trait|interface|enum|namespace|mod_|protocol|record)"
    r"|internal_module|object_decl|companion"
)
_DEFINITION = re.compile(
    r"(?!.*(call|invocation)).*(function|method|constructor|lambda|closure|arrow|init_|accessor|func_)"
)
_LIST_LINE = re.compile(r"(\w+ )*(class|struct|impl|trait|interface|enum|namespace|module)\b")
_DEFINITION_LINE = re.compile(r"(\w+ )*(def|fn|func|fun|function)\b")
_NOT_BEGUN = re.compile(r"@|#|//|/\*|\*|--|\"\"\"")


class Owner(NamedTuple):
    """A line above the cursor that may own what is inserted.

    depth: its indentation in columns. word: its first word. kind: a list owns definitions, which
    are written one at a time; a definition owns statements; a block is any other.
    """

    depth: int
    word: str
    kind: Kind = "block"


@dataclass(frozen=True)
class Extent:
    """What may be inserted.

    kind: the rest of one line; a block, which ends where tree and indentation say; or, where no
        grammar tells, what the indentation alone says.
    owners: the lines that may own what is inserted, the deepest first.
    last: the depth of the line above, -1 if there is none: an owner that deep is still empty.
    statement: the depth of the cursor's line where it has begun a statement: an answer that goes on
        in it may end it, and no more.
    quoted: the cursor is within a string of several lines, where depth says nothing.
    """

    kind: Literal["line", "block", "free"]
    owners: tuple[Owner, ...] = ()
    last: int = -1
    statement: int | None = None
    quoted: bool = False


def extent(hole: Hole, source: Source, offset: int) -> Extent:
    """How much may be inserted at the hole; `source` and `offset` are the cursor's document."""
    if hole.inside_line and hole.line_before:
        return Extent("line")
    if source.tree is None:
        return Extent("free")
    begun = hole.line_before.strip()
    last = hole.before.rstrip().rpartition("\n")[2]
    return Extent(
        "block",
        _owners(hole, source, offset),
        depth(last) if last else -1,
        depth(hole.line_before) if begun and not _NOT_BEGUN.match(begun) else None,
        _quoted(hole, source, offset),
    )


def depth(line: str) -> int:
    """The columns of blanks a line begins with."""
    return len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(TAB))


def _quoted(hole: Hole, source: Source, offset: int) -> bool:
    byte, node = source.byte(offset), source.node_at(offset)
    while node is not None:
        rows = node.end_point.row - node.start_point.row
        if rows and node.start_byte < byte < node.end_byte and "string" in node.type:
            return True
        node = node.parent
    # A string that is not closed yet is none to the tree.
    return source.errors > 0 and hole.before.count('"""') % 2 == 1


def _owners(hole: Hole, source: Source, offset: int) -> tuple[Owner, ...]:
    kinds = _kinds(source, offset)
    owners: list[Owner] = []
    least = None
    for row, line in islice(_upwards(hole.before), LOOK):
        head = line.strip()
        if not head or (least is not None and depth(line) >= least) or _told(source, row, line):
            continue
        least = depth(line)
        if head[0] in ")]}":
            least += 1  # its beginning is above, as deep
            continue
        kind: Kind = kinds.get(row, "block")
        if kind == "block" and _DEFINITION_LINE.match(head):
            kind = "definition"
        elif kind == "block" and _LIST_LINE.match(head):
            kind = "list"
        if hole.line_before or kind != "block":
            owners.append(Owner(least, re.split(r"\W", head)[0], kind))
        if not least:
            break
    return tuple(owners)


def _upwards(text: str) -> Iterator[tuple[int, str]]:
    """The rows of `text` and their lines, from the last one."""
    row, end = text.count("\n"), len(text)
    while end >= 0:
        start = text.rfind("\n", 0, end) + 1
        yield row, text[start:end]
        row, end = row - 1, start - 1


def _kinds(source: Source, offset: int) -> dict[int, Kind]:
    """The rows where definitions begin that hold the last character before the cursor."""
    kinds: dict[int, Kind] = {}
    node = source.node_at(len(source.text[:offset].rstrip()))
    while node is not None:
        if _DEFINITION.match(node.type):
            kinds.setdefault(node.start_point.row, "definition")
        elif _LIST.match(node.type):
            kinds.setdefault(node.start_point.row, "list")
        node = node.parent
    return kinds


def _told(source: Source, row: int, line: str) -> bool:
    """Whether a line is a comment or begins within a string, where depth says nothing."""
    if source.tree is None:
        return False
    point = (row, len(line) - len(line.lstrip()))
    node = source.tree.root_node.named_descendant_for_point_range(point, point)
    while node is not None:
        if re.search("comment|preproc", node.type):
            return True
        if re.search("string|heredoc", node.type) and node.start_point.row < row:
            return True
        node = node.parent
    return False
