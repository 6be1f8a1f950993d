"""What is known of the workspace, and that it follows the files."""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

from magicoder import languages
from magicoder.lsp.context import index as module
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.index import Index, Symbol, definitions, words

T = TypeVar("T")
SOURCES = Path(__file__).parents[2] / "data" / "sources"
Start = Callable[..., Index]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """An index of tmp_path that has read it, and reads changes at once."""
    monkeypatch.setattr(module, "QUIET", 0.0)
    running = []

    def started(patterns: list[str] | None = None) -> Index:
        index = Index([tmp_path], Exclusions([tmp_path], patterns or []))
        running.append(index)
        index.start()
        while not index.progress.done:
            time.sleep(0.001)
        return index

    yield started
    for index in running:
        index.close()


def got(future: "Future[T]") -> T:
    return future.result(10)


def settled(index: Index) -> None:
    """Wait until no change is left to read."""
    while index._changed or index._jobs:
        time.sleep(0.001)
    got(index.symbols(["x"], ""))  # the one that was taken last is done


def names(index: Index, *asked: str, besides: str = "") -> set[tuple[str, str]]:
    found = got(index.symbols(asked, besides))
    return {(symbol.name, Path(symbol.path).name) for symbol in found}


DEFINED = {
    "c": {"point", "larger"},
    "cpp": {"sum", "Point"},
    "csharp": {"Sample", "Larger", "Show"},
    "go": {"Shout", "Shelf"},
    "java": {"Sample", "sum"},
    "javascript": {"place", "Shelf", "add", "load"},
    "kotlin": {"larger", "Shelf", "add"},
    "php": {"round_shape", "Shelf", "add"},
    "python": {"area", "Circle", "__init__"},
    "ruby": {"Shelf", "add"},
    "rust": {"larger", "Point", "main"},
    "shell": {"greet"},
    "swift": {"larger", "Shelf", "add"},
    "tsx": {"Counter"},
    "typescript": {"place", "Shelf"},
}


def defined(file: str, text: str) -> list[Symbol]:
    language = languages.by_path(file)
    assert language is not None
    content = text.encode()
    tree = module._parsed(content, language, None)
    return definitions(content, tree.root_node, language, file)


@pytest.mark.parametrize("language", languages.LANGUAGES, ids=lambda language: language.name)
def test_every_language_tells_its_definitions(language: languages.Language) -> None:
    [file] = (SOURCES / language.name).iterdir()
    found = defined(str(file), file.read_text())
    assert {symbol.name for symbol in found} == DEFINED[language.name]
    text = file.read_text()
    assert all(symbol.text.split("\n")[0] in text for symbol in found)


def test_a_symbol_is_its_head() -> None:
    code = '''
class Shelf(Base):
    """Books."""

    def add(self, book: Book, *,
            at: int = 0) -> None:
        """Put it there.

        More.
        """
        def local(): pass

    def size(self): return 1
''' + "".join(f"    x{i} = {i}\n" for i in range(100))
    shelf, add, size = defined("a.py", code)
    assert (shelf.name, shelf.parent, shelf.long) == ("Shelf", "", True)
    assert shelf.text == 'class Shelf(Base):\n    """Books."""'
    assert add == Symbol(
        "add",
        "a.py",
        "Shelf",
        False,
        "def add(self, book: Book, *,\n            at: int = 0) -> None:\n"
        '        """Put it there."""',
    )
    assert size.text == "def size(self):"
    [small] = defined("a.rs", "struct P { x: u32 }\n")
    assert (small.text, small.long) == ("struct P { x: u32 }", False)
    [long] = defined("a.rs", "struct P {\n" + "    x: u32,\n" * 100 + "}\n")
    assert long.text == "struct P"
    method, *_ = (
        s for s in defined("a.rs", "impl P { fn new(x: u32) -> P { P { x } } }") if s.parent
    )
    assert (method.parent, method.text) == ("P", "fn new(x: u32) -> P")


def test_files_over_one_piece_are_read_whole() -> None:
    code = "".join(f"def f{i}(é):\n    return {i}\n\n" for i in range(3000))
    assert [symbol.name for symbol in defined("a.py", code)] == [f"f{i}" for i in range(3000)]


def test_the_workspace_is_read_but_for_what_is_excluded(tmp_path: Path, start: Start) -> None:
    for name in ("a.py", "sub/b.py", "node_modules/c.py", "build/d.py", "private/e.py", ".env"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("def f(): pass\n")
    (tmp_path / "secrets.py").write_text("def f(): pass\n")
    (tmp_path / "key.py").write_text("def f(): '-----BEGIN PRIVATE KEY-----'\n")
    (tmp_path / "large.py").write_text("def f(): pass\n" + "# .\n" * 100_000)
    (tmp_path / "notes.txt").write_text("def f(): pass\n")
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    index = start(["private/"])
    assert names(index, "f") == {("f", "a.py"), ("f", "b.py")}
    assert index.progress.done
    assert not index.progress.full


def test_more_files_than_allowed_are_told(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES", 3)
    for i in range(3):
        (tmp_path / f"a{i}.py").write_text(f"def f{i}(): pass\n")
    assert start().progress == module.Progress(3, True, False)
    (tmp_path / "a3.py").write_text("def f3(): pass\n")
    index = start()
    assert index.progress == module.Progress(3, True, True)
    assert names(index, "f2", "f3") == {("f2", "a2.py")}


def test_an_open_files_text_counts_for_more_than_the_disks(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "a.py"
    file.write_text("def old(): pass\n")
    index = start()
    index.update(file, "def newer(): pass\n")
    settled(index)
    assert names(index, "old", "newer") == {("newer", "a.py")}
    assert names(index, "newer", besides=str(file)) == set()
    index.remove(file)
    settled(index)
    assert names(index, "old", "newer") == set()
    assert got(index.similar("newer", "", 5)) == []


def test_a_file_that_changed_on_the_disk_is_read_again(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "a.py"
    file.write_text("def old(): pass\n")
    index = start(["private.py"])
    file.write_text("def newer(): pass\n")
    (tmp_path / "private.py").write_text("def newer(): pass\n")
    for path in (file, tmp_path / "private.py", tmp_path / "gone.py"):
        index.changed(path)
    settled(index)
    assert names(index, "old", "newer") == {("newer", "a.py")}
    file.write_text("def newer(): '-----BEGIN PRIVATE KEY-----'\n")
    index.changed(file)
    settled(index)
    assert names(index, "newer") == set()


def test_the_disk_does_not_overwrite_an_open_file(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def old(): pass\n")
    index = Index([tmp_path], Exclusions([tmp_path], []))
    index._change(str(file), "def newer(): pass\n")  # opened before the workspace was read
    index.start()
    while not index.progress.done:
        time.sleep(0.001)
    assert names(index, "old", "newer") == {("newer", "a.py")}
    index.close()


def test_an_excluded_files_text_is_not_kept(tmp_path: Path, start: Start) -> None:
    index = start(["private.py"])
    index.update(tmp_path / "private.py", "def hidden(): pass\n")
    index.update(tmp_path / "a.py", "def shown(): pass\n")
    index.update(tmp_path / "a.py", "def hidden(): '-----BEGIN PRIVATE KEY-----'\n")
    settled(index)
    assert names(index, "hidden", "shown") == set()
    assert got(index.similar("hidden shown", "", 5)) == []


def test_many_edits_leave_what_reading_it_anew_gives(tmp_path: Path, start: Start) -> None:
    rng = random.Random(0)
    text = "".join(f"class C{i}:\n    def m{i}(self):\n        pass\n\n\n" for i in range(30))
    file = tmp_path / "a.py"
    index = start()
    for _ in range(60):
        at = rng.randrange(len(text))
        new = rng.choice(["", "x", "\n", "é漢🙂", "def g(): pass\n", "class D:\n", "'", "\n\n\n"])
        text = text[:at] + new + text[at + rng.choice([0, 1, 30]) :]
        index._change(str(file), text)
    fresh = Index([], Exclusions([], []))
    fresh._change(str(file), text)
    for query in ("SELECT * FROM symbols", "SELECT words, path, text FROM chunks"):
        here, there = (sorted(one._db.execute(query)) for one in (index, fresh))
        assert here == there
    assert len(index._recent[str(file)]) == len(set(module._chunks(text)))


def test_an_edit_replaces_one_chunk(tmp_path: Path, start: Start) -> None:
    index, file = start(), str(tmp_path / "a.py")
    text = "".join(f"def f{i}():\n    return {i}\n\n\n" for i in range(50))
    index._change(file, text)
    rows = set(index._recent[file].values())
    index._change(file, text.replace("return 20", "return 'twenty'"))
    assert len(rows - set(index._recent[file].values())) == 1


def test_similar_pieces_are_found_by_parts_of_names(tmp_path: Path, start: Start) -> None:
    index = start()
    index.update(tmp_path / "a.py", "def parse_header(line):\n    return line.split(':')\n")
    index.update(tmp_path / "b.py", "def draw(circle):\n    circle.fill()\n")
    settled(index)
    [(path, text)] = got(index.similar("parseHeader = 1", "", 1))
    assert (Path(path).name, text.split("(")[0]) == ("a.py", "def parse_header")
    assert got(index.similar("parseHeader", str(tmp_path / "a.py"), 5)) == []
    assert got(index.similar("", "", 5)) == []
    assert got(index.similar('"NEAR( AND * ^', "", 5)) == []  # the search's own words


def test_only_recent_files_are_searched(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT", 2)
    index = start()
    for i in (0, 1, 0, 2):  # the first one is used again before the third comes
        index._change(str(tmp_path / f"a{i}.py"), f"def same(): return {i}\n")
    found = {Path(path).name for path, _ in got(index.similar("same", "", 5))}
    assert found == {"a0.py", "a2.py"}
    assert len(got(index.symbols(["same"], ""))) == 3


def test_questions_come_before_the_workspace(tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / f"a{i}.py").write_text(f"def f{i}(): pass\n")
    index = Index([tmp_path], Exclusions([tmp_path], []))
    index.start()
    got(index.symbols(["f1"], ""))
    assert not index.progress.done
    index.close()
    assert not index._thread.is_alive()


def test_words() -> None:
    assert words("parseHTTPHeader x_y2 1 αβγ") == [
        "parsehttpheader", "parse", "http", "header", "x_y2", "αβγ",
    ]  # fmt: skip


def test_what_never_ends_or_lies_outside_is_not_read(tmp_path: Path, start: Start) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / ".git", outside):
        folder.mkdir(parents=True)
        (folder / "a.py").write_text("def hidden():\n    pass\n")
    (root / "zero.py").symlink_to("/dev/zero")
    (root / "out.py").symlink_to(outside / "a.py")
    (root / "git.py").symlink_to(root / ".git" / "a.py")
    os.mkfifo(root / "pipe.py")
    (root / "own.py").write_text("def own():\n    pass\n")
    (root / "within.py").symlink_to(root / "own.py")
    index = Index([root], Exclusions([root], []))
    index.start()
    try:
        while not index.progress.done:
            time.sleep(0.001)
        for name in ("out.py", "git.py", "zero.py", "pipe.py"):
            index.changed(root / name)
        settled(index)
        assert names(index, "hidden", "own") == {("own", "own.py"), ("own", "within.py")}
    finally:
        index.close()


def test_half_a_surrogate_pair_ends_nothing(tmp_path: Path, start: Start) -> None:
    index = start()
    index.update(tmp_path / "a.py", "def broken():\n    return '\ud83d'\n")
    index.update(tmp_path / "b\udcff.py", "def unnamed():\n    pass\n")
    settled(index)
    assert names(index, "broken", "\ud83d", besides="\ud83d") == {("broken", "a.py")}
    assert got(index.similar("broken \ud83d", "\ud83d", 5))
    index.update(tmp_path / "c.py", "def later():\n    pass\n")
    settled(index)
    assert names(index, "later") == {("later", "c.py")}


def test_a_bad_file_ends_neither_the_scan_nor_the_thread(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.py").write_text(f"def def_{name}():\n    pass\n")
    real = Index._content

    def content(self: Index, path: Path) -> bytes:
        if path.name == "b.py":
            raise RuntimeError("bad")
        return real(self, path)

    monkeypatch.setattr(Index, "_content", content)
    assert names(start(), "def_a", "def_b", "def_c") == {("def_a", "a.py"), ("def_c", "c.py")}
