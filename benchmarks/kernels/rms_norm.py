"""RMSNorm: y = x / rms(x) * weight."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.kernels.harness import OURS, PYTORCH, Inputs, Kernel, Shape, Work, compiled, grid
from magicoder.custom_kernels import rms_norm

EPS = 1e-5
Norm = Callable[[Tensor, Tensor], Tensor]


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> Inputs:
    x = (3 * torch.randn(shape.tokens, shape.hidden, device=device) + 0.5).to(dtype)
    weight = (1 + 0.3 * torch.randn(shape.hidden, device=device)).to(dtype)
    return Inputs((x, weight))


def work(shape: Shape, inputs: Inputs) -> tuple[Work, Work]:
    """Forward: x in, y out. Backward: x and dy in, dx out. Some 4 and 15 operations an element."""
    x = inputs.leaves[0]
    return Work(2 * x.nbytes, 4 * x.numel()), Work(5 * x.nbytes, 15 * x.numel())


def truth(_: Inputs) -> Norm:
    return lambda x, w: x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * w


def ours(_: Inputs) -> Norm:
    return lambda x, weight: rms_norm.rms_norm(x, weight, EPS)


def pytorch(_: Inputs) -> Norm:
    return lambda x, weight: rms_norm.reference(x, weight, EPS)


def functional(_: Inputs) -> Norm:
    return lambda x, weight: torch.nn.functional.rms_norm(x, weight.shape, weight, EPS)


def liger(_: Inputs) -> Norm:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    return lambda x, w: LigerRMSNormFunction.apply(x, w, EPS, 0.0, "llama", False)


ODD = [(1, 1), (5, 1), (9, 7), (6, 576), (300, 64), (1, 4096), (33, 8192), (4097, 1000)]
KERNEL = Kernel(
    name="rms_norm",
    title="RMSNorm",
    results=("y", "dx", "dweight"),
    tokens={"135M": 2**17 * 7 // 4, "1B": 2**16, "7B": 2**15},
    small=64,
    inputs=inputs,
    work=work,
    truth=truth,
    peers={
        OURS: ours,
        PYTORCH: pytorch,
        "torch rms_norm": functional,
        "torch.compile": compiled(pytorch),
        "liger": liger,
    },
    odd=tuple(Shape(tokens=tokens, hidden=hidden) for tokens, hidden in ODD),
    module=rms_norm,
    tune=grid(num_warps=(1, 2, 4, 8), STAGES=(1, 2, 3)),
)
