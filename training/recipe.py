"""A recipe: one YAML file that says all about a training run. `--set key=value` overrides it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from magicoder.training import configuration
from magicoder.training.configuration import Section

Prompt = Literal["magicoder", "chat"]


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), trained in float32 beside the model."""

    rank: int = Field(16, gt=0, description="a whole number above 0")
    alpha: int = Field(32, gt=0, description="a whole number above 0")
    dropout: float = Field(0.0, ge=0, lt=1, description="a number from 0 to below 1")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="all-linear or a list of layer names"
    )


class Optimizer(Section):
    """The learning rate rises for `warmup_steps` and then falls to 0, both in a straight line."""

    name: Literal["adafactor", "adamw", "adamw8bit"] = Field(
        description="adafactor, adamw or adamw8bit"
    )
    learning_rate: float = Field(gt=0, description="a number above 0")
    warmup_steps: int = Field(0, ge=0, description="a whole number of steps")
    weight_decay: float = Field(0.0, ge=0, description="a number from 0 up")
    max_grad_norm: float = Field(1.0, gt=0, description="a number above 0")


class Recipe(Section):
    """All of a run. Two runs of one recipe on one machine give the same weights."""

    model: str = Field(description="a model's alias, hub name or folder")
    data: list[Path] = Field(min_length=1, description="a list of JSONL files")
    output: Path = Field(description="a folder")
    prompt: Prompt = Field("magicoder", description="magicoder (the paper's prompt) or chat")
    max_length: int = Field(gt=1, description="a whole number of tokens a document")
    pack_length: int = Field(gt=1, description="a whole number of tokens, at least max_length")
    batch_size: int = Field(gt=0, description="a whole number of documents a step")
    epochs: int = Field(gt=0, description="a whole number above 0")
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="bfloat16 or float32")
    lora: Lora | None = Field(None, description="a section, or null to train all weights")
    optimizer: Optimizer = Field(description="a section")
    checkpoint_every: int = Field(gt=0, description="a whole number of steps")
    seed: int = Field(0, ge=0, description="a whole number from 0 up")

    @model_validator(mode="after")
    def _a_document_fits(self) -> "Recipe":
        if self.pack_length < self.max_length:
            raise ValueError("pack_length must be at least max_length")
        return self


def names() -> list[str]:
    """The recipes that come with Magicoder."""
    return configuration.names("recipes")


def load(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe: one of `names`, or a YAML file, with overrides (`configuration.load`)."""
    return configuration.load(Recipe, "recipes", source, overrides)
