"""What a sample must satisfy by itself. A rule returns why it is left out, or None.

These run before duplicates are looked for, so that a poor sample never takes the place of a good
one that resembles it. The paper has no such rules; they are for teachers that are weaker.
"""

import re
from collections.abc import Callable, Iterator

from magicoder import languages
from magicoder.blocks import code_blocks
from magicoder.training.data.records import Rejected, Sample

Rule = Callable[[Sample], str | None]
MIN_PROBLEM = 40  # characters
MIN_CODE = 2  # lines that are not blank

_PROMPT_ECHO = re.compile(r"code snippet|programming problem|\[Solution\]", re.IGNORECASE)


def keep(samples: Iterator[Sample], *, rule: Rule) -> Iterator[Sample | Rejected]:
    """The stage of one rule."""
    for sample in samples:
        reason = rule(sample)
        yield sample if reason is None else Rejected(reason=reason, record=sample)


def substantial(sample: Sample) -> str | None:
    """Neither too short, nor an echo of the prompt, nor a copy of the seed, nor babble."""
    code = "\n".join(block for _, block in code_blocks(sample.solution, sample.language))
    lines = [line for line in map(str.strip, code.splitlines()) if line]
    seed = {line.strip() for line in sample.seed.code.splitlines()} if sample.seed else set()
    if len(sample.problem) < MIN_PROBLEM:
        return "problem too short"
    if _PROMPT_ECHO.search(sample.problem):
        return "problem echoes the prompt"
    if not code:
        return "no code block"
    if len(lines) < MIN_CODE:
        return "solution too short"
    if sum(line in seed for line in lines) > len(lines) / 2:
        return "solution copies the seed"
    if len(set(lines)) < len(lines) / 2:
        return "solution repeats itself"
    return None


def parses(sample: Sample) -> str | None:
    """Every code block of the solution is sound: as verification found, or tree-sitter does."""
    if sample.verification is not None:
        sound = sample.verification.level != "unparsed"
    else:
        blocks = code_blocks(sample.solution, sample.language)
        sound = not any(languages.syntax_errors(code, language) for language, code in blocks)
    return None if sound else "syntax errors"
