"""OSS-Instruct: the prompt, and reading answers, whole or broken."""

import pytest

from magicoder import oss_instruct
from magicoder.oss_instruct import ParseError, Problem


def test_the_request_is_the_papers():
    system, user = oss_instruct.messages("int x = {0};")
    assert system["role"] == "system"
    assert user["role"] == "user"
    assert "```\nint x = {0};\n```" in user["content"]
    assert "[Problem Description]" in user["content"]


@pytest.mark.parametrize(
    "text",
    [
        "[Problem Description]\nAdd two.\n\n[Solution]\n#include <stdio.h>",
        "[Problem Description]: Add two.\n[Solution]: #include <stdio.h>",
        "**[Problem Description]**\n\nAdd two.\n\n**[Solution]**\n\n#include <stdio.h>\n",
        "## [Problem Description]\nAdd two.\n## [Solution]\n#include <stdio.h>",
        "1. [Problem Description]: Add two.\n\n2. [Solution]:\n#include <stdio.h>",
        "Sure!\n\n[PROBLEM DESCRIPTION]\nAdd two.\n[solution]\n#include <stdio.h>",
        "[Problem Description] Add two. [Solution]\n#include <stdio.h>",
    ],
)
def test_the_two_sections_are_read(text: str):
    expected = Problem(problem="Add two.", solution="#include <stdio.h>")
    assert oss_instruct.parse(text) == expected


def test_what_a_section_holds_is_kept():
    problem = "# Title\n* one\n* two\n\nOutput: 3"
    solution = "```python\n# a comment\nprint(3)\n```\n\n## Notes\n[Solution] is above."
    text = f"[Problem Description]\n{problem}\n\n[Solution]\n{solution}"
    assert oss_instruct.parse(text) == Problem(problem=problem, solution=solution)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "lacks"),
        ("I cannot do that.", "lacks"),
        ("[Problem Description]\nAdd two.", "lacks"),
        ("[Solution]\nx\n[Problem Description]\ny", "lacks"),
        ("[Problem Description]\n\n[Solution]\nx", "empty"),
        ("[Problem Description]\nx\n[Solution]\n \n", "empty"),
    ],
)
def test_what_is_not_a_problem_says_why(text: str, why: str):
    with pytest.raises(ParseError, match=why) as caught:
        oss_instruct.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("noise", ["#", "\n", " ", "*#", "[Problem Description]"])
@pytest.mark.timeout(20)  # a quadratic search would take minutes
def test_a_model_that_repeats_itself_does_not_stall_the_reader(noise: str):
    with pytest.raises(ParseError):
        oss_instruct.parse("[Problem Description]" + noise * 200_000)
