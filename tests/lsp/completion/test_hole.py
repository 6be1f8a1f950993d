"""The text around a cursor."""

from magicoder.lsp.completion.hole import Hole


def test_a_hole_has_line_feeds_alone_and_knows_its_line() -> None:
    at = Hole.at("a\r\nb😀c\rd", 5)
    assert at == Hole("a\nb😀", "c\nd")
    assert (at.line_before, at.line_after, at.inside_line) == ("b😀", "c", True)
    assert not Hole("x", "  \ny").inside_line
