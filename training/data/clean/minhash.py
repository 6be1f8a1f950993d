"""Which texts resemble each other: MinHash signatures, and an index of them by bands.

Two texts' similarity is the Jaccard index of their sets of runs of 8 letters and digits. A
signature has 125 values in 25 bands of 5; texts that share a band are compared by their whole
signatures. At a similarity of 0.7 a pair shares a band with a chance of 99%, at 0.3 of 6%.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magicoder.errors import require

WIDTH = 8  # bytes in a run: as many as fit a number
BANDS, ROWS = 25, 5
_SEED = 976
_RECENT = 16384  # rows kept in a dict until they are sorted in
_ODD = np.uint64(0x9E3779B97F4A7C15)

Signatures = NDArray[np.uint32]


def signatures(texts: Sequence[bytes]) -> Signatures:
    """One row of 125 values a text; a text shorter than a run is one run."""
    rensa = require("rensa", "data")
    if not texts:
        return np.empty((0, BANDS * ROWS), np.uint32)
    padded = [text.ljust(WIDTH, b"\0") for text in texts]
    joined = b"".join(padded)
    runs = np.ndarray(len(joined) - WIDTH + 1, "<u8", joined, strides=(1,))
    # Runs across the border of two texts belong to neither
    lengths = np.array([len(text) for text in padded])
    ends = np.cumsum(lengths)
    inside = np.ones(len(joined), bool)
    for step in range(1, WIDTH):
        inside[ends - step] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - WIDTH + 1)]).astype(np.uint64)
    mixed = (runs * _ODD)[inside[: len(runs)]]
    mixed ^= mixed >> np.uint64(32)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        mixed, offsets, BANDS * ROWS, _SEED
    )
    return np.array(matrix.to_rows(), np.uint32)


@dataclass(frozen=True)
class Match:
    """A row of an index, and its estimated similarity (0 to 1)."""

    row: int
    score: float


class Index:
    """Signatures to search for what resembles them; rows are numbered from 0 as they are added.

    Takes 425 bytes a row: a byte of each of 125 values, and 12 bytes in each of 25 bands.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._bytes = np.empty((1024, BANDS * ROWS), np.uint8)
        self._rows = 0
        self._keys = np.empty(0, np.uint64)  # sorted; `_where` are the rows they come from
        self._where = np.empty(0, np.uint32)
        self._recent: dict[int, list[int]] = {}
        self._unsorted: list[NDArray[np.uint64]] = []

    def match(self, batch: Signatures, *, add: bool) -> list[Match | None]:
        """For each row of `batch` the most similar row of the index, at least `threshold` alike.

        With `add`, a row that has no match joins the index before the next one is looked up.
        """
        keys, low = _keys(batch), batch.astype(np.uint8)
        ordered = np.sort(keys, axis=None)  # neighbours are looked up faster
        places = np.searchsorted(self._keys, ordered)
        known = ordered[places < len(self._keys)]
        known = known[self._keys[places[: len(known)]] == known]
        shares = np.isin(keys, known)
        found: list[Match | None] = []
        for row in range(len(batch)):
            own = keys[row].tolist() if self._recent or add else []
            rows = {other for key in own for other in self._recent.get(key, ())}
            for key in keys[row][shares[row]]:
                start = np.searchsorted(self._keys, key)
                end = np.searchsorted(self._keys, key, "right")
                rows.update(self._where[start:end].tolist())
            best = self._best(low[row], sorted(rows))
            if add and best is None:
                self._add(low[row], keys[row], own)
            found.append(best)
        if len(self._unsorted) >= _RECENT:
            self._sort()
        return found

    def extend(self, batch: Signatures) -> None:
        """Add every row of `batch`, whatever it resembles."""
        for low, keys in zip(batch.astype(np.uint8), _keys(batch), strict=True):
            self._add(low, keys, keys.tolist())
        self._sort()

    def _best(self, signature: NDArray[np.uint8], rows: list[int]) -> Match | None:
        if not rows:
            return None
        equal = (self._bytes[rows] == signature).mean(axis=1)
        # Low bytes agree by chance once in 256
        scores = np.maximum(0, (equal - 1 / 256) / (1 - 1 / 256))
        best = int(scores.argmax())
        score = float(scores[best])
        return Match(rows[best], score) if score >= self.threshold else None

    def _add(self, signature: NDArray[np.uint8], keys: NDArray[np.uint64], own: list[int]) -> None:
        if self._rows == len(self._bytes):
            self._bytes = np.concatenate([self._bytes, np.empty_like(self._bytes)])
        self._bytes[self._rows] = signature
        for key in own:
            self._recent.setdefault(key, []).append(self._rows)
        self._unsorted.append(keys)
        self._rows += 1

    def _sort(self) -> None:
        """Move what was added of late into the sorted keys, which take less room than a dict."""
        keys = np.concatenate(self._unsorted)
        first = self._rows - len(self._unsorted)
        where = np.repeat(np.arange(first, self._rows, dtype=np.uint32), BANDS)
        order = np.argsort(keys, kind="stable")
        places = np.searchsorted(self._keys, keys[order], "right")
        self._keys = np.insert(self._keys, places, keys[order])
        self._where = np.insert(self._where, places, where[order])
        self._recent.clear()
        self._unsorted.clear()


def _keys(batch: Signatures) -> NDArray[np.uint64]:
    """A number for each band of each row, different for equal values in different bands."""
    values = batch.reshape(len(batch), BANDS, ROWS).astype(np.uint64)
    keys = np.tile(np.arange(BANDS, dtype=np.uint64), (len(batch), 1))
    for column in range(ROWS):
        keys = (keys ^ values[:, :, column]) * _ODD
        keys ^= keys >> np.uint64(29)
    return keys
