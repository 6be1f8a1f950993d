"""`magicoder data clean`: leave out what is poor, double, or in a benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from magicoder.cli.data._step import output_option, shard_option
from magicoder.errors import require

if TYPE_CHECKING:
    from magicoder.training.data.runner import Shard


@click.command()
@click.argument("source", metavar="SAMPLES", type=click.Path(dir_okay=False, path_type=Path))
@output_option
@click.option(
    "--benchmarks",
    metavar="hub|FOLDER|none",
    help="Where they are [default: MAGICODER_BENCHMARKS, or hub].",
)
@click.option("--name", "names", multiple=True, help="A benchmark; repeatable; default all.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="JSON lines with tasks of your own; repeatable.",
)
@click.option(
    "--embedding",
    metavar="NAME|none",
    help="The model that compares meanings [default: MAGICODER_EMBEDDING, or all-MiniLM-L6-v2].",
)
@click.option("--near-duplicates", type=float, metavar="0-1", help="How similar; default 0.7.")
@shard_option
def clean(
    source: Path,
    output: Path,
    benchmarks: str | None,
    names: tuple[str, ...],
    against: tuple[Path, ...],
    embedding: str | None,
    near_duplicates: float | None,
    shard: "Shard | None",
) -> None:
    """Leave out of SAMPLES what is poor, double, or in a benchmark.

    Poor: no sound code, an echo of the prompt, a copy of the seed. Double: an earlier sample is the
    same or nearly. In a benchmark: to the letter, in part, nearly, or in other words; HumanEval(+),
    MBPP(+), MultiPL-E, DS-1000, GSM8K, APPS, HumanEval-Infilling and files of your own. The
    rejects.jsonl beside the output names the task, or the sample that stays.

    \b
    magicoder data clean verify.jsonl -o dataset.jsonl
    magicoder data clean verify.jsonl -o dataset.jsonl --benchmarks ~/benchmarks --embedding none
    magicoder data clean verify.jsonl -o dataset.jsonl --against my-exam.jsonl
    magicoder data clean verify.jsonl -o dataset.1.jsonl --shard 1/8
    """
    for module in ("ahocorasick_rs", "numpy", "rensa", "scipy"):
        require(module, "data")
    from magicoder.cli.data import _step
    from magicoder.training.data.clean import Clean, step

    config = _step.config(
        Clean,
        benchmarks=benchmarks,
        names=names,
        against=against,
        near_duplicates=near_duplicates,
        embedding=embedding,
    )
    _step.run(step(config, source=source), output, shard)
