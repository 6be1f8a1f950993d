"""Fetches packages with their ordinary clients into the cache, and unpacks them safely.

No stranger's code is run: no build backend, no install script, no hook.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from filelock import FileLock
from pydantic import BaseModel

from magicoder import settings
from magicoder.training.data.sources.base import UnavailableError

MAX_UNPACKED = 1_000_000_000  # bytes
TIMEOUT = 600  # seconds a client may take
_BROKEN = (  # what a package that is none raises
    *(OSError, EOFError, ValueError, LookupError, StopIteration),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
_ERROR = re.compile(r"error|fatal|^E:", re.IGNORECASE)
_SAID = "package.json"  # beside tree/, which holds what was unpacked


class Package(BaseModel):
    """What was fetched: `version` as resolved, `license` as an SPDX expression or empty."""

    version: str
    license: str = ""


def cached(kind: str, name: str, fetch: Callable[[Path], Package]) -> tuple[Path, Package]:
    """The folder that `fetch(folder)` filled, and what it said; fetched once.

    The key is the name with its version, as the user wrote it: without a version, the first
    fetch decides, until the folder is removed. It appears whole or not at all.

    Raises:
        UnavailableError: it cannot be fetched.
    """
    slug = re.sub(r"[^\w.=@+-]", "_", name)[:80]
    key = f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    folder = settings.cache_dir() / "sources" / kind / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{key}.lock")):
        if not folder.is_dir():
            part = folder.with_name(f".{key}.part")
            shutil.rmtree(part, ignore_errors=True)  # of a fetch that was killed
            part.mkdir()
            try:
                package = fetch(part)
            except _BROKEN as error:
                why = str(error) or type(error).__name__
                raise UnavailableError(f"{kind}:{name} cannot be unpacked: {why}") from None
            (part / _SAID).write_text(package.model_dump_json())
            os.replace(part, folder)
    return folder, Package.model_validate_json((folder / _SAID).read_text())


def run(command: Sequence[str], folder: Path, what: str) -> str:
    """The standard output of a client, run in `folder`.

    Raises:
        UnavailableError: the client is missing, fails or takes too long; names `what` was wanted.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"},
        )
    except FileNotFoundError:
        raise UnavailableError(f"{what} needs the program '{command[0]}': install it") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what} did not arrive within {TIMEOUT} s: try again") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if _ERROR.search(line)] or lines[-1:]
        why = "; ".join(told[:2]) or f"exit code {done.returncode}"
        raise UnavailableError(f"{what} cannot be fetched: {why[:300]}")
    return done.stdout


def untar(archive: IO[bytes], folder: Path) -> None:
    """Unpack the regular files of a tar stream, of any compression; links are left out.

    Raises:
        UnavailableError: it is larger than `MAX_UNPACKED`.
        tarfile.TarError: it is broken, or wants to write outside `folder`.
    """
    size = 0
    with tarfile.open(fileobj=archive, mode="r|*") as tar:
        for member in tar:
            if member.isreg():
                size = _bounded(size + member.size)
                tar.extract(member, folder, filter="data")


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip file; `zipfile` itself keeps every path inside `folder`.

    Raises:
        UnavailableError: it is larger than `MAX_UNPACKED`.
        zipfile.BadZipFile: it is broken.
    """
    with zipfile.ZipFile(archive) as zipped:
        _bounded(sum(member.file_size for member in zipped.infolist()))
        zipped.extractall(folder)  # noqa: S202


def _bounded(size: int) -> int:
    if size > MAX_UNPACKED:
        raise UnavailableError(f"a package unpacks to more than {MAX_UNPACKED} bytes: leave it out")
    return size
