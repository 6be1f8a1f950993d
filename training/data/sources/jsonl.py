"""`jsonl:PATH`: documents that someone prepared, one JSON object a line."""

from collections.abc import Iterator
from pathlib import Path

from magicoder.training.data import runner
from magicoder.training.data.records import Document
from magicoder.training.data.sources.base import Wanted


def documents(name: str, wanted: Wanted) -> Iterator[Document]:
    """The documents in the order of the file, which is streamed."""
    for document in runner.read(iter(()), path=Path(name).expanduser(), type=Document):
        if wanted.takes(document.language):
            yield document
