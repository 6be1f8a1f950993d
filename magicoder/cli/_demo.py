"""The stages of `magicoder demo`. Each keeps its result in the folder; a rerun skips it."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from magicoder import models
from magicoder.client import Magicoder
from magicoder.errors import MagicoderError, missing_extra, require

if TYPE_CHECKING:
    from magicoder.server.process import Server

ADAPTER = "demo"
# Open-source code that every installation has: two of our own dependencies, BSD and MIT.
PACKAGES = ("click", "rich")
PROMPT = "Write a Python function that reverses the words of a sentence."
SEEDS = 48
FILE = '''def fibonacci(n):
    """Return the first n Fibonacci numbers."""
    numbers = [0, 1]
    |
    return numbers[:n]
'''

Counts = tuple[int, int, str]
"""Records in, records out, and what was done."""


class Walk:
    """One run of the demo in the folder `out`."""

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.console = Console(highlight=False)
        self.kept: dict[str, Any] = {"stages": []}
        self.opened = ExitStack()
        self._served: tuple[dict[str, Path], Server] | None = None
        self.adapter = self.out / "training" / "adapter"

    def run(self) -> None:
        """Every stage that is not kept yet, then the page and the closing table."""
        for module in ("peft", "pygls", "rensa"):
            if find_spec(module) is None:
                raise missing_extra(module, "data,train,lsp")
        require("vllm", "serve-cpu")
        self._open()
        stages: list[tuple[str, Callable[[], Counts]]] = [
            ("data", self.data),
            ("train", self.train),
            ("serve", self.chat),
            ("complete", self.complete),
        ]
        with self.opened:
            for number, (name, stage) in enumerate(stages, 1):
                self._run(f"{number}/{len(stages)}", name, stage)
        self.page()
        self.table()

    # --- the stages ---

    def data(self) -> Counts:
        """Seeds from real packages, problems from the teacher, filters."""
        from magicoder.training.data import factory
        from magicoder.training.data.runner import Funnel, funnel_of

        data = self.out / "data"
        recipe = factory.Recipe.model_validate(
            {
                "output": data,
                "seeds": {
                    "sources": [f"dir:{path}" for name in PACKAGES for path in locations(name)],
                    "languages": ["python"],
                    "licenses": ["any"],
                    "count": SEEDS,
                },
                "teacher": {
                    "base_url": self.server().base_url,
                    "model": models.DEFAULT,
                    "temperature": 0.7,
                    "max_tokens": 400,
                },
                "verify": None,
                "clean": {"benchmarks": None},
                "report": None,
            }
        )
        left: Counter[str] = Counter()
        books = []
        with self.progress("asking the teacher", SEEDS) as advance:

            def watch(funnel: Funnel) -> None:
                advance(funnel.stages[-1].count_in)

            for work in factory.works(recipe):
                work.run(watch if work.name == "generate" else lambda _: None)
                books.append(funnel_of(Path(work.output)))
                left += sum((counts.rejected for counts in books[-1].stages), start=Counter())
        if not books[-1].stages[-1].count_out:
            raise MagicoderError(f"no problem was left: look into {data}, and run it again")
        self.kept["rejects"] = dict(left)
        what = f"snippets of {' and '.join(PACKAGES)} became problems with solutions"
        return books[0].stages[-1].count_out, books[-1].stages[-1].count_out, what

    def train(self) -> Counts:
        """LoRA on the dataset, in packed sequences."""
        from transformers.utils import logging

        from magicoder.cli.train import shown
        from magicoder.training import finetune, recipe

        logging.disable_progress_bar()
        self._stop()  # both cores for training
        samples = rows(self.out / "data" / "dataset.jsonl")
        overrides = [f"data={json.dumps([str(self.out / 'data' / 'dataset.jsonl')])}"]
        overrides.append(f"output={json.dumps(str(self.out / 'training'))}")
        chosen = recipe.load("smollm2-lora", overrides)
        with shown(self.console) as watch:
            finetune.run(
                chosen,
                lambda line: self.console.print(f"  {line}", style="dim"),
                watch,
            )
        losses = [row["loss"] for row in rows(self.out / "training" / "metrics.jsonl")]
        epoch = len(losses) // chosen.epochs  # one step's loss depends on its documents
        first, last = mean(losses[:epoch]), mean(losses[-epoch:])
        self.kept |= {"losses": losses, "first": first, "last": last}
        what = f"{len(losses)} steps of LoRA, loss by epoch {first:.2f} to {last:.2f}"
        return len(samples), len(losses), what

    def chat(self) -> Counts:
        """Ask the model and the adapter the same question."""
        turns = []
        for model in (models.DEFAULT, ADAPTER):
            with Magicoder(base_url=self.server().base_url, model=model) as client:
                answer = client.chat(PROMPT, max_tokens=200)
            turns.append({"model": model, "prompt": PROMPT, "answer": answer.text})
        self.kept["transcript"] = turns
        return 1, len(turns), f"{models.DEFAULT} and the adapter answered the same question"

    def complete(self) -> Counts:
        """Ask a real language server, as an editor does, with the adapter behind it."""
        before, after = FILE.split("|")
        text = asyncio.run(ask_language_server(before, after, self.server().base_url))
        self.kept["completion"] = {
            "file": "fibonacci.py",
            "before": before,
            "after": after,
            "text": text,
        }
        return 1, int(bool(text)), "the language server offered a completion from the adapter"

    # --- the machinery ---

    def server(self) -> "Server":
        """The running server: the one with the adapter, once there is an adapter."""
        from magicoder.server.process import Server

        adapters = {ADAPTER: self.adapter} if self.adapter.is_dir() else {}
        if self._served is None or self._served[0] != adapters:
            self._stop()
            with self.console.status("starting the server") as status:
                server = Server(
                    models.DEFAULT,
                    adapters=adapters,
                    log=self.out / "server.log",
                    report=lambda line: status.update(f"starting the server: {line}"),
                )
                self._served = adapters, self.opened.enter_context(server)
        return self._served[1]

    def _stop(self) -> None:
        self.opened.close()
        self._served = None

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar that shows how many are done; off a terminal, its last state alone."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(what, total=total)

            yield lambda done: bar.update(task, completed=done)

    def _open(self) -> None:
        """Read what an earlier run kept."""
        state = self.out / "demo.json"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            if state.is_file():
                self.kept = json.loads(state.read_text())
        except OSError as error:
            raise MagicoderError(
                f"{self.out}: {error.strerror}: choose another with --out"
            ) from None

    def _run(self, place: str, name: str, stage: Callable[[], Counts]) -> None:
        if any(kept["name"] == name for kept in self.kept["stages"]):
            self.console.print(f"[dim]{place} {name}: kept from an earlier run of {self.out}[/dim]")
            return
        self.console.print(f"[bold]{place} {name}[/bold]")
        start = time.monotonic()
        count_in, count_out, what = stage()
        self.kept["stages"].append(
            {
                "name": name,
                "count_in": count_in,
                "count_out": count_out,
                "seconds": round(time.monotonic() - start, 1),
                "what": what,
            }
        )
        write(self.out / "demo.json", json.dumps(self.kept, indent=1))

    def page(self) -> None:
        """index.html: the table, the curve, the conversation, the completion, the dataset."""
        jinja2 = require("jinja2", "train")
        template = files("magicoder").joinpath("templates/demo.html.jinja").read_text()
        html = jinja2.Environment(autoescape=True).from_string(template)
        text = html.render(
            **self.kept,
            samples=rows(self.out / "data" / "dataset.jsonl"),
            curve=curve(self.kept["losses"]),
            model=models.DEFAULT,
            adapter=ADAPTER,
        )
        write(self.out / "index.html", text)
        turns = [
            f"# {turn['model']}\n\n> {turn['prompt']}\n\n{turn['answer']}\n"
            for turn in self.kept["transcript"]
        ]
        found = self.kept["completion"]
        code = f"{found['before']}{found['text']}{found['after']}"
        turns.append(f"# {ADAPTER}, in {found['file']}\n\n```python\n{code}```\n")
        write(self.out / "transcript.md", "\n".join(turns))

    def table(self) -> None:
        table = Table("stage", title="The loop in small", title_justify="left")
        for column in ("in", "out", "seconds"):
            table.add_column(column, justify="right")
        table.add_column("what")
        for kept in self.kept["stages"]:
            row = (kept["name"], kept["count_in"], kept["count_out"], kept["seconds"], kept["what"])
            table.add_row(*map(str, row))
        self.console.print(table)
        self.console.print(f"Dataset, adapter and transcript are in {self.out}", soft_wrap=True)
        self.console.print(f"Look at {self.out / 'index.html'}", soft_wrap=True)


def curve(losses: list[float]) -> dict[str, Any]:
    """The loss as points of the page's plot, which is 586 by 180 with its origin at (44, 190)."""
    low, high = min(losses), max(losses)
    across, up = 586 / max(1, len(losses) - 1), 180 / max(1e-9, high - low)
    points = (f"{44 + i * across:.1f},{190 - (y - low) * up:.1f}" for i, y in enumerate(losses))
    return {"points": " ".join(points), "low": low, "high": high, "steps": len(losses)}


def locations(package: str) -> list[str]:
    """The folders of an installed package."""
    spec = find_spec(package)
    return list(spec.submodule_search_locations or []) if spec else []


async def ask_language_server(before: str, after: str, base_url: str) -> str:
    """Start `magicoder lsp` as an editor does, and ask for a completion between the two texts."""
    from lsprotocol import types
    from pygls.lsp.client import LanguageClient

    client = LanguageClient("magicoder-demo", "1")
    await client.start_io(sys.executable, "-m", "magicoder", "lsp")
    try:
        await client.initialize_async(
            types.InitializeParams(
                capabilities=types.ClientCapabilities(),
                process_id=os.getpid(),
                initialization_options={"base_url": base_url, "model": ADAPTER},
            )
        )
        client.initialized(types.InitializedParams())
        document = types.TextDocumentItem("file:///fibonacci.py", "python", 1, before + after)
        client.text_document_did_open(types.DidOpenTextDocumentParams(document))
        lines = before.split("\n")
        answer = await client.text_document_inline_completion_async(
            types.InlineCompletionParams(
                context=types.InlineCompletionContext(types.InlineCompletionTriggerKind.Invoked),
                text_document=types.TextDocumentIdentifier(document.uri),
                position=types.Position(len(lines) - 1, len(lines[-1])),
            )
        )
        await client.shutdown_async(None)
        client.exit(None)
    finally:
        await client.stop()  # type: ignore[no-untyped-call]
    items = answer.items if isinstance(answer, types.InlineCompletionList) else answer or []
    return str(items[0].insert_text) if items else ""


def rows(path: Path) -> list[dict[str, Any]]:
    """What a JSONL file holds."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    os.replace(fresh, path)
