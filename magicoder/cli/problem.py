"""`magicoder problem`: turn code into a programming problem with a solution."""

import re

import click

from magicoder.cli._client import echo_stream, read_source, sampling_options, server_options
from magicoder.errors import UsageError


@click.command()
@click.argument("selection", metavar="FILE[:START-END]")
@sampling_options(max_tokens=1024)
@server_options
def problem(
    selection: str, max_tokens: int, temperature: float, base_url: str | None, model: str | None
) -> None:
    """Turn code into a programming problem with a solution (OSS-Instruct).

    The problem is inspired by the code, in Markdown, and streams to standard output. START and
    END are lines, counted from 1; both belong to the selection.

    \b
    magicoder problem app.py
    magicoder problem app.py:10-30 > problem.md
    """
    path, code = select(selection)

    from magicoder import languages
    from magicoder.client import Magicoder

    language = languages.by_path(path)
    with Magicoder(base_url=base_url, model=model) as client:
        stream = client.problem_from_code(
            code,
            language=language.name if language else None,
            stream=True,
            max_tokens=max_tokens,
            temperature=temperature,
        )
        echo_stream(stream)


def select(selection: str) -> tuple[str, str]:
    """The path, and the code of the whole file or of its lines START to END.

    Raises:
        UsageError: the lines are not in the file, or hold no code.
    """
    match = re.fullmatch(r"(.+):(\d+)-(\d+)", selection)
    path = match[1] if match else selection
    lines = read_source(path)
    if match:
        start, end = int(match[2]), int(match[3])
        if not 1 <= start <= end <= len(lines):
            raise UsageError(f"{path} has lines 1 to {len(lines)}: give START-END within them")
        lines = lines[start - 1 : end]
    code = "".join(lines)
    if not code.strip():
        raise UsageError(f"{selection} holds no code")
    return path, code
