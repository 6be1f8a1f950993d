"""Makes samples of seeds: with a teacher, or from what others wrote."""

from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator

from magicoder.training.data.runner import Step
from magicoder.training.data.store import Store
from magicoder.training.data.styles import STYLES
from magicoder.training.data.teacher import Account, Teacher, ask


class Generate(BaseModel):
    """How samples are made. style: a name of `styles.STYLES`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: str = "oss-instruct"

    @field_validator("style")
    @classmethod
    def _known(cls, style: str) -> str:
        if style not in STYLES:
            raise ValueError(f"no style '{style}': use one of {', '.join(STYLES)}")
        return style


def step(config: Generate, *, source: Path, teacher: Teacher, store: Store) -> Step:
    """The step from the JSONL file `source` (what the style reads) to samples."""
    account = Account()
    asking = partial(ask, teacher=teacher, store=store, account=account)
    return Step(STYLES[config.style](source, asking), account=account.summary)
