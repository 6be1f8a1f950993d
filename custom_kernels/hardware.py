"""What the kernels ask about a device, and how they start on it."""

import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

__all__ = ["DTYPES", "INTERPRETED", "Chip", "chip", "on", "tl", "triton", "trouble"]

try:
    import triton
    import triton.language as tl
except ImportError:  # macOS, Windows: kernels can be defined there, and PyTorch computes
    triton, tl = SimpleNamespace(jit=lambda kernel: kernel), SimpleNamespace(constexpr=None)
    INSTALLED = INTERPRETED = False
else:
    INSTALLED = True
    INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1: run on the CPU, slowly
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Chip:
    """What launch heuristics may depend on.

    name: "sm_90" or "gfx942"; "interpreter" on the CPU. multiprocessors: how many there are (AMD:
    compute units). shared: bytes of shared memory that one program may have.
    """

    name: str
    multiprocessors: int
    shared: int


@functools.cache
def chip(device: torch.device) -> Chip:
    """The chip behind `device`."""
    if device.type != "cuda":
        return Chip("interpreter", 2, 2**20)  # two: programs that share work meet in the tests
    found: Any = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        name = found.gcnArchName.split(":")[0]
        return Chip(name, found.multi_processor_count, found.shared_memory_per_block)
    name = f"sm_{found.major}{found.minor}"
    return Chip(name, found.multi_processor_count, found.shared_memory_per_block_optin)


def trouble(x: Tensor) -> str | None:
    """Why no kernel can run on the device or the dtype of `x`, or None."""
    if not INSTALLED:
        return "triton is not installed"
    if not x.is_cuda and not INTERPRETED:
        return f"the input is on {x.device.type}, and the kernel needs an NVIDIA or AMD GPU"
    if x.dtype not in DTYPES:
        return f"the kernel does not take {x.dtype}"
    return None


def on(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensor's."""
    device: AbstractContextManager[Any] = torch.cuda.device_of(x)  # type: ignore[no-untyped-call]
    return device
