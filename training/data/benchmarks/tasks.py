"""What a benchmark asks, and how its rows become that."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One task: `problem` in words, without the code around it; `solution` may be empty."""

    benchmark: str
    id: str
    problem: str
    solution: str


@dataclass(frozen=True)
class Source:
    """Rows on the Hugging Face hub: the arguments of `datasets.load_dataset`."""

    path: str
    name: str | None = None
    split: str = "test"
    data_files: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """Where the rows are, and how to read one.

    `files` is a glob inside a local folder; a row's `_file` tells which of them it is from (its
    name up to the first dot), or the `name` of the hub's `Source`. `read` gives a row's id, problem
    and solution.
    """

    files: str
    hub: tuple[Source, ...]
    read: Callable[[Row], tuple[str, str, str]]


_DOCSTRING = re.compile(r'("""|\'\'\')(.*?)(?:\1|\Z)', re.DOTALL)
_COMMENT = re.compile(r"^\s*(?://+|#+(?!include|!)|/?\*+/?) ?(.*)$", re.MULTILINE)


def docstring(code: str) -> str:
    """The last string in triple quotes of Python `code`, or all of it where there is none."""
    found = _DOCSTRING.findall(code)
    return str(found[-1][1]).strip() if found else code.strip()


def comment(code: str) -> str:
    """The text of the comments of `code` in any language, or all of it where there is none."""
    return "\n".join(_COMMENT.findall(code)).strip() or code.strip()
