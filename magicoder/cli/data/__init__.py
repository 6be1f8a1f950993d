"""`magicoder data`: the data factory. Each command is a module of this package."""

import click

from magicoder.cli import LazyGroup

COMMANDS = {
    "run": "Make a dataset as a recipe says, from sources to card; goes on where it stopped.",
    "seeds": "Take seeds out of source code: folders, git, PyPI, npm, Debian, the hub.",
    "generate": "Ask a teacher for a problem and a solution inspired by each seed.",
    "evolve": "Make problems harder by Code Evol-Instruct.",
    "verify": "Parse, compile and run solutions against tests, in a sandbox.",
    "clean": "Remove duplicates and what comes from benchmarks.",
    "report": "Show what a dataset is worth: a page and a card.",
    "push": "Write a dataset as Parquet, to the hub or a folder.",
    "batch": "Ask through OpenAI Batch files.",
    "merge": "Put the shards of a step together.",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, package=__name__)
def data() -> None:
    """Make a dataset of problems and solutions out of source code (OSS-Instruct).

    \b
    magicoder data run recipe.yaml             everything that the recipe says
    magicoder data seeds pypi:click npm:express -o seeds.jsonl
    magicoder data generate seeds.jsonl -o problems.jsonl
    magicoder data verify problems.jsonl -o verified.jsonl
    magicoder data clean verified.jsonl -o dataset.jsonl
    magicoder data report dataset.jsonl -o report

    Every command writes what it left out, and why, beside its output: problems.rejects.jsonl and
    problems.funnel.json. Stopped or killed, run it again: no answer that arrived is asked for
    twice.
    """
