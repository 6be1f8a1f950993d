"""`magicoder data evolve`: harder problems out of problems."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from magicoder.cli.data import _step, _teacher

if TYPE_CHECKING:
    from magicoder.training.data.runner import Shard
    from magicoder.training.data.teacher import Teacher


@click.command()
@click.argument("source", type=click.Path(dir_okay=False, path_type=Path))
@_step.output_option
@click.option("--rounds", type=int, help="How often [default: 1].")
@click.option("--heuristic", "heuristics", multiple=True, help="Take this one [default: all].")
@click.option("--seed", type=int, help="Decides which sample gets which one [default: 976].")
@_teacher.teacher_options
@_teacher.store_option
@_step.shard_option
def evolve(
    source: Path,
    output: Path,
    rounds: int | None,
    heuristics: tuple[str, ...],
    seed: int | None,
    teacher: "Teacher",
    store_path: Path | None,
    shard: "Shard | None",
) -> None:
    """Evolve the samples of SOURCE (Code Evol-Instruct): each is followed by a harder one.

    A round evolves what the round before it made. Two questions each: the problem, its solution.

    \b
    magicoder data evolve generate.jsonl -o evolve.jsonl
    magicoder data evolve generate.jsonl -o evolve.jsonl --rounds 3
    magicoder data evolve generate.jsonl -o evolve.jsonl --heuristic complexity

    \b
    Heuristics:
      constraints  more requirements
      rarer        a common requirement becomes a rare one
      reasoning    more steps of reasoning
      misleading   a piece of wrong code that leads astray
      complexity   less time or memory
    """
    from magicoder.training.data import evolve

    config = _step.config(evolve.Evolve, rounds=rounds, heuristics=heuristics or None, seed=seed)
    with _teacher.opened(store_path, output) as store:
        step = evolve.step(config, source=source, teacher=teacher, store=store)
        _step.run(step, output, shard)
