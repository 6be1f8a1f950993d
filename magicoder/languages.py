"""The programming languages Magicoder knows: file names, comments, and a tree-sitter grammar."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from magicoder.errors import require

if TYPE_CHECKING:
    from tree_sitter import Node, Parser


@dataclass(frozen=True)
class Language:
    """One language: `name` as in a Markdown fence, `id` as LSP clients call it."""

    name: str
    extensions: tuple[str, ...]
    comment: str
    grammar: str
    function: str = "language"
    id: str = ""
    filenames: tuple[str, ...] = ()


LANGUAGES = (
    Language("python", (".py", ".pyi"), "#", "tree_sitter_python"),
    Language("java", (".java",), "//", "tree_sitter_java"),
    Language("javascript", (".js", ".mjs", ".cjs", ".jsx"), "//", "tree_sitter_javascript"),
    Language(
        "typescript", (".ts", ".mts", ".cts"), "//", "tree_sitter_typescript", "language_typescript"
    ),
    Language(
        "tsx", (".tsx",), "//", "tree_sitter_typescript", "language_tsx", id="typescriptreact"
    ),
    Language("cpp", (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx"), "//", "tree_sitter_cpp"),
    Language("c", (".c", ".h"), "//", "tree_sitter_c"),
    Language("csharp", (".cs",), "//", "tree_sitter_c_sharp"),
    Language("rust", (".rs",), "//", "tree_sitter_rust"),
    Language("php", (".php",), "//", "tree_sitter_php", "language_php"),
    Language("swift", (".swift",), "//", "tree_sitter_swift"),
    Language(
        "shell", (".sh", ".bash"), "#", "tree_sitter_bash", id="shellscript", filenames=(".bashrc",)
    ),
    Language("go", (".go",), "//", "tree_sitter_go"),
    Language("ruby", (".rb",), "#", "tree_sitter_ruby", filenames=("Rakefile", "Gemfile")),
    Language("kotlin", (".kt", ".kts"), "//", "tree_sitter_kotlin"),
)

_ALIASES = {"bash": "shell", "sh": "shell", "c++": "cpp", "c#": "csharp", "js": "javascript"}
_ALIASES |= {"py": "python", "python3": "python", "ts": "typescript", "golang": "go", "rs": "rust"}
_ALIASES |= {"javascriptreact": "javascript", "kt": "kotlin"}
_BY_NAME = {language.name: language for language in LANGUAGES}
_BY_NAME |= {language.id: language for language in LANGUAGES if language.id}
_BY_NAME |= {alias: _BY_NAME[name] for alias, name in _ALIASES.items()}
_BY_EXTENSION = {ext: language for language in LANGUAGES for ext in language.extensions}
_BY_FILENAME = {name: language for language in LANGUAGES for name in language.filenames}


def by_name(name: str) -> Language | None:
    """The language called `name`: a Markdown fence's word or an LSP language id."""
    return _BY_NAME.get(name.strip().lower())


def by_path(path: str | PurePath) -> Language | None:
    """The language of a file, told from its name alone."""
    path = PurePath(path)
    return _BY_FILENAME.get(path.name) or _BY_EXTENSION.get(path.suffix.lower())


@cache
def parser(language: Language) -> "Parser":
    """A tree-sitter parser.

    Raises:
        MagicoderError: the grammars are not installed; names the extra.
    """
    tree_sitter = require("tree_sitter", "languages")
    grammar = require(language.grammar, "languages")
    built = tree_sitter.Parser(tree_sitter.Language(getattr(grammar, language.function)()))
    return cast("Parser", built)


def syntax_errors(code: str, language: Language) -> int:
    """How many places of `code` the grammar cannot read: ERROR and missing nodes."""
    root = parser(language).parse(code.encode(errors="replace")).root_node
    if not root.has_error:
        return 0
    return sum(node.is_error or node.is_missing for node in _walk(root))


def _walk(node: "Node") -> Iterator["Node"]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children)
