"""RMSNorm (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4), alone or after
the addition to the residual stream.

y = x / sqrt(mean(x^2) + eps) * weight, normalised in float32. Families round in two ways: Llama
casts before the weight, cast(x / sqrt(...)) * weight, OLMo 2 and Gemma after it; Gemma's weight
is stored less one, so that it multiplies by offset + weight. The backward recomputes the norm
from the row that it reads anyway: nothing is saved but what was normalised and the weight.
"""

from typing import Any

import torch
from torch import Tensor

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels.fallback import say_once
from magicoder.custom_kernels.hardware import tl, triton
from magicoder.custom_kernels.operator import operator

MAX_HIDDEN = 8192  # a row is held in registers; the backward of a longer one would spill
WARPS = 16  # for each multiprocessor
CASTS = ("before", "after")


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, *, cast: str = "before", offset: float = 0.0
) -> Tensor:
    """Normalise the last dimension of `x`.

    Args:
        x: `(..., hidden)`, float32, float16 or bfloat16; any strides.
        weight: `(hidden,)`, of x's dtype.
        eps: what is added to the mean of squares.
        cast: "before" the weight is where float32 becomes x's dtype in Llama, "after" it in
            OLMo 2 and Gemma.
        offset: what is added to the weight: 1.0 for Gemma.

    Returns:
        `(..., hidden)`. The kernel computes it where it can; otherwise `reference` does, which is
        logged once for each reason.

    Raises:
        ValueError: a weight that does not fit, or another `cast`.
    """
    _check(x, weight, cast)
    reason = unsupported(x, weight)
    if reason is not None:
        say_once("RMSNorm", reason)
        return reference(x, weight, eps, cast, offset)
    y: Tensor = forward(x, weight, eps, cast, offset)
    return y


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    *,
    cast: str = "before",
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Add `x` to the residual stream and normalise the sum, in one pass over both.

    Args:
        x: `(..., hidden)`, float32, float16 or bfloat16; any strides.
        residual: shape and dtype of `x`.
        weight, eps, cast, offset: as for `rms_norm`.

    Returns:
        The normalised sum and the sum itself, `total = x + residual` rounded to x's dtype, both
        `(..., hidden)`. Autograd keeps `total` and `weight`, not `x` and `residual`.

    Raises:
        ValueError: shapes that do not fit together, or another `cast`.
    """
    _check(x, weight, cast)
    if residual.shape != x.shape:
        shapes = f"{tuple(residual.shape)} and x {tuple(x.shape)}"
        raise ValueError(f"residual has shape {shapes}: expand one to the other's")
    reason = unsupported(x, weight, residual)
    if reason is not None:
        say_once("RMSNorm", reason)
        total = x + residual
        return reference(total, weight, eps, cast, offset), total
    y, total = add_forward(x, residual, weight, eps, cast, offset)
    return y, total


def reference(
    x: Tensor, weight: Tensor, eps: float, cast: str = "before", offset: float = 0.0
) -> Tensor:
    """`rms_norm` in PyTorch: to the bit what transformers computes."""
    wide = x.to(torch.float32)
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if cast == "after":
        return (normed * (offset + weight.to(torch.float32))).to(x.dtype)
    return (offset + weight if offset else weight) * normed.to(x.dtype)


def unsupported(x: Tensor, weight: Tensor, residual: Tensor | None = None) -> str | None:
    """Why the kernel cannot take these, or None. Looks at nothing that is on the device."""
    trouble = hardware.trouble(x)
    if trouble is not None:
        return trouble
    for name, other in (("weight", weight), ("residual", residual)):
        if other is not None and other.dtype != x.dtype:
            return f"the input is {x.dtype} and the {name} {other.dtype}"
        if other is not None and other.device != x.device:
            return f"the input is on {x.device} and the {name} on {other.device}"
    if not 0 < x.shape[-1] <= MAX_HIDDEN:
        return f"the hidden size {x.shape[-1]} is not in 1..{MAX_HIDDEN}"
    return None


@operator("magicoder::rms_norm")
def forward(
    x: Tensor, weight: Tensor, eps: float, cast: str = "before", offset: float = 0.0
) -> Tensor:
    """The kernel as an operator of PyTorch; see `rms_norm`. The result is contiguous."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _forward(x, None, weight, y, None, eps, cast, offset)
    return y


@operator("magicoder::add_rms_norm")
def add_forward(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    cast: str = "before",
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The kernel as an operator of PyTorch; see `add_rms_norm`. The results are contiguous."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    total = torch.empty_like(y)
    _forward(x, residual, weight, y, total, eps, cast, offset)
    return y, total


def _forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    y: Tensor,
    total: Tensor | None,
    eps: float,
    cast: str,
    offset: float,
) -> None:
    """Fill `y`, and `total` where there is a residual."""
    rows = _rows(x)
    residual_rows = None if residual is None else _rows(residual)
    programs, config = launch(x, 1 if residual is None else 2)
    if y.numel():
        with hardware.on(x):
            tensors = rows, residual_rows, weight.contiguous(), y, total
            strides = [0 if t is None else t.stride(0) for t in tensors[:2]]
            arguments = *tensors, len(rows), *strides, eps
            forward_kernel[(programs,)](*arguments, CAST=cast, OFFSET=offset, **config)


@operator("magicoder::rms_norm_backward")
def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    eps: float,
    offset: float = 0.0,
    dtotal: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradients of `x`, which was normalised, and of `weight`; `dtotal` is added to x's.

    Where the forward casts has no part in it: a gradient passes through a rounding unchanged. The
    result is the same to the bit on each run: every program sums its rows' part of the weight's
    gradient in float32, and these parts are then added in one fixed order.
    """
    rows, dy_rows = _rows(x), _rows(dy)
    dtotal_rows = None if dtotal is None else _rows(dtotal)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    programs, config = launch(x, 2 if dtotal is None else 3)
    parts = torch.empty((programs, x.shape[-1]), dtype=torch.float32, device=x.device)
    if dx.numel():
        with hardware.on(x):
            tensors = dy_rows, dtotal_rows, rows, weight.contiguous(), dx, parts
            strides = [0 if t is None else t.stride(0) for t in tensors[:3]]
            arguments = *tensors, len(rows), *strides, eps
            backward_kernel[(programs,)](*arguments, OFFSET=offset, **config)
    return dx, parts.sum(0).to(weight.dtype)


@forward.register_fake
def _(x: Tensor, weight: Tensor, eps: float, cast: str = "before", offset: float = 0.0) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@add_forward.register_fake
def _(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    cast: str = "before",
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    return y, torch.empty_like(y)


@backward.register_fake
def _(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    eps: float,
    offset: float = 0.0,
    dtotal: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(weight)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.eps, _, ctx.offset = inputs
    ctx.save_for_backward(x, weight)


def _save_add(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, weight, ctx.eps, _, ctx.offset = inputs
    ctx.save_for_backward(output[1], weight)
    ctx.set_materialize_grads(False)  # the last sum of a model is not used again: no zeros then


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    dx, dweight = backward(dy, *ctx.saved_tensors, ctx.eps, ctx.offset)
    return dx, dweight, None, None, None


def _backward_add(ctx: Any, dy: Tensor | None, dtotal: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:
        return dtotal, dtotal, None, None, None, None
    dx, dweight = backward(dy, *ctx.saved_tensors, ctx.eps, ctx.offset, dtotal)
    return dx, dx, dweight, None, None, None


forward.register_autograd(_backward, setup_context=_save)
add_forward.register_autograd(_backward_add, setup_context=_save_add)


@triton.jit  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    x, residual, weight, y, total, rows, x_stride, residual_stride, eps,
    CAST: tl.constexpr, OFFSET: tl.constexpr,
    HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, BLOCK)[None, :]
    w = tl.load(weight + column, column < HIDDEN, other=0.0)
    factor = w.to(tl.float32) + OFFSET
    if CAST == "before":
        factor = factor.to(w.dtype).to(tl.float32)
    step = tl.num_programs(0) * ROWS
    for first in tl.range(tl.program_id(0) * ROWS, rows, step, num_stages=STAGES):
        # int64, as rows x hidden passes 2^31 in long packs
        row = first + tl.arange(0, ROWS).to(tl.int64)[:, None]
        inside = (row < rows) & (column < HIDDEN)
        wide = tl.load(x + row * x_stride + column, inside, other=0.0).to(tl.float32)
        if residual is not None:
            added = tl.load(residual + row * residual_stride + column, inside, other=0.0)
            rounded = (wide + added.to(tl.float32)).to(w.dtype)
            tl.store(total + row * HIDDEN + column, rounded, inside)
            wide = rounded.to(tl.float32)
        scale = tl.rsqrt(tl.sum(wide * wide, 1, keep_dims=True) / HIDDEN + eps)
        normed = wide * scale
        if CAST == "before":  # Llama rounds here, and once more after the weight
            normed = normed.to(w.dtype).to(tl.float32)
        tl.store(y + row * HIDDEN + column, normed * factor, inside)


@triton.jit  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    dy, dtotal, x, weight, dx, parts, rows, dy_stride, dtotal_stride, x_stride, eps,
    OFFSET: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)[None, :]
    factor = tl.load(weight + column, column < HIDDEN, other=0.0).to(tl.float32) + OFFSET
    dweight = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in tl.range(program * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        row = first + tl.arange(0, ROWS).to(tl.int64)[:, None]
        inside = (row < rows) & (column < HIDDEN)
        wide = tl.load(x + row * x_stride + column, inside, other=0.0).to(tl.float32)
        dwide = tl.load(dy + row * dy_stride + column, inside, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(wide * wide, 1, keep_dims=True) / HIDDEN + eps)
        normed = wide * scale
        dweight += dwide * normed
        dnormed = dwide * factor
        along = tl.sum(dnormed * normed, 1, keep_dims=True) / HIDDEN
        gradient = scale * (dnormed - normed * along)
        if dtotal is not None:
            passed = tl.load(dtotal + row * dtotal_stride + column, inside, other=0.0)
            gradient += passed.to(tl.float32)
        tl.store(dx + row * HIDDEN + column, gradient, inside)
    part = tl.sum(dweight, 0, keep_dims=True)
    tl.store(parts + program * HIDDEN + column, part, column < HIDDEN)


def launch(x: Tensor, inputs: int) -> tuple[int, dict[str, int]]:
    """How many programs share the rows of `x`, and how they run; each row is read `inputs` times.

    One warp takes a tile of up to 16 rows and 1024 bytes, or one row of up to 2048, as a sum within
    a warp needs no barrier; a longer row gets a warp for each 1024. Programs walk over the tiles,
    so that the weight is read once. Sixteen warps fit into the registers of a multiprocessor at
    once; two tiles for each are on their way from memory, if there is room.
    """
    hidden, itemsize = x.shape[-1], x.element_size()
    chip = hardware.chip(x.device)
    block = triton.next_power_of_2(hidden)
    rows = min(16, max(1, 1024 // (block * itemsize)))
    tile = rows * block * itemsize
    warps = 1 if tile <= 2048 else min(tile // 1024, WARPS)
    room = chip.shared // (tile * inputs * WARPS // warps)
    config = {
        "HIDDEN": hidden,
        "BLOCK": block,
        "ROWS": rows,
        "STAGES": min(2, room) + 1,
        "num_warps": warps,
        "enable_fp_fusion": True,  # Triton 3.10 changes the default, and the last bits with it
    }
    tiles = triton.cdiv(x.numel() // hidden, rows)
    return min(tiles, chip.multiprocessors * WARPS // warps), config


def _rows(x: Tensor) -> Tensor:
    """`(rows, hidden)` with adjacent elements in a row; a view where the strides allow it."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _check(x: Tensor, weight: Tensor, cast: str) -> None:
    if not x.dim() or weight.shape != x.shape[-1:]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: give one number for each of the last "
            f"dimension of x, which has shape {tuple(x.shape)}"
        )
    if cast not in CASTS:
        raise ValueError(f"cast is {cast!r}: give one of {CASTS}")
