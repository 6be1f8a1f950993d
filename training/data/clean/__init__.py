"""From samples that were made to samples worth training on.

In order: quality, duplicates, decontamination. Quality stands first, so that a poor sample never
takes the place of a good one that resembles it. What compares samples with one another sees every
one; the layers of decontamination, which take the time, see a shard's part alone.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from magicoder import settings
from magicoder.training.data import benchmarks, runner
from magicoder.training.data.benchmarks.tasks import Task
from magicoder.training.data.clean import duplicates, quality
from magicoder.training.data.clean.layers import Exact, Layer, MinHash, Ngrams, without
from magicoder.training.data.clean.meaning import Meaning
from magicoder.training.data.embedding import embed
from magicoder.training.data.records import Sample
from magicoder.training.data.runner import Stage, Step

RULES = {"substantial": quality.substantial, "code parses": quality.parses}


class Clean(BaseModel):
    """What is left out of a dataset.

    benchmarks: those whose tasks are: `hub`, or a local folder, or null for none; names: which of
    them, empty takes all; against: JSON lines with tasks of your own. near_duplicates: the
    similarity from which the later of two samples is. layers: names of `LAYERS`, how tasks are
    looked for; exact: letters and digits of the shortest text looked for; ngrams: words in a run
    that no task may share; minhash: the similarity from which a sample is a task's copy; letters:
    the same by TF-IDF of letters; embedding: the model that compares meanings, by its hub's name or
    a folder, or null for none; meaning: the cosine from which two are the same. Similarities are 0
    to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmarks: str | None = Field(default_factory=lambda: settings.load().benchmarks)
    names: tuple[str, ...] = ()
    against: tuple[Path, ...] = ()
    near_duplicates: float = Field(0.7, gt=0, le=1)
    layers: tuple[str, ...] = ("exact", "n-grams", "MinHash", "meaning")
    exact: int = Field(30, gt=0)
    ngrams: int = Field(13, gt=1)
    minhash: float = Field(0.5, gt=0, le=1)
    letters: float = Field(0.28, gt=0, le=1)
    embedding: str | None = Field(default_factory=lambda: settings.load().embedding)
    meaning: float = Field(0.6, gt=0, le=1)

    @field_validator("embedding", "benchmarks", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value == "none" else value

    @field_validator("layers")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in LAYERS]:
            raise ValueError(f"no layer '{unknown[0]}': use some of {', '.join(LAYERS)}")
        return names


LAYERS: dict[str, Callable[[Sequence[Task], Clean], Layer]] = {
    "exact": lambda tasks, config: Exact(tasks, config.exact),
    "n-grams": lambda tasks, config: Ngrams(tasks, config.ngrams),
    "MinHash": lambda tasks, config: MinHash(tasks, config.minhash),
    "meaning": lambda tasks, config: Meaning(
        tasks, letters=config.letters, model=config.embedding, threshold=config.meaning
    ),
}


def ready(config: Clean) -> None:
    """See that the embedding model and the benchmarks can be had, by a small part of them.

    Raises:
        UsageError, MagicoderError: as `step`.
    """
    if config.benchmarks is None and not config.against:
        return
    if config.benchmarks == "hub":
        benchmarks.load("hub", config.names[:1] or ("humaneval",))
    elif config.benchmarks and not Path(config.benchmarks).expanduser().is_dir():
        benchmarks.load(config.benchmarks)
    if config.embedding and "meaning" in config.layers:
        embed([""], config.embedding)


def step(config: Clean, *, source: Path) -> Step:
    """Samples of the JSONL file `source` in, those worth training on out.

    Raises:
        UsageError: a benchmark, or a file of tasks, is missing or cannot be read.
        MagicoderError: the hub cannot be reached.
    """
    ready(config)
    tasks = benchmarks.load(config.benchmarks, config.names) if config.benchmarks else []
    for path in config.against:
        tasks += benchmarks.from_file(path)
    whole: dict[str, Stage] = {
        "read": partial(runner.read, path=source, type=Sample),
        **{name: partial(quality.keep, rule=rule) for name, rule in RULES.items()},
        "duplicates": duplicates.exact,
        "near-duplicates": partial(duplicates.near, threshold=config.near_duplicates),
    }
    parts: dict[str, Stage] = {
        f"not in benchmarks: {name}": partial(without, build=partial(LAYERS[name], tasks, config))
        for name in (config.layers if tasks else ())
    }
    counts = Counter(task.benchmark for task in tasks)
    return Step({**whole, **parts}, whole=len(whole), account=lambda: {"tasks": counts})
