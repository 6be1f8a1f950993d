"""Instruct tools: which code a command is about, and where its result goes."""

import os
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from magicoder import languages, settings
from magicoder.languages import Language

if TYPE_CHECKING:
    from tree_sitter import Node

FUNCTIONS = frozenset(
    {
        *("arrow_function", "constructor_declaration", "function_declaration"),
        *("function_definition", "function_expression", "function_item"),
        *("generator_function", "generator_function_declaration", "init_declaration"),
        *("local_function_statement", "method", "method_declaration", "method_definition"),
        "singleton_method",
    }
)
"""What the grammars of `languages` call a function."""


def function_at(source: str, line: int, language: Language) -> tuple[int, int] | None:
    """The first and last line, from 0, of the innermost function around `line`.

    Functions within one line do not count: most are arguments, and too small to learn from.
    """
    node: Node | None = languages.parser(language).parse(source.encode(errors="replace")).root_node
    found = None
    while node is not None:
        rows = node.start_point.row, node.end_point.row
        if node.type == "decorated_definition":  # Python: the decorators belong to the function
            node = node.child_by_field_name("definition") or node
        if node.type in FUNCTIONS and rows[0] < rows[1]:
            found = rows
        around = [c for c in node.children if c.start_point.row <= line <= c.end_point.row]
        node = max(around, key=lambda c: c.end_point.row - c.start_point.row, default=None)
    return found


def snippet(text: str) -> str:
    """Selected code as it stands alone: without common indentation and blank ends."""
    return dedent(text).strip("\n")


def write_problem(markdown: str, source: str) -> Path:
    """Write a problem made from the file named `source` to a new file in the cache folder."""
    folder = settings.cache_dir() / "problems"
    folder.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{Path(source).stem}-", suffix=".part", dir=folder)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(markdown)
    path = Path(name).with_suffix(".md")
    os.replace(name, path)
    return path
