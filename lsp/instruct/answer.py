"""The code in a model's answer, whole or still arriving."""

import re
from collections.abc import Iterator

from magicoder import languages
from magicoder.errors import MagicoderError
from magicoder.languages import Language

_OPEN = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^`]*")


class NoCodeError(MagicoderError):
    """The answer holds no code block."""

    def __init__(self) -> None:
        super().__init__("the model answered without code: ask again, or serve a larger model")


def code(answer: str, language: Language | None) -> str:
    """The longest block in the language or in none, else the longest; ends with a line break.

    A block that the token limit cut goes to the end.

    Raises:
        NoCodeError: there is no block, or nothing in it.
    """
    found = [(name, text) for name, text in blocks(answer) if text.strip()]
    own = [text for name, text in found if not name or languages.by_name(name) == language]
    longest = max(own or [text for _, text in found], key=len, default="")
    if not longest:
        raise NoCodeError
    return longest.strip("\n") + "\n"


def code_so_far(answer: str) -> str:
    """The whole lines of the first block while it arrives."""
    text = next((text for _, text in blocks(answer[: answer.rfind("\n") + 1])), "")
    return text.lstrip("\n")


def blocks(answer: str) -> Iterator[tuple[str, str]]:
    """The word after each fence, and the text in it; the last may still be open."""
    fence, name, inside = "", "", ""
    for line in answer.splitlines(keepends=True):
        bare = line.strip()
        if not fence:
            if opening := _OPEN.fullmatch(line.rstrip("\r\n")):
                fence, name, inside = opening[1], opening[2], ""
        elif bare and not bare.strip(fence[0]) and len(bare) >= len(fence):
            yield name, inside
            fence = ""
        else:
            inside += line
    if fence:
        yield name, inside
