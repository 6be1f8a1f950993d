"""`magicoder data seeds`: take seeds out of source code."""

from typing import TYPE_CHECKING

import click

from magicoder.cli.data._step import output_option, shard_option
from magicoder.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from magicoder.training.data.runner import Shard


def _names(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",")) if text else None


def _count(_: click.Context, __: click.Parameter, text: str | None) -> int | dict[str, int] | None:
    """Reads `1000`, or `python=500,rust=60`."""
    if not text:
        return None
    if text.isdecimal():
        return int(text)
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and number.strip().isdecimal() for name, _, number in pairs):
        raise UsageError(f"no count '{text}': write 1000, or python=500,rust=60")
    return {name.strip(): int(number) for name, _, number in pairs}


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@output_option
@click.option("--languages", callback=_names, metavar="A,B", help="Only these. [default: all]")
@click.option(
    "--extractor",
    metavar="NAME",
    help="paper: 1 to 15 lines; syntax: whole functions, methods, classes, calls. [default: paper]",
)
@click.option(
    "--licenses",
    callback=_names,
    metavar="A,B",
    help="SPDX identifiers, 'permissive' or 'any'. [default: permissive]",
)
@click.option("--count", callback=_count, metavar="N", help="How many, in all or per language.")
@click.option("--seed", type=int, metavar="N", help="Decides order and choice. [default: 976]")
@shard_option
def seeds(
    sources: tuple[str, ...],
    output: "Path",
    languages: tuple[str, ...] | None,
    extractor: str | None,
    licenses: tuple[str, ...] | None,
    count: int | dict[str, int] | None,
    seed: int | None,
    shard: "Shard | None",
) -> None:
    """Take seeds out of source code: one of each file, with its origin and license.

    SOURCE is dir:PATH, git:URL, pypi:NAME[==V], npm:NAME[@V], debian:PACKAGE[=V],
    hf:DATASET[:CONFIG] or jsonl:PATH. Packages are fetched once, with pip, npm and apt-get, and
    nothing of them is run. Generated, minified, vendored and repeated files are left out; keys,
    private hosts and e-mail addresses are taken out of the seeds.

    \b
    magicoder data seeds dir:src -o seeds.jsonl
    magicoder data seeds pypi:click npm:zod debian:librust-itoa-dev -o seeds.jsonl
    magicoder data seeds dir:. --languages python,rust --extractor syntax -o seeds.jsonl
    magicoder data seeds git:https://example.org/a.git --licenses MIT,Apache-2.0 -o seeds.jsonl
    magicoder data seeds pypi:rich npm:hono --count python=500,typescript=60 -o seeds.jsonl
    magicoder data seeds hf:bigcode/starcoderdata:python --licenses any --count 1000 -o seeds.jsonl
    """
    from magicoder.cli.data import _step
    from magicoder.training.data import seeds as made

    chosen = _step.config(
        made.Seeds,
        sources=sources,
        languages=languages,
        extractor=extractor,
        licenses=licenses,
        count=count,
        seed=seed,
    )
    _step.run(made.step(chosen), output, shard)
