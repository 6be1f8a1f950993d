"""`git:URL-or-PATH`: the newest commit of a repository."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from magicoder import licenses
from magicoder.errors import UsageError
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources import fetch, tree
from magicoder.training.data.sources.base import Wanted


def documents(name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The source files of the repository; its version is the commit."""
    folder = Path(name).expanduser()
    if folder.is_dir() and not ((folder / ".git").exists() or (folder / "HEAD").exists()):
        raise UsageError(f"git:{name} is no repository: write dir:{name} for a plain folder")
    if folder.exists():
        name = Path(name).expanduser().absolute().as_uri()  # --depth works on addresses alone

    def clone(folder: Path) -> fetch.Package:
        hooks = ("-c", "core.hooksPath=/dev/null")
        command = ("git", *hooks, "clone", "--quiet", "--depth", "1", "--", name, "tree")
        fetch.run(command, folder, f"git:{name}")
        version = fetch.run(("git", "rev-parse", "HEAD"), folder / "tree", f"git:{name}").strip()
        shutil.rmtree(folder / "tree" / ".git")
        return fetch.Package(version=version)

    folder, package = fetch.cached("git", name, clone)
    root = folder / "tree"
    # The address may hold a key or a path of this machine; its last part says enough
    origin = "git:" + name.rstrip("/").rpartition("/")[2].removesuffix(".git")
    if name.startswith("https://") and "@" not in name:
        origin = f"git:{name}"
    return tree.documents(
        root,
        wanted,
        origin=origin,
        version=package.version,
        license_of=licenses.nearest(root),
    )
