"""`npm:NAME[@VERSION]`: the tarball of a package; its scripts are not run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from magicoder import licenses
from magicoder.errors import UsageError
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources import fetch, tree
from magicoder.training.data.sources.base import Wanted

_NAME = re.compile(r"((?:@[\w.-]+/)?[a-zA-Z0-9_][\w.-]*)(@[\w.+-]+)?")


def documents(name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The source files in the tarball."""
    if not (match := _NAME.fullmatch(name)):
        raise UsageError(f"no package 'npm:{name}': write npm:NAME or npm:NAME@VERSION")

    def pack(folder: Path) -> fetch.Package:
        command = ("npm", "pack", "--loglevel=error", "--ignore-scripts", "--", name)
        fetch.run(command, folder, f"npm:{name}")
        archive = next(folder.glob("*.tgz"))
        with archive.open("rb") as file:
            fetch.untar(file, folder / "tree")
        archive.unlink()
        manifest = next((folder / "tree").glob("*/package.json"))  # the folder is any one's name
        told = json.loads(manifest.read_text(encoding="utf-8-sig"))
        return fetch.Package(version=str(told["version"]), license=_license(told))

    folder, package = fetch.cached("npm", name, pack)
    return tree.documents(
        next(path.parent for path in (folder / "tree").glob("*/package.json")),
        wanted,
        origin=f"npm:{match[1]}",
        version=package.version,
        license_of=lambda path: package.license,
    )


def _license(manifest: dict[str, Any]) -> str:
    """`license` is an SPDX expression; old packages have {"type": ...}, or a list of them."""
    told = manifest.get("license") or manifest.get("licenses") or ""
    each = told if isinstance(told, list) else [told]
    names = (item.get("type", "") if isinstance(item, dict) else item for item in each)
    return licenses.either(licenses.normalise(str(name)) for name in names)
