"""What code defines, told by tree-sitter: names and signatures, never bodies."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from magicoder import languages
from magicoder.languages import Language

if TYPE_CHECKING:
    from tree_sitter import Node

# Node types of the grammars of all languages that `toolchains` knows.
FUNCTIONS = {
    "arrow_function",
    "constructor_declaration",
    "function_declaration",
    "function_definition",
    "function_expression",
    "function_item",
    "generator_function_declaration",
    "method_declaration",
    "method_definition",
}
_LITERALS = {"arrow_function", "function_expression"}  # definitions only where they get a name
_SCOPES = {
    "abstract_class_declaration",
    "class_declaration",
    "class_definition",
    "class_specifier",
    "impl_item",
    "mod_item",
    "namespace_definition",
    "record_declaration",
    "struct_specifier",
    "trait_declaration",
}
_WHOLE = {  # data and interfaces, which say nothing of how the work is done
    "enum_declaration",
    "enum_item",
    "enum_specifier",
    "field_declaration",
    "interface_declaration",
    "struct_item",
    "trait_item",
    "type_alias_declaration",
    "type_declaration",
    "type_definition",
}
_HOLDERS = {"template_declaration", "variable_declarator"}  # a signature begins at these


def signatures(code: str, language: Language) -> list[str]:
    """The heads of the functions, methods and classes, indented, and the types; `main` aside."""
    root = languages.parser(language).parse(code.encode()).root_node
    found = list(_heads(root, root.start_byte, 0))
    return [head for _, head in found] if any(callable_ for callable_, _ in found) else []


def is_main(function: "Node") -> bool:
    """The function is the program's entry, which no test calls."""
    head = _head(function, function.start_byte)
    return head.partition("(")[0].split()[-1:] == ["main"]


def _heads(node: "Node", start: int, depth: int) -> Iterator[tuple[bool, str]]:
    """Whether it can be called, and the text of each head below `node`."""
    for child in node.named_children:
        begin = start if node.type in _HOLDERS else child.start_byte
        indent = "    " * depth
        if child.type in FUNCTIONS:
            named = child.type not in _LITERALS or node.type == "variable_declarator"
            if named and not is_main(child):
                yield True, indent + _head(child, begin)
        elif child.type in _WHOLE:
            yield False, indent + _text(child)
        elif child.type in _SCOPES and child.child_by_field_name("body"):
            yield False, indent + _head(child, begin)
            yield from _heads(_body(child), child.start_byte, depth + 1)
        else:
            yield from _heads(child, begin if child.type in _HOLDERS else start, depth)


def _head(node: "Node", start: int) -> str:
    """The text from `start` to the body of `node`, without what opens the body."""
    root = node
    while root.parent:
        root = root.parent
    text = (root.text or b"")[start - root.start_byte : _body(node).start_byte - root.start_byte]
    return text.decode(errors="replace").strip().removesuffix("{").removesuffix("=>").rstrip(": \n")


def _body(node: "Node") -> "Node":
    # A constructor's list of initialisers says how, too.
    for child in node.children:
        if child.type == "field_initializer_list":
            return child
    return node.child_by_field_name("body") or node


def _text(node: "Node") -> str:
    return (node.text or b"").decode(errors="replace")
