"""OSS-Instruct (paper, section 2): the paper's prompt to the letter."""

from pathlib import Path

from magicoder import oss_instruct
from magicoder.training.data.records import Question, Seed
from magicoder.training.data.runner import Stage
from magicoder.training.data.styles import asked


def stages(source: Path, ask: Stage) -> dict[str, Stage]:
    """From a file of seeds to samples."""
    return asked.stages(source, ask, style="oss-instruct", question=question, parse=parse)


def question(seed: Seed) -> Question:
    """The paper's messages, and for weak teachers the form of its two sections."""
    return Question(
        record=seed,
        messages=tuple(oss_instruct.messages(seed.code)),
        extra=oss_instruct.structured(seed.language),
    )


def parse(text: str) -> dict[str, str]:
    """Problem and solution."""
    return oss_instruct.parse(text).model_dump()
