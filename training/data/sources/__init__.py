"""Where source code comes from. A new source is one file here and one line in `SOURCES`."""

from magicoder.training.data.sources import debian, folder, git, hub, jsonl, npm, pypi
from magicoder.training.data.sources.base import Source, UnavailableError, Wanted

SOURCES: dict[str, Source] = {
    "dir": folder.documents,
    "git": git.documents,
    "pypi": pypi.documents,
    "npm": npm.documents,
    "debian": debian.documents,
    "hf": hub.documents,
    "jsonl": jsonl.documents,
}

__all__ = ["SOURCES", "Source", "UnavailableError", "Wanted"]
