"""`magicoder data generate`: samples out of seeds."""

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
@click.option("--style", help="How samples are made [default: oss-instruct].")
@_teacher.teacher_options
@_teacher.store_option
@_step.shard_option
def generate(
    source: Path,
    output: Path,
    style: str | None,
    teacher: "Teacher",
    store_path: Path | None,
    shard: "Shard | None",
) -> None:
    """Make samples of SOURCE: seeds, or instructions that others wrote.

    Every answer is kept: run again after a kill, and none that arrived is asked for twice. With a
    higher --max-tokens only those that were cut are asked for again.

    \b
    magicoder serve                                    in another terminal: the teacher
    magicoder data generate seeds.jsonl -o generate.jsonl
    magicoder data generate seeds.jsonl -o generate.jsonl --style code-to-problem
    MAGICODER_API_KEY=... magicoder data generate seeds.jsonl -o generate.jsonl \\
        --base-url https://example.com/v1 --model large --in-flight 64
    magicoder data generate code_alpaca_20k.json -o generate.jsonl --style self-instruct

    \b
    Styles:
      oss-instruct      a problem and its solution, by the paper's prompt
      code-to-problem   with tests that the teacher writes along
      self-instruct     no teacher: rows of Code Alpaca, evol-codealpaca or OSS-Instruct
      comment-function  no teacher: each function's comment and code (the paper's ablation)
    """
    from magicoder.training.data import generate

    config = _step.config(generate.Generate, style=style)
    with _teacher.opened(store_path, output) as store:
        step = generate.step(config, source=source, teacher=teacher, store=store)
        _step.run(step, output, shard)
