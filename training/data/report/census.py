"""What one pass over the dataset counts.

Memory: a fixed number of samples, one counter entry per package, language, licence, note and
distinct length in characters; nothing grows with the number of samples.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from magicoder.blocks import code_blocks
from magicoder.training.data.records import Sample
from magicoder.training.data.report.figures import Copying, Count, Histogram, Language, Origin

LEVELS = ("unparsed", "parsed", "compiled", "passed")
TENTHS = [tenth / 10 for tenth in range(11)]
BINS = 24
NO_LICENSE = "none found"
NO_SEED = "no seed"

_WORD = re.compile(r"\w")


class Census:
    """Counts samples, and keeps `size` of them, each as likely as any other (algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self.samples = 0
        self.structured = 0
        self.kept: list[Sample] = []
        self._size = size
        self._random = random.Random(seed)  # noqa: S311
        self._teachers: Counter[str] = Counter()
        self._styles: Counter[str] = Counter()
        self._evolved: Counter[str] = Counter()
        self._licenses: Counter[str] = Counter()
        self._origins: Counter[tuple[str, str, str]] = Counter()
        self._languages: Counter[str] = Counter()
        self._verified: Counter[tuple[str, str]] = Counter()
        self._notes: Counter[str] = Counter()
        self._problem: Counter[float] = Counter()
        self._solution: Counter[float] = Counter()
        self._difficulty: Counter[float] = Counter()
        self._share: Counter[float] = Counter()
        self._run: Counter[float] = Counter()

    def add(self, sample: Sample) -> None:
        self.samples += 1
        if len(self.kept) < self._size:
            self.kept.append(sample)
        elif (place := self._random.randrange(self.samples)) < self._size:
            self.kept[place] = sample
        self.structured += sample.structured
        self._teachers[sample.teacher or "not said"] += 1
        self._styles[sample.style or "not said"] += 1
        if sample.evolution:
            self._evolved[f"round {sample.evolution.round}: {sample.evolution.heuristic}"] += 1
        self._problem[len(sample.problem)] += 1
        self._solution[len(sample.solution)] += 1
        self._verify(sample)
        if sample.seed is None:
            self._licenses[NO_SEED] += 1
            return
        seed = sample.seed
        self._licenses[seed.license or NO_LICENSE] += 1
        self._origins[seed.origin, seed.version, seed.license] += 1
        share, run = copied(sample)
        self._share[round(share, 4)] += 1
        self._run[run] += 1

    def _verify(self, sample: Sample) -> None:
        language = sample.language or "not said"
        self._languages[language] += 1
        if (found := sample.verification) is None:
            return
        for level in ("verified", *LEVELS[1 : LEVELS.index(found.level) + 1]):
            self._verified[language, level] += 1
        if found.tests_can_fail:
            self._verified[language, "tests_can_fail"] += 1
        if found.difficulty is not None:
            self._difficulty[round(found.difficulty, 4)] += 1
        for note in found.note.split("; ") if found.note else ():
            kind = note.partition(": ")[0]
            self._notes[note if kind == "no toolchain" else kind] += 1

    def languages(self) -> list[Language]:
        """By count, the most frequent first."""
        return [
            Language(
                name=name,
                count=count,
                verified=self._verified[name, "verified"],
                parsed=self._verified[name, "parsed"],
                compiled=self._verified[name, "compiled"],
                passed=self._verified[name, "passed"],
                tests_can_fail=self._verified[name, "tests_can_fail"],
            )
            for name, count in ranked(self._languages)
        ]

    def origins(self) -> list[Origin]:
        """By name."""
        return [
            Origin(origin=origin, version=version, license=spdx or NO_LICENSE, samples=count)
            for (origin, version, spdx), count in sorted(self._origins.items())
        ]

    def counts(self) -> dict[str, list[Count]]:
        """Teachers, styles, evolutions, licences and the notes of the verification."""
        return {
            "teachers": counts(self._teachers),
            "styles": counts(self._styles),
            "evolved": counts(self._evolved),
            "licenses": counts(self._licenses),
            "notes": counts(self._notes),
        }

    def problem(self) -> Histogram:
        """Lengths in characters."""
        return binned(self._problem, even(self._problem))

    def solution(self) -> Histogram:
        """Lengths in characters."""
        return binned(self._solution, even(self._solution))

    def difficulty(self) -> Histogram | None:
        return binned(self._difficulty, TENTHS) if self._difficulty else None

    def copying(self) -> Copying | None:
        if not self._share:
            return None
        mostly = sum(count for share, count in self._share.items() if share > 0.5)
        return Copying(
            share=binned(self._share, TENTHS),
            run=binned(self._run, [float(edge) for edge in range(17)]),
            mostly=mostly,
        )


def copied(sample: Sample) -> tuple[float, int]:
    """The share of the solution's lines of code that stand in the seed, and the longest run."""
    blocks = code_blocks(sample.solution, sample.language)
    ours = _lines("\n".join(code for _, code in blocks))
    theirs = _lines(sample.seed.code) if sample.seed else []
    if not ours:
        return 0.0, 0
    known = set(theirs)
    match = SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match()
    return sum(line in known for line in ours) / len(ours), match.size


def _lines(code: str) -> list[str]:
    return [line.strip() for line in code.splitlines() if _WORD.search(line)]


def counts(counter: Counter[str]) -> list[Count]:
    """The most frequent first."""
    return [Count(name=name, count=count) for name, count in ranked(counter)]


def ranked(counter: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent first; ties by name, so that the order is always the same."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def even(values: Counter[float]) -> list[float]:
    """Edges of at most `BINS` bins, a round number wide, up to the 99th percentile."""
    top = max(_quantile(values, 0.99), 1.0)
    width = next(
        unit * 10**power
        for power in range(12)
        for unit in (1, 2, 5)
        if unit * 10**power * BINS >= top
    )
    return [float(edge) for edge in range(0, int(top // width + 2) * width, width)]


def binned(values: Counter[float], edges: Sequence[float]) -> Histogram:
    """The histogram of `values` over `edges`, which rise from their least."""
    bins = [0] * (len(edges) - 1)
    for value, count in values.items():
        bins[max(0, sum(edge <= value for edge in edges[:-1]) - 1)] += count
    total = sum(values.values())
    mean = sum(value * count for value, count in sorted(values.items())) / total if total else 0.0
    median = _quantile(values, 0.5)
    return Histogram(edges=list(edges), counts=bins, mean=round(mean, 4), median=median)


def _quantile(values: Counter[float], share: float) -> float:
    """The least value that at least `share` of all do not exceed."""
    left = share * sum(values.values())
    for value, count in sorted(values.items()):
        left -= count
        if left <= 0:
            return float(value)
    return 0.0
