"""Turns code that stayed into documents for `magicoder data`, with the user's second consent."""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from magicoder import licenses, redact
from magicoder.errors import MagicoderError
from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.documents import Document
from magicoder.lsp.kept import records

MAX_LINES = 40
"""More is no inspiration but a file; the bound of `magicoder data seeds --extractor syntax`."""


def path() -> Path:
    """The file of seeds, for `magicoder data seeds jsonl:PATH`."""
    return user_data_path("magicoder") / "seeds.jsonl"


class Seeds:
    """Appends to the file of seeds, in a thread; `roots` are the folders of the workspace."""

    def __init__(
        self, roots: Sequence[Path], exclusions: Exclusions, file: Path | None = None
    ) -> None:
        self._roots, self._exclusions = roots, exclusions
        self._file = file or path()
        self._thread = ThreadPoolExecutor(1, "magicoder-seeds")

    def take(self, document: Document, start: int, end: int, *, whole: bool) -> None:
        """Keep the whole lines around [start, end) of the document as it now is.

        `whole`: all that was accepted stands there unchanged. Only of languages that `magicoder
        data` knows, and of files that may leave the machine by now; a file that cannot be written
        is a warning.
        """
        text = document.source
        start = text.rfind("\n", 0, start) + 1
        end = text.find("\n", end - 1) + 1 or len(text)
        code = text[start:end].replace("\r\n", "\n")
        if document.language is None or not code.strip() or code.count("\n") > MAX_LINES:
            return
        file = Path(document.path)
        if self._exclusions.reason(file, text):
            return
        root = next((root for root in self._roots if file.is_relative_to(root)), file.parent)
        row = {
            "origin": f"dir:{root.name}",
            "path": file.relative_to(root).as_posix(),
            "language": document.language.name,
            "license": "",
            "fate": "kept" if whole else "rewritten",
            "text": code,
        }
        self._thread.submit(self._write, row, root, text)

    def close(self) -> None:
        """Wait until all is written."""
        self._thread.shutdown()

    def _write(self, row: dict[str, Any], root: Path, text: str) -> None:
        try:
            header = licenses.header(text)
            row["license"] = licenses.nearest(root)(row["path"]) if header is None else header
            row["text"], _ = redact.clean(row["text"])
            records.append(self._file, [json.dumps(row, ensure_ascii=False)])
        except (OSError, MagicoderError) as error:
            logging.getLogger(__name__).warning("no seed was kept in %s: %s", self._file, error)
