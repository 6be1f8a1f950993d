"""What a dataset is worth: a page to read, a card to publish, and every figure as JSON."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from magicoder import settings
from magicoder.errors import UsageError
from magicoder.training.configuration import Section
from magicoder.training.data import benchmarks, runner
from magicoder.training.data.embedding import embed
from magicoder.training.data.records import Sample
from magicoder.training.data.report import funnels, render, vectors
from magicoder.training.data.report.census import Census, counts
from magicoder.training.data.report.figures import Count, Diversity, Figures, Similarity

Watch = Callable[[str, int], None]


class Report(Section):
    """What to look at, and with what.

    name: the dataset's, for titles. embedding: the hub name or folder of a sentence-transformers
    model; None leaves out categories, diversity and nearness in meaning. benchmarks: a folder of
    them, or "hub"; None compares with none. against: names of `data.benchmarks`. sample: how many
    samples, drawn with `seed`, are embedded and compared with benchmarks; they are held in memory
    with their vectors (2,000 take some 20 MB).
    """

    name: str = Field("dataset", description="the dataset's name")
    embedding: str | None = Field(
        default_factory=lambda: settings.load().embedding,
        description="a hub name, a folder, or null",
    )
    benchmarks: str | None = Field(
        default_factory=lambda: settings.load().benchmarks, description="hub, a folder, or null"
    )
    against: tuple[str, ...] = Field(
        ("humaneval", "mbpp", "ds-1000", "gsm8k"), description="a list of benchmarks"
    )
    sample: int = Field(2000, gt=0, description="a whole number of samples")
    seed: int = Field(976, description="a whole number")

    @field_validator("embedding", "benchmarks", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value == "none" else value


def write(
    config: Report,
    dataset: Path,
    funnel: Sequence[Path],
    output: Path,
    watch: Watch = lambda doing, count: None,
) -> Figures:
    """Write index.html, README.md (the card) and report.json into the folder `output`.

    `funnel` names the books of the steps that made `dataset`, in order. `watch` hears what is being
    done, and with how many records so far.

    Raises:
        UsageError: a file cannot be read, or the dataset is empty.
        MagicoderError: the embedding model or a benchmark cannot be had.
    """
    figures = measure(config, dataset, funnel, watch)
    for name, text in render.files(figures).items():
        with runner.written(output / name) as file:
            file.write(text)
    return figures


def measure(
    config: Report, dataset: Path, funnel: Sequence[Path], watch: Watch = lambda doing, count: None
) -> Figures:
    """The figures of `write`, without the files."""
    steps = funnels.steps(funnel)
    census = Census(config.sample, config.seed)
    for sample in runner.read(iter(()), path=dataset, type=Sample):
        census.add(sample)
        watch("reading", census.samples)
    if not census.samples:
        raise UsageError(f"{dataset} holds no samples: there is nothing to report")
    categories, diversity, similarity = _compare(config, census.kept, watch)
    clusters = funnels.clusters(funnel)
    paid = [step.account["cost"] for step in steps if "cost" in step.account]
    copying, difficulty = census.copying(), census.difficulty()
    absent = {
        "the funnel: no *.funnel.json was given or found": not steps,
        "categories, diversity and nearness in meaning: no embedding model": not config.embedding,
        "nearness to benchmarks: none was asked for": not similarity,
        "seed copying: no sample names its seed": copying is None,
        "difficulty and pass rates: the solutions were not run": difficulty is None,
        "duplicate clusters: no sample fell as a near-duplicate": clusters is None,
    }
    return Figures(
        name=config.name,
        samples=census.samples,
        compared=len(census.kept),
        cost=round(1000 * sum(paid) / census.samples, 4) if paid else None,
        embedding=config.embedding and _shown(config.embedding),
        steps=steps,
        structured=census.structured,
        languages=census.languages(),
        origins=census.origins(),
        problem=census.problem(),
        solution=census.solution(),
        difficulty=difficulty,
        copying=copying,
        clusters=clusters,
        categories=categories,
        diversity=diversity,
        similarity=similarity,
        missing=[what for what, is_so in absent.items() if is_so],
        **census.counts(),
    )


def _shown(model: str) -> str:
    """A hub name as it is; of a folder, which is no one else's, the end."""
    return "/".join(Path(model).parts[-2:]) if Path(model).is_dir() else model


def _compare(
    config: Report, kept: Sequence[Sample], watch: Watch
) -> tuple[list[Count], Diversity | None, list[Similarity]]:
    """What needs the kept samples beside each other."""
    problems = [sample.problem for sample in kept]
    texts = [f"{sample.problem}\n{sample.solution}" for sample in kept]
    model, categories, diversity, ours = config.embedding, Counter[str](), None, None
    if model:
        watch("embedding", len(kept))
        ours = embed(problems, model)
        categories = vectors.categories(ours, model)
        diversity = Diversity(vendi=round(vectors.vendi(ours), 2), samples=len(kept))
    similarity = []
    for name in config.against if config.benchmarks else ():
        watch(f"comparing with {name}", len(kept))
        tasks = benchmarks.load(str(config.benchmarks), [name])
        words = vectors.nearest_words(texts, [f"{task.problem}\n{task.solution}" for task in tasks])
        found = Similarity(
            benchmark=name,
            tasks=len(tasks),
            words=round(float(words.mean()), 4),
            words_highest=round(float(words.max()), 4),
        )
        if model and ours is not None:
            meaning = vectors.nearest(ours, embed([task.problem for task in tasks], model))
            found.meaning = round(float(meaning.mean()), 4)
            found.meaning_highest = round(float(meaning.max()), 4)
        similarity.append(found)
    return counts(categories), diversity, similarity
