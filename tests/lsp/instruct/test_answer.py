"""Code in the answers of models, which keep to no form."""

import pytest

from magicoder import languages
from magicoder.lsp.instruct import answer

PYTHON = languages.by_name("python")


@pytest.mark.parametrize(
    ("text", "code"),
    {
        "plain": ("```python\na = 1\n```", "a = 1\n"),
        "prose around": ("Sure!\n\n```py\na = 1\n```\nDone.", "a = 1\n"),
        "no word": ("```\na = 1\n```", "a = 1\n"),
        "tildes": ("~~~python\na = 1\n~~~", "a = 1\n"),
        "cut": ("```python\na = 1\nb = ", "a = 1\nb =\n"),
        "indented fence": ("1. So:\n   ```python\n   a = 1\n   ```", "   a = 1\n"),
        "longer fence": ("````python\n```\na\n```\n````", "```\na\n```\n"),
        "the longest": ("```python\na\n```\nor\n```python\nab\n```", "ab\n"),
        "own language first": ("```sh\npip install something\n```\n```python\na\n```", "a\n"),
        "another language": ("```sh\nls\n```", "ls\n"),
        "blank first": ("```python\n\n```\n```python\n\n\n a\n\n```", " a\n"),
        "windows": ("```python\r\na\r\n```\r\n", "a\r\n"),
        "a word behind": ('```python title="a.py"\na\n```', "a\n"),
        "not a fence": ("```python\nx = '```'\ny\n```", "x = '```'\ny\n"),
    }.values(),
)
def test_the_block_that_is_meant(text: str, code: str) -> None:
    assert answer.code(text, PYTHON).rstrip() == code.rstrip()


@pytest.mark.parametrize("text", ["", "I cannot.", "```python\n```", "Use `a = 1`.", "```\n\n```"])
def test_an_answer_without_code_is_told(text: str) -> None:
    with pytest.raises(answer.NoCodeError, match="without code"):
        answer.code(text, PYTHON)


def test_code_grows_by_whole_lines_until_its_end() -> None:
    text = "Sure:\n```python\na = 1\nb = 2\n```\nThat `is`\n```\nall\n```"
    seen = list(dict.fromkeys(answer.code_so_far(text[:end]) for end in range(len(text))))
    assert seen == ["", "a = 1\n", "a = 1\nb = 2\n"]
