"""What the teacher is asked: tests for a solution that it does not see, and more attempts."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from magicoder.languages import Language
from magicoder.sandbox.toolchains import TOOLCHAINS
from magicoder.training.data.records import Question, Record, Sample

_TESTS = """You write tests for the solution of a programming problem. You do not see the \
solution, only what it defines. Test what the problem asks for: ordinary and special cases.

[Problem Description]
{problem}

[The solution defines]
```{language}
{heads}
```

Write only {ask}
These lines are put behind the solution. Define nothing anew, print nothing, read no input. Answer \
with one ```{language} code block."""

_ATTEMPT = """Solve the programming problem.

[Problem Description]
{problem}

[Your solution must define]
```{language}
{heads}
```

Answer with one ```{language} code block that holds the whole solution."""


class Asked(Record):
    """What a question is about: the `number`th sample, and whether it asks for tests."""

    number: int
    sample: Sample
    role: Literal["tests", "attempt", "none"]


def questions(
    asked: Asked, language: Language, heads: Sequence[str], samples: int
) -> Iterator[Question]:
    """Those for `samples` test sets, less one that the sample brings, and the other attempts."""
    values = {
        "problem": asked.sample.problem,
        "language": language.name,
        "heads": "\n".join(heads),
        "ask": TOOLCHAINS[language.name].ask,
    }
    own = bool(asked.sample.tests.strip())
    wanted: tuple[tuple[Literal["tests", "attempt"], str, int, str], ...] = (
        ("tests", _TESTS, samples - own, _assertions(language)),
        ("attempt", _ATTEMPT, samples - 1, r"[^`]{20,4000}\n"),
    )
    for role, prompt, count, form in wanted:
        for sample in range(count):
            yield Question(
                record=asked.model_copy(update={"role": role}),
                messages=({"role": "user", "content": prompt.format(**values)},),
                sample=sample,
                extra=_block(language, form),
            )


def _assertions(language: Language) -> str:
    """Three to six assertions; any other line lets a weak teacher define anew what it tests."""
    return "(" + TOOLCHAINS[language.name].line + r"\n){3,6}"


def _block(language: Language, form: str) -> dict[str, Any]:
    """The request's extra body that holds a weak teacher to one code block of that form.

    A regular expression, as in `magicoder.oss_instruct.structured`.
    """
    return {"structured_outputs": {"regex": f"```{language.name}\\n{form}```"}}
