"""The output projection and its cross-entropy in one, over the rows that are trained on.

    z = softcap((hidden[rows] @ weight.T + bias) * scale),  softcap(x) = c * tanh(x / c) (Gemma 2)
    loss = (1 - e) * (lse(z) - z[target]) + e * (lse(z) - mean(z)) + w * lse(z)^2

with label smoothing e (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7) and the
z-loss w of PaLM (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5). `scale` is
Granite's 1 / logits_scaling. Its gradient with respect to z needs the softmax p of one row only:

    dz = p * (1 + 2 * w * lse) - (1 - e) * onehot(target) - e / classes

so that the forward computes the gradients too, chunk of rows by chunk: logits, dz in their place,
then dhidden = dz @ weight and dweight += dz.T @ hidden. These are three matrix products, none of
them done twice, and no more than one chunk of logits is ever there. The backward multiplies by the
gradient that arrives, in float32, and rounds once.

What is held, beside inputs and outputs, for S rows, V classes and hidden size H. Forward: one
chunk's logits, dhidden of the rows in float32 (4 S H bytes) and dweight in float32 (4 V H bytes);
from the forward to the backward: the last two and nothing else. In the backward they and the
gradients that it returns. Nothing is held for what needs no gradient: with a frozen weight 4 V H
is 0. Chunks may be as large as the weight for nothing, as its gradient in the backward takes as
much when the logits are gone; hence the default of `chunk_bytes`.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels.fallback import say_once
from magicoder.custom_kernels.hardware import tl, triton
from magicoder.custom_kernels.operator import operator

# On an H200 a chunk's read and write of dweight (8 V H bytes) takes as long as the products of 170
# rows. In 128 MiB there are 1280 rows of 49,152 classes in 16 bits: 13% of them.
CHUNK_BYTES = 128 * 2**20
TILE = 128  # rows of a chunk are a multiple, as matrix products work on tiles of as many
LINE = 64  # rows of logits start a multiple of as many elements apart, so that loads are wide
SLICE_BYTES = 2 * 2**20  # what PyTorch takes at a time where it stands in: a core's cache


class Loss(NamedTuple):
    """total: the sum over the targets, a scalar; count: how many were not ignored, int64.

    Both are on the device. Over micro-batches and ranks, add the totals, add the counts, and
    divide once: the mean over the global batch is then exact.
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # a tuple's method, which nobody needs here


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    rows: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_bytes: int | None = None,
) -> Loss:
    """The summed loss of `rows`, and their number; no other row is projected.

    Args:
        hidden: `(..., T, H)`, taken as `(T, H)`; float32, float16, bfloat16 or float64.
        weight: `(V, H)`, as hidden in dtype and device; so is `bias`.
        targets: `(S,)`, int64: the class of each of `rows`, or `ignore_index`. Where it is that,
            the row has no loss and no gradient and is not counted, but its logits are computed:
            leave it out of `rows` instead.
        rows: `(S,)`, int64, strictly increasing: the rows of `(T, H)`. None: all of them.
        bias: `(V,)`.
        label_smoothing: in 0..1, as in torch.nn.functional.cross_entropy.
        z_loss: the weight of lse(logits)^2.
        softcap: logits become softcap * tanh(logits / softcap).
        scale: what logits are multiplied by, before `softcap`.
        chunk_bytes: what one chunk of logits may take. None: 128 MiB, or as much as a weight that
            is trained, if that is more. A chunk has at least one row.

    Give `targets` and `rows` on the host, where a collator makes them: they are checked there and
    copied without waiting. On the device they are read back to be checked, which waits for it.

    Returns:
        `Loss`: total is float32 (float64 for float64) and count int64. The gradient of `total` is
        the same to the bit on each run. It has no second derivative. Where the kernel cannot run
        PyTorch does its part in the same chunks, which is logged once for each reason.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit together, rows or targets out of
            range, an option that means nothing.
    """
    _check_shapes(hidden, weight, targets, rows, bias)
    _check_options(label_smoothing, softcap, chunk_bytes)
    reason = unsupported(hidden)
    if reason is not None:
        say_once("Linear cross-entropy", reason)
    trained = [torch.is_grad_enabled() and x is not None and x.requires_grad
               for x in (hidden, weight, bias)]  # fmt: skip
    if chunk_bytes is None:
        free = weight.numel() * weight.element_size() if trained[1] else 0
        chunk_bytes = max(CHUNK_BYTES, free)
    flat = hidden.reshape(-1, hidden.shape[-1])
    terms = ignore_index, label_smoothing, z_loss, softcap, scale
    total, count, *_ = forward(flat, weight, bias, targets, rows, *terms, chunk_bytes, *trained)
    return Loss(total, count)


def reference(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    rows: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float = 1.0,
) -> Loss:
    """The same in PyTorch, with all logits at once; rows and targets are where hidden is."""
    x = hidden.reshape(-1, hidden.shape[-1])
    logits = F.linear(x if rows is None else x[rows], weight, bias)
    logits = logits.to(_wide(hidden.dtype)) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    total = F.cross_entropy(
        logits,
        targets,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    kept = targets != ignore_index
    total = total + z_loss * logits[kept].logsumexp(1).square().sum()
    return Loss(total, kept.sum())


def unsupported(hidden: Tensor) -> str | None:
    """Why the kernel cannot take these, or None. Looks at nothing that is on the device."""
    return hardware.trouble(hidden)


class Terms(NamedTuple):
    """What makes a loss of a row's logits; see `linear_cross_entropy`.

    gain: what gradients are multiplied by while they are in the dtype of the logits.
    """

    ignore_index: int
    label_smoothing: float
    z_loss: float
    softcap: float | None
    scale: float
    gain: float


@operator("magicoder::linear_cross_entropy")
def forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    rows: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    scale: float,
    chunk_bytes: int,
    for_hidden: bool,
    for_weight: bool,
    for_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The whole as an operator of PyTorch: total, count and what the backward starts from.

    The last three are the gradients of `hidden[rows]`, weight and bias but for one factor,
    `_factor`: float32 (float64 for float64), and empty where not asked for.
    """
    classes, size = weight.shape
    kept = _check_rows(rows, targets, len(hidden), classes, ignore_index)
    rows, targets = _moved(rows, hidden.device), _moved(targets, hidden.device).contiguous()
    terms = Terms(ignore_index, label_smoothing, z_loss, softcap, scale, _gain(hidden.dtype))
    row_function = rows_by_kernel if unsupported(hidden) is None else rows_by_pytorch

    trained = for_hidden or for_weight or for_bias

    losses = hidden.new_empty(len(targets), dtype=_wide(hidden.dtype))
    dhidden = losses.new_empty((len(targets), size) if for_hidden else 0)
    dweight = losses.new_empty((classes, size) if for_weight else 0)
    dbias = losses.new_zeros(classes if for_bias else 0)
    chunk = _rows_in_chunk(len(targets), classes, hidden.element_size(), chunk_bytes)
    buffer = hidden.new_empty((chunk, _padded(classes)))
    buffer[:, classes:] = 0  # the kernel computes there too
    for first in range(0, len(targets), chunk):
        part = slice(first, min(first + chunk, len(targets)))
        x = hidden[part] if rows is None else hidden[rows[part]]
        logits = buffer[: len(x), :classes]
        if bias is None:
            torch.mm(x, weight.t(), out=logits)
        else:
            torch.addmm(bias, x, weight.t(), out=logits)
        row_function(logits, targets[part], losses[part], terms, trained)
        if for_hidden:
            _add_product(dhidden[part], logits, weight, fresh=True)
        if for_weight:
            _add_product(dweight, logits.t(), x, fresh=first == 0)
        if for_bias:
            for some in torch.split(logits, _at_a_time(logits)):
                dbias += some.sum(0, dtype=dbias.dtype)
    if len(targets) == 0:
        dweight.zero_()
    total = losses.sum(dtype=torch.float64).to(losses.dtype)
    count = torch.full((), kept, dtype=torch.int64, device=hidden.device)
    return total, count, dhidden, dweight, dbias


@operator("magicoder::linear_cross_entropy_backward")
def backward(
    dtotal: Tensor,
    dhidden: Tensor,
    dweight: Tensor,
    dbias: Tensor,
    rows: Tensor | None,
    tokens: int,
    factor: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of hidden, weight and bias in `dtype`; empty where the forward left them out.

    Rows of hidden that are not among `rows` get zeros.
    """
    by = dtotal * factor
    of_rows = _rounded(dhidden, by, dtype)
    if rows is not None and dhidden.dim() == 2:
        there = _moved(rows, dhidden.device)
        of_rows = of_rows.new_zeros(tokens, dhidden.shape[1]).index_copy_(0, there, of_rows)
    return of_rows, _rounded(dweight, by, dtype), _rounded(dbias, by, dtype)


@forward.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    rows: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    scale: float,
    chunk_bytes: int,
    for_hidden: bool,
    for_weight: bool,
    for_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    total = hidden.new_empty((), dtype=_wide(hidden.dtype))
    dhidden = total.new_empty((len(targets), hidden.shape[1]) if for_hidden else 0)
    dweight = total.new_empty(weight.shape if for_weight else 0)
    dbias = total.new_empty(len(weight) if for_bias else 0)
    return total, total.new_empty((), dtype=torch.int64), dhidden, dweight, dbias


@backward.register_fake
def _(
    dtotal: Tensor,
    dhidden: Tensor,
    dweight: Tensor,
    dbias: Tensor,
    rows: Tensor | None,
    tokens: int,
    factor: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (tokens, dhidden.shape[1]) if dhidden.dim() == 2 else dhidden.shape
    of_hidden = dhidden.new_empty(shape, dtype=dtype)
    return of_hidden, torch.empty_like(dweight, dtype=dtype), torch.empty_like(dbias, dtype=dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, _, _, _, rows, *_, scale, _, for_hidden, for_weight, for_bias = inputs
    _, *unseen = output
    ctx.mark_non_differentiable(*unseen)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*unseen[1:], rows)
    ctx.wanted = for_hidden, for_weight, for_bias
    ctx.tokens, ctx.dtype = len(hidden), hidden.dtype
    ctx.factor = scale / _gain(hidden.dtype)


def _backward(ctx: Any, dtotal: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "linear_cross_entropy has no second derivative, as its gradient is computed in the "
            "forward: leave out create_graph, or use linear_cross_entropy.reference"
        )
    if dtotal is None:
        return (None,) * 14
    found = backward(dtotal, *ctx.saved_tensors, ctx.tokens, ctx.factor, ctx.dtype)
    wanted = [x if want else None for x, want in zip(found, ctx.wanted, strict=True)]
    return *wanted, *(None,) * 11


forward.register_autograd(_backward, setup_context=_save)


def rows_by_kernel(
    logits: Tensor, targets: Tensor, losses: Tensor, terms: Terms, gradient: bool
) -> None:
    """Write the loss of each row of `logits`, and its gradient in the place of the logits.

    Args:
        logits: `(rows, classes)`, adjacent in a row. Up to the next multiple of `LINE`, a row is
            followed by memory that is read and written, so that each access is 16 bytes wide.
        targets: `(rows,)`, int64.
        losses: `(rows,)`, float32; written.
        gradient: whether to write dz times `terms.gain` over the logits; `scale` is left out.
    """
    capped = terms.softcap is not None
    config = launch(logits.shape[1], hardware.chip(logits.device).name, capped=capped)
    with hardware.on(logits):
        rows_kernel[(len(logits),)](
            logits,
            targets,
            losses,
            logits.stride(0),
            logits.shape[1],
            _padded(logits.shape[1]),
            terms.ignore_index,
            terms.label_smoothing,
            terms.z_loss,
            terms.softcap or 1.0,
            terms.scale,
            terms.gain,
            SMOOTHED=terms.label_smoothing > 0,
            CAPPED=capped,
            GRADIENT=gradient,
            **config,
        )


def rows_by_pytorch(
    logits: Tensor, targets: Tensor, losses: Tensor, terms: Terms, gradient: bool
) -> None:
    """What `rows_by_kernel` does, a few rows at a time, so that they stay in a CPU's cache."""
    parts = (torch.split(x, _at_a_time(logits)) for x in (logits, targets, losses))
    for part, target, loss in zip(*parts, strict=True):
        kept = (target != terms.ignore_index)[:, None]
        index = torch.where(kept, target[:, None], 0)
        z = part.to(losses.dtype)  # the logits themselves where they have that dtype
        if terms.scale != 1:
            z.mul_(terms.scale)
        if terms.softcap is not None:
            bent = z.div_(terms.softcap).tanh_().clone()
            z.mul_(terms.softcap)
        high, at_target = z.amax(1, keepdim=True), z.gather(1, index)
        mean = z.mean(1, keepdim=True) if terms.label_smoothing else high
        total = z.sub_(high).exp_().sum(1, keepdim=True)
        log = total.log()
        miss = (1 - terms.label_smoothing) * (high - at_target)
        miss += terms.label_smoothing * (high - mean) + log + terms.z_loss * (high + log) ** 2
        loss.copy_(torch.where(kept, miss, 0).squeeze(1))
        if not gradient:
            continue
        seen = kept.to(z.dtype) * terms.gain
        z.mul_(seen * (1 + 2 * terms.z_loss * (high + log)) / total)
        if terms.label_smoothing:
            z.sub_(seen * (terms.label_smoothing / z.shape[1]))
        z.scatter_add_(1, index, seen * (terms.label_smoothing - 1))
        if terms.softcap is not None:
            z.mul_(bent.square_().neg_().add_(1))
        if z.dtype != part.dtype:
            part.copy_(z)


@triton.jit  # type: ignore[untyped-decorator]
def rows_kernel(  # type: ignore[no-untyped-def]
    logits, targets, losses, stride, classes, padded,
    ignore_index, smoothing, z_loss, softcap, scale, gain,
    SMOOTHED: tl.constexpr, CAPPED: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # int64, as rows x classes passes 2^31 in a large chunk
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    target = tl.load(targets + row)
    kept = target != ignore_index
    column = tl.arange(0, BLOCK)

    # Once over the row: its maximum, the sum of exp(z - maximum) and, for the mean, of z
    high = tl.full((), -3.4028235e38, tl.float32)  # finite, as a block may be -inf throughout
    exponentials = tl.zeros([BLOCK], tl.float32)
    whole = 0.0
    for first in range(0, classes, BLOCK):
        inside = first + column < classes
        z = tl.load(logits + first + column, first + column < padded).to(tl.float32) * scale
        if CAPPED:
            z = softcap * tanh(z / softcap)
        if SMOOTHED:
            whole += tl.sum(tl.where(inside, z, 0.0), 0)
        z = tl.where(inside, z, -float("inf"))
        higher = tl.maximum(high, tl.max(z, 0))
        exponentials = exponentials * tl.exp(high - higher) + tl.exp(z - higher)
        high = higher
    total = tl.sum(exponentials, 0)
    log = tl.log(total)

    # The loss; differences to the maximum keep the digits that lse - z would lose
    at_target = tl.load(logits + target, kept, other=0.0).to(tl.float32) * scale
    if CAPPED:
        at_target = softcap * tanh(at_target / softcap)
    loss = log + (1 - smoothing) * (high - at_target) + z_loss * (high + log) * (high + log)
    if SMOOTHED:
        loss += smoothing * (high - whole / classes)
    tl.store(losses + row, tl.where(kept, loss, 0.0))

    # Once more: the gradient in the place of the logits
    if GRADIENT:
        share = (1 + 2 * z_loss * (high + log)) / total
        for first in range(0, classes, BLOCK):
            inside = first + column < padded
            z = tl.load(logits + first + column, inside).to(tl.float32) * scale
            if CAPPED:
                bent = tanh(z / softcap)
                z = softcap * bent
            dz = tl.exp(z - high) * share
            if SMOOTHED:
                dz -= smoothing / classes
            dz = tl.where(first + column == target, dz - (1 - smoothing), dz)
            if CAPPED:
                dz *= 1 - bent * bent
            tl.store(logits + first + column, tl.where(kept, dz * gain, 0.0), inside)


@triton.jit  # type: ignore[untyped-decorator]
def tanh(x):  # type: ignore[no-untyped-def]
    """To float32's last bits: by exp(-2|x|), and near 0, where 1 - exp cancels, by a polynomial."""
    square = x * x
    near = -0.00570498633 * square + 0.0206390866  # minimax for (tanh(x)/x - 1)/x^2, |x| < 0.625
    near = (near * square - 0.0537397148) * square + 0.133314422
    near = x + x * square * (near * square - 0.333332819)
    decay = tl.exp(-2 * tl.abs(x))
    far = (1 - decay) / (1 + decay)
    return tl.where(square < 0.390625, near, tl.where(x < 0, -far, far))


def launch(classes: int, chip: str, *, capped: bool) -> dict[str, int]:
    """How to launch for rows of `classes`: one program a row, in blocks of up to 512 threads.

    A thread holds 16 elements of a block: in 16 bits two loads of 16 bytes, which are in flight
    together; other programs of the multiprocessor fill the time of the reductions. With a cap it
    holds 8, as tanh takes registers too and would spill.
    """
    elements = 8 if capped else 16
    block = min(512 * elements, triton.next_power_of_2(classes))
    threads = 64 if chip.startswith("gfx") else 32  # in a warp
    # Triton 3.10 changes the default of enable_fp_fusion, and the last bits with it
    return {
        "BLOCK": block,
        "num_warps": max(1, block // (elements * threads)),
        "enable_fp_fusion": True,
    }


def _add_product(total: Tensor, a: Tensor, b: Tensor, *, fresh: bool) -> None:
    """total += a @ b, or total = a @ b if `fresh`; in float32 where total is."""
    if a.dtype == total.dtype:
        torch.addmm(total, a, b, beta=0 if fresh else 1, out=total)
    elif a.is_cuda and fresh:
        torch.mm(a, b, out_dtype=total.dtype, out=total)
    elif a.is_cuda:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:  # A CPU has no such product: a few rows at a time are rounded, then added
        if a.dtype == torch.float16:  # widened: 20 times as fast there, and `_gain` cannot overflow
            b = b.float()
        step = _at_a_time(total)
        for some, into in zip(torch.split(a, step), torch.split(total, step), strict=True):
            product = some.to(b.dtype) @ b
            if fresh:
                into.copy_(product)
            else:
                into.add_(product)


def _rounded(x: Tensor, by: Tensor, dtype: torch.dtype) -> Tensor:
    """x * by, rounded once to `dtype`, with no other tensor of that size."""
    result = torch.empty_like(x, dtype=dtype)
    step = _at_a_time(x)
    for some, into in zip(torch.split(x, step), torch.split(result, step), strict=True):
        torch.mul(some, by, out=into)
    return result


def _at_a_time(x: Tensor) -> int:
    """Rows to take at once: on a CPU, which casts to a tensor of its own first, a few."""
    if x.is_cuda:
        return max(1, len(x))
    return max(1, SLICE_BYTES // (4 * max(1, x[:1].numel())))


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _gain(dtype: torch.dtype) -> float:
    """A power of two that lifts most of a softmax over float16's smallest normal number, 6e-5."""
    return 1024.0 if dtype == torch.float16 else 1.0


def _padded(classes: int) -> int:
    return -(-classes // LINE) * LINE


def _rows_in_chunk(rows: int, classes: int, element: int, chunk_bytes: int) -> int:
    """How many rows a chunk has: as many as fit, then fewer if that makes no more chunks."""
    most = max(1, chunk_bytes // (_padded(classes) * element))
    if most > TILE:
        most -= most % TILE
    chunks = max(1, math.ceil(rows / most))
    even = math.ceil(math.ceil(rows / chunks) / TILE) * TILE
    return max(1, min(most, even, rows))


def _moved(x: Tensor | None, device: torch.device) -> Any:
    """To `device`, without waiting for it."""
    if x is None or x.device == device:
        return x
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()  # else the copy would wait
    return x.to(device, non_blocking=True)


def _check_rows(
    rows: Tensor | None, targets: Tensor, tokens: int, classes: int, ignore_index: int
) -> int:
    """Refuse rows or targets out of range. How many targets are not ignored."""
    targets = targets.cpu()
    kept = targets != ignore_index
    wrong = kept & ((targets < 0) | (targets >= classes))
    if wrong.any():
        place = int(wrong.nonzero()[0])
        raise ValueError(
            f"targets[{place}] is {int(targets[place])}: give a class in 0..{classes - 1}, or "
            f"{ignore_index}, the ignore_index"
        )
    if rows is not None and len(rows):
        rows = rows.cpu()
        if int(rows[0]) < 0 or int(rows[-1]) >= tokens or not (rows[1:] > rows[:-1]).all():
            raise ValueError(
                f"rows must increase strictly and lie in 0..{tokens - 1}, the rows of hidden: "
                "sort them, and take each once"
            )
    return int(kept.sum())


def _check_shapes(
    hidden: Tensor, weight: Tensor, targets: Tensor, rows: Tensor | None, bias: Tensor | None
) -> None:
    if hidden.dim() < 2 or not hidden.is_floating_point():
        raise ValueError(
            f"hidden is {hidden.dtype} of shape {tuple(hidden.shape)}: give floating-point "
            "(..., T, H)"
        )
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1] or not weight.numel():
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: give (V, {hidden.shape[-1]}), as hidden is "
            f"{tuple(hidden.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}: give ({len(weight)},)")
    for name, x in (("weight", weight), ("bias", bias)):
        if x is not None and (x.dtype != hidden.dtype or x.device != hidden.device):
            raise ValueError(
                f"{name} is {x.dtype} on {x.device}, hidden {hidden.dtype} on {hidden.device}: "
                "cast or move one of them"
            )
    for name, index in (("targets", targets), ("rows", rows)):
        if index is not None and (index.dim() != 1 or index.dtype != torch.int64):
            raise ValueError(
                f"{name} is {index.dtype} of shape {tuple(index.shape)}: give int64 of one "
                "dimension"
            )
        if index is not None and index.is_meta and not hidden.is_meta:
            raise ValueError(f"{name} is on meta and holds no values: give it on the host")
    supervised = hidden[..., 0].numel() if rows is None else len(rows)
    if len(targets) != supervised:
        what = "hidden has" if rows is None else "rows are"
        raise ValueError(f"targets are {len(targets)}, and {what} {supervised}: give one a row")


def _check_options(label_smoothing: float, softcap: float | None, chunk_bytes: int | None) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}: give 0..1")
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"softcap is {softcap}: give a positive number, or None for none")
    if chunk_bytes is not None and chunk_bytes < 1:
        raise ValueError(f"chunk_bytes is {chunk_bytes}: give a positive number of bytes")
