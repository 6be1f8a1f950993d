"""The data factory in one call: a recipe in, a dataset with its report out, step by step."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from magicoder import settings
from magicoder.training import configuration
from magicoder.training.configuration import Section
from magicoder.training.data import clean, evolve, generate, push, report, runner, seeds, verify
from magicoder.training.data.clean import Clean
from magicoder.training.data.evolve import Evolve
from magicoder.training.data.generate import Generate
from magicoder.training.data.push import Push
from magicoder.training.data.report import Report
from magicoder.training.data.runner import Funnel, Watch, written
from magicoder.training.data.seeds import Seeds
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Teacher
from magicoder.training.data.verify import Verify

RECIPES = "recipes/data"
# What of the teacher decides its answers; where it is and how fast it is asked does not.
ANSWERS = {"model", "temperature", "top_p", "max_tokens", "seed", "structured"}


class Recipe(Section):
    """All of a dataset. The same recipe, sources and store give the same bytes."""

    output: Path = Field(description="a folder")
    seeds: Seeds = Field(description="a section with sources")
    teacher: Teacher = Field(description="a section")
    generate: Generate = Field(default_factory=Generate, description="a section")
    evolve: Evolve | None = Field(None, description="a section, or null to leave it out")
    verify: Verify | None = Field(default_factory=Verify, description="a section, or null")
    clean: Clean = Field(default_factory=Clean, description="a section")
    report: Report | None = Field(default_factory=Report, description="a section, or null")
    push: Push | None = Field(None, description="a section with 'to', or null")

    @model_validator(mode="before")
    @classmethod
    def _teacher_of_the_settings(cls, content: Any) -> Any:
        """Who is asked, unless the recipe says it; a key has no place in a recipe."""
        teacher = content.get("teacher", {}) if isinstance(content, dict) else None
        if not isinstance(teacher, dict):
            return content
        if "api_key" in teacher:
            raise ValueError("a key has no place in a recipe: set MAGICODER_API_KEY")
        known = settings.load()
        who = {"base_url": known.base_url, "api_key": known.api_key, "model": known.model}
        return content | {"teacher": who | teacher}


def names() -> list[str]:
    """The recipes that come with Magicoder."""
    return configuration.names(RECIPES)


def load(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe: one of `names`, or a YAML file, with overrides (`configuration.load`)."""
    return configuration.load(Recipe, RECIPES, source, overrides)


@dataclass(frozen=True)
class Work:
    """One step of a recipe, whose files lie in `folder`. `run` does it.

    `kept` tells that an earlier run has done it: its part of the recipe and the bytes of its input
    are the same, and the `output` (a path, or a place on the hub) is still there.
    """

    name: str
    folder: Path
    output: str
    key: str
    _run: Callable[[Watch], Funnel | None]

    @property
    def kept(self) -> bool:
        output = Path(self.output)
        books = runner.beside(output, "funnel.json")
        there = self.output.startswith("hf:") or output.exists()
        there = there and (output.suffix != ".jsonl" or books.exists())
        return there and _state(self.folder).get(self.name) == self.key

    def run(self, watch: Watch = lambda funnel: None) -> Funnel | None:
        """Do it and remember it; a step that works on records returns its books."""
        funnel = self._run(watch)
        with written(self.folder / "state.json") as file:
            json.dump(_state(self.folder) | {self.name: self.key}, file, indent=1)
        return funnel


def works(recipe: Recipe) -> Iterator[Work]:
    """The steps of `recipe`, each to be run before the next is taken.

    In `recipe.output` they leave seeds.jsonl, generate.jsonl, evolve.jsonl, verify.jsonl and
    dataset.jsonl, each with its rejects and its funnel; report/; and answers.sqlite, which holds
    every answer and verdict that arrived: after a kill, none is asked for twice.
    """
    folder, teacher = recipe.output, recipe.teacher
    made = [folder / "seeds.jsonl"]

    def work(name: str, parts: Any, step: Callable[[Path, Store], runner.Step]) -> Work:
        source, output = made[-1], folder / f"{name}.jsonl"
        made.append(output)

        def run(watch: Watch) -> Funnel:
            with closing(Store(folder / "answers.sqlite")) as store:
                return runner.run(step(source, store), output, watch=watch)

        return Work(name, folder, str(output), _key(parts, source), run)

    def read(watch: Watch) -> Funnel:
        return runner.run(seeds.step(recipe.seeds), made[0], watch=watch)

    if not (folder / "dataset.jsonl").exists():
        clean.ready(recipe.clean)  # before anything is paid for
    yield Work("seeds", folder, str(made[0]), _key(recipe.seeds.model_dump()), read)
    for name, config, step in (
        ("generate", recipe.generate, generate.step),
        ("evolve", recipe.evolve, evolve.step),
        ("verify", recipe.verify, verify.step),
    ):
        if config is not None:
            parts = [config.model_dump(), teacher.model_dump(include=ANSWERS)]
            yield work(name, parts, _asking(step, config, teacher))
    yield work(
        "dataset",
        recipe.clean.model_dump(),
        lambda source, _: clean.step(recipe.clean, source=source),
    )
    dataset, shown = made[-1], folder / "report"
    if chosen := recipe.report:
        funnels = [runner.beside(output, "funnel.json") for output in made]

        def write(_: Watch) -> None:
            report.write(chosen, dataset, funnels, shown)

        yield Work(
            "report", folder, str(shown), _key(chosen.model_dump(), dataset, *funnels), write
        )
    if recipe.push:
        card = recipe.push.card or (shown / "README.md" if recipe.report else None)
        where = recipe.push.model_copy(update={"card": card})

        def publish(_: Watch) -> None:
            push.push(where, dataset)

        yield Work("push", folder, where.to, _key(where.model_dump(), dataset), publish)


def _asking(step: Any, config: Any, teacher: Teacher) -> Callable[[Path, Store], runner.Step]:
    return lambda source, store: step(config, source=source, teacher=teacher, store=store)


def _state(folder: Path) -> dict[str, str]:
    try:
        state: dict[str, str] = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _key(parts: Any, *sources: Path) -> str:
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for source in sources:
        with source.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
