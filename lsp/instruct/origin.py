"""Where code comes from, and under which licence: what the data factory calls a seed."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from magicoder import licenses
from magicoder.errors import MagicoderError


def seed(path: Path, roots: Sequence[Path], code: str, line: int, language: str) -> dict[str, Any]:
    """A seed as `magicoder data` writes it; `line` from 1, `language` a name or empty.

    Its path is relative to the repository that the file is in, else to the nearest of `roots`. The
    origin tells nothing of this machine, and holds no key, as with `magicoder data seeds`.
    """
    repository = _git(path.parent, "rev-parse", "--show-toplevel")
    above = [root for root in roots if path.is_relative_to(root)]
    root = Path(repository) if repository else max(above, key=_depth, default=path.parent)
    version = _git(root, "rev-parse", "HEAD") if repository else ""
    return {
        "origin": _remote(root) if repository else f"dir:{root.name}",
        "version": version,
        "path": path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name,
        "language": language,
        "license": _license(path, root),
        "line": line,
        "kind": "lines",
        "code": code,
    }


def _depth(path: Path) -> int:
    return len(path.parts)


def _remote(root: Path) -> str:
    address = _git(root, "remote", "get-url", "origin")
    parts = urlsplit(address) if address.startswith("https://") else None
    if parts is not None and parts.hostname:
        where = parts.hostname + (f":{parts.port}" if parts.port else "")
        return f"git:https://{where}{parts.path.removesuffix('.git')}"
    name = address.rstrip("/").replace(":", "/").rpartition("/")[2].removesuffix(".git")
    return f"git:{name or root.name}"


def _license(path: Path, root: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            header = licenses.header(file.read(2000))
        return (
            licenses.nearest(root)(path.relative_to(root).as_posix()) if header is None else header
        )
    except (OSError, ValueError, MagicoderError):  # a file that is not there yet, or no extra
        return ""


def _git(folder: Path, *words: str) -> str:
    """What git prints; "" where there is no git or no repository. None of these runs hooks."""
    command = ("git", "-c", "core.fsmonitor=false", "-C", str(folder), *words)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
