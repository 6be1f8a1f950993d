"""`magicoder lsp`: run the language server for an editor, and see what it did."""

import logging
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import click

from magicoder.errors import UsageError, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from magicoder.lsp.completion.trace import Trace
    from magicoder.lsp.kept.stats import Row

LATEST = 20
KEY = re.compile(r"""(api_key\\?["']?\s*[:=]\s*\\?["'])[^"'\\]*""")


def _address(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, int] | None:
    """Reads HOST:PORT, :PORT or [IPv6]:PORT; this machine alone where no host is named."""
    if text is None:
        return None
    host, _colon, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise UsageError(f"no address '{text}': write HOST:PORT, or :2087 for this machine alone")
    return host.strip("[]") or "127.0.0.1", int(port)


@click.group(invoke_without_command=True)
@click.option(
    "--tcp",
    callback=_address,
    metavar="HOST:PORT",
    help="Wait there for an editor instead; :PORT lets in this machine alone. There is no "
    "password: name another host only where every program on that network may read your code.",
)
@click.option("--trace", is_flag=True, help="Show what the latest completions spent their time on.")
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, writable=True),
    help="Log every message there. It will hold your code. Default: warnings to standard error.",
)
@click.pass_context
def lsp(ctx: click.Context, tcp: tuple[str, int] | None, trace: bool, log_file: str | None) -> None:
    """Run the language server for an editor, over standard input and output.

    It completes code as you type with the model that `magicoder serve` serves, and has tools for
    selected code. Settings come from the editor's initializationOptions, then from MAGICODER_*
    variables and magicoder.toml. docs/editors.md lists them, with configurations of editors.

    \b
    magicoder serve                   # once, in a terminal
    magicoder lsp                     # what the editor runs
    magicoder lsp --tcp :2087         # for an editor that connects to a port
    magicoder lsp --trace             # where the time of each completion went
    magicoder lsp stats               # what was accepted, and how much of it stayed
    magicoder lsp --log-file lsp.log  # to see what they say to each other
    """
    if ctx.invoked_subcommand:
        if tcp or trace or log_file:
            raise UsageError(f"'magicoder lsp {ctx.invoked_subcommand}' takes no options before it")
        return
    require("pygls", "lsp")
    if trace:
        _show_traces()
        return
    if log_file:
        try:
            handler = logging.FileHandler(log_file, encoding="utf-8")
            os.chmod(log_file, 0o600)
        except OSError as error:
            raise UsageError(f"{log_file} cannot be written: {error.strerror}") from None
        handler.addFilter(_without_key)
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(handlers=[handler], level=logging.INFO, format=form)
    else:
        logging.basicConfig(level=logging.WARNING)
        # It warns of every request that ended before its cancellation arrived.
        logging.getLogger("pygls").setLevel(logging.ERROR)

    from magicoder.lsp.server import run

    if tcp is None and sys.stdin.isatty():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread will be blocked reading it
        click.echo(
            "magicoder lsp speaks LSP over standard input and output: an editor starts it, see "
            "docs/editors.md; Ctrl-C ends it",
            err=True,
        )
    sys.exit(run(tcp))


def _without_key(record: logging.LogRecord) -> bool:
    """Take the server's key, which an editor may send among its settings, out of a message."""
    record.msg, record.args = re.sub(KEY, r"\1...", record.getMessage()), None
    return True


@lsp.command()
@click.option("--json", "as_json", is_flag=True, help="Print the same figures as JSON.")
def stats(as_json: bool) -> None:
    """Show what became of the completions: shown, accepted, and how much of it stayed.

    Read: it stood for three quarters of a second, or was accepted. 30 s, 2 min and 10 min: of the
    accepted characters, the share that nobody had deleted or replaced by then. The log is off
    until the editor's setting keep_log is true, and stays on this machine. docs/kept.md has more.

    \b
    magicoder lsp stats
    magicoder lsp stats --json
    """
    require("pygls", "lsp")
    from magicoder.lsp.kept import records
    from magicoder.lsp.kept.stats import rows

    path = records.path()
    try:
        found, unreadable = records.read(path)
    except FileNotFoundError:
        found, unreadable = [], 0
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): make it readable") from None
    made = rows(found)
    if as_json:
        import json
        from dataclasses import asdict

        figures = {"path": str(path), "unreadable": unreadable, "rows": list(map(asdict, made))}
        click.echo(json.dumps(figures, indent=1))
        return
    if unreadable:
        click.echo(f"{unreadable} lines of {path} cannot be read and are left out", err=True)
    if made:
        _show_stats(made)
    else:
        click.echo("nothing was kept: set keep_log to true in your editor's settings of Magicoder")


def _show_stats(made: "Sequence[Row]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    heads = ("shown", "read", "whole", "part", "rate", "of read")
    for head in (*heads, "30 s", "2 min", "10 min", "s p50/p95"):
        table.add_column(head, justify="right", no_wrap=True)
    last = made[0].by
    for row in made:
        if row.by != last:
            table.add_section()
            table.add_row(f"[dim]by {row.by}[/dim]")
            last = row.by
        counts = map(str, (row.shown, row.read, row.whole, row.part))
        shares = (row.accepted, row.accepted_of_read, *row.survival.values())
        times = "/".join(f"{(row.latency_ms[name] or 0) / 1000:.2f}" for name in ("p50", "p95"))
        table.add_row(row.name, *counts, *map(_percent, shares), times)
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def _show_traces() -> None:
    from rich.console import Console

    from magicoder.lsp.completion import trace

    kept = list(trace.read())
    if not kept:
        click.echo(f"no completions yet: {trace.path()} is written while you type")
        return
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(_latest(kept[-LATEST:]))
    console.print()
    console.print(_stages(kept))


def _latest(kept: "Sequence[Trace]") -> "Table":
    """A line for each completion, with the milliseconds of its stages that took any."""
    from datetime import datetime

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("time", "language", "asked", "outcome"):
        table.add_column(head)
    for head in ("ms", "cached"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("of these, in ms")
    for trace in kept:
        when = datetime.fromtimestamp(trace.time).strftime("%H:%M:%S")
        stages = (
            trace.stages if trace.server_ms is None else trace.stages | {"model": trace.server_ms}
        )
        slow = ", ".join(f"{name} {_ms(took)}" for name, took in stages.items() if took >= 0.05)
        known = trace.prompt_tokens is not None and trace.cached_tokens is not None
        cached = f"{trace.cached_tokens}/{trace.prompt_tokens}" if known else "-"
        about = (when, trace.language, trace.trigger, trace.outcome)
        table.add_row(*about, _ms(trace.total_ms), cached, slow)
    return table


def _stages(kept: "Sequence[Trace]") -> "Table":
    """A line for each stage, with the percentiles of all completions."""
    from rich.table import Table

    from magicoder.lsp.kept.stats import percentile

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{len(kept)} completions")
    for head in ("took", "p50 ms", "p95 ms"):
        table.add_column(head, justify="right")
    stages = dict.fromkeys(stage for trace in kept for stage in trace.stages)
    took = {stage: [t.stages[stage] for t in kept if stage in t.stages] for stage in stages}
    took["first token"] = [t.first_ms for t in kept if t.first_ms is not None]
    took["model"] = [t.server_ms for t in kept if t.server_ms is not None]
    took["all"] = [t.total_ms for t in kept]
    for name, values in took.items():
        figures = (_ms(percentile(values, at)) for at in (0.5, 0.95))
        table.add_row(name, str(len(values)), *figures)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
