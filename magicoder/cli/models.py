"""`magicoder models`: what the catalogue holds, and fetching it."""

import click

from magicoder import models as catalogue
from magicoder.cli import _shell
from magicoder.errors import MagicoderError


@click.group()
def models() -> None:
    """List, show and fetch the models of the catalogue.

    A NAME is one of the catalogue, a model on the Hugging Face hub (org/name), or a local folder.

    \b
    magicoder models list                        every model that has a short name
    magicoder models list | grep Apache          plain, tab-separated when it is not a terminal
    magicoder models show qwen2.5-coder-1.5b     licence, context, fill in the middle ...
    magicoder models pull smollm2-135m           fetch the weights; a stopped run continues
    du -sh $(magicoder models path smollm2-135m) the folder of fetched weights, for scripts
    """


@models.command("list")
def list_() -> None:
    """List the catalogue: name, parameters, context, FIM, chat, licence, whether it is here."""
    from rich.console import Console
    from rich.table import Table

    rows = [
        (
            model.name,
            model.size,
            str(model.context),
            model.fim or "-",
            "chat" if model.chat else "-",
            model.licence,
            "here" if catalogue.located(model.name) else "-",
        )
        for model in catalogue.CATALOGUE.values()
    ]
    console = Console()
    if not console.is_terminal:
        click.echo("\n".join("\t".join(row) for row in rows))
        return
    table = Table("name", "parameters", "context", "FIM", "chat", "licence", "here", box=None)
    for row in rows:
        table.add_row(*row, style="bold" if row[-1] == "here" else None)
    console.print(table)


@models.command()
@click.argument("name", shell_complete=_shell.models)
def show(name: str) -> None:
    """Show what is known of one model.

    \b
    magicoder models show magicoder-s-ds-6.7b
    """
    folder = catalogue.located(name)
    model = catalogue.find(name)
    facts = {"name": name}
    if model is not None:
        facts = {
            "name": model.name,
            "source": model.source,
            "base": model.base or "trained from scratch",
            "licence": model.licence,
            "parameters": f"{model.size}, {model.parameters * 2 / 1e9:.1f} GB in bfloat16",
            "context": f"{model.context} tokens",
            "fill in the middle": model.fim or "no",
            "chat": "yes" if model.chat else "no: a base model, it continues text",
            "chat template": model.chat_template or "its own",
            "served with": " ".join(model.serve_args) or "nothing special",
        }
        if not model.chat:
            del facts["chat template"]
    facts["here"] = str(folder) if folder else f"no: magicoder models pull {name}"
    width = max(map(len, facts))
    click.echo("\n".join(f"{key:{width}}  {value}" for key, value in facts.items()))


@models.command()
@click.argument("name", shell_complete=_shell.models)
def pull(name: str) -> None:
    """Fetch a model's weights, or check and mend those that are here.

    \b
    magicoder models pull smollm2-135m
    magicoder models pull Qwen/Qwen2.5-Coder-0.5B
    """
    click.echo(catalogue.pull(name, lambda line: click.echo(line, err=True)))


@models.command()
@click.argument("name", shell_complete=_shell.models)
def path(name: str) -> None:
    """Print the folder of a fetched model, and nothing else.

    \b
    ls $(magicoder models path smollm2-135m)
    """
    folder = catalogue.located(name)
    if folder is None:
        raise MagicoderError(f"{name} is not here: magicoder models pull {name}")
    click.echo(folder)
