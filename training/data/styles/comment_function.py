"""Comment-function pairs straight from the code: the paper's ablation; no teacher is asked.

The paper's finding is that finetuning on such pairs lowers results: they are for comparison.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from magicoder import languages
from magicoder.training.data import runner
from magicoder.training.data.extractors.syntax import NODES
from magicoder.training.data.records import Rejected, Sample, Seed
from magicoder.training.data.runner import Stage

if TYPE_CHECKING:
    from tree_sitter import Node

MIN_WORDS = 3  # of a comment

_MARK = re.compile(r"^\s*(?:/\*+!?|\*+/|\*|//[/!]*|#+|[rRbBuUfF]?(?:\"\"\"|'''|\"|'))\s?")
_END = re.compile(r"\s*(?:\*+/|\"\"\"|'''|\"|')\s*$")


def stages(source: Path, ask: Stage) -> dict[str, Stage]:
    """From a file of seeds (the extractor `syntax` gives the most pairs) to samples."""
    return {"seeds": partial(runner.read, path=source, type=Seed), "pairs": pairs}


def pairs(seeds: Iterator[Seed]) -> Iterator[Sample | Rejected]:
    """The first function's comment is the problem, its code without the comment the solution."""
    for seed in seeds:
        found = _pair(seed)
        if isinstance(found, str):
            yield Rejected(reason=found, record=seed)
            continue
        comment, code = found
        yield Sample(
            problem=comment,
            solution=f"```{seed.language}\n{code}\n```",
            language=seed.language,
            style="comment-function",
            seed=seed,
        )


def _pair(seed: Seed) -> tuple[str, str] | str:
    """Comment and code, or what is missing."""
    language = languages.by_name(seed.language)
    if language is None or language.name not in NODES:
        return "unknown language"
    bare_php = language.name == "php" and "<?" not in seed.code
    source = (f"<?php\n{seed.code}" if bare_php else seed.code).encode()
    root = languages.parser(language).parse(source).root_node
    function = next((n for n in _walk(root) if n.type in NODES[language.name].functions), None)
    if function is None:
        return "no function"
    comments = _comments(function)
    if not comments:
        return "no comment"
    text = "\n".join(source[n.start_byte : n.end_byte].decode() for n in comments)
    comment = _bare(text)
    if len(comment.split()) < MIN_WORDS:
        return "comment too short"
    whole = _whole(function)
    start = source.rfind(b"\n", 0, whole.start_byte) + 1
    if source[start : whole.start_byte].strip():
        start = whole.start_byte
    kept, place = b"", start
    for node in comments:
        if node.start_byte >= start:
            kept, place = kept + source[place : node.start_byte], node.end_byte
    code = (kept + source[place : whole.end_byte]).decode()
    lines = [line for line in code.splitlines() if line.strip()]
    if len(lines) < 2:
        return "function too short"
    return comment, textwrap.dedent("\n".join(lines))


def _comments(function: "Node") -> "list[Node]":
    """The comments right before the function, else its docstring or the first in its body."""
    before: list[Node] = []
    node = _whole(function)
    while (previous := node.prev_sibling) is not None and "comment" in previous.type:
        if previous.end_point.row < node.start_point.row - 1:
            break
        before.insert(0, previous)
        node = previous
    if before:
        return before
    body = function.child_by_field_name("body") or function
    inside: list[Node] = []
    # Some grammars put a comment before the body's own node, some the statements in a list
    for child in _first_in(function, body):
        if "comment" not in child.type and not _docstring(child):
            break
        inside.append(child)
    return inside


def _first_in(function: "Node", body: "Node") -> "Iterator[Node]":
    for child in function.named_children:
        if "comment" in child.type:
            yield child
    for child in body.named_children:
        yield from (
            child.named_children if child.type in ("statement_list", "statements") else [child]
        )


def _docstring(node: "Node") -> bool:
    return (
        node.type == "expression_statement"
        and node.named_child_count == 1
        and node.named_children[0].type == "string"
    )


def _whole(node: "Node") -> "Node":
    """The outermost statement that begins where the function or its decorators do."""
    while (parent := node.parent) is not None and parent.parent is not None:
        if parent.start_point.row != node.start_point.row and parent.type != "decorated_definition":
            break
        node = parent
    return node


def _walk(root: "Node") -> "Iterator[Node]":
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def _bare(comment: str) -> str:
    lines = [_END.sub("", _MARK.sub("", line)) for line in comment.splitlines()]
    return inspect.cleandoc("\n".join(lines))
