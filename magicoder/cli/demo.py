"""`magicoder demo`: the whole loop in small, on the embedded model."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("magicoder-demo"),
    show_default=True,
    help="The folder for the dataset, the adapter, the transcript and the page.",
)
def demo(out: Path) -> None:
    """Walk the whole loop in small: data, training, serving, completion.

    Real code becomes problems (the embedded model is the teacher), the model is finetuned on them
    in packed sequences, the adapter is served, and a language server completes code with it.
    Takes under 15 minutes on two cores. Interrupted, the same command goes on where it was.

    \b
    magicoder demo
    magicoder demo --out /tmp/loop
    """
    from magicoder.cli._demo import Walk

    Walk(out).run()
