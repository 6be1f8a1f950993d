"""300 holes in recent packages in six languages, filled through the language server.

    python -m benchmarks.lsp.holes [--base-url URL] [--limit 300]

The set is made by the data factory's own stages, once, into build/holes.jsonl: the documents of
`SOURCES` (PyPI, and npm and Debian for what its wheels lack) under a permissive licence, written by
hand, no two alike, of which tree-sitter reads every line; from each, holes of four kinds are cut
(`KINDS`). Each line holds the document with its origin, version, path and licence, and the hole. No
stranger's code lies in this repository; the versions are pinned, so that the set can be made again.

A document is opened without what was cut, the editor asks at the hole, and what it is shown is
inserted. `valid` are the documents that then parse to the last line, as they did before anything
was cut; `no worse` those with no more errors than the document with the hole. `repeated` counts
answers that end in what already stands below or right of the cursor.
"""

import asyncio
import hashlib
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import ROOT, measure
from benchmarks.lsp import harness
from benchmarks.lsp.editor import Editor, editor
from magicoder import languages
from magicoder.training.data import hygiene, runner, seeds
from magicoder.training.data.extractors.syntax import NODES
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources import Wanted

if TYPE_CHECKING:
    from tree_sitter import Node

FILE = ROOT / "build" / "holes.jsonl"
SOURCES = (
    "pypi:bokeh==3.9.2",
    "pypi:django==5.2.19",
    "pypi:fastapi==0.165.0",
    "pypi:httpx==0.28.1",
    "pypi:mypy==2.4.1",
    "pypi:nbclassic==1.3.3",
    "pypi:numpy==2.4.6",
    "pypi:panel==1.9.4",
    "pypi:pyarrow==26.0.1",
    "pypi:pybind11==3.1.0",
    "pypi:pydantic==2.14.3",
    "pypi:rich==15.0.0",
    "pypi:sphinx==9.0.4",
    "pypi:textual==8.2.8",
    "pypi:trio==0.35.0",
    "debian:libcli11-dev",
    "debian:librust-clap-dev",
    "debian:librust-itertools-dev",
    "debian:librust-regex-dev",
)
LANGUAGES = ("python", "javascript", "typescript", "c", "cpp", "rust")
EACH = 50
OF_ONE = 3  # holes of one document, at most
SIZE = range(500, 20_000)  # characters of a document
KINDS = ("body", "statement", "expression", "line")
"""A function's whole body; one statement; a value, condition or argument list inside a line; the
rest of a line from a word on."""

_BLOCKS = {"block", "statement_block", "compound_statement", "statement_list"}
_FIELDS = {"right", "value", "condition", "arguments"}


class Hole(Document):
    """A document and what is cut out of it: text[start:end]."""

    kind: str
    start: int
    end: int


def build(path: Path = FILE, sources: Sequence[str] = SOURCES, each: int = EACH) -> None:
    """Make the set."""
    wanted = Wanted(LANGUAGES, dict.fromkeys(LANGUAGES, each), 976)
    stages: dict[str, runner.Stage] = {
        "documents": partial(seeds.documents, sources=tuple(sources), wanted=wanted),
        "licenses": partial(seeds.licensed, allowed=("permissive",)),
        "hygiene": hygiene.clean,
        "distinct": hygiene.distinct,
        "holes": partial(cut, wanted=wanted),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    runner.run(runner.Step(stages), path)


def cut(records: Iterator[Document], *, wanted: Wanted) -> Iterator[Hole | Rejected]:
    """Holes, as many as wanted, of each kind alike."""
    taken: Counter[tuple[str, str]] = Counter()
    for document in records:
        if not wanted.takes(document.language):
            continue
        found = candidates(document)
        if isinstance(found, str):
            yield Rejected(reason=found, record=hygiene.without_text(document))
            continue
        chance = random.Random(f"{document.origin}/{document.path}")  # noqa: S311
        kinds = sorted(
            (kind for kind in KINDS if found[kind]),
            key=lambda kind: (taken[document.language, kind], chance.random()),
        )
        for kind in kinds[:OF_ONE]:
            if wanted.takes(document.language):
                start, end = chance.choice(found[kind])
                wanted.took(document.language)
                taken[document.language, kind] += 1
                yield Hole(**document.model_dump(), kind=kind, start=start, end=end)
        if wanted.done:
            return


def candidates(document: Document) -> dict[str, list[tuple[int, int]]] | str:
    """What may be cut, by kind, in code points; or why nothing may."""
    text, language = document.text, languages.by_name(document.language)
    if len(text) not in SIZE:
        return "too short or too long"
    if language is None or "\r" in text or not text.isascii():
        return "not plain ASCII with line feeds"  # then bytes are code points
    root = languages.parser(language).parse(text.encode()).root_node
    if root.has_error:
        return "syntax errors"
    found: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}
    for node, name in _walk(root):
        if node.type in _BLOCKS and node.parent is not None:
            statements = [one for one in node.named_children if one.type != "comment"]
            if node.parent.type in NODES[language.name].functions and statements:
                found["body"].append((statements[0].start_byte, statements[-1].end_byte))
            found["statement"] += [(one.start_byte, one.end_byte) for one in statements]
        if name in _FIELDS and node.start_point[0] == node.end_point[0]:
            inside = node.type in ("arguments", "argument_list")
            span = node.start_byte + inside, node.end_byte - inside
            if span[1] - span[0] >= 3:
                found["expression"].append(span)
        if not node.child_count and node.is_named and "comment" not in node.type:
            end = text.find("\n", node.start_byte)
            head = text[text.rfind("\n", 0, node.start_byte) + 1 : node.start_byte]
            if head.strip() and end - node.start_byte >= 5 and "string" not in str(node.parent):
                found["line"].append((node.start_byte, end))
    for kind in ("body", "statement"):
        found[kind] = [span for span in found[kind] if _own_lines(text, *span)]
    return found if any(found.values()) else "nothing to cut"


def _walk(root: "Node") -> Iterator[tuple["Node", str | None]]:
    """Every node with the name of its field."""
    stack: list[tuple[Node, str | None]] = [(root, None)]
    while stack:
        node, name = stack.pop()
        yield node, name
        stack += [(child, node.field_name_for_child(i)) for i, child in enumerate(node.children)]


def _own_lines(text: str, start: int, end: int) -> bool:
    """Whether whole lines are cut, 20 at most, and something stands before them."""
    before = text[text.rfind("\n", 0, start) + 1 : start]
    after = text[end:].partition("\n")[0]
    return not before.strip() and not after.strip() and text.count("\n", start, end) < 20


@dataclass(frozen=True)
class Filled:
    """What was shown at one hole, in how many seconds, and what became of the document."""

    where: str
    language: str
    kind: str
    text: str
    seconds: float
    valid: bool
    no_worse: bool
    repeated: bool
    exact: bool


def check(hole: Hole, text: str, seconds: float) -> Filled:
    """The marks of what was shown at a hole."""
    language = languages.by_name(hole.language)
    assert language is not None  # noqa: S101
    before, after = hole.text[: hole.start], hole.text[hole.end :]
    errors = languages.syntax_errors(before + text + after, language)
    return Filled(
        where=f"{hole.origin}/{hole.path}:{before.count(chr(10)) + 1}",
        language=hole.language,
        kind=hole.kind,
        text=text,
        seconds=seconds,
        valid=errors == 0,
        no_worse=errors <= languages.syntax_errors(before + after, language),
        repeated=repeats(before, text, after),
        exact=text.strip() == hole.text[hole.start : hole.end].strip(),
    )


def repeats(before: str, text: str, after: str) -> bool:
    """Whether `text` ends in the rest of its line, or in the line that follows."""
    if not text.strip():
        return False
    rest, _, below = after.partition("\n")
    rest = rest.strip()
    if rest and text.rstrip().endswith(rest):
        line = before.rpartition("\n")[2] + text + rest
        opened = sum(line.count(char) for char in "([{")
        closed = sum(line.count(char) for char in ")]}")
        return any(map(str.isalnum, rest)) or closed > opened
    following = next((line.rstrip() for line in below.split("\n") if line.strip()), None)
    last = (before.rpartition("\n")[2] + text).rstrip().rpartition("\n")[2]
    return following is not None and last.rstrip() == following


async def fill(made: Editor, folder: Path, hole: Hole, number: int) -> Filled:
    """Ask at one hole."""
    path = folder / str(number) / Path(hole.path).name
    uri = path.as_uri()
    language = languages.by_name(hole.language)
    assert language is not None  # noqa: S101
    made.open(uri, hole.text[: hole.start] + hole.text[hole.end :], language.id or language.name)
    answer = await made.complete(uri, hole.start)
    made.close(uri)
    return check(hole, answer.text, answer.seconds)


async def measured(base_url: str, folder: Path, holes: Sequence[Hole]) -> list[Filled]:
    """One hole after the other, so that each has the server for itself."""
    root = folder / "workspace"
    root.mkdir()
    found = []
    async with editor(root, base_url, folder / "state") as made:
        made.open((root / "first.py").as_uri(), "print(\n", "python")
        await made.complete((root / "first.py").as_uri(), 6)  # what is loaded at first use
        with harness.progress() as bar:
            for number, hole in enumerate(bar.track(holes, description="holes")):
                found.append(await fill(made, root, hole, number))
    return found


def summary(found: Sequence[Filled]) -> dict[str, Any]:
    """The figures of some holes; validity is of those at which something was shown."""
    shown = [one for one in found if one.text]
    count = len(shown)
    return {
        "holes": len(found),
        "shown": harness.share(count, len(found)),
        "valid": harness.share(sum(one.valid for one in shown), count),
        "no worse": harness.share(sum(one.no_worse for one in shown), count),
        "repeated": sum(one.repeated for one in shown),
        "exact": sum(one.exact for one in shown),
        "median length": statistics.median(len(one.text) for one in shown) if shown else None,
        "ms": harness.milliseconds([one.seconds for one in shown]),
    }


def load(path: Path = FILE) -> list[Hole]:
    """The set, made where it is not there."""
    if not path.exists():
        build(path)
    return [Hole.model_validate_json(line) for line in path.read_text("utf-8").splitlines()]


def main(arguments: list[str] | None = None) -> int:
    parser = harness.arguments("holes", __doc__)
    parser.add_argument("--limit", type=int, default=0, help="holes, evenly spread; 0: all")
    told = parser.parse_args(arguments)
    holes = sorted(load(), key=lambda hole: (hole.language, hole.kind))
    chosen = harness.spread(holes, told.limit)
    with (
        tempfile.TemporaryDirectory() as name,
        harness.served(told.base_url, Path(name)) as base_url,
    ):
        info = asdict(harness.model(base_url))
        found = asyncio.run(measured(base_url, Path(name), chosen))
    rows = {"all": summary(found)}
    for key in ("language", "kind"):
        for value in dict.fromkeys(getattr(one, key) for one in found):
            rows[value] = summary([one for one in found if getattr(one, key) == value])
    harness.table(
        f"{len(chosen)} of {len(holes)} holes",
        [{"": name} | row | {"ms": row["ms"].get("p50")} for name, row in rows.items()],
    )
    everything = rows["all"]
    good = everything["repeated"] == 0 and everything["valid"].get("share", 0) >= 0.99
    record: dict[str, Any] = {
        "model": info,
        "set": {
            "sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
            "licences": dict(Counter(hole.license for hole in holes)),
            "origins": dict(Counter(f"{hole.origin} {hole.version}" for hole in holes)),
        },
        "figures": rows,
        "amiss": [asdict(one) for one in found if one.text and (one.repeated or not one.valid)],
        "good": good,
    }
    for one in record["amiss"]:
        harness.console.print(f"{one['where']} ({one['kind']}): {one['text']!r}", markup=False)
    print(measure.write("lsp-holes", record, measure.results()))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
