"""What the styles share that ask a teacher: seed, question, answer, sample."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from magicoder import languages
from magicoder.blocks import code_blocks
from magicoder.oss_instruct import ParseError
from magicoder.training.data import runner
from magicoder.training.data.records import Answer, Question, Rejected, Sample, Seed
from magicoder.training.data.runner import Stage

Parse = Callable[[str], dict[str, str]]
"""An answer's text to fields of `Sample`; raises `ParseError` that says what it lacks."""


def stages(
    source: Path, ask: Stage, *, style: str, question: Callable[[Seed], Question], parse: Parse
) -> dict[str, Stage]:
    """The stages from a file of seeds to samples."""
    return {
        "seeds": partial(runner.read, path=source, type=Seed),
        "questions": partial(map, question),
        "answers": ask,
        "problems": partial(samples, style=style, parse=parse),
    }


def samples(answers: Iterator[Answer], *, style: str, parse: Parse) -> Iterator[Sample | Rejected]:
    """Read the sections; as in the paper, an answer must have ended by itself."""
    for answer in answers:
        if reason := unended(answer):
            yield Rejected(reason=reason, record=answer)
            continue
        try:
            found = parse(answer.text)
        except ParseError as error:
            yield Rejected(reason=str(error), record=answer)
            continue
        seed = answer.record
        assert isinstance(seed, Seed)  # noqa: S101
        yield Sample(
            **found,
            language=language(found["solution"], seed.language),
            style=style,
            teacher=answer.teacher,
            structured=answer.structured,
            seed=seed,
        )


def unended(answer: Answer) -> str | None:
    """Why the answer did not end by itself, or None."""
    if answer.finish_reason == "stop":
        return None
    cut = answer.finish_reason == "length"
    return "cut at the token limit" if cut else f"ended by {answer.finish_reason or 'nothing'}"


def language(solution: str, default: str) -> str:
    """The language of a solution's first code block, or `default`."""
    blocks = code_blocks(solution, default)
    return blocks[0][0].name if blocks else default


def form(*sections: tuple[str, str]) -> dict[str, Any]:
    """The extra body that holds a teacher to sections of a title and a regular expression."""
    parts = "\n\n".join(rf"\[{title}\]\n{pattern}" for title, pattern in sections)
    return {"structured_outputs": {"regex": parts.replace("\n", r"\n")}}


def fenced(name: str, most: int = 900) -> str:
    """The regular expression of a code block in the language `name`, of 40 to `most` characters."""
    fence = name if languages.by_name(name) else "[a-z]+"
    return rf"```{fence}\n[^`]{{40,{most}}}\n```"
