"""Decontamination: how a sample is held against the tasks of benchmarks, one class a layer.

A layer is built from the tasks once, and then says of each sample which task it holds, if any.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from magicoder.errors import require
from magicoder.training.data.benchmarks.tasks import Task
from magicoder.training.data.clean import minhash
from magicoder.training.data.clean.text import batched, code, squash, words
from magicoder.training.data.records import Rejected, Sample


@dataclass(frozen=True)
class Hit:
    """The task that was found in a sample, how, and how surely: the layer says what `score` is."""

    task: Task
    how: str
    score: float


class Layer(Protocol):
    """Looks for tasks in a batch of samples; gives one answer a sample, in order."""

    def __call__(self, samples: Sequence[Sample]) -> list[Hit | None]: ...


def without(
    samples: Iterator[Sample], *, build: Callable[[], Layer]
) -> Iterator[Sample | Rejected]:
    """The stage of one layer: leaves out the samples in which it finds a task."""
    layer = build()
    for batch in batched(samples):
        for sample, hit in zip(batch, layer(batch), strict=True):
            if hit is None:
                yield sample
            else:
                reason = f"contaminated: {hit.task.benchmark}, {hit.how}"
                yield Rejected(
                    reason=reason, record=sample, detail=f"{hit.task.id} {hit.score:.3g}"
                )


class Exact:
    """A task's problem or solution stands in the sample, case, punctuation and spaces aside.

    The paper's rule. Texts with less than `shortest` letters and digits are too common to count;
    `score` is the length of what was found.
    """

    def __init__(self, tasks: Sequence[Task], shortest: int) -> None:
        automaton = require("ahocorasick_rs", "data")
        texts: dict[bytes, Task] = {}
        for task in tasks:
            for text in (squash(task.problem), squash(task.solution)):
                if len(text) >= shortest:
                    texts.setdefault(text, task)
        self._tasks = list(texts.values())
        self._automaton = automaton.BytesAhoCorasick(
            list(texts), implementation=automaton.Implementation.ContiguousNFA
        )

    def __call__(self, samples: Sequence[Sample]) -> list[Hit | None]:
        return [self._find(squash(f"{one.problem}\n{one.solution}")) for one in samples]

    def _find(self, text: bytes) -> Hit | None:
        for pattern, start, end in self._automaton.find_matches_as_indexes(text):
            return Hit(self._tasks[pattern], "exact", end - start)
        return None


class Ngrams:
    """The sample shares a run of `size` words with a task; `score` is how many it shares.

    Takes 12 bytes for each run of the tasks.
    """

    def __init__(self, tasks: Sequence[Task], size: int) -> None:
        self._size, self._tasks = size, tasks
        self._codes: dict[bytes, int] = {}
        texts: dict[str, int] = {}
        for number, task in enumerate(tasks):
            texts.setdefault(task.problem, number)
            texts.setdefault(task.solution, number)
        codes = np.random.default_rng(976)
        rows = []
        for text in texts:
            found = words(text)
            for word in found:
                if word not in self._codes:
                    self._codes[word] = int(codes.integers(1, 2**63))
            rows.append(found)
        runs, owners = self._runs(rows)
        # Of equal runs the first is kept: the task that was loaded first
        self._runs_known, first = np.unique(runs, return_index=True)
        self._owners = np.array(list(texts.values()), np.uint32)[owners[first]]

    def __call__(self, samples: Sequence[Sample]) -> list[Hit | None]:
        runs, owners = self._runs([words(f"{one.problem}\n{one.solution}") for one in samples])
        places = np.searchsorted(self._runs_known, runs)
        places[places == len(self._runs_known)] = 0
        known = self._runs_known[places] == runs if len(self._runs_known) else runs == runs - 1
        hits: list[Hit | None] = [None] * len(samples)
        for row in np.unique(owners[known]):
            tasks = self._owners[places[known & (owners == row)]]
            numbers, counts = np.unique(tasks, return_counts=True)
            best = int(counts.argmax())
            hits[row] = Hit(self._tasks[numbers[best]], "n-grams", int(counts[best]))
        return hits

    def _runs(self, rows: list[list[bytes]]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """A number for each run of known words, and the index of the row that it is from."""
        get = self._codes.get
        codes = np.array([get(word, 0) for row in rows for word in [*row, b""]], np.uint64)
        owners = np.repeat(np.arange(len(rows)), [len(row) + 1 for row in rows])
        count = max(0, len(codes) - self._size + 1)
        runs, whole = np.zeros(count, np.uint64), np.ones(count, bool)
        for step in range(self._size):
            part = codes[step : step + count]
            runs = runs * np.uint64(0x9E3779B97F4A7C15) + part
            whole &= part != 0
        return runs[whole], owners[:count][whole]


class MinHash:
    """The sample's problem or code resembles a task's, or its whole; `score` is how much (0 to 1).

    The Jaccard index of runs of 8 letters and digits, as estimated by `minhash`.
    """

    def __init__(self, tasks: Sequence[Task], threshold: float) -> None:
        texts: dict[bytes, Task] = {}
        for task in tasks:
            for text in (task.problem, task.solution, f"{task.problem}\n{task.solution}"):
                if len(form := squash(text)) >= 2 * minhash.WIDTH:
                    texts.setdefault(form, task)
        self._index = minhash.Index(threshold)
        self._tasks = list(texts.values())
        self._index.extend(minhash.signatures(list(texts)))

    def __call__(self, samples: Sequence[Sample]) -> list[Hit | None]:
        forms = [squash(text) for one in samples for text in (one.problem, code(one))]
        matches = self._index.match(minhash.signatures(forms), add=False)
        pairs = zip(matches[::2], matches[1::2], strict=True)
        best = (max(filter(None, pair), key=lambda m: m.score, default=None) for pair in pairs)
        return [Hit(self._tasks[m.row], "MinHash", m.score) if m else None for m in best]
