"""`debian:PACKAGE[=VERSION]`: a binary package, as librust-*-dev, golang-*-dev, php-*, *-dev."""

import re
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import translate
from pathlib import Path

from magicoder import licenses
from magicoder.errors import UsageError, require
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources import fetch, tree
from magicoder.training.data.sources.base import Wanted

_NAME = re.compile(r"([a-z0-9][a-z0-9.+-]*)(=[\w.+:~-]+)?")


def documents(name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The source files in the package, each with the licence of its copyright paragraph."""
    if not (match := _NAME.fullmatch(name)):
        raise UsageError(f"no package 'debian:{name}': write debian:NAME or debian:NAME=VERSION")

    def download(folder: Path) -> fetch.Package:
        what = f"debian:{name}"
        fetch.run(("apt-get", "download", "--quiet", name), folder, what)
        archive = next(folder.glob("*.deb"))
        version = fetch.run(("dpkg-deb", "--field", str(archive), "Version"), folder, what)
        command = ("dpkg-deb", "--fsys-tarfile", str(archive))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked:
            assert unpacked.stdout  # noqa: S101
            fetch.untar(unpacked.stdout, folder / "tree")
        archive.unlink()
        return fetch.Package(version=version.strip())

    folder, package = fetch.cached("debian", name, download)
    root = folder / "tree"
    return tree.documents(
        root,
        wanted,
        origin=f"debian:{match[1]}",
        version=package.version,
        license_of=_copyright(root / "usr/share/doc" / match[1] / "copyright"),
    )


def _copyright(file: Path) -> Callable[[str], str]:
    """Tells an installed path's licence; nothing where the file is missing or not for machines.

    Its paths are those of the source package, so that a pattern may match from any folder on; the
    last paragraph that matches wins, as in Debian's format, and any before the one for `*`.
    """
    machine = require("debian.copyright", "data")
    try:
        with file.open(encoding="utf-8") as lines:
            paragraphs = list(machine.Copyright(lines, strict=False).all_files_paragraphs())
    except (OSError, ValueError, machine.Error):
        return lambda path: ""
    rules = [
        (_matcher(pattern), licenses.normalise(each.license.synopsis if each.license else ""))
        for each in paragraphs
        for pattern in each.files
    ]

    def told_for(path: str) -> str:
        found = ""
        for matches, told in rules:
            if matches is None:
                found = found or told
            elif matches.match(f"/{path}"):
                found = told
        return found

    return told_for


def _matcher(pattern: str) -> "re.Pattern[str] | None":
    """Matches the pattern, also without its first folders as long as two parts are left; None: all.

    Two parts still say something; one, such as `README.md`, would match anywhere.
    """
    if pattern == "*":
        return None
    parts = pattern.split("/")
    tails = ("/".join(parts[start:]) for start in range(max(1, len(parts) - 1)))
    return re.compile("|".join(translate(f"*/{tail}") for tail in tails))
