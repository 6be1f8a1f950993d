"""What the shell completes behind a command: names of models and recipes."""

import click


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The catalogue's models."""
    from magicoder.models import CATALOGUE

    return [name for name in CATALOGUE if name.startswith(incomplete.lower())]


def recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The recipes that come with Magicoder."""
    from magicoder.training import recipe

    return [name for name in recipe.names() if name.startswith(incomplete)]


def data_recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The recipes of datasets that come with Magicoder."""
    from magicoder.training import configuration

    return [name for name in configuration.names("recipes/data") if name.startswith(incomplete)]
