"""Lines and positions as LSP counts them, where pygls counts otherwise."""

import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

from magicoder.lsp.documents import Document


def opened(text: str, encoding: str = "utf-16") -> Document:
    item = types.TextDocumentItem("file:///a.py", "python", 1, text)
    return Document.opened(item, PositionCodec(encoding))


def test_lines_end_where_lsp_ends_them() -> None:
    assert opened("a\fb\x0b\x1c\x85\u2028c\nd\r\ne\rf").lines == (
        "a\fb\x0b\x1c\x85\u2028c\n",
        "d\r\n",
        "e\r",
        "f",
    )
    assert opened("").lines == ()


@pytest.mark.parametrize(
    ("encoding", "units"),
    [("utf-8", [0, 3, 7, 8]), ("utf-16", [0, 1, 3, 4]), ("utf-32", [0, 1, 2, 3])],
)
def test_units_become_characters(encoding: str, units: list[int]) -> None:
    document = opened("x\n漢😀a\n", encoding)
    found = [document.offset_at_position(types.Position(1, unit)) for unit in units]
    assert found == [2, 3, 4, 5]


def test_positions_outside_are_clamped_and_not_changed() -> None:
    document = opened("ab\r\ncd")
    far = types.Position(0, 9)
    assert document.offset_at_position(far) == 2
    assert far == types.Position(0, 9)
    assert document.offset_at_position(types.Position(1, 9)) == 6
    assert document.offset_at_position(types.Position(9, 0)) == 6
    assert opened("").offset_at_position(types.Position(3, 3)) == 0
    assert opened("😀\n").offset_at_position(types.Position(1, 0)) == 2
