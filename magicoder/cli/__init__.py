"""The `magicoder` command. Each command is a module of this package, imported when it is called."""

import os
import sys
from importlib import import_module
from typing import Any

import click

from magicoder import __version__
from magicoder.errors import MagicoderError

COMMANDS = {
    "serve": "Serve a model over the OpenAI API.",
    "models": "List, show and fetch the models of the catalogue.",
    "chat": "Talk to the served model.",
    "complete": "Complete code at a place in a file.",
    "problem": "Turn code into a programming problem with a solution.",
    "data": "Make a dataset out of source code: seeds, problems, tests, cleaning, report.",
    "train": "Finetune a model from a recipe.",
    "lsp": "Run the language server for an editor.",
    "demo": "Walk the whole loop in small: data, training, serving, completion.",
    "doctor": "Check what is installed and running, and how to mend it.",
}


class LazyGroup(click.Group):
    """Lists every command without importing it: help and completion stay instant.

    `lazy` maps a command's name to its line of help; the command lies in the module of that name
    in `package`.
    """

    def __init__(self, *args: Any, lazy: dict[str, str], package: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        command = getattr(import_module(f"{self.package}.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lazy.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(
                f"{error.message.rstrip('.')}: use one of {', '.join(self.lazy)}", ctx
            ) from None


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    package=__name__,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings: flags, then MAGICODER_* variables, then magicoder.toml, then defaults.",
)
@click.version_option(__version__)
def cli() -> None:
    """The open code assistant that is yours end to end.

    \b
    magicoder serve                        a model on http://127.0.0.1:8000/v1
    magicoder chat "Reverse a linked list in C"
    magicoder complete app.py:12:8         code for line 12, column 8
    magicoder problem app.py:10-30         a problem out of your code
    magicoder doctor                       what is missing, and how to mend it
    """


def main() -> None:
    """Run the command; an error that the user can mend is one line and an exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        hint = f" (see {where} --help)" if where else ""
        click.echo(f"error: {error.format_message()}{hint}", err=True)
        code = error.exit_code
    except MagicoderError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        code = 0
    sys.exit(code)
