"""The source files of a folder on disk, whichever way it came there."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from magicoder import languages, licenses
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources.base import Wanted

MAX_BYTES = 1_000_000  # a larger file is data or generated


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
        header = licenses.header(text)
        found = license_of(path) if header is None else header
        yield document.model_copy(update={"text": text, "license": found})


def _files(root: Path) -> Iterator[str]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(root).as_posix()
