"""Stage 1: whether a completion is worth asking for at all. Pure.

A refusal where something useful could have been said costs more than a request: what is not told
for sure by the tree is asked.
"""

import re
from typing import TYPE_CHECKING

from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.trees import Source

if TYPE_CHECKING:
    from tree_sitter import Node

_CODE_IN_STRING = re.compile("interpolation|substitution|expansion|interpolated_expr")
_CONTAINER = re.compile(
    r"(.*_)?(block|body|compound_statement|statements|statement_list|declaration_list|then)$"
)
_QUOTES = "\"'`"


def refusal(hole: Hole, source: Source, offset: int, *, invoked: bool) -> str | None:
    """Why nothing should be asked at the hole, in a few words; None: ask.

    source, offset: the document with its tree, and the cursor in it.
    invoked: the user pressed the key, and knows better than any rule but one.
    """
    if not (hole.before + hole.after).strip():
        return "the document is empty"
    if invoked:
        return None
    if re.match(r"\w", hole.line_after):
        return "a word follows"
    node = source.node_at(offset)
    if node is None:
        return None
    byte = source.byte(offset)
    while node is not None and not _CODE_IN_STRING.search(node.type):
        if node.start_byte < byte <= node.end_byte and "comment" in node.type:
            return _comment(hole)
        if node.start_byte < byte < node.end_byte and "string" in node.type:
            return _string(hole, source, offset, node)
        node = node.parent
    return _complete(hole, source, offset)


def _comment(hole: Hole) -> str | None:
    """Comments that are not being written: with text behind the cursor, a full stop, no words."""
    before, after = hole.line_before.strip(), hole.line_after.partition("*/")[0]
    if re.search(r"\w", after):
        return "in the midst of a comment"
    if before.endswith(("*/", "!", "?")) or re.search(r"\w\w\.$", before):
        return "the comment is complete"
    return "a line of signs" if len(before) > 4 and not re.search(r"\w", before) else None


def _string(hole: Hole, source: Source, offset: int, node: "Node") -> str | None:
    """Strings that are not being written: with words behind the cursor, or code behind their end.

    An editor writes the closing quote at once, and so strings that are being written have one too.
    """
    while node.parent is not None and "string" in node.parent.type:
        node = node.parent
    after = hole.line_after.encode(errors="replace")
    rest = node.end_byte - source.byte(offset)
    if re.search(rb"\w", after[:rest]):
        return "in the midst of a string"
    written = re.search(r"\w\W*$", hole.line_before) and hole.line_before[-1] not in _QUOTES
    if written and re.search(rb"\w", after[rest:]):
        return "the string is complete"
    return None


def _complete(hole: Hole, source: Source, offset: int) -> str | None:
    """Lines at whose end a statement ends as well, with a bracket, a quote or a semicolon."""
    before = hole.line_before.rstrip()
    if hole.inside_line or not before or before[-1] not in ")]};" + _QUOTES:
        return None
    language = source.language
    if before[-1] in _QUOTES and language is not None and language.name in ("shell", "ruby"):
        return None  # a command may take one more
    byte = source.byte(offset - (len(hole.line_before) - len(before)))
    node = source.tree.root_node.descendant_for_byte_range(byte - 1, byte) if source.tree else None
    while node is not None and node.end_byte == byte:
        above = node.parent
        if above is None:
            return "the statement is complete"
        if above.is_error or node.has_error or "parameter" in node.type:
            return None
        if above.end_byte != byte and (above.parent is None or _CONTAINER.match(above.type)):
            return "the statement is complete"
        node = above
    return None
