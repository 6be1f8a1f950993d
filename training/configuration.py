"""YAML files that say all about a run, as pydantic models. `--set key=value` overrides a key."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from magicoder.errors import UsageError

M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """A part of a file; an unknown key is an error. A field's description says what it expects."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def names(folder: str) -> list[str]:
    """The files that come with Magicoder in `folder` of this package, without their ending."""
    found = files("magicoder.training").joinpath(folder).iterdir()
    return sorted(Path(file.name).stem for file in found if file.name.endswith(".yaml"))


def load(kind: type[M], folder: str, source: str | Path, overrides: Iterable[str] = ()) -> M:
    """Read a `kind`: one of `names(folder)`, or a YAML file.

    Args:
        overrides: `key=value`, with dots into sections (`lora.rank=8`) and values as in YAML.

    Raises:
        UsageError: what is wrong, by file, key, and what the key expects.
    """
    content = _read(folder, str(source))
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
        return kind.model_validate(content)
    except ValidationError as error:
        # A mistyped key is often why another one is missing: it is told first.
        first = max(error.errors(), key=lambda found: found["type"] == "extra_forbidden")
        wrong = ".".join(map(str, first["loc"]))
        set_here = [key for key in (item.partition("=")[0] for item in overrides) if key and wrong]
        here = any(wrong.startswith(key) or key.startswith(wrong) for key in set_here)
        raise UsageError(f"{'--set' if here else source}: {_complaint(kind, first)}") from None


def _read(folder: str, source: str) -> dict[str, Any]:
    file: Any = Path(source)
    known = names(folder)
    if source in known and not file.is_file():
        file = files("magicoder.training").joinpath(folder, f"{source}.yaml")
    elif not file.is_file():
        raise UsageError(f"no recipe {source}: give a YAML file or one of {', '.join(known)}")
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
        raise UsageError(f"{source}: expected keys and values, as in 'output: folder'")
    return content


def _put(content: dict[str, Any], path: list[str], value: Any) -> None:
    *sections, last = path
    for section in sections:
        below = content.get(section)
        content[section] = below if isinstance(below, dict) else {}
        content = content[section]
    content[last] = value


def _complaint(kind: type[BaseModel], error: Any) -> str:
    """What is wrong with a key, and what it expects."""
    section: type[BaseModel] | None = kind
    keys, expected = [], ""
    for part in map(str, error["loc"]):
        if section is None or part not in section.model_fields:
            break
        keys.append(part)
        field = section.model_fields[part]
        expected = field.description or ""
        kinds = (field.annotation, *get_args(field.annotation))
        section = next(
            (found for found in kinds if isinstance(found, type) and issubclass(found, BaseModel)),
            None,
        )
    if error["type"] == "extra_forbidden" and section:
        unknown = ".".join(map(str, error["loc"]))
        return f"unknown key '{unknown}': use one of {', '.join(section.model_fields)}"
    says = str(error["msg"]).removeprefix("Value error, ")
    if not keys:
        return says
    value = "missing" if error["type"] == "missing" else repr(error["input"])
    wanted = f"expected {expected}" if expected else says
    return f"key '{'.'.join(keys)}' is {value}: {wanted}"
