"""The paper's extractor (section 2): 1 to 15 consecutive lines at random."""

from magicoder.training.data.extractors.base import Bounds, rng, taken
from magicoder.training.data.records import Document, Rejected, Seed

MAX_LINES = 15


def extract(document: Document, *, seed: int, bounds: Bounds) -> Seed | Rejected:
    """A run of lines; `bounds` are not the paper's, and do not hold here."""
    lines = document.text.splitlines()
    chance = rng(document, seed)
    length = min(chance.randint(1, MAX_LINES), len(lines))
    first = chance.randint(0, len(lines) - length)
    code = "\n".join(lines[first : first + length])
    found = taken(document, line=first + 1, code=code, kind="lines")
    return found if code.strip() else Rejected(reason="blank lines", record=found)
