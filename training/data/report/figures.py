"""What report.json holds: every figure of the page and of the card."""

from typing import Any

from pydantic import BaseModel

PAPER = {"OSS-Instruct": 0.105, "Evol-Instruct": 0.131, "Code Alpaca": 0.169}
"""TF-IDF similarity of each dataset to HumanEval (paper, section on the data)."""


class Count(BaseModel):
    """How many samples have something in common."""

    name: str
    count: int


class Histogram(BaseModel):
    """`counts[i]` values lie in [edges[i], edges[i + 1]); the last bin takes higher ones too."""

    edges: list[float]
    counts: list[int]
    mean: float
    median: float


class Reason(BaseModel):
    """Why a stage left records out; `example` is the start of the first such record."""

    reason: str
    count: int
    example: str = ""
    detail: str = ""


class Stage(BaseModel):
    """A stage's counts."""

    name: str
    count_in: int
    count_out: int
    seconds: float
    reasons: list[Reason]

    @property
    def left_out(self) -> int:
        return sum(reason.count for reason in self.reasons)


class Step(BaseModel):
    """One run's stages, and its account of the teacher, if it asked one.

    `busy` is the part of the requests' bound that was in flight on average, 0 to 1; `cost` is what
    1,000 of the step's samples cost, in the unit of the teacher's prices.
    """

    name: str
    stages: list[Stage]
    account: dict[str, Any]
    busy: float | None = None
    cost: float | None = None

    @property
    def most(self) -> int:
        """The most records that met any stage."""
        return max(stage.count_out + stage.left_out for stage in self.stages)


class Origin(BaseModel):
    """A package that seeds come from: who must be named, and under which licence (SPDX)."""

    origin: str
    version: str
    license: str
    samples: int


class Language(BaseModel):
    """How far the solutions in a language came; each level counts those that went further too.

    `verified` of the `count` samples were tried at all.
    """

    name: str
    count: int
    verified: int
    parsed: int
    compiled: int
    passed: int
    tests_can_fail: int


class Copying(BaseModel):
    """What the solutions repeat of their seeds.

    `share` is the part of a solution's lines of code that stand in its seed; `run` the most
    consecutive ones, in lines. Lines without a letter or digit do not count.
    """

    share: Histogram
    run: Histogram
    mostly: int


class Diversity(BaseModel):
    """The Vendi score of `samples` problems: how many wholly unlike ones would be as varied."""

    vendi: float
    samples: int


class Similarity(BaseModel):
    """To one benchmark: each sample's highest cosine with a task; their mean and the highest.

    `words` by TF-IDF over problem and solution, `meaning` by embedding of the problem, or None.
    """

    benchmark: str
    tasks: int
    words: float
    words_highest: float
    meaning: float | None = None
    meaning_highest: float | None = None


class Clusters(BaseModel):
    """Near-duplicates: `fell` samples fell to `count` kept ones; sizes include the kept one."""

    count: int
    fell: int
    sizes: list[Count]


class Figures(BaseModel):
    """Everything. What could not be had is None or empty, and `missing` says why.

    `compared` samples are behind categories, diversity and similarity. `cost` is that of all steps
    for 1,000 samples of the dataset.
    """

    name: str
    samples: int
    compared: int
    cost: float | None
    embedding: str | None
    steps: list[Step]
    teachers: list[Count]
    styles: list[Count]
    structured: int
    evolved: list[Count]
    languages: list[Language]
    licenses: list[Count]
    origins: list[Origin]
    problem: Histogram
    solution: Histogram
    difficulty: Histogram | None
    notes: list[Count]
    copying: Copying | None
    clusters: Clusters | None
    categories: list[Count]
    diversity: Diversity | None
    similarity: list[Similarity]
    missing: list[str]
