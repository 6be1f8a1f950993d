"""The checks and choices before vLLM is imported. No test here starts it."""

import json
import shlex
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from magicoder import cli, models
from magicoder.errors import MagicoderError, UsageError
from magicoder.server import launcher

HIDDEN = 64
on_cpu = launcher._on_cpu


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VLLM_PLUGINS", "VLLM_API_KEY", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(launcher, "_on_cpu", lambda: True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as transformers writes it; the numbers of SmolLM2-135M, but its width."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    config = {"hidden_size": HIDDEN, "num_attention_heads": 9, "num_key_value_heads": 3}
    config |= {"head_dim": 64, "num_hidden_layers": 30, "max_position_embeddings": 8192}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    return folder


def adapter(folder: Path, hidden: int = HIDDEN, **config: Any) -> Path:
    """A folder as peft writes it, with the header of its weights alone."""
    folder.mkdir()
    config = {"r": 12, "base_model_name_or_path": "org/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    header = json.dumps({key: {"dtype": "F32", "shape": [12, hidden], "data_offsets": [0, 0]}})
    file = struct.pack("<Q", len(header)) + header.encode()
    (folder / "adapter_model.safetensors").write_bytes(file)
    return folder


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that someone listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def run(*args: str | Path) -> Result:
    """`magicoder serve ARGS`, as `main` runs it."""
    return CliRunner().invoke(cli.cli, ["serve", *map(str, args)], standalone_mode=False)


def flags(plan: launcher.Plan) -> dict[str, str]:
    """What follows each flag; the last one wins, as in vLLM."""
    pairs = zip(plan.arguments, [*plan.arguments[1:], ""], strict=True)
    return {flag: value for flag, value in pairs if flag.startswith("--")}


def test_dry_run_prints_the_command_and_fetches_nothing(tmp_path: Path) -> None:
    done = run("--dry-run", "--port", "9999", "--", "--max-num-seqs", "4")
    assert done.exit_code == 0
    words = shlex.split(done.output)
    start = words.index("serve")
    assert "VLLM_PLUGINS" in done.output[: done.output.index("vllm serve")]
    assert words[start + 1] == str(tmp_path / "cache/models/smollm2-135m")
    assert words[-2:] == ["--max-num-seqs", "4"]
    assert words[words.index("--served-model-name") + 1] == "smollm2-135m"
    assert words[words.index("--port") + 1] == "9999"
    assert not (tmp_path / "cache/models/smollm2-135m").exists()


def test_folder_is_served_by_its_name_and_the_user_wins(model: Path) -> None:
    plan = launcher.plan(str(model) + "/", vllm_args=["--max-model-len", "512"])
    assert plan.arguments[0] == str(model)
    assert flags(plan)["--served-model-name"] == plan.name == "my-model"
    assert flags(plan)["--max-model-len"] == "512"
    assert plan.arguments[-2:] == ("--max-model-len", "512")
    assert "--enable-lora" not in plan.arguments
    assert "--enable-prompt-tokens-details" in plan.arguments


def test_catalogue_gives_template_and_arguments() -> None:
    known = models.CATALOGUE["magicoder-s-ds-6.7b"]
    plan = launcher.plan(known.name, fetch=False)
    assert plan.arguments[0] == known.source
    assert Path(flags(plan)["--chat-template"]).is_file()
    limited = next(model for model in models.CATALOGUE.values() if model.serve_args)
    plan = launcher.plan(limited.name, fetch=False, vllm_args=["--mine"])
    assert plan.arguments[-len(limited.serve_args) - 1 :] == (*limited.serve_args, "--mine")


def test_cpu_starts_eager_unless_asked(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher.os, "sched_getaffinity", lambda pid: {0, 1})
    plan = launcher.plan(str(model))
    assert "--enforce-eager" in plan.arguments
    assert plan.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert plan.nice > 0
    compiled = launcher.plan(str(model), compiled=True)
    assert "--enforce-eager" not in compiled.arguments
    assert "TORCHDYNAMO_DISABLE" not in compiled.environment
    monkeypatch.setattr(launcher.os, "sched_getaffinity", lambda pid: set(range(64)))
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in launcher.plan(str(model)).environment


def test_cache_is_some_contexts_within_what_is_free(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Keys and values of 30 layers of 3 heads of 64 numbers of 2 bytes, for 8192 tokens, 4 times.
    whole = 2 * 30 * 3 * 64 * 2 * 8192 * 4
    monkeypatch.setattr(launcher, "_free_memory", lambda: 100 * 2**30)
    assert flags(launcher.plan(str(model)))["--kv-cache-memory-bytes"] == str(whole)
    monkeypatch.setattr(launcher, "_free_memory", lambda: 4 * 2**30)
    assert flags(launcher.plan(str(model)))["--kv-cache-memory-bytes"] == str(511 * 2**20)
    monkeypatch.setattr(launcher, "_free_memory", lambda: 2**30)
    with pytest.raises(MagicoderError, match=r"not enough memory for my-model: it needs 2\.4 GB"):
        launcher.plan(str(model))


def test_free_memory_is_what_the_kernel_says() -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "Total" in line)
    assert 0 < launcher._free_memory() < int(total.split()[1]) * 1024


def test_own_plugins_stay(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    everyones = launcher.plan(str(model)).environment["VLLM_PLUGINS"].split(",")
    assert everyones[-1] == "magicoder"
    assert "lora_filesystem_resolver" in everyones  # vLLM's own, which a filter would drop
    monkeypatch.setenv("VLLM_PLUGINS", "theirs")
    assert launcher.plan(str(model)).environment["VLLM_PLUGINS"] == "theirs,magicoder"
    monkeypatch.setenv("VLLM_PLUGINS", "")
    assert launcher.plan(str(model)).environment["VLLM_PLUGINS"] == "magicoder"


def test_adapters(model: Path, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one")
    two = adapter(tmp_path / "two", r=8, rank_pattern={"q_proj": 40})
    plan = launcher.plan(str(model), adapters={"one": one})
    assert flags(plan)["--max-lora-rank"] == "16"
    plan = launcher.plan(str(model), adapters={"one": one, "two": two})
    assert (flags(plan)["--max-lora-rank"], flags(plan)["--max-loras"]) == ("64", "2")
    at = plan.arguments.index("--lora-modules")
    assert plan.arguments[at + 1 : at + 3] == (f"one={one}", f"two={two}")


def broken(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def test_adapters_that_cannot_be_served(model: Path, tmp_path: Path) -> None:
    cases = [
        (tmp_path / "nothing", "no .*adapter_config.json: name a folder that peft wrote"),
        (broken(tmp_path / "text", adapter_config="{"), "is not a LoRA adapter's"),
        (broken(tmp_path / "other", adapter_config='{"peft_type": "IA3"}'), "is not a LoRA"),
        (broken(tmp_path / "list", adapter_config="[]"), "is not a LoRA adapter's"),
        (broken(tmp_path / "bare", adapter_config='{"r": 8}'), "holds no adapter_model"),
        (adapter(tmp_path / "large", r=1024), "rank 1024: vLLM serves ranks up to 512"),
        (adapter(tmp_path / "wide", hidden=576), "trained on another model: serve org/base"),
    ]
    for path, message in cases:
        with pytest.raises(UsageError, match=message):
            launcher.plan(str(model), adapters={"mine": path})
    with pytest.raises(UsageError, match="called like the model"):
        launcher.plan(str(model), adapters={"my-model": adapter(tmp_path / "good")})


@pytest.mark.parametrize("text", ["nothing", "=path", "name="])
def test_adapter_needs_name_and_path(text: str) -> None:
    error = run("--dry-run", "--adapter", text).exception
    assert isinstance(error, UsageError)
    assert "expected NAME=PATH" in str(error)


def test_two_adapters_need_two_names() -> None:
    error = run("--dry-run", "--adapter", "a=x", "--adapter", "a=y").exception
    assert isinstance(error, UsageError)


def test_key_stays_out_of_sight(model: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret-key\n")
    plan = launcher.plan(str(model), api_key_file=key)
    assert plan.environment["VLLM_API_KEY"] == "secret-key"
    assert "secret-key" not in " ".join(plan.arguments) + plan.command
    assert "secret-key" not in run(model, "--dry-run", "--api-key-file", key).output


@pytest.mark.parametrize("content", [None, "", " \n", "two keys", "\xff"])
def test_key_file_that_holds_no_key(model: Path, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="--api-key-file"):
        launcher.plan(str(model), api_key_file=file)


def test_port_in_use(model: Path, taken: int) -> None:
    error = run(model, "--port", str(taken)).exception
    assert isinstance(error, MagicoderError)
    assert error.exit_code == 1
    assert str(error).startswith(f"port {taken} is in use")


@pytest.mark.parametrize("host", ["198.51.100.1", "a" * 64])
def test_host_is_not_ours(model: Path, host: str) -> None:
    with pytest.raises(UsageError, match="is no address of this machine"):
        launcher.plan(str(model), host=host)


@pytest.mark.parametrize("flag", ["--port", "--host=0.0.0.0"])
def test_address_belongs_before_the_dashes(model: Path, flag: str) -> None:
    with pytest.raises(UsageError, match="before the '--'"):
        launcher.plan(str(model), vllm_args=[flag, "1"])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123/v1"),
        ("0.0.0.0", "http://127.0.0.1:8123/v1"),
        ("::", "http://[::1]:8123/v1"),
        ("localhost", "http://localhost:8123/v1"),
    ],
)
def test_address_for_clients_of_this_machine(host: str, url: str) -> None:
    assert launcher.Plan("m", host, 8123, (), {}, Path("log")).base_url == url


def test_unknown_model() -> None:
    error = run("smollm2-135").exception
    assert isinstance(error, UsageError)
    assert "smollm2-135m" in str(error)


def test_vllm_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    with pytest.raises(MagicoderError, match=r"magicoder\[serve\].*magicoder\[serve-cpu\]"):
        on_cpu()


@pytest.mark.parametrize(("version", "cpu"), [("0.32.0", False), ("0.32.0+cpu", True)])
def test_build_of_vllm_is_told_from_its_version(
    version: str, cpu: bool, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = tmp_path / "site" / f"vllm-{version}.dist-info"
    wheel.mkdir(parents=True)
    (wheel / "METADATA").write_text(f"Name: vllm\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(launcher, "_DEVICES", ("/dev/null",))
    assert on_cpu() is cpu
    monkeypatch.setattr(launcher, "_on_cpu", on_cpu)
    plan = launcher.plan(str(model))
    assert ("--enforce-eager" in plan.arguments) is cpu
    assert ("--kv-cache-memory-bytes" in plan.arguments) is cpu
    monkeypatch.setattr(launcher, "_DEVICES", ("/dev/no-such-device",))
    if not cpu:
        with pytest.raises(MagicoderError, match="needs a GPU and this machine shows none"):
            on_cpu()
