"""Snippets for a hole, from a real workspace on the disk and real documents."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.context import index as index_module
from magicoder.lsp.context import retrieve as module
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.context.retrieve import Retriever, Snippet
from magicoder.lsp.documents import Document, Edit

Start = Callable[..., Awaitable[Retriever]]

SHAPES = '''class Circle:
    """A round one."""

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def area(self) -> float:
        """Its area."""
        return 3.14 * self.radius ** 2
''' + "".join(f"\n    def spare{i}(self):\n        pass\n" for i in range(40))
MAIN = """from shapes import Circle, scale

def total(radii):
    circles = [Circle(r) for r in radii]
    return sum(circles)

def other():
    # a comment about Circle
    text = "Circle"
    return text
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """A retriever over tmp_path that has read it, and waits for its answers."""
    monkeypatch.setattr(index_module, "QUIET", 0.0)
    monkeypatch.setattr(module, "PATIENCE", 10.0)
    running = []

    async def started(patterns: list[str] | None = None) -> Retriever:
        retriever = Retriever([tmp_path], Exclusions([tmp_path], patterns or []))
        running.append(retriever)
        retriever.start()
        await settled(retriever)
        return retriever

    yield started
    for retriever in running:
        retriever.close()


async def settled(retriever: Retriever) -> None:
    index = retriever._index
    while index._changed or index._jobs or not index.progress.done:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await asyncio.wrap_future(index.symbols([], ""))


def opened(path: Path, text: str, language: str = "python") -> Document:
    item = types.TextDocumentItem(path.as_uri(), language, 0, text)
    return Document(item, PositionCodec(types.PositionEncodingKind.Utf16))


async def found(
    retriever: Retriever, document: Document, after: str, *, wait: bool = True
) -> tuple[Snippet, ...]:
    """The snippets with the cursor behind the first `after`."""
    offset = document.source.index(after) + len(after)
    hole = Hole.at(document.source, offset)
    snippets = await retriever.snippets(hole, document.syntax, offset, document.path)
    if wait:
        for known in retriever._known.values():
            if known.search:
                await known.search
    return snippets


async def test_a_signature_of_what_is_imported_and_used(tmp_path: Path, start: Start) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "shapes.py").write_text(SHAPES + "\ndef scale(by): pass\n")
    (tmp_path / "unused.py").write_text("def elsewhere(): pass\nclass Sphere: pass\n")
    (tmp_path / "shapes.rs").write_text("fn scale(by: u32) {}\n")
    retriever = await start()
    [snippet] = await found(retriever, opened(tmp_path / "main.py", MAIN), "in radii]")
    assert (snippet.path, snippet.kind) == ("lib/shapes.py", "signature")
    lines = snippet.text.split("\n")
    assert lines[0] == "class Circle:"
    assert "    def area(self) -> float:" in lines
    assert lines[-1] == "def scale(by):"
    assert snippet.text.count("spare") == module.MEMBERS - 2
    assert "3.14" not in snippet.text


async def test_what_many_files_define_or_none_uses_is_left_out(
    tmp_path: Path, start: Start
) -> None:
    for i in range(5):
        (tmp_path / f"a{i}.py").write_text("def total(): pass\ndef common(): pass\n")
    (tmp_path / "b.py").write_text("class B:\n    def circles(self): pass\n" + "# .\n" * 200)
    retriever = await start()
    document = opened(tmp_path / "main.py", "def f(circles):\n    common()\n    \n")
    assert await found(retriever, document, "common()") == ()


async def test_the_order_stays_and_more_is_appended(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH", 0.0)
    (tmp_path / "shapes.py").write_text(SHAPES)
    (tmp_path / "zoo.py").write_text("def animal(name): pass\n")
    (tmp_path / "aaa.py").write_text("def first(name): pass\n")
    retriever = await start()
    document = opened(tmp_path / "main.py", MAIN)
    before = await found(retriever, document, "in radii]")
    assert [snippet.path for snippet in before] == ["shapes.py"]
    for name in ("animal", "first"):
        at = document.source.index("\n    return sum")
        document.apply(Edit(at, at, f"\n    {name}('x')"))
        now = await found(retriever, document, "('x')")
        assert now == before  # found while the answer is on its way
        now = await found(retriever, document, "('x')")
        assert now[: len(before)] == before
        assert len(now) == len(before) + 1
        before = now
    assert [snippet.path for snippet in before] == ["shapes.py", "zoo.py", "aaa.py"]
    monkeypatch.setattr(module, "SNIPPETS", 3)
    at = document.source.index("\n    return sum")
    document.apply(Edit(at, at, "\n    elsewhere('x')"))
    retriever._index.update(tmp_path / "more.py", "def elsewhere(): pass\n")
    await settled(retriever)
    await found(retriever, document, "('x')")
    assert await found(retriever, document, "('x')") == before


async def test_half_typed_code_changes_nothing(tmp_path: Path, start: Start) -> None:
    (tmp_path / "shapes.ts").write_text("export function circle(r: number) {\n}\n")
    retriever = await start()
    text = (
        'import {circle} from "shapes";\n\nfunction total(radii) {\n  const x = circle(1);\n'
        "  return x;\n}\n\nfunction other(a) {\n  return 1;\n}\n"
    )
    document = opened(tmp_path / "main.ts", text, "typescript")
    whole = await found(retriever, document, "circle(1);")
    assert [snippet.path for snippet in whole] == ["shapes.ts"]
    at = text.index("circle(1);") + len("circle(1);")
    hidden = 0
    for char in "\n  for (const y of foo(bar, ":
        document.apply(Edit(at, at, char))
        at += 1
        node = document.syntax.node_at(at)
        hidden += module._definition(node) is None
        hole = Hole.at(document.source, at)
        got = await retriever.snippets(hole, document.syntax, at, document.path)
        assert got == whole
    assert hidden  # the grammar lost the function for a while


async def test_comments_strings_and_imports_need_nothing(tmp_path: Path, start: Start) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES)
    retriever = await start()
    for after in ("# a comment", 'text = "Circ', "import Circle"):
        assert await found(retriever, opened(tmp_path / "main.py", MAIN), after) == ()
    assert await found(retriever, opened(tmp_path / "main.py", MAIN), "in radii]")
    inside = opened(tmp_path / "b.py", 'from shapes import Circle\ndef f():\n    f"{Circle}"\n')
    assert await found(retriever, inside, "{Circle") != ()


async def test_nothing_of_an_excluded_file_is_shown(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magicoder.lsp.context.exclusion.TRUSTED_FOR", 0.0)
    (tmp_path / "shapes.py").write_text(SHAPES)
    retriever = await start(["private.py"])
    private = opened(tmp_path / "private.py", "def total(radii):\n    return Circle(radii)\n")
    retriever.watch(private)
    private.apply(Edit(0, 0, "# "))
    retriever.viewed(private, 5)
    await settled(retriever)
    document = opened(tmp_path / "main.py", MAIN)
    assert [s.path for s in await found(retriever, document, "in radii]")] == ["shapes.py"]
    (tmp_path / ".gitignore").write_text("shapes.py\n")
    assert await found(retriever, document, "in radii]") == ()


async def test_similar_and_recent_pieces_of_other_open_files(tmp_path: Path, start: Start) -> None:
    retriever = await start()
    like = "def read_table(path, rows):\n    table = open(path)\n    return table.rows(rows)\n"
    far = "".join(f"alpha{i} = {i}\n" for i in range(50))
    one, other = opened(tmp_path / "one.py", like), opened(tmp_path / "far.py", far)
    text = "def write_table(path, rows):\n    table = open(path)\n    \n"
    document = opened(tmp_path / "main.py", text)
    for each in (one, other, document):
        retriever.watch(each)
    retriever.viewed(document, 30)
    other.apply(Edit(0, 0, "beta = 1\n"))
    await settled(retriever)
    snippets = await found(retriever, document, "open(path)\n    ")
    assert [(s.path, s.kind) for s in snippets] == [("one.py", "similar"), ("far.py", "recent")]
    assert snippets[0].text == like.strip()
    assert "beta = 1\nalpha0 = 0\n" in snippets[1].text
    retriever.viewed(one, 40)  # it is among the similar ones already
    below = opened(tmp_path / "below.py", text)
    assert [s.path for s in await found(retriever, below, "open(path)\n    ")].count("one.py") == 1


async def test_a_slow_search_serves_the_next_keystroke(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES)
    retriever = await start()
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    retriever._index._put(0, lambda: time.sleep(0.2))
    document = opened(tmp_path / "main.py", MAIN)
    assert await found(retriever, document, "in radii]", wait=False) == ()
    assert await found(retriever, document, "in radii]", wait=False) == ()  # asked once
    [known] = retriever._known.values()
    assert known.search is not None
    await known.search
    assert len(await found(retriever, document, "in radii]")) == 1


async def test_where_there_is_no_tree_there_are_no_snippets(tmp_path: Path, start: Start) -> None:
    retriever = await start()
    plain = opened(tmp_path / "a.txt", "Circle of friends", "plaintext")
    assert await found(retriever, plain, "Circle") == ()
    assert await found(Retriever(), opened(tmp_path / "main.py", MAIN), "in radii]") == ()


async def test_nothing_is_shown_of_a_document_that_holds_a_private_key(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH", 0.0)
    (tmp_path / "shapes.py").write_text(SHAPES)
    retriever = await start()
    main = opened(tmp_path / "main.py", MAIN)
    assert [s.path for s in await found(retriever, main, "in radii]")] == ["shapes.py"]
    shapes = opened(tmp_path / "shapes.py", SHAPES)
    retriever.watch(shapes)
    shapes.apply(Edit(0, 0, "body = 1\n"))
    assert retriever._ring.spans
    at = len(shapes.source)
    key = "-----BEGIN PRIVATE KEY-----\n" + "BODY\n" * 100
    shapes.apply(Edit(at, at, key))
    assert retriever._ring.spans == ()
    assert await found(retriever, main, "in radii]") == ()  # at once, before it is read again
    shapes.apply(Edit(at + len(key), at + len(key), "x"))
    retriever.viewed(shapes, at + len(key))
    assert retriever._ring.spans == ()
    await settled(retriever)
    assert await found(retriever, main, "in radii]") == ()
    assert await asyncio.wrap_future(retriever._index.symbols(["Circle"], "")) == []
    shapes.apply(Edit(at, len(shapes.source), ""))
    await settled(retriever)
    assert {s.path for s in await found(retriever, main, "in radii]")} == {"shapes.py"}
