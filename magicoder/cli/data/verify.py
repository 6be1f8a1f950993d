"""`magicoder data verify`: parse, compile and run solutions against tests, in a sandbox."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from magicoder.cli.data import _step
from magicoder.cli.data._teacher import opened, store_option, teacher_options

if TYPE_CHECKING:
    from magicoder.training.data.runner import Shard
    from magicoder.training.data.teacher import Teacher


@click.command()
@click.argument("source", metavar="SAMPLES", type=click.Path(dir_okay=False, path_type=Path))
@_step.output_option
@click.option(
    "--samples", type=int, help="Test sets of each sample, and attempts at it [default: 3]."
)
@click.option(
    "--sandbox",
    type=click.Choice(["bubblewrap", "none"]),
    help="none runs the teacher's code as you, with your files [default: bubblewrap].",
)
@click.option("--workers", type=int, help="Sandboxes at once [default: the cores].")
@click.option("--seconds", type=float, help="The longest that a command may run [default: 10].")
@click.option("--memory", type=int, help="MiB that a command may use [default: 1024].")
@click.option("--disk", type=int, help="MiB that a command may write [default: 256].")
@teacher_options
@store_option
@_step.shard_option
def verify(
    source: Path,
    output: Path,
    samples: int | None,
    sandbox: str | None,
    workers: int | None,
    seconds: float | None,
    memory: int | None,
    disk: int | None,
    teacher: "Teacher",
    store_path: Path | None,
    shard: "Shard | None",
) -> None:
    """Parse, compile and run the solutions of SAMPLES against tests that the teacher writes.

    SAMPLES is what generate or evolve wrote. The teacher sees the problem and what the solution
    defines, never how. Every sample stays, with its `verification`: how far it came (unparsed,
    parsed, compiled, passed), how many test sets it passed, how hard the problem is, and whether
    the tests notice a fault put into the solution. No verdict is come to twice.

    \b
    magicoder data verify generate.jsonl -o verify.jsonl
    magicoder data verify generate.jsonl -o verify.jsonl --samples 5 --temperature 0.7
    magicoder data verify generate.jsonl -o part.jsonl --shard 1/4
    """
    from magicoder.errors import require

    require("tree_sitter", "languages")
    from magicoder.training.data.verify import Verify, step

    config = _step.config(
        Verify,
        samples=samples,
        sandbox=sandbox,
        workers=workers,
        seconds=seconds,
        memory=memory,
        disk=disk,
    )
    with opened(store_path, output) as store:
        _step.run(step(config, source=source, teacher=teacher, store=store), output, shard)
