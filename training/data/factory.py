"""The data factory in one call: folders of source code in, a dataset out."""

from contextlib import closing
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data import filters, generate, runner, seeds
from magicoder.training.data.generate import Teacher
from magicoder.training.data.runner import Funnel, Watch
from magicoder.training.data.store import Store


class Config(BaseModel):
    """What to make a dataset from, with whom, and where.

    folders: hold the source code. languages: names of `magicoder.languages`; empty takes all.
    count: how many seeds to ask for. seed: decides which documents and lines. output: a folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folders: tuple[Path, ...] = Field(min_length=1)
    teacher: Teacher
    output: Path
    languages: frozenset[str] = frozenset()
    count: int = Field(48, gt=0)
    seed: int = 976


def run(config: Config, watch: Watch = lambda funnel: None) -> Funnel:
    """Make `output`/dataset.jsonl, and beside it rejects.jsonl and funnel.json.

    The teacher's answers are kept in `output`/answers.sqlite: run again after a kill, or with
    other filters, and none that arrived is asked for twice.

    Raises:
        UsageError: a folder is missing, or holds no source code.
        ServerError: the teacher cannot be reached.
        MagicoderError: no sample was left.
    """
    with closing(Store(config.output / "answers.sqlite")) as store:
        stages: dict[str, runner.Stage] = {
            "documents": partial(
                seeds.documents, folders=config.folders, only=config.languages, seed=config.seed
            ),
            "seeds": partial(seeds.extract, seed=config.seed, count=config.count),
            "answers": partial(generate.generate, teacher=config.teacher, store=store),
            "problems": generate.parse,
            "unique": partial(filters.keep, rule=filters.unique()),
            "code parses": partial(filters.keep, rule=filters.parses),
            "substantial": partial(filters.keep, rule=filters.substantial),
        }
        funnel = runner.run(stages, config.output, watch)
    if not funnel.stages[1].count_out:
        names = ", ".join(str(folder) for folder in config.folders)
        raise UsageError(f"no source code in {names}: give folders that hold some")
    if not funnel.stages[-1].count_out:
        reason = sum((stage.rejected for stage in funnel.stages), start=funnel.stages[0].rejected)
        raise MagicoderError(
            f"no sample is left, mostly for '{reason.most_common(1)[0][0]}': "
            f"look into {config.output / 'rejects.jsonl'}, or take a stronger teacher"
        )
    return funnel
