"""Which code a tool is about, and what around it a model must see to understand it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import dedent, indent
from typing import TYPE_CHECKING

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

_IMPORTS = re.compile(r"import|include|^use_|using_directive|package|namespace_use")
_ONCE = re.compile(r"package\s+[\w.]+\s*;?|<\?php")
_TODO = re.compile(r"\b(TODO|FIXME|XXX)\b|\b(todo|unimplemented)!\(|NotImplementedError")
_ASKED = re.compile(r"\bmagicoder:[ \t]*(\S.*)", re.IGNORECASE)
_COMMENT_ENDS = re.compile(r"\s*(\*/|-->|\*\))\s*$")


@dataclass(frozen=True)
class Subject:
    """Whole lines of a document, `first` to `last`, from 0, both included.

    `code` is their text without the indentation that they share, which is `margin`.
    """

    first: int
    last: int
    code: str
    margin: str = ""

    @classmethod
    def of(cls, lines: Sequence[str], first: int, last: int) -> "Subject | None":
        """Lines `first` to `last` of a document without blank ends; None where all are blank."""
        last = min(last, len(lines) - 1)
        while first <= last and not lines[first].strip():
            first += 1
        while last >= first and not lines[last].strip():
            last -= 1
        if first > last:
            return None
        text = "".join(lines[first : last + 1]).replace("\r\n", "\n").replace("\r", "\n")
        code = dedent(text)
        margin = text[: len(text.partition("\n")[0]) - len(code.partition("\n")[0])]
        return cls(first, last, code.rstrip(), margin)

    def fitted(self, code: str) -> str:
        """New code in place of this one, indented as this one is; no line break at its end."""
        return indent(dedent(code.strip("\n")).rstrip(), self.margin)


def function_at(root: "Node", line: int) -> tuple[int, int] | None:
    """The first and last line, from 0, of the innermost function around `line`.

    Functions within one line do not count: most are arguments, and too small to learn from.
    """
    node: Node | None = root
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


def surroundings(root: "Node", lines: Sequence[str], subject: Subject) -> list[str]:
    """The imports above the code, and the first lines of what it is in, such as its class."""
    rows = dict.fromkeys(_imports(root, subject))
    node: Node | None = root
    while node is not None:
        around = [
            child
            for child in node.named_children
            if child.start_point.row < subject.first and _last_row(child) >= subject.last
        ]
        node = around[0] if around else None
        if node is not None and lines[node.start_point.row].strip(" \t\r\n({["):
            rows[node.start_point.row] = None
    return [lines[row].rstrip() for row in sorted(rows) if row < min(subject.first, len(lines))]


def without_head(root: "Node | None", lines: Sequence[str], subject: Subject, code: str) -> str:
    """New `code` for the subject without what the file has above it, and can have only once.

    A weak model begins as if it wrote a whole file: with `<?php` or a package, perhaps another one,
    and the imports.
    """
    above = {line.strip() for line in lines[: subject.first]}
    once = any(_ONCE.fullmatch(line) for line in above)
    known = {lines[row].strip() for row in _imports(root, subject)} if root else set()
    known -= {line.strip() for line in subject.code.splitlines()}
    new = code.splitlines(keepends=True)
    for at, line in enumerate(map(str.strip, new)):
        if line and line not in known and not (once and _ONCE.fullmatch(line)):
            return "".join(new[at:])
    return code


def _imports(root: "Node", subject: Subject) -> Iterator[int]:
    """The rows of the imports, and of the package's name, above the subject."""
    for child in root.children:
        if child.start_point.row < subject.first and _IMPORTS.search(child.type):
            yield from range(child.start_point.row, min(_last_row(child) + 1, subject.first))


def _last_row(node: "Node") -> int:
    """A node that ends with its line break ends on that line."""
    row, column = node.end_point
    return row - 1 if column == 0 and row > node.start_point.row else row


def snippet(text: str) -> str:
    """Selected code as it stands alone: without common indentation and blank ends."""
    return dedent(text).strip("\n")


def unfinished(code: str) -> bool:
    """Whether `code` says that something in it is still to be written."""
    return _TODO.search(code) is not None


def asked(lines: Sequence[str], subject: Subject) -> str | None:
    """What the nearest comment `magicoder: ...` in the code, or right above it, asks for.

    Above it: from its first line up to the next blank one.
    """
    for row in range(subject.last, -1, -1):
        if row < subject.first and not lines[row].strip():
            return None
        if found := _ASKED.search(lines[row]):
            return _COMMENT_ENDS.sub("", found[1]).strip()
    return None


def style(language: Language | None) -> str:
    """What documentation looks like in a language, in words for a prompt."""
    return _DOCUMENTATION.get(language.name if language else "", "a comment above it")


_DOCUMENTATION = {
    "python": "a docstring",
    "javascript": "a JSDoc comment",
    "typescript": "a TSDoc comment",
    "tsx": "a TSDoc comment",
    "java": "a Javadoc comment",
    "kotlin": "a KDoc comment",
    "php": "a PHPDoc comment",
    "cpp": "a Doxygen comment",
    "c": "a Doxygen comment",
    "csharp": "an XML documentation comment",
    "rust": "a /// comment",
    "swift": "a /// comment",
    "go": "a comment that begins with its name",
    "ruby": "a YARD comment",
}
