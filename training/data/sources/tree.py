"""The source files of a folder on disk, whichever way it came there."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from magicoder import languages
from magicoder.training.data import licenses
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources.base import Wanted

MAX_BYTES = 1_000_000  # a larger file is data or generated
_HEADER = re.compile(r"SPDX-License-Identifier:[ \t]*([\w.+\- \t()]+)")
_HEAD = 2000  # characters of a file in which a licence header is looked for
_LICENSE_FILE = re.compile(r"(LICEN[CS]E|COPYING|UNLICENSE)([-_.].*)?", re.IGNORECASE)


def documents(
    root: Path, wanted: Wanted, *, origin: str, version: str, license_of: Callable[[str], str]
) -> Iterator[Document | Rejected]:
    """The source files below `root` in an order that `origin` and the seed decide.

    `license_of` tells a path's SPDX expression; an SPDX header in the file wins over it. Links and
    hidden folders are passed over.
    """

    def rank(path: str) -> bytes:
        return hashlib.sha256(f"{wanted.seed}:{origin}:{path}".encode()).digest()

    for path in sorted(_files(root), key=rank):
        language = languages.by_path(path)
        if language is None or not wanted.takes(language.name):
            continue
        document = Document(
            origin=origin, version=version, path=path, language=language.name, text=""
        )
        if (root / path).stat().st_size > MAX_BYTES:
            yield Rejected(reason="larger than 1 MB", record=document)
            continue
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            yield Rejected(reason="not UTF-8", record=document)
            continue
        header = _HEADER.search(text[:_HEAD])
        found = licenses.normalise(header[1]) if header else license_of(path)
        yield document.model_copy(update={"text": text, "license": found})


def nearest_license(root: Path) -> Callable[[str], str]:
    """Tells a path's licence by the licence files of its folder, or of the nearest one above."""
    known: dict[Path, str] = {}

    def of(folder: Path) -> str:
        if folder not in known:
            names = sorted(
                path
                for path in folder.iterdir()
                if _LICENSE_FILE.fullmatch(path.name) and path.is_file() and not path.is_symlink()
            )
            if names:
                known[folder] = licenses.either(licenses.recognise(path) for path in names)
            else:
                known[folder] = of(folder.parent) if folder != root else ""
        return known[folder]

    return lambda path: of((root / path).parent)


def _files(root: Path) -> Iterator[str]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(root).as_posix()
