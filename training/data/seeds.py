"""Seeds: runs of lines out of real source files (paper, section 2)."""

import hashlib
import os
import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from magicoder import languages
from magicoder.errors import UsageError
from magicoder.training.data.records import Document, Record, Rejected, Seed

MAX_LINES = 15
MAX_BYTES = 1_000_000  # a larger file is data or generated


def documents(
    _: Iterator[Record], *, folders: Sequence[Path], only: Collection[str], seed: int
) -> Iterator[Document | Rejected]:
    """The source files of `folders` in an order that `seed` alone decides.

    `only` holds names of `magicoder.languages`; empty takes every language that is known. Links,
    hidden folders and other people's code inside (node_modules) are passed over.
    """
    found = [(root, path) for root in folders for path in _files(root)]
    for root, path in sorted(found, key=lambda pair: _rank(seed, *pair)):
        language = languages.by_path(path)
        if language is None or (only and language.name not in only):
            continue
        name = path.relative_to(root).as_posix()
        document = Document(origin=f"dir:{root.name}", path=name, language=language.name, text="")
        if path.stat().st_size > MAX_BYTES:
            yield Rejected(reason="larger than 1 MB", record=document)
            continue
        try:
            yield document.model_copy(update={"text": path.read_text(encoding="utf-8")})
        except UnicodeDecodeError:
            yield Rejected(reason="not UTF-8", record=document)


def extract(records: Iterator[Document], *, seed: int, count: int) -> Iterator[Seed | Rejected]:
    """The paper's extractor: 1 to 15 consecutive lines at random, one seed a document.

    A document's seed depends on `seed` and the document alone. Ends after `count` seeds.
    """
    for document in records:
        lines = document.text.splitlines()
        rng = random.Random(f"{seed}:{document.origin}:{document.path}")  # noqa: S311
        length = min(rng.randint(1, MAX_LINES), len(lines))
        first = rng.randint(0, len(lines) - length)
        code = "\n".join(lines[first : first + length])
        origin = document.model_dump(include={"origin", "path", "language"})
        found = Seed(**origin, line=first + 1, code=code)
        if not code.strip():
            yield Rejected(reason="blank lines", record=found)
            continue
        yield found
        count -= 1
        if not count:
            return


def _files(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        raise UsageError(f"no folder {root}: give one that holds source code")
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".") and name != "node_modules"]
        yield from (path for name in names if not (path := Path(folder, name)).is_symlink())


def _rank(seed: int, root: Path, path: Path) -> str:
    key = f"{seed}:{root.name}:{path.relative_to(root).as_posix()}"
    return hashlib.sha256(key.encode()).hexdigest()
