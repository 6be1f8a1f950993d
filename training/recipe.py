"""A recipe: one YAML file that says all about a training run. `--set key=value` overrides it."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from magicoder.errors import UsageError

Prompt = Literal["magicoder", "chat"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lora(_Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), trained in float32 beside the model."""

    rank: int = Field(16, gt=0, description="a whole number above 0")
    alpha: int = Field(32, gt=0, description="a whole number above 0")
    dropout: float = Field(0.0, ge=0, lt=1, description="a number from 0 to below 1")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="all-linear or a list of layer names"
    )


class Optimizer(_Section):
    """The learning rate rises for `warmup_steps` and then falls to 0, both in a straight line."""

    name: Literal["adafactor", "adamw"] = Field(description="adafactor or adamw")
    learning_rate: float = Field(gt=0, description="a number above 0")
    warmup_steps: int = Field(0, ge=0, description="a whole number of steps")
    weight_decay: float = Field(0.0, ge=0, description="a number from 0 up")
    max_grad_norm: float = Field(1.0, gt=0, description="a number above 0")


class Recipe(_Section):
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
    folder = files("magicoder.training") / "recipes"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml"))


def load(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe: one of `names`, or a YAML file.

    Args:
        overrides: `key=value`, with dots into sections (`lora.rank=8`) and values as in YAML.

    Raises:
        UsageError: what is wrong, by file, key, and what the key expects.
    """
    content = _read(str(source))
    overrides = list(overrides)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: expected key=value")
        try:
            _put(content, key.split("."), yaml.safe_load(value))
        except yaml.YAMLError:
            raise UsageError(f"--set {override}: the value is not YAML: quote it") from None
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        # A mistyped key is often why another one is missing: it is told first.
        first = max(error.errors(), key=lambda found: found["type"] == "extra_forbidden")
        wrong = ".".join(map(str, first["loc"]))
        set_here = [key for key in (item.partition("=")[0] for item in overrides) if key and wrong]
        here = any(wrong.startswith(key) or key.startswith(wrong) for key in set_here)
        raise UsageError(f"{'--set' if here else source}: {_complaint(first)}") from None


def _read(source: str) -> dict[str, Any]:
    file: Any = Path(source)
    if source in names() and not file.is_file():
        file = files("magicoder.training") / "recipes" / f"{source}.yaml"
    elif not file.is_file():
        raise UsageError(f"no recipe {source}: give a YAML file or one of {', '.join(names())}")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not text: give a YAML file") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" line {place.line + 1}" if place else ""
        raise UsageError(f"{source}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{source}: expected keys and values, as in 'model: smollm2-135m'")
    return content


def _put(content: dict[str, Any], path: list[str], value: Any) -> None:
    *sections, last = path
    for section in sections:
        below = content.get(section)
        content[section] = below if isinstance(below, dict) else {}
        content = content[section]
    content[last] = value


def _complaint(error: Any) -> str:
    """What is wrong with a key, and what it expects."""
    sections: dict[str, type[BaseModel]] = {"lora": Lora, "optimizer": Optimizer}
    section: type[BaseModel] | None = Recipe
    keys, expected = [], ""
    for part in map(str, error["loc"]):
        if section is None or part not in section.model_fields:
            break
        keys.append(part)
        expected = section.model_fields[part].description or ""
        section = sections.get(part)
    if error["type"] == "extra_forbidden" and section:
        unknown = ".".join(map(str, error["loc"]))
        return f"unknown key '{unknown}': use one of {', '.join(section.model_fields)}"
    if not keys:
        return str(error["msg"].removeprefix("Value error, "))
    value = "missing" if error["type"] == "missing" else repr(error["input"])
    return f"key '{'.'.join(keys)}' is {value}: expected {expected}"
