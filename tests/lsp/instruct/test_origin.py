"""Where code comes from, told without this machine and without keys."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from magicoder.lsp.instruct import origin

LICENSE = Path(__file__).parents[3] / "LICENSE"


def git(folder: Path, *words: str) -> str:
    env = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", *who, "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w" / "src" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text("a = 1\n")
    return path


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        ("https://host/owner/name.git", "git:https://host/owner/name"),
        ("https://user:key@host:8443/owner/name", "git:https://host:8443/owner/name"),
        ("git@host:owner/name.git", "git:name"),
        ("ssh://git@host/owner/name", "git:name"),
        ("/home/someone/name/", "git:name"),
        (None, "git:w"),
    ],
)
def test_a_repository(file: Path, remote: str | None, told: str) -> None:
    root = file.parents[1]
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "a")
    if remote:
        git(root, "remote", "add", "origin", remote)
    seed = origin.seed(file, [file.parent], "a = 1", 7, "python")
    assert seed == {
        "origin": told,
        "version": git(root, "rev-parse", "HEAD").strip(),
        "path": "src/a.py",
        "language": "python",
        "license": "",
        "line": 7,
        "kind": "lines",
        "code": "a = 1",
    }


def test_a_repository_without_a_commit(file: Path) -> None:
    git(file.parents[1], "init")
    seed = origin.seed(file, [], "", 1, "")
    assert (seed["origin"], seed["version"], seed["path"]) == ("git:w", "", "src/a.py")


def test_a_folder_of_the_workspace(file: Path) -> None:
    roots = [file.parents[2], file.parents[1], file.parent / "b"]
    seed = origin.seed(file, roots, "", 1, "")
    assert (seed["origin"], seed["version"], seed["path"]) == ("dir:w", "", "src/a.py")
    seed = origin.seed(file, [], "", 1, "")
    assert (seed["origin"], seed["path"]) == ("dir:src", "a.py")
    seed = origin.seed(Path("Untitled-1"), [], "", 1, "")
    assert (seed["path"], seed["license"]) == ("Untitled-1", "")


def test_the_license_of_the_file_or_of_its_folders(file: Path) -> None:
    root = file.parents[1]
    shutil.copy(LICENSE, root / "LICENSE")
    assert origin.seed(file, [root], "", 1, "")["license"] == "Apache-2.0"
    file.write_text("# SPDX-License-Identifier: MIT\na = 1\n")
    assert origin.seed(file, [root], "", 1, "")["license"] == "MIT"
    (root / "LICENSE").write_text("Do what you want.")
    file.write_text("a = 1\n")
    assert origin.seed(file, [root], "", 1, "")["license"] == ""
