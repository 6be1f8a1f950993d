"""Code Evol-Instruct: rewrites problems into harder ones, and has them solved (paper, section 2.3).

The five heuristics are the paper's; the wording of the prompts is ours.
"""

import difflib
import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from magicoder.training.data import runner
from magicoder.training.data.records import Answer, Evolution, Question, Record, Rejected, Sample
from magicoder.training.data.runner import Stage, Step
from magicoder.training.data.store import Store
from magicoder.training.data.styles import asked
from magicoder.training.data.teacher import Account, Teacher, ask

HEURISTICS = {
    "constraints": "Add one or two requirements that it does not have yet, in about ten words.",
    "rarer": "Replace one of its ordinary requirements by a more specific one that is seldom met.",
    "reasoning": "Make it need more reasoning: what now follows at once must take several steps.",
    "misleading": "Add a short piece of wrong code that looks like help and leads astray.",
    "complexity": "Demand a better running time or less memory than the plain way takes.",
}
"""By name: what is done to a problem."""

PROMPT = """\
Make the programming task below somewhat harder.

How: {how}

[Given Task]
{problem}
[End of the Given Task]

Write the new task alone: complete in itself, in at most a few more sentences than the given one, \
without a solution and without a word about the given one."""

MIN_PROBLEM = 40  # characters
MAX_LIKENESS = (
    0.95  # of a problem to its parent: the part of their words that is the same, in order
)

_ECHO = re.compile(r"\[(?:End of the )?Given Task\]|\bthe given task\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(?:I'm sorry|I am sorry|Sorry,|I apologi[sz]e|As an AI|I can(?:not|'t)\b|I'm unable)",
    re.IGNORECASE,
)


class Evolve(BaseModel):
    """How samples are evolved.

    rounds: how often; each evolves what the one before it made. heuristics: names of `HEURISTICS`.
    seed: decides, with the sample alone, which heuristic it gets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(1, gt=0)
    heuristics: tuple[str, ...] = Field(tuple(HEURISTICS), min_length=1)
    seed: int = 976

    @field_validator("heuristics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in HEURISTICS]:
            raise ValueError(f"no heuristic '{unknown[0]}': use one of {', '.join(HEURISTICS)}")
        return names


class Evolving(Record):
    """A sample on its way to its successor: `problem` is the new one, empty until it is there."""

    parent: Sample
    evolution: Evolution
    problem: str = ""


def step(config: Evolve, *, source: Path, teacher: Teacher, store: Store) -> Step:
    """The step from samples to the same samples, each followed by what was evolved from it.

    Two questions a sample and round: the harder problem, then its solution.
    """
    account = Account()
    asking = partial(ask, teacher=teacher, store=store, account=account)
    stages: dict[str, Stage] = {"samples": partial(runner.read, path=source, type=Sample)}
    for number in range(1, config.rounds + 1):
        stages |= {
            f"evolve {number}": partial(evolve, config=config, round=number),
            f"tasks {number}": asking,
            f"solve {number}": solve,
            f"solutions {number}": asking,
            f"evolved {number}": evolved,
        }
    return Step(stages, account=account.summary)


def evolve(
    samples: Iterator[Sample],
    *,
    config: Evolve,
    round: int,  # noqa: A002
) -> Iterator[Sample | Question]:
    """Each sample, and behind it the question for a harder problem if it is of the last round."""
    for sample in samples:
        yield sample
        if (sample.evolution.round if sample.evolution else 0) != round - 1:
            continue
        chance = hashlib.sha256(f"{config.seed}:{sample.id}".encode()).digest()
        name = config.heuristics[int.from_bytes(chance) % len(config.heuristics)]
        text = PROMPT.replace("{how}", HEURISTICS[name]).replace("{problem}", sample.problem)
        evolution = Evolution(round=round, heuristic=name, parent=sample.id)
        yield Question(
            record=Evolving(parent=sample, evolution=evolution),
            messages=({"role": "user", "content": text},),
            extra={"structured_outputs": {"regex": r"Write [^\[]{40,600}"}},
        )


def solve(records: Iterator[Sample | Answer]) -> Iterator[Sample | Question | Rejected]:
    """The question for the solution of each new problem that differs enough from the old one."""
    for record in records:
        if isinstance(record, Sample):
            yield record
            continue
        task = record.record
        assert isinstance(task, Evolving)  # noqa: S101
        problem = record.text.strip()
        if reason := asked.unended(record) or fault(problem, task.parent.problem):
            yield Rejected(reason=f"problem: {reason}", record=record)
            continue
        yield Question(
            record=task.model_copy(update={"problem": problem}),
            messages=({"role": "user", "content": problem},),
            extra={"structured_outputs": {"regex": asked.fenced(task.parent.language)}},
        )


def evolved(records: Iterator[Sample | Answer]) -> Iterator[Sample | Rejected]:
    """The new samples among the old ones."""
    for record in records:
        if isinstance(record, Sample):
            yield record
            continue
        task = record.record
        assert isinstance(task, Evolving)  # noqa: S101
        solution = record.text.strip()
        reason = asked.unended(record)
        if not reason and _REFUSAL.match(solution):
            reason = "refused"
        if not reason and "```" not in solution:
            reason = "no code block"
        if reason:
            yield Rejected(reason=f"solution: {reason}", record=record)
            continue
        yield Sample(
            problem=task.problem,
            solution=solution,
            language=asked.language(solution, task.parent.language),
            style=task.parent.style,
            teacher=record.teacher,
            structured=record.structured,
            seed=task.parent.seed,
            evolution=task.evolution,
        )


def fault(problem: str, parent: str) -> str | None:
    """Why `problem` is no evolution of `parent`, or None."""
    if _REFUSAL.match(problem):
        return "refused"
    if _ECHO.search(problem):
        return "echoes the prompt"
    if len(problem) < MIN_PROBLEM:
        return "too short"
    words, before = problem.lower().split(), parent.lower().split()
    if words == before:
        return "equal to its parent"
    if difflib.SequenceMatcher(None, before, words, autojunk=False).ratio() > MAX_LIKENESS:
        return "too similar to its parent"
    return None
