"""What the commands that talk to a server share: options, files, and printing a stream."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from magicoder.errors import UsageError

if TYPE_CHECKING:
    from magicoder.client import TextStream

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def server_options(command: Command) -> Command:
    """--base-url and --model; a key comes from MAGICODER_API_KEY, never from a visible flag."""
    command = click.option("--model", metavar="NAME", help="A model or adapter that it serves.")(
        command
    )
    return click.option(
        "--base-url", metavar="URL", help="The server, by default http://127.0.0.1:8000/v1."
    )(command)


def sampling_options(max_tokens: int) -> Callable[[Command], Command]:
    """--max-tokens and --temperature."""

    def add(command: Command) -> Command:
        command = click.option(
            "--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True
        )(command)
        return click.option(
            "--max-tokens",
            type=click.IntRange(1),
            default=max_tokens,
            show_default=True,
            help="The longest answer.",
        )(command)

    return add


def read_source(path: str) -> list[str]:
    """The lines of a source file, line ends kept.

    Raises:
        UsageError: it is missing, a folder, not readable, or not UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(file)
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text: give a source file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def echo_stream(stream: "TextStream[T]") -> T:
    """Print the text as it arrives; Ctrl-C ends the generation, also on the server."""
    with stream:
        for delta in stream:
            click.echo(delta, nl=False)
        click.echo()
    return stream.result
