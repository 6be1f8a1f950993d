"""The gated unit of Llama's feed-forward layers: y = silu(gate) * up."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.kernels.harness import OURS, PYTORCH, Inputs, Kernel, Shape, Work, compiled, grid
from magicoder.custom_kernels import glu

Unit = Callable[[Tensor, Tensor], Tensor]


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> Inputs:
    gate, up = torch.randn(2, shape.tokens, shape.intermediate, device=device).to(dtype)
    return Inputs((gate.clone(), up.clone()))


def work(shape: Shape, inputs: Inputs) -> tuple[Work, Work]:
    """Forward: gate and up in, y out. Backward: gate, up and dy in, dgate and dup out."""
    gate = inputs.leaves[0]
    return Work(3 * gate.nbytes, 5 * gate.numel()), Work(8 * gate.nbytes, 16 * gate.numel())


def pytorch(_: Inputs) -> Unit:
    return lambda gate, up: F.silu(gate) * up


def ours(_: Inputs) -> Unit:
    return lambda gate, up: glu.glu(gate, up, "silu")


def liger(_: Inputs) -> Unit:
    """Its backward writes over gate and up."""
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return lambda gate, up: LigerSiLUMulFunction.apply(gate, up)


KERNEL = Kernel(
    name="glu",
    title="SwiGLU",
    results=("y", "dgate", "dup"),
    tokens={"135M": 2**16, "1B": 2**14, "7B": 2**13},
    small=64,
    inputs=inputs,
    work=work,
    truth=pytorch,
    peers={OURS: ours, PYTORCH: pytorch, "torch.compile": compiled(pytorch), "liger": liger},
    odd=(
        Shape(tokens=1, intermediate=1),
        Shape(tokens=5, intermediate=1536),
        Shape(tokens=1000, intermediate=777),
        Shape(tokens=3, intermediate=14336),
    ),
    module=glu,
    tune=grid(num_warps=(2, 4, 8), BLOCK=(1024, 2048, 4096)),
)
