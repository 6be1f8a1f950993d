"""A problem as a document: Markdown that remembers, in its first line, where it comes from."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from filelock import FileLock
from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, ValidationError

from magicoder.blocks import code_blocks
from magicoder.errors import MagicoderError
from magicoder.languages import Language

_HEAD = re.compile(r"<!-- magicoder: (\{.*\}) -->\r?\n")
_SECTION = re.compile(r"^# (Problem Description|Solution|Tests)[ \t]*$", re.IGNORECASE)
_FENCE = re.compile(r"(`{3,}|~{3,})")


class Made(BaseModel):
    """How a problem was made: the seed as `origin.seed` gives it, or None; the model; the style."""

    model_config = ConfigDict(frozen=True)

    seed: dict[str, Any] | None
    teacher: str
    style: str
    structured: bool = False

    def line(self) -> str:
        """The first line of the document, which a Markdown viewer does not show."""
        text = self.model_dump_json().replace(">", "\\u003e")
        return f"<!-- magicoder: {text} -->\n"


@dataclass(frozen=True)
class Written:
    """What stands in a problem's document."""

    made: Made
    problem: str
    solution: str
    tests: str = ""

    def code(self) -> tuple[Language, str] | None:
        """The solution's code: its longest block in the language of its first, or the seed's."""
        return _longest(self.solution, self._language())

    def test_code(self) -> str:
        """The assertions of the Tests section, fenced or not; "" where there are none."""
        found = _longest(self.tests, self._language())
        return found[1] if found else self.tests

    def sample(self) -> dict[str, Any]:
        """A row of the dataset, as `magicoder data` reads it."""
        found = self.code()
        return {
            "problem": self.problem,
            "solution": self.solution,
            "language": found[0].name if found else self._language(),
            "tests": self.test_code(),
            "style": self.made.style,
            "teacher": self.made.teacher,
            "structured": self.made.structured,
            "seed": self.made.seed,
        }

    def _language(self) -> str:
        return str((self.made.seed or {}).get("language", ""))


def _longest(markdown: str, language: str) -> tuple[Language, str] | None:
    blocks = code_blocks(markdown, language)
    own = [block for block in blocks if block[0].name == language] or [
        block for block in blocks if block[0] == blocks[0][0]
    ]
    return max(own, key=lambda block: len(block[1]), default=None)


def is_problem(markdown: str) -> bool:
    """Whether a document's text is a problem of ours."""
    return _HEAD.match(markdown) is not None


def read(markdown: str) -> Written:
    """The problem in a document.

    Raises:
        MagicoderError: its first line is none of ours, or a section is missing or empty.
    """
    head = _HEAD.match(markdown)
    try:
        made = Made.model_validate_json(head[1]) if head else None
    except ValidationError:
        made = None
    if head is None or made is None:
        raise MagicoderError(
            "this document is no problem of magicoder's: its first line tells where it comes from"
        )
    sections = _sections(markdown[head.end() :])
    problem, solution = sections.get("problem description"), sections.get("solution")
    if not problem or not solution:
        raise MagicoderError(
            "this problem lacks a '# Problem Description' or a '# Solution' with text below it"
        )
    return Written(made, problem, solution, sections.get("tests", ""))


def _sections(markdown: str) -> dict[str, str]:
    sections: dict[str, str] = {}
    current, fence = "", ""
    for line in markdown.splitlines(keepends=True):
        if found := _FENCE.match(line.strip()):  # in code, `# Tests` is a comment
            if not fence:
                fence = found[1]
            elif line.strip() == found[1] and found[1].startswith(fence):
                fence = ""
        heading = None if fence else _SECTION.match(line.rstrip("\r\n"))
        if heading:
            current = heading[1].lower()
        elif current:
            sections[current] = sections.get(current, "") + line
    return {name: text.strip() for name, text in sections.items()}


def dataset() -> Path:
    """The file that problems are added to."""
    return user_data_path("magicoder") / "problems.jsonl"


def add(sample: dict[str, Any], path: Path) -> bool:
    """Append a row to the JSONL file at `path`; False: the same problem is in it with its solution.

    Safe from several editors at once; the file is whole at any time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        rows = path.read_text(encoding="utf-8") if path.exists() else ""
        known = {_id(json.loads(row)) for row in rows.split("\n") if row.strip()}
        if _id(sample) in known:
            return False
        if rows and not rows.endswith("\n"):
            rows += "\n"
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as part:
            part.write(rows + json.dumps(sample, ensure_ascii=False) + "\n")
            part.flush()
            os.fsync(part.fileno())
        os.replace(part.name, path)
    return True


def _id(sample: dict[str, Any]) -> str:
    """As `Sample.id` of `magicoder.training` has it."""
    return hashlib.sha256(f"{sample['problem']}\0{sample['solution']}".encode()).hexdigest()
