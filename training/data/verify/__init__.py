"""Verify: parse, compile and run each solution against tests written apart from it."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from magicoder import languages
from magicoder.blocks import code_blocks
from magicoder.languages import Language
from magicoder.sandbox import Limits
from magicoder.sandbox.bench import Bench, open_sandbox
from magicoder.sandbox.toolchains import TOOLCHAINS
from magicoder.training.data import runner
from magicoder.training.data import teacher as teachers
from magicoder.training.data.records import Answer, Record, Rejected, Sample, Verification
from magicoder.training.data.runner import Step
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Account, Teacher
from magicoder.training.data.verify.judge import check, judge
from magicoder.training.data.verify.outline import signatures
from magicoder.training.data.verify.questions import Asked, questions

__all__ = ["Verify", "check", "step"]

TEMPERATURE = 0.8
"""Where the teacher's is 0, at which it would write the same tests k times."""

T = TypeVar("T")
U = TypeVar("U")


class Verify(BaseModel):
    """How solutions are verified.

    samples: k, the test sets of each sample and the attempts at its problem, its own included.
    sandbox: "none" runs the teacher's code as the user, without isolation. workers: sandboxes at
    once. seconds, memory (MiB) and disk (MiB): what each command in the sandbox may use.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(3, ge=1, le=100)
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    seconds: float = Field(10.0, gt=0)
    memory: int = Field(1024, gt=0)
    disk: int = Field(256, gt=0)


def step(config: Verify, *, source: Path, teacher: Teacher, store: Store) -> Step:
    """The step from the samples of the JSONL file `source` to samples with `verification`.

    None is left out. A teacher at temperature 0 is asked at `TEMPERATURE` if k is more than 1.
    What `workers` sandboxes can take ahead is all that waits in memory.

    Raises:
        MagicoderError: bubblewrap is missing or does not work.
    """
    limits = Limits(seconds=config.seconds, memory=config.memory << 20, disk=config.disk << 20)
    bench = Bench(open_sandbox(config.sandbox), limits, store)
    account, tally = Account(), Tally()
    if config.samples > 1 and not teacher.temperature:
        teacher = teacher.model_copy(update={"temperature": TEMPERATURE})

    def verify(samples: Iterator[Sample]) -> Iterator[Sample]:
        asked = (
            record
            for number, sample in enumerate(samples)
            for record in ask(number, sample, bench, config.samples)
        )
        answers = teachers.ask(asked, teacher=teacher, store=store, account=account)
        groups = (
            list(group) for _, group in groupby(answers, key=lambda each: _asked(each).number)
        )
        for sample in in_order(partial(verified, bench), groups, config.workers, bench.close):
            tally.add(sample)
            yield sample

    return Step(
        stages={"read": partial(runner.read, path=source, type=Sample), "verify": verify},
        account=lambda: {"teacher": account.summary(), "languages": tally.summary()},
    )


class Tally:
    """How far the solutions came, by language."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, sample: Sample) -> None:
        """Count a verified sample."""
        counts = self._counts.setdefault(sample.language or "none", Counter())
        verification = sample.verification or Verification(level="unparsed")
        counts[verification.level] += 1
        if verification.note.startswith("no toolchain"):
            counts[verification.note] += 1

    def summary(self) -> dict[str, dict[str, int]]:
        """Samples by the level they reached, and those not run for want of which tool."""
        return {name: dict(sorted(counts.items())) for name, counts in sorted(self._counts.items())}


def ask(number: int, sample: Sample, bench: Bench, samples: int) -> Iterator[Record]:
    """The questions about a sample, if there is anything to ask; then what ends its group."""
    found = solution(sample)
    asked = Asked(number=number, sample=sample, role="none")
    if found and not bench.missing(found[0]):
        language, code = found
        heads = signatures(TOOLCHAINS[language.name].whole(code), language)
        if heads:
            yield from questions(asked, language, heads, samples)
    yield asked


def verified(bench: Bench, answers: list[Record]) -> Sample:
    """The sample with what became of it, once the answers to its questions are there."""
    sample = _asked(answers[0]).sample
    found = solution(sample)
    if found is None:
        note = "no code block" if not _blocks(sample) else "syntax errors"
        return _with(sample, Verification(level="unparsed", note=note))
    language, code = found
    texts: dict[str, list[str]] = {"tests": [], "attempt": []}
    failed = 0
    for answer in answers:
        if isinstance(answer, Answer):
            texts[_asked(answer).role].append(_code(answer.text, language))
        failed += isinstance(answer, Rejected)
    own = [_code(sample.tests, language)] if sample.tests.strip() else []
    judged = judge(bench, language, [code, *texts["attempt"]], own + texts["tests"])
    if failed:
        lost = f"{failed} of {len(answers) - 1} answers did not come"
        judged = judged.model_copy(update={"note": "; ".join(filter(None, (judged.note, lost)))})
    return _with(sample, judged)


def solution(sample: Sample) -> tuple[Language, str] | None:
    """The code that is run: the longest block in the sample's language; None if a block is broken.

    The sample's language is `sample.language`, or that of its first block.
    """
    blocks = _blocks(sample)
    if not blocks or any(languages.syntax_errors(code, language) for language, code in blocks):
        return None
    names = [language.name for language, _ in blocks]
    name = sample.language if sample.language in names else names[0]
    return max(
        (block for block in blocks if block[0].name == name), key=lambda block: len(block[1])
    )


def in_order(
    work: Callable[[T], U], items: Iterable[T], workers: int, close: Callable[[], None]
) -> Iterator[U]:
    """`work` done on each item by `workers` threads; at most twice as many items are under way.

    At the end, which may come early, `close` is called, and should end the work that still runs.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        under_way: deque[Future[U]] = deque()
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        close()
        pool.shutdown(cancel_futures=True)


def _blocks(sample: Sample) -> list[tuple[Language, str]]:
    return code_blocks(sample.solution, sample.language)


def _code(text: str, language: Language) -> str:
    """The longest block of an answer in `language`, or the whole of one without blocks."""
    blocks = code_blocks(text, language.name)
    if not blocks:
        return text
    return max((code for own, code in blocks if own == language), key=len, default="")


def _asked(record: Any) -> Asked:
    asked = record if isinstance(record, Asked) else record.record
    assert isinstance(asked, Asked)  # noqa: S101
    return asked


def _with(sample: Sample, verification: Verification) -> Sample:
    return sample.model_copy(update={"verification": verification})
