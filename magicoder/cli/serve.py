"""`magicoder serve`: a model over the OpenAI API."""

from pathlib import Path

import click

from magicoder.cli import _shell
from magicoder.errors import UsageError
from magicoder.models import DEFAULT


class _PassThrough(click.Command):
    """Keeps what stands behind `--` for vLLM; click would take its first word as the model."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        ctx.params["vllm_args"] = tuple(args[end + 1 :])
        return rest


@click.command(
    cls=_PassThrough, options_metavar="[OPTIONS]", epilog="docs/serving.md has the routes."
)
@click.argument("model", default=DEFAULT, shell_complete=_shell.models)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--adapter", "adapters", multiple=True, metavar="NAME=PATH", help="A LoRA adapter; repeatable."
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ask clients for the key in this file.",
)
@click.option("--compile", "compiled", is_flag=True, help="On a CPU: start slower, answer faster.")
@click.option("--dry-run", is_flag=True, help="Print vLLM's command line and stop.")
@click.option("--verbose", is_flag=True, help="Show vLLM's log too.")
@click.option(
    "--log", type=click.Path(path_type=Path), metavar="FILE", help="Where vLLM's log goes."
)
@click.pass_context
def serve(
    ctx: click.Context,
    model: str,
    host: str,
    port: int,
    adapters: tuple[str, ...],
    api_key_file: Path | None,
    compiled: bool,
    dry_run: bool,
    verbose: bool,
    log: Path | None,
    vllm_args: tuple[str, ...],
) -> None:
    """Serve MODEL over the OpenAI API with vLLM.

    MODEL is a name of the catalogue (magicoder models list), one of the Hugging Face hub (org/name)
    or a local folder. What stands behind -- goes to vLLM, and wins. Ctrl-C lets running requests
    finish; a second one stops at once.

    \b
    magicoder serve                                    the embedded model, on any machine
    magicoder serve qwen2.5-coder-1.5b --port 9000     another of the catalogue
    magicoder serve smollm2-135m --adapter mine=out/adapter
    magicoder serve ./my-model -- --max-model-len 4096 --max-num-seqs 8
    magicoder serve --host 0.0.0.0 --api-key-file key.txt
    magicoder serve --dry-run                          what would be run
    """
    from magicoder.server import launcher, supervisor

    display = supervisor.Display(verbose)
    try:
        plan = launcher.plan(
            model,
            host=host,
            port=port,
            adapters=_named(adapters),
            api_key_file=api_key_file,
            compiled=compiled,
            log=log,
            vllm_args=vllm_args,
            fetch=not dry_run,
            report=display.phase,
        )
    finally:
        display.stop()
    if dry_run:
        click.echo(plan.command)
        return
    ctx.exit(supervisor.run(plan, display))


def _named(adapters: tuple[str, ...]) -> dict[str, Path]:
    """NAME=PATH pairs as a mapping."""
    named: dict[str, Path] = {}
    for text in adapters:
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise UsageError(f"--adapter {text}: expected NAME=PATH")
        if name in named:
            raise UsageError(f"--adapter: two are named '{name}': rename one")
        named[name] = Path(path).expanduser()
    return named
