"""The wheel holds every room and its data, nothing generic, and works with the core alone."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parent.parent
ROOMS = {
    "magicoder": "magicoder",
    "custom_kernels": "magicoder/custom_kernels",
    "lsp": "magicoder/lsp",
    "server": "magicoder/server",
    "training": "magicoder/training",
}
SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "node_modules")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools would take what an earlier build left in build/."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, source / room, ignore=SKIPPED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--quiet", "--wheel-dir", str(out), str(source)]
    subprocess.run(command, check=True)
    [built] = out.iterdir()
    return built


def test_every_file_of_every_room_is_in_it(wheel: Path):
    held = set(zipfile.ZipFile(wheel).namelist())
    for room, package in ROOMS.items():
        for file in (REPOSITORY / room).rglob("*"):
            inside = file.relative_to(REPOSITORY / room)
            hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
            if file.is_file() and not hidden and file.suffix not in {".md", ".pyc"}:
                assert f"{package}/{inside}" in held


def test_every_package_of_the_repository_belongs_to_a_room():
    own = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert own - {"benchmarks", "tests"} == set(ROOMS)  # these two stay in the repository


def test_nothing_generic_stands_at_its_top_level(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        version = metadata.version("magicoder")
        assert tops == {"magicoder", f"magicoder-{version}.dist-info"}
        info = archive.read(f"magicoder-{version}.dist-info/METADATA").decode()
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
    assert "License-Expression: Apache-2.0" in info
    assert licences == [f"magicoder-{version}.dist-info/licenses/LICENSE"]


def closure(requirements: list[str]) -> set[str]:
    """The installed distributions that these requirements bring, and what those bring."""
    found: set[str] = set()
    while requirements:
        requirement = Requirement(requirements.pop())
        marked = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if marked and requirement.name not in found:
            found.add(requirement.name)
            requirements += metadata.requires(requirement.name) or []
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install magicoder` gives an empty environment: the wheel and the core's packages.

    The packages are links to those that are installed here, so that no index is needed.
    """
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for name in closure(list(project["dependencies"])):
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (site / top).exists():
                (site / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return site


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in an environment of this folder alone."""
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(site)}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=site, env=environment)


def test_the_core_works_by_itself(site: Path):
    code = (
        "import magicoder, importlib.util as u; from magicoder import Magicoder, AsyncMagicoder\n"
        "from magicoder import fim, languages, models, oss_instruct, prompts\n"
        "assert magicoder.__file__.startswith(%r)\n"
        "print(u.find_spec('torch'), u.find_spec('vllm'), u.find_spec('tree_sitter'))\n"
        "print(prompts.fill('mbpp_response_prefix'), models.chat_template('magicoder-cl-7b').name)"
    ) % str(site)
    done = run(site, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None None None\n```python magicoder.jinja\n"


@pytest.mark.parametrize("command", ["", "models list", "doctor"])
def test_the_command_line_works_by_itself(site: Path, command: str):
    arguments = command.split() or ["--help"]
    done = run(site, "-m", "magicoder", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_commands_help_needs_the_core_alone(site: Path):
    listed = run(site, "-m", "magicoder", "--help").stdout.split("Commands:")[1].split("\n\n")[0]
    commands = re.findall(r"^  (\w+)", listed, re.MULTILINE)
    assert "serve" in commands
    for command in commands:
        done = run(site, "-m", "magicoder", command, "--help")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "extra"),
    [("lsp", "lsp"), ("serve smollm2-135m", "serve"), ("models pull smollm2-135m", "convert")],
)
def test_a_command_whose_extra_is_missing_names_it(site: Path, command: str, extra: str):
    done = run(site, "-m", "magicoder", *command.split())
    assert done.returncode == 1, done.stderr
    assert f"magicoder[{extra}" in done.stderr
    assert done.stderr.count("\n") == 1
