"""Each kernel against its peers by shape: exactness, time, memory, and what the chip allows.

    python -m benchmarks.kernels [NAME ...] [--sweep]

A kernel is one module here, a table of its inputs, its peers and the work that cannot be avoided;
`harness` measures them all alike. On a GPU the figures are the claim. Elsewhere our kernels fall
back to PyTorch, and a small run proves this harness; its figures say nothing about the kernels.
"""

from importlib import import_module

from benchmarks.kernels.harness import Kernel

NAMES = (
    "rms_norm",
    "add_rms_norm",
    "rope",
    "glu",
    "linear_cross_entropy",
    "attention",
    "adamw",
)


def load(name: str) -> Kernel:
    """The table of one kernel."""
    found: Kernel = import_module(f"benchmarks.kernels.{name}").KERNEL
    return found
