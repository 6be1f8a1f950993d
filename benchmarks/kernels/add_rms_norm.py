"""Residual and RMSNorm in one: total = x + residual; y = total / rms(total) * weight."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.kernels import rms_norm as plain
from benchmarks.kernels.harness import OURS, PYTORCH, Inputs, Shape, Work, compiled
from magicoder.custom_kernels import rms_norm

Norm = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> Inputs:
    x, weight = plain.inputs(shape, dtype, device).leaves
    return Inputs((x, torch.randn_like(x), weight))


def work(shape: Shape, inputs: Inputs) -> tuple[Work, Work]:
    """Forward: x and residual in, y and total out. Backward: total, dy and dtotal in, dx out.

    The gradient of the residual is dx itself.
    """
    x = inputs.leaves[0]
    return Work(4 * x.nbytes, 5 * x.numel()), Work(8 * x.nbytes, 17 * x.numel())


def added(norm: Callable[[Tensor, Tensor], Tensor]) -> Norm:
    def both(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        total = x + residual
        return norm(total, weight), total

    return both


def ours(_: Inputs) -> Norm:
    return lambda x, residual, w: rms_norm.add_rms_norm(x, residual, w, plain.EPS)


def pytorch(inputs: Inputs) -> Norm:
    return added(plain.pytorch(inputs))


def liger(_: Inputs) -> Norm:
    from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction as Liger

    return lambda x, residual, w: Liger.apply(x, residual, w, plain.EPS, 0.0, "llama", False)


KERNEL = replace(
    plain.KERNEL,
    name="add_rms_norm",
    title="add + RMSNorm",
    results=("y", "total", "dx", "dresidual", "dweight"),
    inputs=inputs,
    work=work,
    truth=lambda inputs: added(plain.truth(inputs)),
    peers={OURS: ours, PYTORCH: pytorch, "torch.compile": compiled(pytorch), "liger": liger},
)
