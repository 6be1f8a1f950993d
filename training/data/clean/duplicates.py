"""Samples that came before: to the letter, as in the paper, or nearly."""

import hashlib
from collections.abc import Iterator

from magicoder.training.data.clean import minhash
from magicoder.training.data.clean.text import batched, code, squash
from magicoder.training.data.records import Rejected, Sample


def exact(samples: Iterator[Sample]) -> Iterator[Sample | Rejected]:
    """The paper's: an earlier sample has the same seed, problem or solution, white space aside.

    Evolved samples share their parent's seed, so theirs does not count. What is left out leaves no
    trace. Remembers about 400 bytes a sample.
    """
    seen: dict[str, set[bytes]] = {"seed": set(), "problem": set(), "solution": set()}
    for sample in samples:
        texts = {"problem": sample.problem, "solution": sample.solution}
        if sample.seed and not sample.evolution:
            texts = {"seed": sample.seed.code, **texts}
        digests = {name: _digest(text) for name, text in texts.items()}
        same = next((name for name, digest in digests.items() if digest in seen[name]), None)
        if same:
            yield Rejected(reason=f"same {same} as an earlier sample", record=sample)
            continue
        for name, digest in digests.items():
            seen[name].add(digest)
        yield sample


def near(samples: Iterator[Sample], *, threshold: float) -> Iterator[Sample | Rejected]:
    """An earlier sample that was kept is at least `threshold` similar (see `minhash`).

    Problem and code are compared as one text. So no two samples that are kept are similar, and each
    that is left out names the one that stays and their similarity. Remembers about 500 bytes a
    sample that is kept.
    """
    index = minhash.Index(threshold)
    kept: list[str] = []
    for batch in batched(samples):
        forms = [squash(f"{one.problem}\n{code(one)}") for one in batch]
        matches = index.match(minhash.signatures(forms), add=True)
        for sample, match in zip(batch, matches, strict=True):
            if match is None:
                kept.append(sample.id)
                yield sample
            else:
                detail = f"{kept[match.row]} {match.score:.2f}"
                yield Rejected(reason="similar to an earlier sample", record=sample, detail=detail)


def _digest(text: str) -> bytes:
    bare = "".join(text.split())
    return hashlib.blake2b(bare.encode(errors="replace"), digest_size=16).digest()
