"""`magicoder lsp`: run the language server for an editor."""

import logging
import sys

import click

from magicoder.errors import require


@click.command()
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, writable=True),
    help="Log every message there. It will hold your code. Default: warnings to standard error.",
)
def lsp(log_file: str | None) -> None:
    """Run the language server for an editor, over standard input and output.

    It completes code as you type with the model that `magicoder serve` serves, and turns selected
    code into a programming problem (code action "Create a problem from this code"). Settings come
    from the editor's initializationOptions (base_url, api_key, model, timeout, max_tokens), then
    from MAGICODER_* variables and magicoder.toml. docs/editors.md has configurations.

    \b
    magicoder serve                   # once, in a terminal
    magicoder lsp                     # what the editor runs
    magicoder lsp --log-file lsp.log  # to see what they say to each other
    """
    require("pygls", "lsp")
    if log_file:
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(filename=log_file, level=logging.INFO, format=form)
    else:
        logging.basicConfig(level=logging.WARNING)
        # It warns of every request that ended before its cancellation arrived.
        logging.getLogger("pygls").setLevel(logging.ERROR)

    from magicoder.lsp.server import run

    sys.exit(run())
