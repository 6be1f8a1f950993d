"""`magicoder data merge`: the shards of a step become one file."""

from pathlib import Path

import click

from magicoder.cli.data._step import output_option


@click.command()
@click.argument(
    "parts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@output_option
def merge(parts: tuple[Path, ...], output: Path) -> None:
    """Put the PARTS that `--shard i/n` made together: the same bytes as one run gives.

    \b
    magicoder data generate seeds.jsonl --shard 1/2 -o part-1.jsonl     on one machine
    magicoder data generate seeds.jsonl --shard 2/2 -o part-2.jsonl     on another
    magicoder data merge part-1.jsonl part-2.jsonl -o problems.jsonl
    """
    from magicoder.cli.data import _step
    from magicoder.training.data import runner

    _step.table(runner.merge(parts, output))
    click.echo(output)
