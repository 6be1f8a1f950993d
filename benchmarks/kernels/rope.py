"""RoPE on packed positions: queries and keys turned by the places in their own documents."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import documents
from benchmarks.kernels.harness import OURS, PYTORCH, Inputs, Kernel, Shape, Work, compiled, grid
from magicoder.custom_kernels import rope

Turn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Queries and keys as a projection gives them: `(1, heads, T, head_dim)`, heads adjacent."""
    q, k = (
        torch.randn(1, shape.tokens, heads, shape.head_dim, device=device).to(dtype).transpose(1, 2)
        for heads in (shape.heads, shape.kv_heads)
    )
    lengths = documents.fill(shape.tokens, shape.longest)
    places = torch.cat([torch.arange(tokens) for tokens in lengths]).to(device)
    turns = 10000.0 ** (torch.arange(0, shape.head_dim, 2, device=device) / -shape.head_dim)
    angles = (places[:, None] * turns).repeat(1, 2)[None]
    return Inputs((q, k), {"cos": angles.cos().to(dtype), "sin": angles.sin().to(dtype)})


def work(shape: Shape, inputs: Inputs) -> tuple[Work, Work]:
    """Each pass reads and writes q and k, and reads half of cos and sin, whose halves are alike."""
    heads = sum(leaf.nbytes for leaf in inputs.leaves)
    turns = inputs.rest["cos"].nbytes  # half of each of the two
    flops = 3 * sum(leaf.numel() for leaf in inputs.leaves)
    once = Work(2 * heads + turns, flops)
    return once, Work(2 * once.bytes, 2 * flops)


def pytorch(inputs: Inputs) -> Turn:
    cos, sin = (inputs.rest[name][:, None] for name in ("cos", "sin"))

    def turned(x: Tensor) -> Tensor:
        one, other = x.chunk(2, -1)
        return x * cos + torch.cat((-other, one), -1) * sin

    return lambda q, k: (turned(q), turned(k))


def ours(inputs: Inputs) -> Turn:
    return lambda q, k: rope.rope(q, k, **inputs.rest)


def liger(inputs: Inputs) -> Turn:
    """In place, as Liger does it: its inputs are lost."""
    from liger_kernel.ops.rope import LigerRopeFunction

    return lambda q, k: LigerRopeFunction.apply(q, k, inputs.rest["cos"], inputs.rest["sin"])


KERNEL = Kernel(
    name="rope",
    title="RoPE",
    results=("q", "k", "dq", "dk"),
    tokens={"135M": 2**17, "1B": 2**16, "7B": 2**15},
    small=64,
    inputs=inputs,
    work=work,
    truth=pytorch,
    peers={OURS: ours, PYTORCH: pytorch, "torch.compile": compiled(pytorch), "liger": liger},
    odd=(
        Shape(tokens=1, heads=1, kv_heads=1, head_dim=2),
        Shape(tokens=37, heads=9, kv_heads=3),
        Shape(tokens=1000, heads=7, kv_heads=1, head_dim=128),
        Shape(tokens=33, heads=6, kv_heads=2, head_dim=80),
    ),
    module=rope,
    tune=grid(num_warps=(2, 4, 8), TOKENS=(1, 2, 4, 8, 16)),
)
