"""OSS-Instruct: a code snippet goes in, a programming problem and its solution come out.

Paper, section 2 and figure 2. The prompt is the paper's to the letter. Weak teachers do not keep
to its two sections, so the same request can also be held to them (`structured`) by an endpoint with
structured output.
"""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from magicoder import prompts
from magicoder.errors import MagicoderError


class Problem(BaseModel):
    """A programming problem and its solution, both Markdown."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    problem: str = Field(min_length=1)
    solution: str = Field(min_length=1)

    def markdown(self) -> str:
        """The problem as a document, in the paper's two sections."""
        return f"# Problem Description\n\n{self.problem}\n\n# Solution\n\n{self.solution}\n"


class ParseError(MagicoderError):
    """The model's answer does not hold a problem and a solution; the message says what it lacks."""


def messages(code: str) -> list[dict[str, str]]:
    """The chat messages that ask for a problem inspired by `code`."""
    return [
        {"role": "system", "content": prompts.fill("oss_instruct_system")},
        {"role": "user", "content": prompts.fill("oss_instruct_user", code=code)},
    ]


_SHOWN = {"cpp": r"C\+\+", "csharp": "C#", "javascript": "JavaScript", "php": "PHP"}
_SHOWN |= {"tsx": "TypeScript", "typescript": "TypeScript"}


def structured(language: str | None = None) -> dict[str, Any]:
    """The request's extra body that makes even a weak teacher keep to the paper's two sections.

    vLLM's structured output, as a regular expression. JSON does not serve: in a JSON string whose
    length is limited xgrammar allows neither a line break nor a quote, so that no code fits, and
    without the limit a weak teacher writes one line of prose. `language` is a name of
    `magicoder.languages`; the lengths are in characters.
    """
    shown = _SHOWN.get(language, language.title()) + " " if language else ""
    fence = language or "[a-z]+"
    return {
        "structured_outputs": {
            "regex": r"\[Problem Description\]\nWrite a " + shown + r"[^\[\n`]{40,400}\n\n"
            r"\[Solution\]\n```" + fence + r"\n[^`]{40,900}\n```"
        }
    }


# A heading may stand on a line of its own, numbered or in bold, or run on within a line.
_HEADING = r"(?:^[ \t*#\d.]*)?\[%s\][ \t:*]*"
_PROBLEM = re.compile(_HEADING % "Problem Description", re.IGNORECASE | re.MULTILINE)
_SOLUTION = re.compile(_HEADING % "Solution", re.IGNORECASE | re.MULTILINE)


def parse(text: str) -> Problem:
    """The problem in a model's answer.

    Raises:
        ParseError: a section is missing or empty.
    """
    first = _PROBLEM.search(text)
    second = _SOLUTION.search(text, first.end()) if first else None
    if first is None or second is None:
        raise ParseError("the answer lacks a [Problem Description] or a [Solution] section")
    problem, solution = text[first.end() : second.start()].strip(), text[second.end() :].strip()
    if not problem or not solution:
        raise ParseError("the answer has an empty section")
    return Problem(problem=problem, solution=solution)
