"""What is sent: the code, what explains it, and never more than fits."""

import pytest

from magicoder import languages
from magicoder.errors import MagicoderError
from magicoder.lsp.instruct import prompts
from magicoder.lsp.instruct.prompts import Ask

PYTHON = languages.by_name("python")


def size(ask: Ask) -> int:
    return sum(len(message["content"].encode()) for message in ask.messages())


def test_a_task_about_code() -> None:
    system, user = Ask("Do it.", "a = 1", PYTHON, ["import b", "class A:"]).messages()
    assert (system["role"], user["role"]) == ("system", "user")
    assert user["content"] == (
        "Do it.\n\nIt stands below these lines:\n```python\nimport b\nclass A:\n```\n\n"
        "The code:\n```python\na = 1\n```"
    )


def test_the_fence_is_longer_than_any_in_the_code() -> None:
    [_, user] = Ask("Do it.", "```\n````", None).messages()
    assert "`````\n```\n````\n`````" in user["content"]


def test_the_surroundings_go_first_and_from_the_top() -> None:
    ask = Ask("Do it.", "é = 1", PYTHON, [f"import {name}" for name in "abcdefgh"])
    whole = size(ask)
    assert ask.within(whole) == ask
    assert ask.within(whole - 1).around == ask.around[1:]
    bare = size(Ask("Do it.", "é = 1", PYTHON))
    assert ask.within(bare).around == []
    with pytest.raises(MagicoderError, match="too much code for the model, by 1 bytes: select"):
        ask.within(bare - 1)


def test_tasks_name_what_they_want() -> None:
    assert "a JSDoc comment" in prompts.document(PYTHON, "a JSDoc comment")
    assert "- line 1: no\n- line 2: neither" in prompts.fix(
        PYTHON, ["line 1: no", "line 2: neither"]
    )
    assert "use a set" in prompts.refactor(PYTHON, "use a set")
    for task in (prompts.solve(PYTHON), prompts.tests(PYTHON, "So."), prompts.fix(PYTHON, ["x"])):
        assert "one ```python code block" in task
    assert "one code block" in prompts.solve(None)
