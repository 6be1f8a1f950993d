"""The forms of a text that comparisons see. Case, punctuation and white space count in none."""

from collections.abc import Iterable, Iterator
from itertools import islice

from magicoder.blocks import code_blocks
from magicoder.training.data.records import Sample

BATCH = 512  # records that a comparison takes at a time: enough for NumPy, little to hold
_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum())
_APART = bytes(code if chr(code).isalpha() or code > 127 else 32 for code in range(256))


def squash(text: str) -> bytes:
    """Letters and digits alone, in lower case, as UTF-8."""
    return text.lower().encode(errors="replace").translate(None, _DROPPED)


def words(text: str) -> list[bytes]:
    """Runs of letters, in lower case, as UTF-8: `snake_case` is two words, numbers are none."""
    return text.lower().encode(errors="replace").translate(_APART).split()


def code(sample: Sample) -> str:
    """The code of a sample's solution, or the whole solution where it has no code block."""
    blocks = code_blocks(sample.solution, sample.language)
    return "\n".join(block for _, block in blocks) or sample.solution


def batched(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """`BATCH` samples at a time, in order."""
    rest = iter(samples)
    while batch := list(islice(rest, BATCH)):
        yield batch
