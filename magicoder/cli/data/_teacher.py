"""What the commands share that ask a teacher: its options, and the store of its answers."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from magicoder.cli.data import _step

if TYPE_CHECKING:
    from magicoder.training.data.store import Store

_OPTIONS = (
    click.option("--base-url", metavar="URL", help="The endpoint [default: the settings']."),
    click.option("--model", metavar="NAME", help="[default: the first that the endpoint lists]"),
    click.option(
        "--structured",
        type=click.Choice(["auto", "always", "never"]),
        help="Hold the teacher to a form by vLLM's structured output [default: where it is vLLM].",
    ),
    click.option("--temperature", type=float, help="[default: 0]"),
    click.option("--top-p", type=float),
    click.option("--max-tokens", type=int, help="The longest answer [default: 2500]."),
    click.option("--sampling-seed", type=int, help="The seed of each request [default: 976]."),
    click.option("--in-flight", type=int, help="The most requests at once [default: 16]."),
    click.option("--timeout", type=float, help="Seconds for one answer [default: 600]."),
    click.option("--retries", type=int, help="Further tries of a failed request [default: 5]."),
    click.option("--requests-per-minute", type=float, help="The endpoint's limit."),
    click.option("--tokens-per-minute", type=float, help="The endpoint's limit."),
    click.option("--price-in", type=float, help="Of a million tokens asked, for the account."),
    click.option("--price-out", type=float, help="Of a million tokens answered."),
)
_NAMES = [
    "model",
    "structured",
    "temperature",
    "top_p",
    "max_tokens",
    "in_flight",
    "timeout",
    "retries",
    "requests_per_minute",
    "tokens_per_minute",
    "price_in",
    "price_out",
]


def teacher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that describe a teacher; the command gets `teacher: Teacher`.

    The address, the model and the key default to the settings; the key has no option, since others
    could see it.
    """

    @wraps(command)
    def with_teacher(**values: Any) -> Any:
        from magicoder import settings
        from magicoder.training.data.teacher import Teacher

        own = {name: values.pop(name) for name in _NAMES}
        found = settings.load(base_url=values.pop("base_url"), model=own["model"])
        own |= {"model": found.model, "seed": values.pop("sampling_seed")}
        address = {"base_url": found.base_url, "api_key": found.api_key}
        return command(teacher=_step.config(Teacher, **address, **own), **values)

    for option in reversed(_OPTIONS):
        with_teacher = option(with_teacher)
    return with_teacher


store_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--store",
    "store_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where answers are kept [default: answers.sqlite beside the output].",
)


@contextmanager
def opened(store_path: Path | None, output: Path) -> "Iterator[Store]":
    """The store that was named, or the one beside `output`."""
    from magicoder.training.data.store import Store

    with closing(Store(store_path or output.with_name("answers.sqlite"))) as store:
        yield store
