"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34), with
the two numbers of a pair half a head apart, as transformers lays them out.

low' = low * cos_low - high * sin_low and high' = high * cos_high + low * sin_high, where low and
high are the halves of a head. cos and sin are given for every token, so that positions may start
anew with each document of a pack. Every product is rounded to the dtype before the sum: the bits
are those of transformers. The backward is the transposed rotation of the gradients; it needs cos
and sin alone.
"""

from typing import Any

import torch
from torch import Tensor

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels.fallback import say_once
from magicoder.custom_kernels.hardware import tl, triton
from magicoder.custom_kernels.operator import operator

MAX_HEAD_DIM = 512


def rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, inplace: bool = False
) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys by the positions of their tokens, in one launch.

    Writing in place saves memory where autograd records nothing. It would save none in training:
    the projections before it keep their input for the backward, not q and k, so that q and k are
    freed as soon as the caller drops them.

    Args:
        q: `(batch, query heads, tokens, head_dim)`, float32, float16 or bfloat16; any strides with
            an adjacent last dimension, such as a transposed `(batch, tokens, heads, head_dim)`.
        k: `(batch, key heads, tokens, head_dim)`, likewise.
        cos: `(batch or 1, tokens, head_dim)`, of q's dtype; no gradient flows to it or to `sin`.
        sin: as `cos`.
        inplace: write the results into `q` and `k`.

    Returns:
        q and k rotated, in the memory layout of the inputs where these are dense. The kernel
        computes them where it can; otherwise `reference` does, which is logged once for each
        reason. A model that rotates only a part of a head slices q and k before the call.

    Raises:
        ValueError: shapes that do not fit together, or `inplace` on tensors that autograd records
            or whose elements share memory.
    """
    _check(q, k, cos, sin)
    if inplace:
        _check_inplace(q=q, k=k)
        if q is k:
            raise ValueError("inplace: q and k are one tensor; clone one of them")
    reason = unsupported(q, k, cos, sin)
    if reason is not None:
        say_once("RoPE", reason)
        turned = reference(q, k, cos, sin)
        return (q.copy_(turned[0]), k.copy_(turned[1])) if inplace else turned
    if inplace:
        forward_inplace(q, k, cos, sin)
        return q, k
    q_out, k_out = forward(q, k, cos, sin)
    return q_out, k_out


def reference(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """The same in PyTorch: transformers' apply_rotary_pos_emb to the bit."""
    cos, sin = cos[:, None], sin[:, None]

    def rotated(x: Tensor) -> Tensor:
        low, high = x.chunk(2, -1)
        return x * cos + torch.cat([-high, low], -1) * sin

    return rotated(q), rotated(k)


def unsupported(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> str | None:
    """Why the kernel cannot take these, or None. Looks at nothing that is on the device."""
    trouble = hardware.trouble(q)
    if trouble is not None:
        return trouble
    for name, other in (("k", k), ("cos", cos), ("sin", sin)):
        if other.dtype != q.dtype:
            return f"q is {q.dtype} and {name} {other.dtype}"
        if other.device != q.device:
            return f"q is on {q.device} and {name} on {other.device}"
    for name, other in (("q", q), ("k", k)):
        if other.stride(-1) != 1:
            return f"the last dimension of {name} has stride {other.stride(-1)}, not 1"
    if q.shape[-1] > MAX_HEAD_DIM:
        return f"head_dim {q.shape[-1]} is over {MAX_HEAD_DIM}"
    return None


@operator("magicoder::rope")
def forward(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, transposed: bool = False
) -> tuple[Tensor, Tensor]:
    """The kernel as an operator of PyTorch; see `rope`. `transposed`: the backward's rotation."""
    q, k = _adjacent(q), _adjacent(k)
    outputs = torch.empty_like(q), torch.empty_like(k)
    _rotate(q, k, *outputs, cos, sin, transposed)
    return outputs


@torch.library.custom_op("magicoder::rope_", mutates_args=("q", "k"))
def forward_inplace(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    """The same into q and k, whose last dimension is adjacent; no gradient flows through it."""
    _rotate(q, k, q, k, cos, sin, False)


@forward.register_fake
def _(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, transposed: bool = False
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(_adjacent(q)), torch.empty_like(_adjacent(k))


@forward_inplace.register_fake
def _(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    pass


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, cos, sin, ctx.transposed = inputs
    ctx.save_for_backward(cos, sin)


def _backward(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor | None, ...]:
    return *forward(dq, dk, *ctx.saved_tensors, not ctx.transposed), None, None, None


forward.register_autograd(_backward, setup_context=_save)


def _rotate(
    q: Tensor, k: Tensor, q_out: Tensor, k_out: Tensor, cos: Tensor, sin: Tensor, transposed: bool
) -> None:
    """Fill `q_out` and `k_out`, which may be `q` and `k`."""
    batch, q_heads, tokens, head_dim = q.shape
    config = launch(head_dim, max(q_heads, k.shape[1]), q.element_size(), hardware.chip(q.device))
    rows = max(len(cos), len(sin))
    cos, sin = (angle.expand(rows, -1, -1).contiguous() for angle in (cos, sin))
    if q.numel() or k.numel():
        with hardware.on(q):
            grid = (triton.cdiv(tokens, config["TOKENS"]), batch)
            tensors = q, k, q_out, k_out, cos, sin
            strides = [t.stride(axis) for t in tensors[:4] for axis in (0, 1, 2)]
            angle_batch = cos.stride(0) if len(cos) > 1 else 0
            sizes = tokens, q_heads, k.shape[1]
            rope_kernel[grid](
                *tensors, *strides, angle_batch, *sizes, TRANSPOSED=transposed, **config
            )


@triton.jit  # type: ignore[untyped-decorator]
def rope_kernel(  # type: ignore[no-untyped-def]
    q, k, q_out, k_out, cos, sin,
    q_batch, q_head, q_token, k_batch, k_head, k_token,
    q_out_batch, q_out_head, q_out_token, k_out_batch, k_out_head, k_out_token,
    angle_batch, tokens, q_heads, k_heads, TRANSPOSED: tl.constexpr,
    HEAD_DIM: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    half: tl.constexpr = HEAD_DIM // 2
    batch = tl.program_id(1).to(tl.int64)
    # int64, as tokens x heads x head_dim passes 2^31 in long packs
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS).to(tl.int64)[:, None, None]
    column = tl.arange(0, BLOCK)[None, None, :]
    inside = (token < tokens) & (column < half)
    # one copy for each head of the tile: cheaper (from the cache) than to rearrange registers
    inside = tl.broadcast_to(inside, [TOKENS, HEADS, BLOCK])
    angle = tl.broadcast_to(batch * angle_batch + token * HEAD_DIM + column, inside.shape)
    cos_low = tl.load(cos + angle, inside, other=0.0)
    cos_high = tl.load(cos + angle + half, inside, other=0.0)
    sin_low = tl.load(sin + angle, inside, other=0.0)
    sin_high = tl.load(sin + angle + half, inside, other=0.0)
    if TRANSPOSED:
        sin_low, sin_high = -sin_high, -sin_low
    angles = cos_low, cos_high, sin_low, sin_high
    q += batch * q_batch + token * q_token + column
    q_out += batch * q_out_batch + token * q_out_token + column
    _rotate_heads(q, q_out, q_head, q_out_head, q_heads, half, HEADS, inside, angles)
    k += batch * k_batch + token * k_token + column
    k_out += batch * k_out_batch + token * k_out_token + column
    _rotate_heads(k, k_out, k_head, k_out_head, k_heads, half, HEADS, inside, angles)


@triton.jit  # type: ignore[untyped-decorator]
def _rotate_heads(  # type: ignore[no-untyped-def]
    x, out, x_head, out_head, heads, half: tl.constexpr, HEADS: tl.constexpr, inside, angles
):  # fmt: skip
    cos_low, cos_high, sin_low, sin_high = angles
    for first in range(0, heads, HEADS):
        head = first + tl.arange(0, HEADS).to(tl.int64)[None, :, None]
        mask = inside & (head < heads)
        low = tl.load(x + head * x_head, mask, other=0.0)
        high = tl.load(x + head * x_head + half, mask, other=0.0)
        # in their dtype: every product is rounded, and no launch fuses it with the sum
        tl.store(out + head * out_head, low * cos_low - high * sin_low, mask)
        tl.store(out + head * out_head + half, high * cos_high + low * sin_high, mask)


def launch(head_dim: int, heads: int, itemsize: int, chip: hardware.Chip) -> dict[str, int]:
    """How to launch for `heads` heads of `head_dim` elements of `itemsize` bytes.

    A program takes some tokens with all their heads, four heads at a time, and reads cos and sin
    once. Each half of such a tile is 2048 bytes, 16 for each of 128 threads.
    """
    block = triton.next_power_of_2(head_dim // 2)
    group = min(4, triton.next_power_of_2(heads))
    return {
        "HEAD_DIM": head_dim,
        "TOKENS": max(1, min(32, 2048 // (group * block * itemsize))),
        "HEADS": group,
        "BLOCK": block,
        "num_warps": 2 if chip.name.startswith("gfx") else 4,  # AMD: of 64 threads
        "enable_fp_fusion": False,  # it would leave one product of two unrounded
    }


def _adjacent(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _check(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    if q.dim() != 4 or q.shape[-1] % 2:
        raise ValueError(
            f"q has shape {tuple(q.shape)}: give (batch, heads, tokens, head_dim), head_dim even"
        )
    batch, _, tokens, head_dim = q.shape
    if k.dim() != 4 or (k.shape[0], *k.shape[2:]) != (batch, tokens, head_dim):
        raise ValueError(
            f"k has shape {tuple(k.shape)}: with q give ({batch}, heads, {tokens}, {head_dim})"
        )
    for name, angle in (("cos", cos), ("sin", sin)):
        if angle.shape not in ((batch, tokens, head_dim), (1, tokens, head_dim)):
            raise ValueError(
                f"{name} has shape {tuple(angle.shape)}: with q give ({batch} or 1, {tokens}, "
                f"{head_dim}), and slice q and k where only a part of a head is rotated"
            )


def _check_inplace(**tensors: Tensor) -> None:
    for name, x in tensors.items():
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(f"inplace: autograd records {name}; leave inplace=False to train")
        if any(size > 1 and stride == 0 for size, stride in zip(x.shape, x.stride(), strict=True)):
            raise ValueError(f"inplace: the elements of {name} share memory; clone {name} first")
