"""RMSNorm (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467), as Llama casts it.

y = cast(x / sqrt(mean(x^2) + eps)) * weight: normalised in float32, cast to x's dtype, multiplied
by the weight in that dtype. The backward reads x and dy once and recomputes the norm, so that the
forward saves nothing but its inputs.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from magicoder.custom_kernels.fallback import say_once

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1: kernels run on the CPU, slowly
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_HIDDEN = 8192  # a row is held in registers; the backward of a longer one would spill


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last dimension of `x`.

    Args:
        x: `(..., hidden)`, float32, float16 or bfloat16; any strides.
        weight: `(hidden,)`.
        eps: what is added to the mean of squares.

    Returns:
        `(..., hidden)`. The kernel computes it where it can; otherwise `reference` does, which is
        logged once for each reason.
    """
    reason = unsupported(x, weight)
    if reason is not None:
        say_once("RMSNorm", reason)
        return reference(x, weight, eps)
    y: Tensor = forward(x, weight, eps)
    return y


def reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same in PyTorch: transformers' LlamaRMSNorm to the bit."""
    wide = x.to(torch.float32)
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def unsupported(x: Tensor, weight: Tensor) -> str | None:
    """Why the kernel cannot take these, or None. Looks at nothing that is on the device."""
    if not x.is_cuda and not INTERPRETED:
        return f"the input is on {x.device.type}, and the kernel needs an NVIDIA or AMD GPU"
    if x.dtype not in DTYPES:
        return f"the kernel does not take {x.dtype}"
    if weight.dtype != x.dtype:
        return f"the input is {x.dtype} and the weight {weight.dtype}"
    if weight.device != x.device:
        return f"the input is on {x.device} and the weight on {weight.device}"
    if weight.shape != x.shape[-1:]:
        return f"the weight has shape {tuple(weight.shape)}, not {tuple(x.shape[-1:])}"
    if not 0 < x.shape[-1] <= MAX_HIDDEN:
        return f"the hidden size {x.shape[-1]} is not in 1..{MAX_HIDDEN}"
    return None


class RMSNorm(nn.Module):
    """What replaces the forward of transformers' layers, which keep their own weight and eps."""

    can_torch_compile = True
    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        return rms_norm(hidden_states, self.weight, self.variance_epsilon)


@torch.library.custom_op("magicoder::rms_norm", mutates_args=())
def forward(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The kernel as an operator of PyTorch; see `rms_norm`. The result is contiguous."""
    rows = _rows(x)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    config = launch(x.shape[-1])
    if y.numel():
        with _on(x):
            grid = (triton.cdiv(len(rows), config["ROWS"]),)
            tensors = rows, weight.contiguous(), y
            forward_kernel[grid](*tensors, len(rows), rows.stride(0), eps, **config)
    return y


@torch.library.custom_op("magicoder::rms_norm_backward", mutates_args=())
def backward(dy: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The gradients of x and weight.

    The result is the same to the bit on each run: every program sums its rows' part of the
    weight's gradient in float32, and these parts are then added in one fixed order.
    """
    rows, dy_rows = _rows(x), _rows(dy)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    config = launch(x.shape[-1])
    programs = min(_programs(x.device), triton.cdiv(len(rows), config["ROWS"]))
    parts = torch.empty((programs, x.shape[-1]), dtype=torch.float32, device=x.device)
    if dx.numel():
        with _on(x):
            tensors = dy_rows, rows, weight.contiguous(), dx, parts
            strides = rows.stride(0), dy_rows.stride(0)
            backward_kernel[(programs,)](*tensors, len(rows), *strides, eps, **config)
    return dx, parts.sum(0).to(weight.dtype)


@forward.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(weight)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
    x, weight, ctx.eps = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
    return *backward(dy, *ctx.saved_tensors, ctx.eps), None


forward.register_autograd(_backward, setup_context=_save)


@triton.jit  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    x, weight, y, rows, x_stride, eps,
    HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    # int64, as rows x hidden passes 2^31 in long packs
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < HIDDEN)
    wide = tl.load(x + row * x_stride + column, inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, column < HIDDEN, other=0.0)
    scale = tl.rsqrt(tl.sum(wide * wide, 1, keep_dims=True) / HIDDEN + eps)
    normed = (wide * scale).to(w.dtype)  # Llama rounds here, and once more after the weight
    tl.store(y + row * HIDDEN + column, normed.to(tl.float32) * w.to(tl.float32), inside)


@triton.jit  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    dy, x, weight, dx, parts, rows, x_stride, dy_stride, eps,
    HIDDEN: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)[None, :]
    w = tl.load(weight + column, column < HIDDEN, other=0.0).to(tl.float32)
    dweight = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(program * ROWS, rows, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS).to(tl.int64)[:, None]
        inside = (row < rows) & (column < HIDDEN)
        wide = tl.load(x + row * x_stride + column, inside, other=0.0).to(tl.float32)
        dwide = tl.load(dy + row * dy_stride + column, inside, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(wide * wide, 1, keep_dims=True) / HIDDEN + eps)
        normed = wide * scale
        dweight += dwide * normed
        dnormed = dwide * w
        along = tl.sum(dnormed * normed, 1, keep_dims=True) / HIDDEN
        tl.store(dx + row * HIDDEN + column, scale * (dnormed - normed * along), inside)
    part = tl.sum(dweight, 0, keep_dims=True)
    tl.store(parts + program * HIDDEN + column, part, column < HIDDEN)


def launch(hidden: int) -> dict[str, int]:
    """How to launch for rows of `hidden`.

    A tile is at most 16 rows and 4096 elements, or one longer row; a thread holds 16 elements.
    """
    block = triton.next_power_of_2(hidden)
    rows = min(16, max(1, 4096 // block))
    # Triton 3.10 changes the default of enable_fp_fusion, and the last bits with it
    return {
        "HIDDEN": hidden,
        "BLOCK": block,
        "ROWS": rows,
        "num_warps": max(1, rows * block // 512),
        "enable_fp_fusion": True,
    }


def _programs(device: torch.device) -> int:
    """How many programs share the rows of a backward; the interpreter gets two.

    Six a multiprocessor: registers let one, two or three run there at a time, so that none idles
    at the end, and the parts of the weight's gradient stay a few per cent of what is moved.
    """
    if device.type == "cpu":
        return 2
    return 6 * torch.cuda.get_device_properties(device).multi_processor_count


def _rows(x: Tensor) -> Tensor:
    """`(rows, hidden)` with adjacent elements in a row; a view where the strides allow it."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensor's."""
    device: AbstractContextManager[Any] = torch.cuda.device_of(x)  # type: ignore[no-untyped-call]
    return device
