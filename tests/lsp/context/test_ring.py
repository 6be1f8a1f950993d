"""Where the user was lately."""

from lsprotocol import types
from pygls.workspace import PositionCodec

from magicoder.lsp.context import ring as module
from magicoder.lsp.context.ring import Ring
from magicoder.lsp.documents import Document, Edit

TEXT = "".join(f"line {i}\n" for i in range(1000))


def opened(name: str = "a", text: str = TEXT) -> Document:
    item = types.TextDocumentItem(f"file:///w/{name}.py", "python", 0, text)
    return Document(item, PositionCodec(types.PositionEncodingKind.Utf16))


def test_an_edit_leaves_the_lines_around_it() -> None:
    ring, document = Ring(), opened()
    document.subscribe(ring.edited)
    at = TEXT.index("line 500\n")
    document.apply(Edit(at, at, "new "))
    [span] = ring.spans
    lines = span.text.split("\n")
    assert (lines[0], lines[8], lines[-1]) == ("line 492", "new line 500", "line 508")
    assert (span.path, document.source[span.start :].split("\n")[0]) == ("/w/a.py", "line 492")


def test_at_the_ends_of_a_document() -> None:
    ring, document = Ring(), opened(text="a\nb")
    ring.viewed(document, 0)
    assert [span.text for span in ring.spans] == ["a\nb"]
    ring.viewed(document, 3)
    assert [span.text for span in ring.spans] == ["a\nb"]
    ring = Ring()
    ring.viewed(opened(text=""), 0)
    ring.viewed(opened(text="\n\n"), 9)
    assert ring.spans == ()


def test_a_place_is_kept_once_and_the_newest_last() -> None:
    ring, one, other = Ring(), opened("a"), opened("b", TEXT.replace("line", "other"))
    ring.viewed(one, 5000)
    ring.viewed(other, 100)
    ring.viewed(one, 0)
    ring.viewed(one, 5010)
    assert [(span.path[3], span.start) for span in ring.spans][1:] == [
        ("a", 0),
        ("a", ring.spans[-1].start),
    ]
    assert ring.spans[0].path == "/w/b.py"
    assert "line 569" in ring.spans[-1].text


def test_the_ring_is_bounded() -> None:
    ring, document = Ring(), opened(text=TEXT * 10)
    for i in range(50):
        ring.viewed(document, i * 1000)
    assert len(ring.spans) == module.SPANS
    assert ring.spans[-1].start > 48_000


def test_what_is_forgotten_is_gone() -> None:
    ring = Ring()
    ring.viewed(opened("a"), 0)
    ring.viewed(opened("b"), 0)
    ring.forget("/w/a.py")
    assert [span.path for span in ring.spans] == ["/w/b.py"]


def test_new_text_for_all_of_a_document_is_no_edit() -> None:
    ring, document = Ring(), opened()
    document.subscribe(ring.edited)
    document.apply(Edit(0, len(TEXT), "formatted\n" * 100))
    assert ring.spans == ()
