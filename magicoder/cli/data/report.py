"""`magicoder data report`: what a dataset is worth, as a page and a card."""

from pathlib import Path

import click

from magicoder.errors import require

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("dataset", type=_FILE)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="FOLDER",
    help="The folder to write index.html, README.md and report.json into.",
)
@click.option("--name", help="The dataset's name, for titles; by default the file's.")
@click.option(
    "funnel",
    "--funnel",
    type=_FILE,
    multiple=True,
    help="The *.funnel.json of a step; repeat it in order.  [default: those beside DATASET]",
)
@click.option(
    "--embedding",
    help="The model that compares meanings, or none [default: MAGICODER_EMBEDDING].",
)
@click.option(
    "--benchmarks",
    metavar="hub|FOLDER|none",
    help="Where they are [default: MAGICODER_BENCHMARKS, or hub].",
)
@click.option(
    "--against", multiple=True, metavar="NAME", help="A benchmark to compare with; repeat it."
)
@click.option("--sample", type=int, help="How many samples to embed and compare.  [default: 2000]")
def report(
    dataset: Path,
    output: Path,
    name: str | None,
    funnel: tuple[Path, ...],
    embedding: str | None,
    benchmarks: str | None,
    against: tuple[str, ...],
    sample: int | None,
) -> None:
    """Show what DATASET is worth: a page, a card for the hub, and every figure as JSON.

    The page stands alone: it loads nothing. The same dataset gives the same bytes.

    \b
    magicoder data report dataset.jsonl -o report
    magicoder data report dataset.jsonl -o report --funnel a.funnel.json --funnel b.funnel.json
    magicoder data report dataset.jsonl -o report --embedding models/minilm --benchmarks benchmarks
    magicoder data report dataset.jsonl -o report --embedding none --benchmarks none
    """
    require("yaml", "data")
    from rich.console import Console

    from magicoder.cli.data import _step
    from magicoder.training.data import report as reporting
    from magicoder.training.data.report import funnels

    config = _step.config(
        reporting.Report,
        name=name or dataset.stem,
        embedding=embedding,
        benchmarks=benchmarks,
        against=against or None,
        sample=sample,
    )
    with Console(stderr=True).status("reading") as status:
        reporting.write(
            config,
            dataset,
            funnel or funnels.beside(dataset),
            output,
            lambda doing, count: status.update(f"{doing}: {count:,} samples"),
        )
    click.echo(output)
