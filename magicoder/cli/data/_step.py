"""What the commands of `magicoder data` share: options, progress, the table at the end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from magicoder.errors import UsageError

if TYPE_CHECKING:
    from magicoder.training.data.runner import Funnel, Shard, Step, Watch

C = TypeVar("C", bound=BaseModel)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

output_option: Decorator = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="The JSONL file to write.",
)


def _shard(_: click.Context, __: click.Parameter, text: str | None) -> "Shard | None":
    from magicoder.training.data.runner import Shard

    return Shard.parse(text) if text else None


shard_option: Decorator = click.option(
    "--shard",
    callback=_shard,
    metavar="I/N",
    help="Do part I of N; 'magicoder data merge' puts the parts together.",
)


def config(kind: type[C], **values: Any) -> C:
    """A step's configuration out of a command's options; None stands for the default.

    Raises:
        UsageError: a value does not fit; names it.
    """
    try:
        return kind(**{key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        raise UsageError(says(error)) from None


def says(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    reason = first.get("ctx", {}).get("error", first["msg"])
    return f"'{where}': {reason}" if where else str(reason)


def run(step: "Step", output: Path, shard: "Shard | None" = None) -> "Funnel":
    """Run `step` with its progress shown, then its table; the output's path goes to stdout."""
    from magicoder.training.data import runner

    source = click.get_current_context().params.get("source")
    if isinstance(source, Path) and output.exists() and output.samefile(source):
        raise UsageError(f"{output} is the input too: name another output")
    with progress() as watch:
        funnel = runner.run(step, output, shard=shard, watch=watch)
    table(funnel)
    click.echo(output)
    return funnel


@contextmanager
def progress() -> "Iterator[Watch]":
    """What shows a running step: a line a stage; off a terminal, nothing."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: list[Any] = []
        shown_at = 0.0

        def watch(funnel: "Funnel") -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at < 0.1:
                return
            shown_at = time.monotonic()
            while len(tasks) < len(funnel.stages):
                tasks.append(shown.add_task(funnel.stages[len(tasks)].stage, total=None))
            for task, counts in zip(tasks, funnel.stages, strict=True):
                out = sum(counts.rejected.values())
                line = f"{counts.stage:24} {counts.count_out:8}" + (f"  -{out}" if out else "")
                shown.update(task, description=line)

        yield watch


def table(funnel: "Funnel") -> None:
    """Print the books of a step to stderr."""
    from rich.console import Console
    from rich.table import Table

    books = Table("stage", box=None)
    for column in ("in", "out", "seconds"):
        books.add_column(column, justify="right")
    books.add_column("left out, and why")
    for counts in funnel.stages:
        reasons = ", ".join(f"{n} {reason}" for reason, n in counts.rejected.most_common(4))
        seconds = f"{counts.seconds:.1f}"
        row = (counts.stage, str(counts.count_in), str(counts.count_out), seconds, reasons)
        books.add_row(*row)
    Console(stderr=True, highlight=False).print(books)
