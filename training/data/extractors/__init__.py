"""How seeds are taken. A new way is one file here and one line in `EXTRACTORS`."""

from magicoder.training.data.extractors import paper, syntax
from magicoder.training.data.extractors.base import Bounds, Extractor

EXTRACTORS: dict[str, Extractor] = {"paper": paper.extract, "syntax": syntax.extract}

__all__ = ["EXTRACTORS", "Bounds", "Extractor"]
