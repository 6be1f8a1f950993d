"""`magicoder data run`: a whole dataset as a recipe says."""

import click

from magicoder.cli import _shell
from magicoder.errors import require


@click.command()
@click.argument("recipe", shell_complete=_shell.data_recipes)
@click.option(
    "overrides", "--set", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe."
)
def run(recipe: str, overrides: tuple[str, ...]) -> None:
    """Make a dataset as RECIPE says: a YAML file, or a recipe that comes with Magicoder.

    Stopped or killed, the same command goes on: finished steps are kept, and no answer that
    arrived is asked for twice. A step is done anew when its part of the recipe or its input
    changed; delete seeds.jsonl to read the sources anew.

    \b
    magicoder serve                                        in another terminal: the teacher
    magicoder data run small --set output=mine
    magicoder data run small --set seeds.sources=[dir:src] --set seeds.licenses=any
    magicoder data run my-recipe.yaml --set teacher.in_flight=64

    \b
    Recipes that come with Magicoder:
      small           a hundred problems from PyPI and npm, with the embedded model
      packages        1,000 prompts from over 60 packages in all languages
      oss-instruct    the paper's: 80,000 seeds of starcoderdata, a strong teacher
    """
    require("yaml", "data")
    from rich.console import Console

    from magicoder.cli.data import _step
    from magicoder.training.data import factory

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    output = None
    for work in factory.works(factory.load(recipe, overrides)):
        output = work.output
        if work.kept:
            console.print(f"[dim]{work.name}: kept, {output}[/dim]")
            continue
        console.print(f"[bold]{work.name}[/bold]")
        with _step.progress() as watch:
            funnel = work.run(watch)
        if funnel:
            _step.table(funnel)
        console.print(f"  {output}")
    click.echo(output)
