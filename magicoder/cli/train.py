"""`magicoder train`: finetune a model from a recipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from magicoder.cli import _shell
from magicoder.errors import require

if TYPE_CHECKING:
    from rich.console import Console

    from magicoder.training.finetune import Step


@click.command()
@click.argument("recipe", shell_complete=_shell.recipes)
@click.option(
    "overrides", "--set", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe."
)
def train(recipe: str, overrides: tuple[str, ...]) -> None:
    """Finetune a model as RECIPE says: a YAML file, or a recipe that comes with Magicoder.

    Stopped or killed, the same command goes on from its last checkpoint and ends with the same
    weights. The steps' figures stand in OUTPUT/metrics.jsonl.

    \b
    magicoder train smollm2-lora --set data=[dataset.jsonl]
    magicoder train smollm2-lora --set lora.rank=8 --set output=small
    magicoder train my-recipe.yaml
    magicoder serve smollm2-135m --adapter mine=smollm2-lora/adapter

    \b
    Recipes that come with Magicoder:
      smollm2-lora   LoRA on the embedded model, for two CPU cores
      magicoder-cl   the paper's Magicoder-CL, all weights, for a large GPU
    """
    require("yaml", "train")
    from magicoder.training.recipe import load

    chosen = load(recipe, overrides)
    for module in ("torch", "transformers", "peft"):
        require(module, "train")
    from rich.console import Console
    from transformers.utils import logging

    from magicoder.training import finetune

    logging.disable_progress_bar()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with shown(console) as watch:
        made = finetune.run(chosen, report=console.print, watch=watch)
    click.echo(made)
    if chosen.lora:
        console.print(f"serve it: magicoder serve {chosen.model} --adapter tuned={made}")
    else:
        console.print(f"serve it: magicoder serve {made}")


@contextmanager
def shown(console: "Console") -> "Iterator[Callable[[Step], None]]":
    """What shows each step: a bar on a terminal, a line a step elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
    )
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task("", total=None)
    seconds: list[float] = []

    def watch(step: "Step") -> None:
        seconds.append(step.seconds)
        left = sum(seconds) / len(seconds) * (step.steps - step.step)
        line = (
            f"loss {step.loss:.3f}  {step.tokens / step.seconds:.0f} tokens/s  "
            f"{timedelta(seconds=round(left))} left"
        )
        bar.update(task, completed=step.step, total=step.steps, description=line)
        if not console.is_terminal:
            console.print(f"step {step.step}/{step.steps}  {line}")

    with bar:
        yield watch
