"""What every extractor is given and gives."""

import random
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from magicoder.training.data.records import Document, Origin, Rejected, Seed


class Bounds(BaseModel):
    """What a seed of the extractor `syntax` may be.

    Lines are those of the node, without its imports. Difficulty is the number of branches in it:
    conditions, loops, cases and handlers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_lines: int = Field(3, gt=0)
    max_lines: int = Field(40, gt=0)
    min_difficulty: int = Field(0, ge=0)
    max_difficulty: int = Field(20, ge=0)


class Extractor(Protocol):
    """A way to take a seed out of a document."""

    def __call__(self, document: Document, *, seed: int, bounds: Bounds) -> Seed | Rejected:
        """One seed, which depends on `document`, `seed` and `bounds` alone."""
        ...


def rng(document: Document, seed: int) -> random.Random:
    """Chance that is the document's own."""
    return random.Random(f"{seed}:{document.origin}:{document.path}")  # noqa: S311


def taken(document: Document, *, line: int, code: str, kind: str) -> Seed:
    """The seed `code`, with all that is known of where it comes from."""
    origin = document.model_dump(include=set(Origin.model_fields))
    return Seed(**origin, line=line, code=code, kind=kind)
