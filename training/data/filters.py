"""What a sample must satisfy. A rule looks at one sample and returns why it is left out, or None.

The paper drops exact duplicates; the other rules are ours, for teachers that are weaker.
"""

import re
from collections.abc import Callable, Iterator

from magicoder import languages
from magicoder.training.data.records import Rejected, Sample

Rule = Callable[[Sample], str | None]
MIN_PROBLEM = 40  # characters
MIN_CODE = 2  # lines that are not blank

_BLOCK = re.compile(r"^```([\w+#-]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROMPT_ECHO = re.compile(r"code snippet|programming problem|\[Solution\]", re.IGNORECASE)


def keep(samples: Iterator[Sample], *, rule: Rule) -> Iterator[Sample | Rejected]:
    """The stage of one rule."""
    for sample in samples:
        reason = rule(sample)
        yield sample if reason is None else Rejected(reason=reason, record=sample)


def unique() -> Rule:
    """The paper's: the same seed, problem or solution, white space aside, came before."""
    seen: dict[str, set[str]] = {"seed": set(), "problem": set(), "solution": set()}

    def rule(sample: Sample) -> str | None:
        texts = {"seed": sample.seed.code, "problem": sample.problem, "solution": sample.solution}
        bare = {name: "".join(text.split()) for name, text in texts.items()}
        for name, text in bare.items():
            if text in seen[name]:
                return f"same {name} as an earlier sample"
        for name, text in bare.items():
            seen[name].add(text)
        return None

    return rule


def parses(sample: Sample) -> str | None:
    """The solution holds a code block, and every block in a language we know is sound."""
    blocks = [
        (languages.by_name(name or sample.seed.language), code) for name, code in _code(sample)
    ]
    known = [(language, code) for language, code in blocks if language is not None]
    if not known:
        return "no code block"
    if any(languages.syntax_errors(code, language) for language, code in known):
        return "syntax errors"
    return None


def substantial(sample: Sample) -> str | None:
    """Neither too short, nor an echo of the prompt, nor a copy of the seed, nor babble."""
    lines = [line.strip() for _, code in _code(sample) for line in code.splitlines()]
    lines = [line for line in lines if line]
    seed = {line.strip() for line in sample.seed.code.splitlines()}
    if len(sample.problem) < MIN_PROBLEM:
        return "problem too short"
    if _PROMPT_ECHO.search(sample.problem):
        return "problem echoes the prompt"
    if len(lines) < MIN_CODE:
        return "solution too short"
    if sum(line in seed for line in lines) > len(lines) / 2:
        return "solution copies the seed"
    if len(set(lines)) < len(lines) / 2:
        return "solution repeats itself"
    return None


def _code(sample: Sample) -> list[tuple[str, str]]:
    """The solution's code blocks: the word after the fence, and the code."""
    return _BLOCK.findall(sample.solution)
