"""Gated linear units (Shazeer 2020, https://arxiv.org/abs/2002.05202), section 2: act(gate) * up.

With "silu" it is SwiGLU (Llama, Qwen, Mistral), with "gelu" or its tanh approximation GeGLU
(Gemma). Every activation here is act(x) = x * c(x) with c between 0 and 1:

    silu        c = s(x)                                    s(z) = 1 / (1 + exp(-z))
    gelu        c = (1 + erf(x / sqrt(2))) / 2
    gelu_tanh   c = (1 + tanh(z)) / 2 = s(2 z)              z = sqrt(2 / pi) (x + 0.044715 x^3)

so that act'(x) = c + x c'(x), and no tanh is needed, which would lose the tails to rounding.

The forward saves its inputs and nothing else. `glu_linear` adds the projection that follows in a
transformer, y = (act(gate) * up) @ weight^T + bias, as one operator: it does not save the product
act(gate) * up either, the widest tensor of a layer, but writes it again on the way back.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels.fallback import say_once
from magicoder.custom_kernels.hardware import tl, triton
from magicoder.custom_kernels.operator import operator

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")


def glu(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """act(gate) * up, with act(gate) rounded to the dtype first, as transformers does.

    Args:
        gate: any shape, float32, float16 or bfloat16, any strides; fastest where the elements of
            the last dimension are adjacent, such as in one half of a fused projection's output.
        up: like `gate`.
        activation: "silu", "gelu" (exact, by erf) or "gelu_tanh".

    Returns:
        Of the same shape, contiguous. The kernel computes it where it can; otherwise `reference`
        does, which is logged once for each reason.

    Raises:
        ValueError: another activation, or `gate` and `up` differ in shape.
    """
    _check(gate, up, activation)
    reason = unsupported(gate, up)
    if reason is not None:
        say_once("GLU", reason)
        return reference(gate, up, activation)
    y: Tensor = forward(gate, up, activation)
    return y


def glu_linear(
    gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None, activation: str
) -> Tensor:
    """(act(gate) * up) @ weight^T + bias, saving `gate`, `up` and `weight` for the backward.

    Args:
        gate: `(..., inner)`, as for `glu`.
        up: like `gate`.
        weight: `(hidden, inner)`; no gradient is computed for it where it is frozen.
        bias: `(hidden,)` or None.
        activation: as for `glu`.

    Returns:
        `(..., hidden)`. Where the kernel cannot run (or under autocast), `reference` and a linear
        layer of PyTorch compute it, which is logged once for each reason.

    Raises:
        ValueError: as for `glu`, or `weight` or `bias` does not fit.
    """
    _check(gate, up, activation)
    if weight.dim() != 2 or weight.shape[1] != gate.shape[-1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: give (hidden, {gate.shape[-1]}), as wide as "
            "gate's last dimension"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}: give ({weight.shape[0]},) or None")
    reason = unsupported(gate, up, weight, bias)
    if reason is None and torch.is_autocast_enabled(gate.device.type):
        reason = "autocast is on, and the matrix products would not follow it"
    if reason is not None:
        say_once("GLU with its projection", reason)
        return F.linear(reference(gate, up, activation), weight, bias)
    y: Tensor = linear_forward(gate, up, weight, bias, activation)
    return y


def reference(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """The same in PyTorch, as transformers' MLPs compute it."""
    if activation == "silu":
        return F.silu(gate) * up
    return F.gelu(gate, approximate="tanh" if activation == "gelu_tanh" else "none") * up


def unsupported(
    gate: Tensor, up: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> str | None:
    """Why the kernel cannot take these, or None. Looks at nothing that is on the device."""
    reason = hardware.trouble(gate)
    if reason is not None:
        return reason
    for name, other in (("up", up), ("weight", weight), ("bias", bias)):
        if other is not None and other.dtype != gate.dtype:
            return f"gate is {gate.dtype} and {name} {other.dtype}"
        if other is not None and other.device != gate.device:
            return f"gate is on {gate.device} and {name} on {other.device}"
    return None


@operator("magicoder::glu")
def forward(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """The kernel as an operator of PyTorch; see `glu`. The result is contiguous."""
    y = torch.empty_like(gate, memory_format=torch.contiguous_format)
    if y.numel():
        gates, ups = _matrices(gate, up)
        config = launch(gate.dtype)
        strides = gates.stride(0), ups.stride(0)
        with hardware.on(gate):
            grid = _grid(gates, config["BLOCK"])
            forward_kernel[grid](gates, ups, y, gates.shape[1], *strides, activation, **config)
    return y


@operator("magicoder::glu_backward")
def backward(dy: Tensor, gate: Tensor, up: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """The gradients of gate and up, contiguous."""
    dgate, dup = (torch.empty_like(gate, memory_format=torch.contiguous_format) for _ in range(2))
    _run_backward(dy, gate, up, dgate, dup, None, activation)
    return dgate, dup


@operator("magicoder::glu_linear")
def linear_forward(
    gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None, activation: str
) -> Tensor:
    """The kernel and the projection as one operator; see `glu_linear`."""
    return F.linear(forward(gate, up, activation), weight, bias)


@operator("magicoder::glu_linear_backward")
def linear_backward(
    dy: Tensor, gate: Tensor, up: Tensor, weight: Tensor, activation: str, product: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of gate and up, and act(gate) * up again if `product` (else an empty tensor).

    The product's gradient dy @ weight is as large as each of these, so one of them is written over
    it: every element is read before the same program writes in its place.
    """
    over = torch.mm(dy.reshape(-1, dy.shape[-1]), weight).view(gate.shape)
    dgate = torch.empty_like(gate, memory_format=torch.contiguous_format)
    if not product:
        _run_backward(over, gate, up, dgate, over, None, activation)
        return dgate, over, gate.new_empty(0)
    dup = torch.empty_like(dgate)
    _run_backward(over, gate, up, dgate, dup, over, activation)
    return dgate, dup, over


@forward.register_fake
def _(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    return torch.empty_like(gate, memory_format=torch.contiguous_format)


@backward.register_fake
def _(dy: Tensor, gate: Tensor, up: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    empty = torch.empty_like(gate, memory_format=torch.contiguous_format)
    return empty, torch.empty_like(empty)


@linear_forward.register_fake
def _(gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return gate.new_empty(*gate.shape[:-1], weight.shape[0])


@linear_backward.register_fake
def _(
    dy: Tensor, gate: Tensor, up: Tensor, weight: Tensor, activation: str, product: bool
) -> tuple[Tensor, Tensor, Tensor]:
    empty = torch.empty_like(gate, memory_format=torch.contiguous_format)
    return (
        empty,
        torch.empty_like(empty),
        torch.empty_like(empty) if product else empty.new_empty(0),
    )


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    gate, up, ctx.activation = inputs
    ctx.save_for_backward(gate, up)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
    return *backward(dy, *ctx.saved_tensors, ctx.activation), None


def _linear_save(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, str], output: Tensor
) -> None:
    gate, up, weight, _, ctx.activation = inputs
    ctx.save_for_backward(gate, up, weight)


def _linear_backward(
    ctx: Any, dy: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, None]:
    _, _, trains_weight, trains_bias, _ = ctx.needs_input_grad
    gate, up, weight = ctx.saved_tensors
    dgate, dup, product = linear_backward(dy, gate, up, weight, ctx.activation, trains_weight)
    rows = dy.reshape(-1, dy.shape[-1])
    dweight = torch.mm(rows.t(), product.view(-1, weight.shape[1])) if trains_weight else None
    return dgate, dup, dweight, rows.sum(0) if trains_bias else None, None


forward.register_autograd(_backward, setup_context=_save)
linear_forward.register_autograd(_linear_backward, setup_context=_linear_save)


@triton.jit  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    gate, up, y, columns, gate_stride, up_stride,
    ACTIVATION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, column, inside = place(columns, BLOCK)
    x = tl.load(gate + row * gate_stride + column, inside, other=0.0)
    u = tl.load(up + row * up_stride + column, inside, other=0.0).to(tl.float32)
    wide = x.to(tl.float32)
    c, _ = share(wide, ACTIVATION)
    act = (wide * c).to(x.dtype).to(tl.float32)  # transformers rounds here, and after the product
    tl.store(y + row * columns + column, act * u, inside)


@triton.jit  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    dy, gate, up, dgate, dup, product, columns, dy_stride, gate_stride, up_stride,
    ACTIVATION: tl.constexpr, PRODUCT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, column, inside = place(columns, BLOCK)
    dwide = tl.load(dy + row * dy_stride + column, inside, other=0.0).to(tl.float32)
    x = tl.load(gate + row * gate_stride + column, inside, other=0.0)
    u = tl.load(up + row * up_stride + column, inside, other=0.0).to(tl.float32)
    wide = x.to(tl.float32)
    c, slope = share(wide, ACTIVATION)
    act = wide * c
    to = row * columns + column
    tl.store(dgate + to, dwide * u * (c + wide * slope), inside)
    tl.store(dup + to, dwide * act, inside)
    if PRODUCT:
        tl.store(product + to, act.to(x.dtype).to(tl.float32) * u, inside)


@triton.jit  # type: ignore[untyped-decorator]
def place(columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The row and the columns of a program, and which of these exist."""
    blocks = tl.cdiv(columns, BLOCK)
    # int64, as tokens x inner passes 2^31 in long packs
    row = (tl.program_id(0) // blocks).to(tl.int64)
    column = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return row, column, column < columns


@triton.jit  # type: ignore[untyped-decorator]
def share(x, ACTIVATION: tl.constexpr):  # type: ignore[no-untyped-def]
    """c(x) and c'(x) for act(x) = x * c(x), see the top of this module."""
    if ACTIVATION == "gelu":
        c = 0.5 + 0.5 * tl.erf(x * 0.7071067811865476)
        slope = tl.exp(-0.5 * x * x) * 0.3989422804014327
    else:
        z, dz = x, 1.0
        if ACTIVATION == "gelu_tanh":
            square = x * x
            z = x * (1.5957691216057308 + 0.07135481282553995 * square)
            dz = 1.5957691216057308 + 0.21406443847661985 * square
        # where exp reaches infinity s(z) is 0, as it should be; 1 - s(z) is lost to rounding
        c = 1 / (1 + tl.exp(-z))
        slope = c / (1 + tl.exp(z)) * dz
    return c, slope


def launch(dtype: torch.dtype) -> dict[str, int]:
    """How to launch: 128 threads, each with 32 adjacent bytes of every tensor.

    Two 16-byte loads a tensor and thread keep the memory busy, and registers stay few enough for
    full multiprocessors; no chip needs another choice.
    """
    # Triton 3.10 changes the default of enable_fp_fusion, and the last bits with it
    return {"BLOCK": 4096 // dtype.itemsize, "num_warps": 4, "enable_fp_fusion": True}


def _run_backward(
    dy: Tensor,
    gate: Tensor,
    up: Tensor,
    dgate: Tensor,
    dup: Tensor,
    product: Tensor | None,
    activation: str,
) -> None:
    if not gate.numel():
        return
    dys, gates, ups = _matrices(dy, gate, up)
    config = launch(gate.dtype)
    flags = {"ACTIVATION": activation, "PRODUCT": product is not None}
    strides = dys.stride(0), gates.stride(0), ups.stride(0)
    with hardware.on(gate):
        grid = _grid(gates, config["BLOCK"])
        tensors = dys, gates, ups, dgate, dup, dup if product is None else product
        backward_kernel[grid](*tensors, gates.shape[1], *strides, **flags, **config)


def _grid(rows: Tensor, block: int) -> tuple[int]:
    return (len(rows) * triton.cdiv(rows.shape[1], block),)


def _matrices(*tensors: Tensor) -> list[Tensor]:
    """Each as `(rows, columns)` with adjacent columns: views, one long row, where they can be."""
    if all(x.is_contiguous() for x in tensors):
        return [x.view(1, -1) for x in tensors]
    matrices = [x.reshape(-1, x.shape[-1]) for x in tensors]
    return [x if x.stride(1) == 1 else x.contiguous() for x in matrices]


def _check(gate: Tensor, up: Tensor, activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}: give one of {', '.join(ACTIVATIONS)}")
    if gate.shape != up.shape:
        raise ValueError(
            f"gate has shape {tuple(gate.shape)} and up {tuple(up.shape)}: give both the same"
        )
