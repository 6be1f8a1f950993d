"""The workspace's symbols and the open files' chunks, in SQLite in memory, kept by one thread.

The thread gives way often: tree-sitter holds Python's lock while it works, so it reads in small
pieces and files one by one, with the editor's questions first.
"""

import heapq
import itertools
import json
import logging
import os
import re
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from magicoder import languages
from magicoder.errors import MagicoderError, require
from magicoder.languages import Language
from magicoder.lsp.context.exclusion import SKIPPED_FOLDERS, Exclusions

if TYPE_CHECKING:
    from tree_sitter import Node, Parser, Query, Tree

T = TypeVar("T")

FILES = 5000
"""Files of the workspace whose symbols are known, at most."""

LARGEST = 250_000
"""Bytes of a file of the workspace at most: what is larger is generated."""

RECENT = 40
"""Open and recently open files whose text is searched, at most."""

QUIET = 0.7
"""Seconds without a change before a changed file is read again."""

SHORT = 600
"""Bytes of a type that is shown whole; of a longer one its members' heads are shown."""

PIECE = 4096
"""Bytes between two chances for other threads."""

_PATTERNS = (
    "(_ name: (_) @name body: (_) @body) @whole",
    "(_ declarator: (_) @name body: (_) @body) @whole",
    "(_ name: (_) @name (function_body) @body) @whole",
    "(_ name: (_) @name (class_body) @body) @whole",
    "(impl_item type: (_) @name body: (_) @body) @whole",
    "(type_spec name: (_) @name type: (_) @body) @whole",
    "(type_alias_declaration name: (_) @name value: (_) @body) @whole",
    "(variable_declarator name: (_) @name value: (_ body: (_) @body)) @whole",
)
_TYPES = re.compile("class|struct|interface|trait|impl|object|record|enum|protocol|union|type_")
_SPACES = re.compile("namespace|module|mod_item|package")
_NAME = re.compile(r"~?\w+(?=\s*\()|\w+")
_WORD = re.compile(r"[^\W\d_]\w+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_DOCSTRING = re.compile(r'\s*[rR]?("""|\'\'\'|"|\')(.{1,100}?)(\1|\n|$)')

_SCHEMA = """
CREATE TABLE symbols(name TEXT, path TEXT, parent TEXT, long INT, text TEXT);
CREATE INDEX by_name ON symbols(name);
CREATE INDEX by_path ON symbols(path);
CREATE VIRTUAL TABLE chunks USING fts5(words, path UNINDEXED, text UNINDEXED);
"""


@dataclass(frozen=True)
class Symbol:
    """A definition: its text up to its body, or, of a short type, all of it.

    `parent` is the type that it is a member of, or empty. `long`: a type that is not shown
    whole, so that its members tell more.
    """

    name: str
    path: str
    parent: str
    long: bool
    text: str


@dataclass(frozen=True)
class Progress:
    """How many files were read, whether that were all, and whether there were more than allowed."""

    files: int
    done: bool
    full: bool


@dataclass(frozen=True)
class _Edited:
    """The open file that was read last, from which its next version is read.

    symbols: of each node at the top of the file, by its column and text.
    """

    path: str
    text: bytes
    tree: "Tree"
    symbols: dict[tuple[int, bytes], list[Symbol]]


class Index:
    """What is defined in the workspace, and what its open files hold.

    roots: the workspace's folders; their files are read in the background, once.
    exclusions: what is not read.
    """

    def __init__(self, roots: Sequence[Path], exclusions: Exclusions) -> None:
        self.progress = Progress(0, False, False)
        self._roots, self._exclusions = roots, exclusions
        self._real = [Path(os.path.realpath(root)) for root in roots]
        self._jobs: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed: dict[str, tuple[float, str]] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._recent: dict[str, dict[str, int]] = {}
        self._edited: _Edited | None = None
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._thread = threading.Thread(target=self._work, name="index", daemon=True)

    def start(self) -> None:
        """Begin to read the workspace."""
        sys.setswitchinterval(0.001)  # the event loop waits so long at most for this thread
        files = self._files()
        self._put(2, lambda: self._next(files))
        self._thread.start()

    def update(self, path: Path, text: str) -> None:
        """Take the text of an open file; read soon, once it stops changing."""
        with self._wake:
            self._changed[str(path)] = time.monotonic() + QUIET, text
            self._wake.notify()

    def changed(self, path: Path) -> None:
        """Read a file again that changed on the disk and is not open."""
        self._put(1, lambda: self._again(path))

    def remove(self, path: Path) -> None:
        """Forget a file that is gone."""
        with self._wake:
            self._changed.pop(str(path), None)
        self._put(1, lambda: self._forget(str(path)))

    def close(self) -> None:
        """End the thread; questions that wait are not answered."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(5)

    def symbols(self, names: Sequence[str], besides: str) -> "Future[list[Symbol]]":
        """The definitions of `names` in other files than `besides`, in no order."""
        return self._ask(lambda: self._symbols([*map(_sound, names)], _sound(besides)))

    def members(self, symbol: Symbol) -> "Future[list[str]]":
        """The texts of a type's members, in their order."""
        return self._ask(lambda: self._members(symbol))

    def similar(self, text: str, besides: str, limit: int) -> "Future[list[tuple[str, str]]]":
        """Paths and texts of the chunks of other files most like `text`, the best first (BM25)."""
        return self._ask(lambda: self._similar(_sound(text), _sound(besides), limit))

    def _ask(self, question: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()

        def answer() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(question())
            except Exception as error:
                future.set_exception(error)

        self._put(0, answer)
        return future

    def _put(self, urgency: int, job: Callable[[], None]) -> None:
        with self._wake:
            heapq.heappush(self._jobs, (urgency, next(self._numbers), job))
            self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._jobs or self._due() == 0):
                    self._wake.wait(self._due())
                if self._closed:
                    return
                job = self._take()
            try:
                job()
            except Exception:  # whatever one file does to it, the others are read
                logging.getLogger(__name__).warning("a file is not in the index", exc_info=True)

    def _take(self) -> Callable[[], None]:
        """The next job: questions, then changed files, then the rest of the workspace."""
        if self._due() == 0 and not (self._jobs and self._jobs[0][0] == 0):
            path = min(self._changed, key=lambda path: self._changed[path][0])
            _, text = self._changed.pop(path)
            return partial(self._change, path, _sound(text))
        return heapq.heappop(self._jobs)[2]

    def _due(self) -> float | None:
        """Seconds until the first changed file is read; None: nothing has changed."""
        first = min((due for due, _ in self._changed.values()), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def _next(self, files: Iterator[Path]) -> None:
        """Read one file of the workspace; the next one is a job of its own."""
        count = self.progress.files
        path = next(files, None)
        if path is None or count == FILES:
            self.progress = Progress(count, True, path is not None)
            return
        try:
            if str(path) not in self._recent and self._read(path):
                self.progress = Progress(count + 1, False, False)
        finally:
            self._put(2, partial(self._next, files))

    def _read(self, path: Path) -> bool:
        """Read a file from the disk; whether there was something to read."""
        try:
            text = self._content(path)
        except OSError:  # gone since it was listed
            text = b""
        if self._exclusions.reason(path, text.decode(errors="replace")) is None:
            self._define(str(path), text)
        else:
            self._forget(str(path))
        return bool(text)

    def _content(self, path: Path) -> bytes:
        """What a file holds; nothing where it is not the workspace's own, or no regular file."""
        real = Path(os.path.realpath(path))
        roots = [root for root in self._real if real.is_relative_to(root)]
        if not any(SKIPPED_FOLDERS.isdisjoint(real.relative_to(root).parts) for root in roots):
            return b""
        if not stat.S_ISREG(real.stat().st_mode):  # it may never end
            return b""
        with real.open("rb") as opened:
            content = opened.read(LARGEST + 1)
        return content if len(content) <= LARGEST else b""

    def _again(self, path: Path) -> None:
        """Read a file of the workspace once more; what its text was while it was open is gone."""
        if any(path.is_relative_to(root) for root in self._roots):
            self._drop(str(path))
            self._read(path)

    def _files(self) -> Iterator[Path]:
        """The workspace's files in known languages, folder by folder."""
        folders = [*reversed(self._roots)]
        while folders:
            try:
                entries = sorted(os.scandir(folders.pop()), key=lambda entry: entry.name)
            except OSError:
                continue
            below = []
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in SKIPPED_FOLDERS and self._exclusions.enters(path):
                        below.append(path)
                elif languages.by_path(entry.name) and self._exclusions.reason(path) is None:
                    yield path
            folders += reversed(below)

    def _change(self, path: str, text: str) -> None:
        """Take an open file's text: its symbols, and the chunks that are new."""
        if self._exclusions.reason(Path(path), text) is not None:
            self._forget(path)
            return
        self._define(path, text.encode(errors="replace"), recent=True)
        known = self._recent.pop(path, {})
        chunks = dict.fromkeys(_chunks(text))
        gone = [(row,) for chunk, row in known.items() if chunk not in chunks]
        self._db.executemany("DELETE FROM chunks WHERE rowid = ?", gone)
        self._recent[path] = {
            chunk: known[chunk] if chunk in known else self._insert(path, chunk) for chunk in chunks
        }
        if len(self._recent) > RECENT:
            self._drop(next(iter(self._recent)))

    def _insert(self, path: str, chunk: str) -> int:
        row = self._db.execute(
            "INSERT INTO chunks VALUES (?, ?, ?)", (" ".join(words(chunk)), path, chunk)
        ).lastrowid
        assert row is not None  # noqa: S101
        return row

    def _drop(self, path: str) -> None:
        """Search a file's text no more; its symbols stay."""
        rows = [(row,) for row in self._recent.pop(path, {}).values()]
        self._db.executemany("DELETE FROM chunks WHERE rowid = ?", rows)

    def _forget(self, path: str) -> None:
        self._drop(path)
        self._db.execute("DELETE FROM symbols WHERE path = ?", (path,))

    def _define(self, path: str, text: bytes, *, recent: bool = False) -> None:
        """Put a file's symbols in place of those known of it."""
        language = languages.by_path(path)
        try:
            found = [] if language is None else self._found(text, language, path, recent)
        except MagicoderError:  # its grammar is not installed
            found = []
        rows = [(one.name, one.path, one.parent, one.long, one.text) for one in found]
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute("DELETE FROM symbols WHERE path = ?", (path,))
            self._db.executemany("INSERT INTO symbols VALUES (?, ?, ?, ?, ?)", rows)

    def _found(self, text: bytes, language: Language, path: str, recent: bool) -> list[Symbol]:
        if not recent:
            return definitions(text, _parsed(text, language, None).root_node, language, path)
        old = self._edited if self._edited and self._edited.path == path else None
        tree = _parsed(text, language, old)
        known = old.symbols if old else {}
        self._edited = _Edited(path, text, tree, {})
        found: list[Symbol] = []
        for node in tree.root_node.children:
            key = node.start_point.column, text[node.start_byte : node.end_byte]
            symbols = known.get(key)
            if symbols is None:
                symbols = definitions(text, node, language, path)
            self._edited.symbols[key] = symbols
            found += symbols
        return found

    def _symbols(self, names: Sequence[str], besides: str) -> list[Symbol]:
        rows = self._db.execute(
            "SELECT name, path, parent, long, text FROM symbols "
            "WHERE name IN (SELECT value FROM json_each(?)) AND path != ?",
            (json.dumps(names), besides),
        )
        return [
            Symbol(name, path, parent, bool(long), text) for name, path, parent, long, text in rows
        ]

    def _members(self, symbol: Symbol) -> list[str]:
        rows = self._db.execute(
            "SELECT text FROM symbols WHERE path = ? AND parent = ? ORDER BY rowid",
            (symbol.path, symbol.name),
        )
        return [text for (text,) in rows]

    def _similar(self, text: str, besides: str, limit: int) -> list[tuple[str, str]]:
        asked = list(dict.fromkeys(words(text)))[-60:]
        if not asked:
            return []
        rows = self._db.execute(
            "SELECT path, text FROM chunks WHERE chunks MATCH ? AND path != ? "
            "ORDER BY rank LIMIT ?",
            (" OR ".join(f'"{word}"' for word in asked), besides, limit),
        )
        return list(rows)


def _sound(text: str) -> str:
    """The text with a question mark for half a surrogate pair, which SQLite cannot keep."""
    return text.encode(errors="replace").decode()


def words(text: str) -> list[str]:
    """Identifiers in small letters, each with the parts of its camelCase or snake_case."""
    found = []
    for name in _WORD.findall(text):
        parts = _PART.findall(name)
        found.append(name.lower())
        found += [part.lower() for part in parts if len(parts) > 1 and len(part) > 1]
    return found


def definitions(text: bytes, root: "Node", language: Language, path: str) -> list[Symbol]:
    """The functions, types and members at and below a node that others can use, in their order.

    None that are local.
    """
    query = _reader(language)[1]
    spans: dict[tuple[int, int], tuple[Node, Node, Node]] = {}
    for start in range(root.start_byte, root.end_byte, 4 * PIECE):
        for whole, name, body in _matches(query, root, start, start + 4 * PIECE):
            spans.setdefault((whole.start_byte, -whole.end_byte), (whole, name, body))
    found: list[Symbol] = []
    around: list[tuple[int, str, bool]] = []  # end, name and whether a type, of what encloses
    for _, (whole, name, body) in sorted(spans.items()):
        while around and around[-1][0] <= whole.start_byte:
            around.pop()
        if _SPACES.search(whole.type):
            continue
        spelled = _NAME.search(_text(text, name.start_byte, name.end_byte))
        is_type = bool(_TYPES.search(whole.type))
        parent, of_type = around[-1][1:] if around else ("", True)
        around.append((whole.end_byte, spelled[0] if spelled else "", is_type))
        if spelled and of_type:
            short = is_type and whole.end_byte - whole.start_byte <= SHORT
            end = whole.end_byte
            shown = _text(text, whole.start_byte, end) if short else _head(text, whole, body)
            found.append(Symbol(spelled[0], path, parent, is_type and not short, shown))
    return found


def _parsed(text: bytes, language: Language, old: _Edited | None) -> "Tree":
    """The text's tree, from that of an older version where there is one.

    Raises:
        MagicoderError: the language's grammar is not installed.
    """
    parser = _reader(language)[0]
    tree = None
    if old is not None:
        tree = old.tree
        first = _shared(old.text, text)
        last = _shared(old.text[first:][::-1], text[first:][::-1])
        ends = len(old.text) - last, len(text) - last
        tree.edit(
            first, *ends, _point(text, first), _point(old.text, ends[0]), _point(text, ends[1])
        )
    read = lambda at, _: text[at : at + PIECE]  # noqa: E731
    return parser.parse(read, tree) if tree is not None else parser.parse(read)


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning are the same."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _point(text: bytes, byte: int) -> tuple[int, int]:
    """Row and column, in bytes."""
    return text.count(b"\n", 0, byte), byte - text.rfind(b"\n", 0, byte) - 1


def _matches(query: "Query", root: "Node", start: int, end: int) -> "list[tuple[Node, Node, Node]]":
    """What a definition is, where it begins between two bytes."""
    cursor = require("tree_sitter", "languages").QueryCursor(query)
    cursor.set_byte_range(start, end)
    found = [
        (named["whole"][0], named["name"][0], named["body"][0]) for _, named in cursor.matches(root)
    ]
    return [each for each in found if start <= each[0].start_byte < end]


def _head(text: bytes, whole: "Node", body: "Node") -> str:
    """A definition up to its body, and the first line of a docstring."""
    head = _text(text, whole.start_byte, min(body.start_byte, whole.start_byte + SHORT))
    head = head.rstrip().removesuffix("{").rstrip()
    said = _DOCSTRING.match(_text(text, body.start_byte, body.start_byte + 120))
    indent = " " * (whole.start_point.column + 4)
    return f'{head}\n{indent}"""{said[2].strip()}"""' if said else head


def _text(text: bytes, start: int, end: int) -> str:
    return text[start:end].decode(errors="replace")


@cache
def _reader(language: Language) -> "tuple[Parser, Query]":
    """A parser for the index's thread, and what its grammar knows of the patterns."""
    tree_sitter = require("tree_sitter", "languages")
    grammar = tree_sitter.Language(
        getattr(require(language.grammar, "languages"), language.function)()
    )
    known = []
    for pattern in _PATTERNS:
        with suppress(tree_sitter.QueryError):
            tree_sitter.Query(grammar, pattern)
            known.append(pattern)
    return tree_sitter.Parser(grammar), tree_sitter.Query(grammar, "\n".join(known))


def _chunks(text: str) -> Iterator[str]:
    """Pieces of a file, cut where a line without indentation follows a blank one, or every 40.

    An edit changes the piece that it is in and leaves the others as they are.
    """
    chunk: list[str] = []
    blank = False
    for line in text.splitlines():
        if chunk and (len(chunk) == 40 or (blank and line[:1].strip())):
            yield "\n".join(chunk)
            chunk = []
        blank = not line.strip()
        if chunk or not blank:
            chunk.append(line)
    if chunk:
        yield "\n".join(chunk)
