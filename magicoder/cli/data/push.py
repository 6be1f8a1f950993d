"""`magicoder data push`: write a dataset as Parquet."""

from pathlib import Path

import click

from magicoder.errors import require


@click.command()
@click.argument("dataset", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("to", metavar="hf:USER/NAME|FOLDER")
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The README.md to lay beside it; 'magicoder data report' makes one.",
)
@click.option("--private", is_flag=True, help="Make a new repository on the hub private.")
def push(dataset: Path, to: str, card: Path | None, private: bool) -> None:
    """Write DATASET as Parquet to a folder, or to the Hugging Face hub.

    What is there loads with datasets.load_dataset. A folder appears whole or not at all, and
    takes the place of an earlier push. The hub asks for a token: 'hf auth login' or HF_TOKEN.

    \b
    magicoder data push dataset.jsonl parquet
    magicoder data push dataset.jsonl hf:me/my-problems --card report/README.md
    magicoder data push dataset.jsonl hf:me/my-problems --private
    """
    require("yaml", "data")
    from rich.console import Console

    from magicoder.cli.data import _step
    from magicoder.training.data import push as pushing

    config = _step.config(pushing.Push, to=to, card=card, private=private)
    with Console(stderr=True).status("reading") as status:
        where = pushing.push(config, dataset, lambda rows: status.update(f"{rows:,} rows written"))
    click.echo(where)
