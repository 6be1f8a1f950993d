"""Measurements against peers; benchmarks/README.md tells what each measures and how to run it.

They run from the repository root whether or not magicoder is installed: where it is not (a GPU
machine without a network, say), `magicoder.custom_kernels` and the other rooms are found in
their folders, as pyproject.toml maps them.
"""

import sys
import tomllib
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


class _Rooms:
    """Finds the rooms in the folders of the repository."""

    def __init__(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        self.folders: dict[str, str] = project["tool"]["setuptools"]["package-dir"]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.folders:
            return None
        folder = ROOT / self.folders[name]
        return spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


if find_spec("magicoder.custom_kernels") is None:
    sys.meta_path.append(_Rooms())
