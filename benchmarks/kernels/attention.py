"""Causal attention inside each document of a pack."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks import documents
from benchmarks.kernels.harness import MODELS, OURS, PYTORCH, Inputs, Kernel, Shape, Work, grid
from magicoder.custom_kernels import attention, hardware

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> Inputs:
    q, k, v = (
        torch.randn(shape.tokens, heads, shape.head_dim, device=device).to(dtype)
        for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
    )
    lengths = documents.fill(shape.tokens, shape.longest)
    starts = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    return Inputs((q, k, v), {"cu_seqlens": starts, "lengths": lengths})


def work(shape: Shape, inputs: Inputs) -> tuple[Work, Work]:
    """Two products of the pairs inside documents; five more in the backward, of which one again.

    Bytes: q, k and v in, the output out; then these four and the output's gradient in, three out.
    """
    q, k, _ = inputs.leaves
    pairs = sum(tokens * (tokens + 1) // 2 for tokens in inputs.rest["lengths"])
    product = 2 * pairs * shape.heads * shape.head_dim
    return (
        Work(2 * q.nbytes + 2 * k.nbytes, 2 * product),
        Work(6 * q.nbytes + 6 * k.nbytes, 7 * product),
    )


def by_document(attend: Attention, inputs: Inputs) -> Attention:
    """`attend` takes `(1, heads, tokens, head_dim)`, one document at a time."""
    lengths = inputs.rest["lengths"]

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = zip(*(x.transpose(0, 1)[None].split(lengths, 2) for x in (q, k, v)), strict=True)
        return torch.cat([attend(*part) for part in parts], 2)[0].transpose(0, 1)

    return run


def pytorch(inputs: Inputs) -> Attention:
    return by_document(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        inputs,
    )


def truth(inputs: Inputs) -> Attention:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        later = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1) @ v

    return by_document(attend, inputs)


def ours(inputs: Inputs) -> Attention:
    """The Triton kernels wherever they run; `choices` says where `packed_attention` should."""
    if attention.unsupported(inputs.leaves[0]) is None:
        return lambda q, k, v: attention.kernels(q, k, v, **inputs.rest)
    return lambda q, k, v: attention.packed_attention(q, k, v, **inputs.rest)


def varlen(inputs: Inputs) -> Attention:
    return lambda q, k, v: attention.varlen(q, k, v, **inputs.rest)


def flex(inputs: Inputs) -> Attention:
    """flex_attention, compiled; its list of blocks is made beforehand."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q = inputs.leaves[0]
    if not q.is_cuda:
        raise RuntimeError("compiling for a CPU takes longer than the whole run")
    lengths = inputs.rest["lengths"]
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(q.device)

    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (document[query] == document[key])

    mask = create_block_mask(seen, None, None, len(q), len(q), device=q.device)
    torch.compiler.reset()
    run = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batched = (x.transpose(0, 1)[None] for x in (q, k, v))
        out: Tensor = run(*batched, block_mask=mask, enable_gqa=True)
        return out[0].transpose(0, 1)

    return attend


def choices(record: dict[str, Any]) -> dict[str, Any]:
    """The rows for `attention.MEASURED`: milliseconds of forward plus backward, over all shapes."""
    if not torch.cuda.is_available():
        return {}
    chip = hardware.chip(torch.device("cuda")).name
    table: dict[tuple[str, int], dict[str, float]] = {}
    for row in record["speed"]:
        name = {OURS: "triton", "torch varlen": "varlen"}.get(row["peer"])
        if name and "failed" not in row:
            place = table.setdefault((chip, MODELS[row["model"]].head_dim), {})
            place[name] = round(place.get(name, 0) + row["both_s"] * 1e3, 3)
    for place, times in table.items():
        print(f"    {place}: {times},")
    return {f"{chip} {head_dim}": times for (chip, head_dim), times in table.items()}


PIPELINE = {"num_warps": (4, 8), "num_stages": (2, 3)}
KERNEL = Kernel(
    name="attention",
    title="packed attention",
    results=("out", "dq", "dk", "dv"),
    tokens={"135M": 2**16, "1B": 2**15, "7B": 2**15},
    small=128,
    inputs=inputs,
    work=work,
    truth=truth,
    peers={
        OURS: ours,
        PYTORCH: pytorch,
        "torch varlen": varlen,
        "flex_attention": flex,
    },
    odd=(
        Shape(tokens=1, heads=1, kv_heads=1),
        Shape(tokens=131, heads=9, kv_heads=3, longest=40),
        Shape(tokens=400, heads=4, kv_heads=4, head_dim=128, longest=400),
        Shape(tokens=2000, heads=8, kv_heads=1, head_dim=128),
    ),
    captured=False,  # ours keeps its list of tiles between layers, which a graph would make anew
    module=attention,
    tune=(
        *grid(of=("forward", "dq"), BLOCK_M=(64, 128), BLOCK_N=(32, 64), **PIPELINE),
        *grid(of=("dk_dv",), BLOCK_M=(32, 64), BLOCK_N=(64, 128), **PIPELINE),
    ),
    after=choices,
)
