"""Decontamination by meaning: tasks that were put into other words, names and loops.

A sentence embedding tells them best but takes milliseconds, so that a cheap comparison of letters
chooses the few samples worth one: TF-IDF over runs of 4 letters (word borders included), problem
and code together against a task's. What is nearly a task by that alone needs no embedding.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from magicoder.errors import require
from magicoder.training.data.benchmarks.tasks import Task
from magicoder.training.data.clean import minhash
from magicoder.training.data.clean.layers import Hit
from magicoder.training.data.clean.text import code, squash, words
from magicoder.training.data.embedding import embed
from magicoder.training.data.records import Sample

FLOOR = 0.19  # of letters' similarity: passes 5% of real functions and 90% of rephrased tasks
NEAREST = 3  # tasks that a sample is compared with
WIDTH = 4  # letters
TRANSLATED = 0.4  # similarity of two problems from which one is the other in another language
_BUCKETS = 18  # bits: a quarter of a million for a few ten thousand kinds of runs
_TOKENS = 128  # of a text that are embedded; the beginning says what is asked
_TOGETHER = 64  # samples whose letters are compared at a time; what they fill fits a cache
_TINY = 1e-6  # in place of the length of a vector that is zero
_ODD = np.uint64(0x9E3779B97F4A7C15)
_PROSE = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'|(?:#|//+) ?([^\n]*)', re.DOTALL)


class Letters:
    """TF-IDF over runs of letters: each kind of run once a text, weights from the tasks' texts.

    Takes 8 bytes for each kind of run in each task.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        rows, buckets = _runs(texts)
        kinds = np.unique(rows << _BUCKETS | buckets)  # of each text, each once
        rows, buckets = kinds >> _BUCKETS, kinds & (2**_BUCKETS - 1)
        known, frequency = np.unique(buckets, return_counts=True)
        self._kind = np.full(1 << _BUCKETS, -1, np.int32)
        self._kind[known] = np.arange(len(known))
        self._weights = np.log((len(texts) + 1) / (frequency + 1)).astype(np.float32)
        weights = self._weights[self._kind[buckets]]
        lengths = np.sqrt(np.bincount(rows, weights**2, len(texts))).astype(np.float32)
        values = weights / np.maximum(lengths, _TINY)[rows]
        starts = np.searchsorted(rows, np.arange(len(texts) + 1))
        matrix = require("scipy.sparse", "data").csr_matrix
        self._tasks = matrix((values, self._kind[buckets], starts), (len(texts), len(known)))

    def similar(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The cosine of each task (a row) and each text (a column)."""
        rows, buckets = _runs(texts)
        kinds = self._kind[buckets]
        held = np.zeros((len(self._weights), len(texts)), np.float32)
        held[kinds[kinds >= 0], rows[kinds >= 0]] = 1
        held *= self._weights[:, None]
        found: NDArray[np.float32] = self._tasks @ held
        found /= np.maximum(np.sqrt(np.einsum("ij,ij->j", held, held)), _TINY)
        return found


class Meaning:
    """The sample does what a task asks for, in other words; `score` is a cosine (0 to 1).

    `letters` is the TF-IDF similarity that suffices by itself; `threshold` that of the embeddings
    of the sample's prose (its problem, or what its code says in comments) and the task's problem.
    `model` is a model of sentence-transformers, by its hub's name or a folder; None embeds nothing.
    """

    def __init__(
        self, tasks: Sequence[Task], *, letters: float, model: str | None, threshold: float
    ) -> None:
        self._tasks = _different(tasks)
        self._index = Letters([f"{task.problem}\n{task.solution}" for task in self._tasks])
        self._letters, self._threshold = letters, threshold
        self._model = model
        self._vectors: dict[int, NDArray[np.float32]] = {}

    def __call__(self, samples: Sequence[Sample]) -> list[Hit | None]:
        hits: list[Hit | None] = [None] * len(samples)
        worth: list[tuple[int, list[int]]] = []  # samples, and the tasks that are nearest to each
        for start in range(0, len(samples), _TOGETHER):
            part = samples[start : start + _TOGETHER]
            similar = self._index.similar([f"{one.problem}\n{code(one)}" for one in part])
            for column in np.flatnonzero(similar.max(axis=0) >= FLOOR):
                scores = similar[:, column]
                nearest = np.argsort(-scores, kind="stable")[:NEAREST]
                score = float(scores[nearest[0]])
                if score >= self._letters:
                    hits[start + column] = Hit(self._tasks[nearest[0]], "TF-IDF", score)
                elif self._model:
                    worth.append((start + int(column), nearest.tolist()))
        if worth:
            self._compare(samples, worth, hits)
        return hits

    def _compare(
        self,
        samples: Sequence[Sample],
        worth: list[tuple[int, list[int]]],
        hits: list[Hit | None],
    ) -> None:
        """Fill in the hits that embeddings find."""
        fresh = sorted({task for _, tasks in worth for task in tasks} - self._vectors.keys())
        said = [(row, text) for row, _ in worth for text in _prose(samples[row])]
        texts = [self._tasks[task].problem for task in fresh] + [text for _, text in said]
        vectors = embed(texts, str(self._model), tokens=_TOKENS)
        self._vectors.update(zip(fresh, vectors, strict=False))
        nearest = dict(worth)
        for (row, _), vector in zip(said, vectors[len(fresh) :], strict=True):
            for task in nearest[row]:
                score = float(vector @ self._vectors[task])
                if score >= self._threshold and score > getattr(hits[row], "score", 0):
                    hits[row] = Hit(self._tasks[task], "embeddings", score)


def _different(tasks: Sequence[Task]) -> list[Task]:
    """The tasks without those that say nothing new: equal ones, and mere translations."""
    texts: dict[bytes, Task] = {}
    for task in tasks:
        texts.setdefault(squash(f"{task.problem}\n{task.solution}"), task)
    found = list(texts.values())
    problems = minhash.signatures([squash(task.problem) for task in found])
    known = minhash.Index(TRANSLATED).match(problems, add=True)
    return [task for task, like in zip(found, known, strict=True) if task.solution or not like]


def _prose(sample: Sample) -> list[str]:
    """What a sample says in words: its problem, and the comments of its code where they differ."""
    text = code(sample)
    comments = "\n".join("".join(parts) for parts in _PROSE.findall(text)).strip()
    found = [sample.problem.strip(), comments]
    if squash(comments) in squash(sample.problem):
        found = found[:1]
    return [part for part in found if part] or [text]


def _runs(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every run of each text: the text's row, in order, and the run's bucket."""
    joined = [b" ".join(words(text)).ljust(WIDTH) for text in texts]
    lengths = np.array([len(text) for text in joined])
    buffer = b"".join(joined) + bytes(8 - WIDTH)  # so that the last run has 8 bytes to read
    runs = np.ndarray(len(buffer) - 7, "<u8", buffer, strides=(1,)) & np.uint64(
        2 ** (8 * WIDTH) - 1
    )
    # Runs across the border of two texts belong to neither
    inside = np.ones(len(buffer), bool)
    for step in range(1, WIDTH):
        inside[np.cumsum(lengths) - step] = False
    inside = inside[: len(runs)]
    rows = np.repeat(np.arange(len(texts)), lengths)[: len(runs)][inside]
    buckets = (runs[inside] * _ODD) >> np.uint64(64 - _BUCKETS)
    return rows, buckets.astype(np.int64)
