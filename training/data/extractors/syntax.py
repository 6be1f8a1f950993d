"""Whole nodes of the syntax tree: a function, method, class or call, with the imports it uses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magicoder import languages
from magicoder.training.data.extractors.base import Bounds, rng, taken
from magicoder.training.data.hygiene import without_text
from magicoder.training.data.records import Document, Rejected, Seed

if TYPE_CHECKING:
    from tree_sitter import Node


@dataclass(frozen=True)
class Nodes:
    """A language's node types.

    `imports` are statements; where their type says too little, they also start with one of the
    words in `starts`; `prefix` is what a Go import has outside of its node. `named` tells whether
    they name what they bring: then only those are taken whose names the seed uses, elsewhere all
    (a C file's includes).
    """

    functions: frozenset[str]
    classes: frozenset[str]
    calls: frozenset[str]
    imports: frozenset[str]
    starts: tuple[str, ...] = ("",)
    named: bool = True
    prefix: str = ""


def _nodes(
    functions: str,
    classes: str,
    calls: str,
    imports: str,
    starts: tuple[str, ...] = ("",),
    named: bool = True,
    prefix: str = "",
) -> Nodes:
    return Nodes(
        functions=frozenset(functions.split()),
        classes=frozenset(classes.split()),
        calls=frozenset(calls.split()),
        imports=frozenset(imports.split()),
        starts=starts,
        named=named,
        prefix=prefix,
    )


_JS_FUNCTIONS = "function_declaration generator_function_declaration method_definition"
_JS_FUNCTIONS += " arrow_function function_expression"
_TS_CLASSES = "class_declaration abstract_class_declaration interface_declaration enum_declaration"
_TYPESCRIPT = _nodes(_JS_FUNCTIONS, _TS_CLASSES, "call_expression", "import_statement")
_CPP = "preproc_include using_declaration"

NODES = {
    "python": _nodes(
        "function_definition", "class_definition", "call", "import_statement import_from_statement"
    ),
    "java": _nodes(
        "method_declaration constructor_declaration",
        "class_declaration interface_declaration enum_declaration record_declaration",
        "method_invocation object_creation_expression",
        "import_declaration",
    ),
    "javascript": _nodes(_JS_FUNCTIONS, "class_declaration", "call_expression", "import_statement"),
    "typescript": _TYPESCRIPT,
    "tsx": _TYPESCRIPT,
    "cpp": _nodes(
        "function_definition",
        "class_specifier struct_specifier enum_specifier",
        "call_expression",
        _CPP,
        named=False,
    ),
    "c": _nodes(
        "function_definition",
        "struct_specifier union_specifier enum_specifier",
        "call_expression",
        "preproc_include",
        named=False,
    ),
    "csharp": _nodes(
        "method_declaration constructor_declaration local_function_statement",
        "class_declaration struct_declaration interface_declaration record_declaration "
        "enum_declaration",
        "invocation_expression object_creation_expression",
        "using_directive",
        named=False,
    ),
    "rust": _nodes(
        "function_item",
        "struct_item enum_item impl_item trait_item",
        "call_expression macro_invocation",
        "use_declaration",
    ),
    "php": _nodes(
        "function_definition method_declaration",
        "class_declaration interface_declaration trait_declaration enum_declaration",
        "function_call_expression member_call_expression scoped_call_expression",
        "namespace_use_declaration",
    ),
    "swift": _nodes(
        "function_declaration init_declaration",
        "class_declaration protocol_declaration",
        "call_expression",
        "import_declaration",
        named=False,
    ),
    "shell": _nodes(
        "function_definition", "", "command", "command", starts=("source ", ". "), named=False
    ),
    "go": _nodes(
        "function_declaration method_declaration",
        "type_declaration",
        "call_expression",
        "import_spec",
        prefix="import ",
    ),
    "ruby": _nodes(
        "method singleton_method", "class module", "call", "call", starts=("require",), named=False
    ),
    "kotlin": _nodes(
        "function_declaration secondary_constructor",
        "class_declaration object_declaration",
        "call_expression",
        "import import_header",
    ),
}

_WRAPPED = {"decorated_definition", "export_statement", "template_declaration"}
_WRAPPED |= {"lexical_declaration", "variable_declaration", "variable_declarator"}
_WRAPPED |= {"local_variable_declaration", "local_declaration_statement", "let_declaration"}
_WRAPPED |= {"init_declarator", "declaration", "field_declaration", "property_declaration"}
_WRAPPED |= {"expression_statement", "assignment", "assignment_expression", "await"}
"""Nodes that belong to the one they hold: it is taken with them."""

_NAMELESS = {"arrow_function", "function_expression"}
"""Functions that are taken only where they are given a name."""

_BRANCH = re.compile(
    r"(^|_)(if|elif|else_if|for|foreach|while|until|unless|do|loop|switch|match|when|case|catch"
    r"|except|rescue|guard|conditional|ternary)(_|$)"
)
_COMMON = {"import", "from", "use", "as", "static", "type", "export", "func", "std", "crate"}
"""Words of import statements that say nothing of what they bring."""


def extract(document: Document, *, seed: int, bounds: Bounds) -> Seed | Rejected:
    """One node within `bounds`: first a kind by chance, then one of the document's of that kind."""
    language = languages.by_name(document.language)
    assert language is not None, document.language  # noqa: S101
    source = document.text.encode()
    root = languages.parser(language).parse(source).root_node
    nodes = NODES[language.name]
    found: dict[str, list[Node]] = {}
    imports: list[Node] = []
    for node, kind in _candidates(root, nodes):
        if kind == "import":
            imports.append(node)
        elif _fits(node, bounds):
            found.setdefault(kind, []).append(node)
    if not found:
        return Rejected(reason="no node of this size", record=without_text(document))
    chance = rng(document, seed)
    kind = chance.choice(sorted(found))
    node = chance.choice(found[kind])
    body = _text(node, source)
    brought = (nodes.prefix + _text(item, source) for item in imports if not _inside(item, node))
    used = [text for text in brought if not nodes.named or _uses(body, text)]
    head = "\n".join(dict.fromkeys(used))
    code = f"{head}\n\n{body}" if head else body
    return taken(document, line=node.start_point.row + 1, code=code, kind=kind)


def _candidates(root: "Node", nodes: Nodes) -> "Iterator[tuple[Node, str]]":
    """Every function, method, class, outermost call and import, in the order of the text."""
    stack = [(root, False, False)]
    while stack:
        node, in_class, in_call = stack.pop()
        if node.type in nodes.imports and _text_of(node).startswith(nodes.starts):
            yield node, "import"
            continue
        kind = ""
        if node.type in nodes.functions:
            method = nodes.classes and (in_class or "method_d" in node.type)
            kind = "method" if method or "constructor" in node.type else "function"
        elif node.type in nodes.classes:
            kind = "class"
        elif node.type in nodes.calls and not in_call:
            kind = "call"
        whole = _whole(node)
        if kind and not (node.type in _NAMELESS and whole == node):
            yield whole, kind
        in_class = in_class or kind == "class"
        in_call = kind == "call" or (in_call and not kind)
        stack.extend((child, in_class, in_call) for child in reversed(node.named_children))


def _whole(node: "Node") -> "Node":
    """The statement that `node` makes up: with its decorators, its template, the name it gets."""
    while node.parent is not None and node.parent.type in _WRAPPED:
        node = node.parent
    return node


def _fits(node: "Node", bounds: Bounds) -> bool:
    lines = node.end_point.row - node.start_point.row + 1
    if not bounds.min_lines <= lines <= bounds.max_lines or node.has_error:
        return False
    return bounds.min_difficulty <= _difficulty(node) <= bounds.max_difficulty


def _difficulty(node: "Node") -> int:
    """How many branches `node` holds."""
    count, stack = 0, [node]
    while stack:
        node = stack.pop()
        count += _BRANCH.search(node.type) is not None
        stack.extend(node.named_children)
    return count


def _inside(node: "Node", other: "Node") -> bool:
    return other.start_byte <= node.start_byte and node.end_byte <= other.end_byte


def _uses(body: str, statement: str) -> bool:
    """Whether `body` has a word that `statement` brings."""
    words = set(re.findall(r"\w+", statement)) - _COMMON
    return not words.isdisjoint(re.findall(r"\w+", body))


def _text_of(node: "Node") -> str:
    return (node.text or b"").decode(errors="replace")


def _text(node: "Node", source: bytes) -> str:
    """The node's text, moved to the left margin."""
    line = source[source.rfind(b"\n", 0, node.start_byte) + 1 :].decode()
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    first, *rest = source[node.start_byte : node.end_byte].decode().split("\n")
    return "\n".join([first, *(text.removeprefix(indent) for text in rest)]).strip()
