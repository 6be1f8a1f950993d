"""`magicoder complete`: complete code at a place in a file."""

import re

import click

from magicoder.cli._client import echo_stream, read_source, sampling_options, server_options
from magicoder.errors import UsageError

# A token of source code is seldom shorter than two characters on average.
CHARACTERS_PER_TOKEN = 2


@click.command()
@click.argument("place", metavar="FILE:LINE:COL", required=False)
@click.option("--prefix", metavar="TEXT", help="The code before the cursor, instead of a file.")
@click.option("--suffix", metavar="TEXT", help="The code after the cursor.")
@sampling_options(max_tokens=128)
@server_options
def complete(
    place: str | None,
    prefix: str | None,
    suffix: str | None,
    max_tokens: int,
    temperature: float,
    base_url: str | None,
    model: str | None,
) -> None:
    """Complete code at a place in a file, or between --prefix and --suffix.

    LINE and COL count from 1 as editors show them. The completion alone goes to standard output.
    A model that cannot infill continues the code before the cursor.

    \b
    magicoder complete app.py:12:8
    magicoder complete --prefix 'def add(a, b):' --suffix 'print(add(1, 2))'
    """
    if (place is None) == (prefix is None):
        raise click.UsageError("give either FILE:LINE:COL or --prefix")
    if place is not None:
        if suffix is not None:
            raise click.UsageError("--suffix goes with --prefix, not with a file")
        prefix, suffix = split(place)
    assert prefix is not None  # noqa: S101

    from magicoder.client import Magicoder

    with Magicoder(base_url=base_url, model=model) as client:
        info = client.model_info()
        if info.fim is not None:
            stream = client.infill(
                prefix, suffix or "", stream=True, max_tokens=max_tokens, temperature=temperature
            )
        else:
            if suffix:
                click.echo(f"{info.id} cannot infill: continuing the code before it", err=True)
            if info.context is not None:
                room = max(1, info.context - max_tokens) * CHARACTERS_PER_TOKEN
                prefix = prefix[-room:]
            stream = client.complete(
                prefix, stream=True, max_tokens=max_tokens, temperature=temperature
            )
        echo_stream(stream)


def split(place: str) -> tuple[str, str]:
    """The code before and after FILE:LINE:COL, both counted from 1.

    Raises:
        UsageError: the place is not of that form, or not in the file.
    """
    match = re.fullmatch(r"(.+):(\d+):(\d+)", place)
    if match is None:
        raise UsageError(f"'{place}' is not a place: write FILE:LINE:COL, as in app.py:12:8")
    path, line, column = match[1], int(match[2]), int(match[3])
    lines = read_source(path)
    if not lines or lines[-1].endswith(("\n", "\r")):
        lines.append("")  # the empty line that editors show after the last line end
    if not 1 <= line <= len(lines):
        raise UsageError(f"{path} has lines 1 to {len(lines)}, not {line}")
    text = lines[line - 1]
    width = len(text.rstrip("\r\n"))
    if not 1 <= column <= width + 1:
        raise UsageError(f"{path}:{line} has columns 1 to {width + 1}, not {column}")
    before, after = text[: column - 1], text[column - 1 :]
    return "".join(lines[: line - 1]) + before, after + "".join(lines[line:])
