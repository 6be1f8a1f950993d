"""Documents with the lengths of OSS-Instruct's, of which 45% is trained on."""

import random

LONGEST = 1216  # the paper's limit of tokens
SUPERVISED = 0.45


def length(chance: random.Random, longest: int = LONGEST) -> int:
    """The tokens of one document: skewed, a median of a third of `longest`."""
    return min(longest, max(4, round(chance.lognormvariate(6, 0.5) * longest / LONGEST)))


def fill(tokens: int, longest: int = LONGEST, seed: int = 0) -> tuple[int, ...]:
    """Lengths of documents that fill `tokens`; the last one is cut to fit."""
    chance = random.Random(seed)  # noqa: S311
    lengths: list[int] = []
    while tokens:
        lengths.append(min(tokens, length(chance, longest)))
        tokens -= lengths[-1]
    return tuple(lengths)


def supervised(lengths: tuple[int, ...]) -> list[int]:
    """The places in a pack whose next token is trained on: those of each document's end."""
    places: list[int] = []
    start = 0
    for tokens in lengths:
        first = start + max(1, round((1 - SUPERVISED) * tokens))
        places += range(first - 1, start + tokens - 1)
        start += tokens
    return places
