"""`magicoder models`: what scripts and people read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from magicoder import embedded, models
from magicoder.cli.models import models as command
from magicoder.errors import MagicoderError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of ours and of the hub's."""
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(command, args)


def lay() -> Path:
    folder = embedded.folder()
    folder.mkdir(parents=True)
    manifest = {"wheel": embedded.WHEEL_SHA256, "files": {}}
    (folder / "magicoder.json").write_text(json.dumps(manifest))
    return folder


def test_list_is_one_plain_line_a_model():
    lay()
    result = run("list")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == list(models.CATALOGUE)
    assert rows[0] == ["smollm2-135m", "135M", "8192", "-", "chat", "Apache-2.0", "here"]
    by_name = {row[0]: row for row in rows}
    assert by_name["qwen2.5-coder-3b"][1:] == ["3.1B", "32768", "qwen", "-", "Qwen Research", "-"]


def test_list_on_a_terminal_is_a_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    output = run("list").stdout
    assert "licence" in output
    assert "\t" not in output
    assert all(name in output for name in models.CATALOGUE)


def test_show_tells_what_decides_a_choice():
    output = run("show", "Magicoder-S-DS-6.7B").stdout
    for fact in (
        "ise-uiuc/Magicoder-S-DS-6.7B",
        "deepseek-ai/deepseek-coder-6.7b-base",
        "16384 tokens",
        "13.5 GB in bfloat16",
        "magicoder.jinja",
        "magicoder models pull Magicoder-S-DS-6.7B",
    ):
        assert fact in output
    assert "no: a base model" in run("show", "starcoder2-3b").stdout
    assert "--max-model-len 32768" in run("show", "granite-4.0-micro").stdout


def test_show_knows_a_model_that_is_not_in_the_catalogue(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert str(tmp_path / "mine") in run("show", str(tmp_path / "mine")).stdout
    assert "magicoder models pull org/name" in run("show", "org/name").stdout


def test_path_and_pull_print_the_folder_alone():
    folder = lay()
    assert run("path", "smollm2-135m").stdout == f"{folder}\n"
    assert run("pull", "smollm2-135m").stdout == f"{folder}\n"


def test_path_of_what_is_not_here_names_the_pull():
    for name in ("smollm2-135m", "qwen2.5-coder-1.5b", "org/name"):
        result = run("path", name)
        assert isinstance(result.exception, MagicoderError)
        assert str(result.exception) == f"{name} is not here: magicoder models pull {name}"
        assert result.stdout == ""


@pytest.mark.parametrize("verb", ["show", "pull", "path"])
def test_an_unknown_name_is_a_usage_error(verb: str):
    result = run(verb, "smollm")
    assert isinstance(result.exception, UsageError)
    assert "did you mean smollm2-135m" in str(result.exception)


@pytest.mark.parametrize("verb", [[], ["list"], ["show"], ["pull"], ["path"]])
def test_help_teaches_by_example(verb: list[str]):
    result = run(*verb, "--help")
    assert result.exit_code == 0
    assert verb == ["list"] or "magicoder models" in result.stdout.split("Options:")[0]


def test_a_hub_out_of_reach_is_one_line(tmp_path: Path):
    """In a process of its own, since huggingface_hub imports its parts when they are first used."""
    done = subprocess.run(
        [sys.executable, "-m", "magicoder", "models", "pull", "qwen2.5-coder-0.5b"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: Qwen/Qwen2.5-Coder-0.5B could not be")
    assert "Traceback" not in done.stderr
