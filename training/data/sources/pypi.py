"""`pypi:NAME[==VERSION]`: the wheel of a package.

Wheels only: for an sdist pip runs its build backend, that is, a stranger's code, even to download.
"""

import re
import sys
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

from magicoder import licenses
from magicoder.errors import UsageError
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources import fetch, tree
from magicoder.training.data.sources.base import Wanted

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*)(==[\w.!+*-]+)?")


def documents(name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The source files in the wheel."""
    if not (match := _NAME.fullmatch(name)):
        raise UsageError(f"no package 'pypi:{name}': write pypi:NAME or pypi:NAME==VERSION")

    def download(folder: Path) -> fetch.Package:
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:")
        command = (sys.executable, "-m", "pip", "download", *options, "--", name)
        fetch.run(command, folder, f"pypi:{name}")
        wheel = next(folder.glob("*.whl"))
        fetch.unzip(wheel, folder / "tree")
        wheel.unlink()
        info = next((folder / "tree").glob("*.dist-info"))
        metadata = Parser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
        return fetch.Package(version=str(metadata["Version"]), license=_license(metadata, info))

    folder, package = fetch.cached("pypi", name, download)
    return tree.documents(
        folder / "tree",
        wanted,
        origin=f"pypi:{match[1]}",
        version=package.version,
        license_of=lambda path: package.license,
    )


def _license(metadata: Message, info: Path) -> str:
    """What the metadata say in so many words, else its licence files, else its classifiers."""
    for field in ("License-Expression", "License"):
        if found := licenses.normalise(str(metadata.get(field, ""))):
            return found
    files = sorted(
        path
        for name in metadata.get_all("License-File", [])
        for path in (info / "licenses" / name, info / name)
        if path.is_file()
    )
    if files and (found := licenses.either(licenses.recognise(path) for path in files)):
        return found
    last = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    return licenses.either(licenses.normalise(name) for name in last)
