"""`dir:PATH`: a folder of this machine."""

from collections.abc import Iterator
from pathlib import Path

from magicoder import licenses
from magicoder.errors import UsageError
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources import tree
from magicoder.training.data.sources.base import Wanted


def documents(name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The folder's source files; its name alone is told, not where it lies."""
    root = Path(name).expanduser().absolute()
    if not root.is_dir():
        raise UsageError(f"no folder {name}: give one that holds source code")
    origin, license_of = f"dir:{root.name}", licenses.nearest(root)
    return tree.documents(root, wanted, origin=origin, version="", license_of=license_of)
