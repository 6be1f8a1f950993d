"""What the tools ask a model, in our words; only `oss_instruct` has the paper's prompt.

Each gives the messages of a chat. `Ask` holds what they share; a task is one sentence or two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from magicoder.errors import MagicoderError
from magicoder.languages import Language

Messages = list[dict[str, str]]

SYSTEM = "You are a careful programmer. You do exactly what is asked, and nothing else."


@dataclass(frozen=True)
class Ask:
    """A task about code, or about another `noun`; `around`: lines from above that only explain."""

    task: str
    code: str
    language: Language | None
    around: Sequence[str] = ()
    noun: str = "code"

    def messages(self) -> Messages:
        """The chat that asks for it."""
        name = self.language.name if self.language else ""
        parts = [self.task]
        if self.around:
            parts.append(
                f"It stands below these lines:\n{_fenced(name, chr(10).join(self.around))}"
            )
        parts.append(f"The {self.noun}:\n{_fenced(name, self.code)}")
        return [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "\n\n".join(parts)},
        ]

    def within(self, size: int) -> "Ask":
        """This with as much from around it as makes no more than `size` bytes of messages.

        Raises:
            MagicoderError: the code alone is larger.
        """
        around = list(self.around)
        while (over := _size(replace(self, around=around)) - size) > 0 and around:
            del around[0]
        if over > 0:
            raise MagicoderError(
                f"too much code for the model, by {over} bytes: select less, or serve a model with "
                "a longer context"
            )
        return replace(self, around=around)


def _size(ask: Ask) -> int:
    return sum(len(message["content"].encode(errors="replace")) for message in ask.messages())


def _fenced(name: str, code: str) -> str:
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{fence}{name}\n{code}\n{fence}"


def _whole(language: Language | None, what: str) -> str:
    block = f"```{language.name} code block" if language else "code block"
    return f"Answer with one {block} that holds {what}."


def explain() -> str:
    """The task: explain."""
    return (
        "Explain this code to a colleague, in Markdown and in at most 200 words: what it is for, "
        "how it works, and what to beware of."
    )


def document(language: Language | None, style: str) -> str:
    """The task: document, as `style` says."""
    return (
        f"Give this code documentation: {style}, short, that tells what a caller must know. Change "
        f"nothing else. {_whole(language, 'the whole code with its documentation')}"
    )


def solve(language: Language | None) -> str:
    """The task: write what is still to be written."""
    return (
        "Finish this code: write what its TODO or documentation asks for, and remove the TODO. "
        + _whole(language, "the whole finished code")
    )


def solve_problem() -> str:
    """The task: solve a problem told in words."""
    return (
        "Solve the programming problem below. Answer with one sentence on how, and one code block "
        "that holds the whole solution."
    )


def fix(language: Language | None, problems: Sequence[str]) -> str:
    """The task: mend what `problems` tell, one line each."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"This code has problems:\n{listed}\n\nMend them with the smallest change that is right. "
        + _whole(language, "the whole mended code")
    )


def refactor(language: Language | None, instruction: str) -> str:
    """The task: change as asked."""
    return (
        f"Change this code as asked: {instruction}\n\nWhat it does otherwise stays as it is. "
        + _whole(language, "the whole changed code")
    )


def tests(language: Language | None, form: str) -> str:
    """The task: write tests in the `form` of the language."""
    return (
        f"Write tests for this code: ordinary and special cases. {form} Only the standard library "
        f"is there. {_whole(language, 'the whole test file')}"
    )


def held(language: Language) -> dict[str, object]:
    """The request's extra body that holds a weak model to one code block.

    A regular expression, as in `magicoder.oss_instruct.structured`.
    """
    return {"structured_outputs": {"regex": f"```{language.name}\\n[^`]{{10,1500}}\\n```"}}
