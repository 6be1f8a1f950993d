"""The code blocks of Markdown."""

import re

from magicoder import languages
from magicoder.languages import Language

_BLOCK = re.compile(r"^```([\w+#-]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_blocks(markdown: str, default_language: str) -> list[tuple[Language, str]]:
    """The fenced blocks in languages we know, in order; a bare fence is `default_language`'s."""
    found = [
        (languages.by_name(name or default_language), code)
        for name, code in _BLOCK.findall(markdown)
    ]
    return [(language, code) for language, code in found if language is not None]
