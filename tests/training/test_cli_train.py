"""`magicoder train` as a user types it."""

import json
import subprocess
import sys

import pytest


def train(*arguments, cwd):
    command = [sys.executable, "-m", "magicoder", "train", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_a_missing_dataset_is_named(tmp_path):
    done = train("smollm2-lora", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: dataset dataset.jsonl cannot be read" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_shows_its_steps_and_prints_where_its_output_is(tiny, tmp_path):
    row = json.dumps({"problem": "Add.", "solution": "a + b"})
    (tmp_path / "dataset.jsonl").write_text(f"{row}\n" * 9)
    done = train("smollm2-lora", "--set", f"model={tiny}", "--set", "epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "smollm2-lora/adapter\n"
    assert "9 documents" in done.stderr
    assert "step 4/4  loss " in done.stderr
    assert "--adapter tuned=smollm2-lora/adapter" in done.stderr
    assert (tmp_path / "smollm2-lora/adapter/adapter_config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "error: no recipe nothing: give a YAML file or one of magicoder-cl"),
        (["smollm2-lora", "--set", "epoch=1"], "error: --set: unknown key 'epoch'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, arguments, says):
    done = train(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
