"""What flows through the data factory, one frozen type a step."""

import hashlib

from pydantic import BaseModel, ConfigDict, computed_field


class Record(BaseModel):
    """A row of JSONL."""

    model_config = ConfigDict(frozen=True)


class Document(Record):
    """One source file. `path` is relative to its origin; `language` is a name of the languages."""

    origin: str
    path: str
    language: str
    text: str


class Seed(Record):
    """Lines of a document that inspire a problem; `line` is the first one's number, from 1."""

    origin: str
    path: str
    language: str
    line: int
    code: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def hash(self) -> str:
        """The code's SHA-256, in hexadecimal."""
        return hashlib.sha256(self.code.encode()).hexdigest()


class Answer(Record):
    """What the teacher wrote for a seed, whole; `finish_reason` as the OpenAI API says it."""

    seed: Seed
    teacher: str
    text: str
    finish_reason: str


class Sample(Record):
    """A row of the dataset: a problem, its solution (both Markdown), and where they come from."""

    seed: Seed
    teacher: str
    problem: str
    solution: str


class Rejected(Record):
    """What a stage yields in place of a record that it leaves out, and why."""

    reason: str
    record: Document | Seed | Answer | Sample
