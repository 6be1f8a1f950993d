"""Small faults, put into a solution on purpose: tests that notice none of them prove nothing."""

import random
from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING

from magicoder import languages
from magicoder.languages import Language
from magicoder.training.data.verify.outline import FUNCTIONS, is_main

if TYPE_CHECKING:
    from tree_sitter import Node

_COMPARISONS = {"<": ">=", ">": "<=", "<=": ">", ">=": "<", "==": "!=", "===": "!==", "=": "!="}
_COMPARISONS |= {"-lt": "-ge", "-gt": "-le", "-le": "-gt", "-ge": "-lt", "-eq": "-ne", "!==": "==="}
_COMPARISONS |= {"-ne": "-eq", "!=": "==", "and": "or", "or": "and", "&&": "||", "||": "&&"}
_ARITHMETIC = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "*", "+=": "-=", "-=": "+="}
_TRUTHS = {"true": "false", "false": "true", "True": "False", "False": "True"}
_OPERATIONS = {
    "assignment_expression",
    "augmented_assignment",
    "augmented_assignment_expression",
    "binary_expression",
    "binary_operator",
    "boolean_operator",
    "comparison_operator",
    "compound_assignment_expr",
}
_STRINGS = {"interpreted_string_literal_content", "string_content", "string_fragment"}
_STATEMENTS = {
    "assignment_statement",
    "command",
    "expression_statement",
    "inc_statement",
    "variable_assignment",
}
_RETURNS = {"return_expression", "return_statement"}
_NOTHING = {"python": "pass", "shell": ":"}
_DEFAULTS = {
    "c": "0",
    "cpp": "{}",
    "go": "*new(%s)",
    "java": "null",
    "javascript": "undefined",
    "php": "null",
    "python": "None",
    "rust": "Default::default()",
    "typescript": "undefined as any",
}
_BY_TYPE = {"boolean": "false", "bool": "false", "string": "''", "array": "[]"}
_BY_TYPE |= dict.fromkeys(("byte", "double", "float", "int", "long", "short"), "0")

Edit = tuple[int, int, str]


def mutants(code: str, language: Language, count: int) -> list[str]:
    """Up to `count` versions of `code`, each with one fault in a function's body; always the same.

    The kinds of fault take turns: a default is returned, a comparison or an arithmetic operation is
    turned round, a constant is changed, a statement is left out. Some may not compile.
    """
    source = code.encode()
    kinds: dict[str, list[Edit]] = {}
    for kind, edit in _edits(languages.parser(language).parse(source).root_node, language.name):
        kinds.setdefault(kind, []).append(edit)
    for edits in kinds.values():
        random.Random(code).shuffle(edits)  # noqa: S311
    turns = chain.from_iterable(zip_longest(*(kinds[kind] for kind in sorted(kinds))))
    return [
        (source[:start] + text.encode() + source[end:]).decode(errors="replace")
        for start, end, text in islice((edit for edit in turns if edit), count)
    ]


def _edits(root: "Node", language: str) -> Iterator[tuple[str, Edit]]:
    stack: list[tuple[Node, Node | None]] = [(root, None)]  # a node, and the function it is in
    while stack:
        node, function = stack.pop()
        if node.type in FUNCTIONS:
            function = None if is_main(node) else node
            if function:
                yield from _tail(function, language)
        elif function:
            yield from _faults(node, function, language)
        inside = node.child_by_field_name("body") if node.type in FUNCTIONS else node
        stack.extend((child, function) for child in reversed(inside.children if inside else []))


def _faults(node: "Node", function: "Node", language: str) -> Iterator[tuple[str, Edit]]:
    text = _text(node)
    edit = node.start_byte, node.end_byte
    if not node.children and node.parent and node.parent.type in _OPERATIONS:
        if node.parent.type != "assignment_expression" and text in _COMPARISONS:
            yield "2 comparison", (*edit, _COMPARISONS[text])
        elif text in _ARITHMETIC:
            yield "3 arithmetic", (*edit, _ARITHMETIC[text])
    if node.type in _TRUTHS:
        yield "4 constant", (*edit, _TRUTHS[text])
    elif text.isdecimal() and not node.named_children:
        yield "4 constant", (*edit, str(int(text) + 1))
    elif node.type in _STRINGS:
        yield "4 constant", (*edit, text + "x")
    elif node.type in _STATEMENTS and not (language == "python" and text.startswith(('"', "'"))):
        yield "5 statement", (*edit, _NOTHING.get(language, ";"))
    elif node.type in _RETURNS and node.named_children and language in _DEFAULTS:
        yield from _default(node.named_children[0], function, language)


def _tail(function: "Node", language: str) -> Iterator[tuple[str, Edit]]:
    """The value that a function gives without saying `return`."""
    body = function.child_by_field_name("body")
    if body and function.type == "arrow_function" and body.type != "statement_block":
        yield from _default(body, function, language)
    if body and language == "rust" and function.child_by_field_name("return_type"):
        last = body.named_children[-1:]
        if last and last[0].type not in ("expression_statement", "let_declaration"):
            yield from _default(last[0], function, language)


def _default(value: "Node", function: "Node", language: str) -> Iterator[tuple[str, Edit]]:
    default = _DEFAULTS[language]
    fields = {"go": "result", "java": "type", "php": "return_type"}
    kind = function.child_by_field_name(fields.get(language, ""))
    if language in ("java", "php") and kind:
        default = _BY_TYPE.get(_text(kind), default)
    if language == "go":
        if not kind or kind.type == "parameter_list":
            return
        default %= _text(kind)
    if _text(value) != default:
        yield "1 return", (value.start_byte, value.end_byte, default)


def _text(node: "Node") -> str:
    return (node.text or b"").decode(errors="replace")
