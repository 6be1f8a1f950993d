"""What flows through the data factory, one frozen type a step."""

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, computed_field


class Record(BaseModel):
    """A row of JSONL."""

    model_config = ConfigDict(frozen=True)


class Origin(Record):
    """Where source code comes from.

    `origin` is the source as the user wrote it without its version (`pypi:click`), `version` a
    release, a commit or empty; `path` is relative to it; `language` is a name of
    `magicoder.languages`; `license` is an SPDX expression, or empty where none was found.
    """

    origin: str
    version: str = ""
    path: str
    language: str
    license: str = ""


class Document(Origin):
    """One source file."""

    text: str


class Seed(Origin):
    """Code that inspires a problem; `line` is the first one's number, from 1.

    `kind` says what it is: `lines` (the paper's), or `function`, `method`, `class`, `call`.
    """

    line: int = 1
    kind: str = "lines"
    code: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def hash(self) -> str:
        """The code's SHA-256, in hexadecimal."""
        return hashlib.sha256(self.code.encode()).hexdigest()


class Question(Record):
    """What to ask the teacher about `record`.

    `sample` numbers the answers wanted to the same messages, from 0; `extra` is what the request's
    body holds beside the messages and the sampling (structured output).
    """

    record: SerializeAsAny[Record]
    messages: tuple[dict[str, str], ...]
    sample: int = 0
    extra: dict[str, Any] = Field(default_factory=dict)


class Answer(Record):
    """What the teacher wrote, whole; `finish_reason` as the OpenAI API says it.

    `structured` tells whether the endpoint held it to a form.
    """

    record: SerializeAsAny[Record]
    teacher: str
    text: str
    finish_reason: str
    sample: int = 0
    structured: bool = False


class Evolution(Record):
    """How a sample was evolved: the round, from 1, the heuristic's name, the parent's id."""

    round: int
    heuristic: str
    parent: str


class Verification(Record):
    """What became of a solution that was run against the teacher's tests.

    `level` is the highest reached of `unparsed`, `parsed`, `compiled`, `passed`; `passed` counts
    the test sets that it passed out of `total`. `difficulty` is 1 minus the pass rate of all
    attempts, or None where no test could be run. `tests_can_fail` tells whether a mutated solution
    was caught; `note` says what was missing or went wrong. `tests` are the sets that were used.
    """

    level: str
    passed: int = 0
    total: int = 0
    difficulty: float | None = None
    tests_can_fail: bool | None = None
    note: str = ""
    tests: tuple[str, ...] = ()


class Sample(Record):
    """A row of the dataset: a problem, its solution (both Markdown), and where they come from.

    `language` is the solution's, a name of `magicoder.languages`, or empty; `style` is the name of
    the style that made it; `tests` is what the teacher wrote along with the solution, if it did.
    """

    problem: str
    solution: str
    language: str = ""
    tests: str = ""
    style: str = ""
    teacher: str = ""
    structured: bool = False
    seed: Seed | None = None
    evolution: Evolution | None = None
    verification: Verification | None = None

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of problem and solution."""
        text = f"{self.problem}\0{self.solution}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Rejected(Record):
    """What a stage yields in place of a record that it leaves out, and why.

    `reason` is a short phrase that many records share (it is counted); `detail` is about this one.
    """

    reason: str
    record: SerializeAsAny[Record]
    detail: str = ""
