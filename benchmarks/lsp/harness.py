"""What the four commands share: the server, quantiles, shares with their confidence, tables."""

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from magicoder.client import Magicoder, ModelInfo
from magicoder.models import DEFAULT
from magicoder.server.process import Server

console = Console(width=None if sys.stdout.isatty() else 160)


def arguments(name: str, what: str | None) -> argparse.ArgumentParser:
    """A parser with what every command takes."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.lsp.{name}",
        description=what,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base-url", help="a running server; otherwise the embedded model's")
    return parser


@contextmanager
def served(base_url: str | None, folder: Path) -> Iterator[str]:
    """The address of a server: `base_url`, or one of the embedded model that ends with this."""
    if base_url:
        yield base_url
        return
    with Server(DEFAULT, log=folder / "serve.log", report=console.print) as server:
        yield server.base_url


def model(base_url: str) -> ModelInfo:
    """What the server says of the model that will be asked."""
    with Magicoder(base_url=base_url) as client:
        return client.model_info()


def progress() -> Progress:
    """A bar that counts; on no terminal it stays silent."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Their quantiles and how many there are; nothing but the count where there are none."""
    found: dict[str, float] = {"count": len(seconds)}
    if seconds:
        ordered = sorted(seconds)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
            rank = max(0, math.ceil(share * len(ordered)) - 1)
            found[name] = round(ordered[rank] * 1e3, 3)
    return found


def share(successes: int, count: int) -> dict[str, float]:
    """A share and its 95% interval (Wilson's)."""
    if not count:
        return {"count": 0}
    z, p = 1.96, successes / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return {
        "count": count,
        "share": round(p, 4),
        "low": round(max(0.0, middle - half), 4),
        "high": round(min(1.0, middle + half), 4),
    }


def sign_test(better: int, worse: int) -> float:
    """How likely chance alone makes pairs differ so unevenly (McNemar's exact test, two-sided)."""
    count = better + worse
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1))
    return min(1.0, tail / 2.0 ** (count - 1))


def spread(items: Sequence[Any], limit: int) -> list[Any]:
    """`limit` of the items, evenly spread over all; 0 takes all."""
    if not limit or limit >= len(items):
        return list(items)
    return [items[number * len(items) // limit] for number in range(limit)]


def benchmarks(name: str) -> Path:
    """The folder of a benchmark's published files.

    Raises:
        SystemExit: MAGICODER_BENCHMARKS does not lead to it.
    """
    folder = Path(os.environ.get("MAGICODER_BENCHMARKS", "")) / name
    if not os.environ.get("MAGICODER_BENCHMARKS") or not folder.is_dir():
        raise SystemExit(f"set MAGICODER_BENCHMARKS to a folder that holds {name}/")
    return folder


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for number, key in enumerate(rows[0]):
        shown.add_column(key, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        shown.add_row(*(_cell(value) for value in row.values()))
    console.print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict) and "share" in value:
        return f"{value['share']:.1%} ({value['low']:.1%} to {value['high']:.1%})"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return str(value)
