"""Code to problem: OSS-Instruct whose teacher also writes the tests that its solution must pass.

The prompt is ours; it asks for one more section than the paper's.
"""

import re
from pathlib import Path

from magicoder import oss_instruct, prompts
from magicoder.oss_instruct import ParseError
from magicoder.sandbox.toolchains import TOOLCHAINS
from magicoder.training.data.records import Question, Seed
from magicoder.training.data.runner import Stage
from magicoder.training.data.styles import asked

PROMPT = """\
Below is an excerpt of real source code. Let it give you an idea, then write a programming task \
in {language} that somebody could solve without ever having seen the excerpt.

Excerpt:
```
{code}
```

Answer in exactly three sections:

[Problem Description]
The task, complete in itself. Name the function or class to write, its arguments and its result, \
and say what happens at the edges.

[Solution]
One code block: a complete, correct solution in {language}.

[Tests]
One code block that holds nothing but {tests}
These lines are put behind the solution; let them call it on ordinary and on extreme input."""

_TESTS_OF_OTHERS = "statements that fail with an error when a result is wrong"

_TESTS = re.compile(r"(?:^[ \t*#\d.]*)?\[Tests\][ \t:*]*", re.IGNORECASE | re.MULTILINE)
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def stages(source: Path, ask: Stage) -> dict[str, Stage]:
    """From a file of seeds to samples that have `tests`: bare code."""
    return asked.stages(source, ask, style="code-to-problem", question=question, parse=parse)


def question(seed: Seed) -> Question:
    """Ours, and for weak teachers the form of its three sections."""
    toolchain = TOOLCHAINS.get(seed.language)
    tests = toolchain.ask if toolchain else _TESTS_OF_OTHERS
    text = PROMPT.replace("{language}", seed.language).replace("{tests}", tests)
    text = text.replace("{code}", seed.code)
    system = prompts.fill("oss_instruct_system")
    return Question(
        record=seed,
        messages=({"role": "system", "content": system}, {"role": "user", "content": text}),
        extra=asked.form(
            ("Problem Description", "Write a " + r"[^\[\n`]{40,400}"),
            ("Solution", asked.fenced(seed.language)),
            ("Tests", asked.fenced(seed.language)),
        ),
    )


def parse(text: str) -> dict[str, str]:
    """Problem, solution and tests.

    Raises:
        ParseError: a section is missing or empty.
    """
    found = oss_instruct.parse(text)
    solution, *rest = _TESTS.split(found.solution, maxsplit=1)
    if not rest:
        raise ParseError("the answer lacks a [Tests] section")
    block = _BLOCK.search(rest[0])
    if block is None or not block[1].strip():
        raise ParseError("the [Tests] section holds no code block")
    if not solution.strip():
        raise ParseError("the answer has an empty section")
    return {"problem": found.problem, "solution": solution.strip(), "tests": block[1]}
