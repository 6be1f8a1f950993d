"""What else of the workspace helps to fill a hole: signatures, similar code, and recent edits.

What was found for a definition stays in place while the cursor is in it, and more is only appended:
a prompt that begins as the last one did costs the server little.
"""

import asyncio
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from magicoder import languages
from magicoder.languages import Language
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.index import Index, Progress, Symbol, words
from magicoder.lsp.context.ring import Ring

if TYPE_CHECKING:
    from tree_sitter import Node

    from magicoder.lsp.documents import Document, Edit
    from magicoder.lsp.trees import Source

PATIENCE = 0.015
"""Seconds that a completion waits; what is found later serves the next one."""

FRESH = 3.0
"""Seconds before more is looked for while the cursor stays in a definition."""

SNIPPETS, SIGNATURES, MEMBERS, SIMILAR, RECENT = 12, 8, 12, 2, 2
"""Of a definition's snippets in all, of each kind at once, and lines of a type's members, at most.
"""

ALIKE = 0.2
"""Share of the words around the cursor that a similar piece has at least."""

LINES = 30
"""Lines of a snippet at most."""

_NO_CODE = re.compile(r"comment|string|import|include|use_declaration|using_directive")
_CODE_INSIDE = re.compile(r"interpolation|substitution|expansion")
_IMPORT = re.compile(r"import|include|use_declaration|using_directive|require")
_NAME = re.compile(r"[^\W\d]\w{2,}")
_KIN = ({"javascript", "typescript", "tsx"}, {"c", "cpp"})


Kind = Literal["signature", "similar", "recent"]


@dataclass(frozen=True)
class Snippet:
    """A piece of another file; `path` is relative to the workspace."""

    path: str
    text: str
    kind: Kind


@dataclass
class _Known:
    """What was found for one definition, by the file that it is from, and when."""

    found: dict[Snippet, Path]
    looked: float
    search: "asyncio.Task[None] | None" = None


class Retriever:
    """Finds snippets for a hole.

    roots: the workspace's folders, read in the background from `start` on.
    exclusions: the files that are neither read nor shown.
    """

    def __init__(self, roots: Sequence[Path] = (), exclusions: Exclusions | None = None) -> None:
        self._roots = [Path(root).resolve() for root in roots]
        self._exclusions = exclusions or Exclusions(roots, [])
        self._index = Index(self._roots, self._exclusions)
        self._ring = Ring()
        self._known: dict[tuple[str, ...], _Known] = {}
        self._last: dict[str, tuple[str, ...]] = {}
        self._started = False

    @property
    def progress(self) -> Progress:
        """How far the workspace is read."""
        return self._index.progress

    def start(self) -> None:
        """Begin to read the workspace."""
        self._started = True
        self._index.start()

    def watch(self, document: "Document") -> None:
        """Follow an opened document and its edits."""
        self._may_go(document)
        self._index.update(Path(document.path), document.source)
        document.subscribe(self._edited)

    def _edited(self, document: "Document", edit: "Edit") -> None:
        self._index.update(Path(document.path), document.source)
        if self._may_go(document):
            self._ring.edited(document, edit)

    def _may_go(self, document: "Document") -> bool:
        """Whether pieces of a document may be shown; where not, what is kept of it is forgotten."""
        path = Path(document.path)
        if self._exclusions.reason(path, document.source) is None:
            return True
        self._ring.forget(document.path)
        return False

    def viewed(self, document: "Document", offset: int) -> None:
        """The user's cursor stands at `offset`."""
        if self._may_go(document):
            self._ring.viewed(document, offset)

    def changed(self, path: Path) -> None:
        """Read a file again: it changed on the disk."""
        self._index.changed(path)

    def remove(self, path: Path) -> None:
        """Forget a file that is gone."""
        self._index.remove(path)

    def close(self) -> None:
        """End the background work."""
        self._index.close()

    async def snippets(
        self, hole: Hole, source: "Source", offset: int, path: str
    ) -> tuple[Snippet, ...]:
        """Those worth showing to the model, in an order that stays; () where none is needed.

        source, offset: the document with its tree, and the cursor in it.
        path: the document's, absolute.
        """
        node = source.node_at(offset)
        if not self._started or node is None or source.language is None:
            return ()
        around = _definition(node)
        key = self._key(path, around, source)
        known = self._known.get(key)
        if known is None:
            if not _needs(node):
                return ()
            if len(self._known) > 200:
                self._known.clear()
            known = self._known[key] = _Known({}, -math.inf)
        if known.search is None and time.monotonic() > known.looked + FRESH:
            imports = "\n".join(map(_text, _imports(source.tree.root_node))) if source.tree else ""
            used = _text(around)[:20_000] if around is not None else _near(hole, 30)
            known.search = asyncio.create_task(
                self._search(known, hole, used, imports, source.language, path)
            )
            if not known.found:
                await asyncio.wait([known.search], timeout=PATIENCE)
        return tuple(
            snippet
            for snippet, file in known.found.items()
            if self._exclusions.reason(file) is None
        )

    def _key(self, path: str, around: "Node | None", source: "Source") -> tuple[str, ...]:
        """Names the definition; half-typed code may hide it from the grammar for a while."""
        key = (path, *_names(around))
        if around is None and source.errors and path in self._last:
            return self._last[path]
        self._last[path] = key
        return key

    async def _search(
        self, known: _Known, hole: Hole, used: str, imports: str, language: Language, path: str
    ) -> None:
        """Look for more, and append it. `used`: the text that uses what other files define."""
        try:
            found = await self._signatures(used, imports, language, path)
            found |= await self._similar(hole, language, path)
            found |= self._recent(path, found)
            for snippet, file in found.items():
                if len(known.found) < SNIPPETS and snippet not in known.found:
                    known.found[snippet] = file
        finally:
            known.looked, known.search = time.monotonic(), None

    async def _signatures(
        self, used: str, imports: str, language: Language, path: str
    ) -> dict[Snippet, Path]:
        """What the definition uses or the file imports, and other files define; by file."""
        names, named = set(_NAME.findall(used)), set(_NAME.findall(imports))
        symbols = await asyncio.wrap_future(self._index.symbols(sorted(names | named), path))
        chosen = _chosen([s for s in symbols if _kin(s.path, language)], names, named)
        texts: dict[str, list[str]] = {}
        for symbol in chosen:
            lines = [symbol.text]
            if symbol.long:
                members = await asyncio.wrap_future(self._index.members(symbol))
                lines += [f"    {text}" for text in members[:MEMBERS]]
            texts.setdefault(symbol.path, []).append("\n".join(lines))
        return dict(self._snippet(file, "\n".join(t), "signature") for file, t in texts.items())

    async def _similar(self, hole: Hole, language: Language, path: str) -> dict[Snippet, Path]:
        """Pieces of open and recent files that are like the lines around the cursor."""
        text = _near(hole, 10)
        asked = set(words(text))
        pieces = await asyncio.wrap_future(self._index.similar(text, path, 3 * SIMILAR))
        alike = [
            (file, piece)
            for file, piece in pieces
            if _kin(file, language) and len(asked & {*words(piece)}) >= ALIKE * len(asked)
        ]
        return dict(self._snippet(file, piece, "similar") for file, piece in alike[:SIMILAR])

    def _recent(self, path: str, found: Iterable[Snippet]) -> dict[Snippet, Path]:
        """Where the user was lately in other files, unless it is among what was found."""
        shown = "\n".join(snippet.text for snippet in found)
        spans = [
            span
            for span in self._ring.spans
            if span.path != path
            and span.text.strip() not in shown
            and self._exclusions.reason(Path(span.path)) is None
        ]
        return dict(self._snippet(span.path, span.text, "recent") for span in spans[-RECENT:])

    def relative(self, path: Path) -> str:
        """How a file is named to the model: within its root, or by its own name alone."""
        root = next((root for root in self._roots if path.is_relative_to(root)), path.parent)
        return path.relative_to(root).as_posix()

    def _snippet(self, file: str, text: str, kind: Kind) -> tuple[Snippet, Path]:
        path = Path(file)
        lines = text.strip("\n").split("\n")[:LINES]
        return Snippet(self.relative(path), "\n".join(lines), kind), path


def _chosen(symbols: Sequence[Symbol], used: set[str], imported: set[str]) -> list[Symbol]:
    """The most telling definitions, the best first; a name that many files define tells nothing."""
    by_name: dict[str, list[Symbol]] = {}
    for symbol in symbols:
        by_name.setdefault(symbol.name, []).append(symbol)
    ranked = []
    for name, group in by_name.items():
        from_imported = [symbol for symbol in group if Path(symbol.path).stem in imported]
        for symbol in from_imported or group:
            outside = name not in imported and not from_imported
            if len(from_imported or group) > (2 if outside else 4):
                continue
            if symbol.parent and (outside or name not in used or name.startswith("__")):
                continue
            score = 2 * (name in imported) + 2 * (name in used) + bool(from_imported)
            ranked.append((-score, symbol.path, name, symbol))
    ranked.sort(key=lambda each: each[:3])
    return [symbol for *_, symbol in ranked[:SIGNATURES]]


def _definition(node: "Node | None") -> "Node | None":
    """The nearest definition around a node: what has a name and a body."""
    while node is not None:
        named = node.child_by_field_name("name") or node.child_by_field_name("declarator")
        if named and (
            node.child_by_field_name("body")
            or any(child.type.endswith("_body") for child in node.named_children)
        ):
            return node
        node = node.parent
    return None


def _names(node: "Node | None") -> list[str]:
    """The names of a definition and of those around it, the outermost last."""
    found = []
    while node is not None:
        named = node.child_by_field_name("name") or node.child_by_field_name("declarator")
        found.append(_text(named) if named else "")
        node = _definition(node.parent)
    return found


def _needs(node: "Node") -> bool:
    """Whether code can stand here: not in a comment, a string or an import."""
    inner: Node | None = node
    while inner is not None:
        if _CODE_INSIDE.search(inner.type):
            return True
        if _NO_CODE.search(inner.type):
            return False
        inner = inner.parent
    return True


def _imports(root: "Node") -> "list[Node]":
    return [child for child in root.children if _IMPORT.search(child.type)]


def _near(hole: Hole, lines: int) -> str:
    before = hole.before[-80 * lines :].split("\n")[-lines:]
    after = hole.after[: 40 * lines].split("\n")[: lines // 2]
    return "\n".join(before) + "\n".join(after)


def _kin(path: str, language: Language) -> bool:
    """Whether a file's code can be used from `language`."""
    other = languages.by_path(path)
    if other is None:
        return False
    return other == language or any({other.name, language.name} <= kin for kin in _KIN)


def _text(node: "Node") -> str:
    return (node.text or b"").decode(errors="replace")
