"""`magicoder data batch`: the teacher's questions as OpenAI Batch files, and the answers back."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from magicoder.cli.data import _step, _teacher
from magicoder.errors import MagicoderError

if TYPE_CHECKING:
    from magicoder.training.data.teacher import Teacher

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def batch() -> None:
    """Ask the teacher by OpenAI Batch files, which 'vllm run-batch' understands too.

    \b
    magicoder data batch write seeds.jsonl -o requests.jsonl --model NAME --structured always
    vllm run-batch --model NAME -i requests.jsonl -o results.jsonl
    magicoder data batch read results.jsonl requests.jsonl --store answers.sqlite
    magicoder data generate seeds.jsonl -o generate.jsonl --model NAME --structured always
    """


@batch.command()
@click.argument("source", type=_FILE)
@_step.output_option
@click.option("--style", help="How samples are made [default: oss-instruct].")
@_teacher.teacher_options
@_teacher.store_option
def write(
    source: Path, output: Path, style: str | None, teacher: "Teacher", store_path: Path | None
) -> None:
    """Write the requests for the seeds in SOURCE whose answers the store lacks.

    \b
    magicoder data batch write seeds.jsonl -o requests.jsonl --model NAME --structured always
    magicoder data batch write seeds.jsonl -o requests.jsonl --model gpt-4.1-mini --structured never
    """
    from magicoder.training.data import batch
    from magicoder.training.data.generate import Generate

    config = _step.config(Generate, style=style)
    with _teacher.opened(store_path, output) as store:
        _step.run(batch.step(config, source=source, teacher=teacher, store=store), output)


@batch.command()
@click.argument("results", type=_FILE)
@click.argument("requests", type=_FILE)
@_teacher.store_option
def read(results: Path, requests: Path, store_path: Path | None) -> None:
    """Keep the answers in RESULTS to the requests in REQUESTS.

    \b
    magicoder data batch read results.jsonl requests.jsonl --store answers.sqlite
    """
    from magicoder.training.data import batch

    with _teacher.opened(store_path, requests) as store:
        counts = batch.read(results, requests, store)
    for what, count in counts.most_common():
        click.echo(f"{count:8} {what}")
    if not counts["kept"]:
        raise MagicoderError(f"{results} holds no answer to {requests}: give a batch's own results")
