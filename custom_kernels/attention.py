"""Document-causal attention over a pack: FlashAttention-2 (Dao 2023, arXiv 2307.08691), varlen.

out = softmax(cap(q k^T * scale)) v, where a token sees the tokens of its own document up to itself,
or the last `window` of them, and cap(s) = softcap * tanh(s / softcap), if there is a softcap. The
forward walks over the keys of a tile of queries with a running maximum and sum (Algorithm 1) and
keeps only the log of the sum (lse). The backward computes the probabilities again (Algorithm 2), in
one kernel for dq and one for dk and dv, so that each sum has one fixed order and needs no atomics.

A list of tiles, made on the device from cu_seqlens, says what each program works on. A tile lies in
one document and a program walks over that document alone, so nothing is computed to be masked away
but at the diagonal, a window's edge and a document's end. What a document gives therefore does not
depend on its neighbours by one bit.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.utils.weak import WeakIdKeyDictionary

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels.fallback import say_once
from magicoder.custom_kernels.hardware import tl, triton
from magicoder.custom_kernels.operator import operator

LOG2_E = math.log2(math.e)
# PyTorch 2.11 takes fewer heads of k and v without being told
GROUPED: dict[str, Any] = (
    {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
)
MAX_HEAD_DIM = 128  # the accumulators of a wider head spill

# Milliseconds of forward plus backward by chip and head_dim, as `python -m benchmarks.kernels`
# measured them. Not measured: PyTorch's varlen attention where it can serve.
MEASURED: dict[tuple[str, int], dict[str, float]] = {
    ("sm_90", 64): {"triton": 2.129, "varlen": 4.155},
    ("sm_90", 128): {"triton": 2.588, "varlen": 3.97},
}


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    lengths: Sequence[int] | None = None,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Causal attention inside each document of a pack.

    Args:
        q: `(T, Hq, D)`; any strides with adjacent elements in a head (others are copied).
        k, v: `(T, Hk, D)`, the same; each of their heads serves Hq / Hk heads of q in a row.
        cu_seqlens: `(documents + 1,)` int32 on q's device: where documents begin, and T at the end.
            A document may be empty.
        lengths: the documents' lengths in tokens, on the host. They are believed to be those of
            cu_seqlens where it is on a GPU, and nothing waits for the device. Without them
            cu_seqlens is read back, once for the same unchanged tensor.
        scale: what q k^T is multiplied by; 1 / sqrt(D) unless given.
        window: how many tokens a token sees, itself included; all before it unless given.
        softcap: bounds the scores, as Gemma 2 does.

    Returns:
        `(T, Hq, D)`, contiguous. The Triton kernels or PyTorch's varlen attention compute it, as
        `MEASURED` says, or else `reference`, which is logged once for each reason. PyTorch's varlen
        attention has a deterministic backward only under torch.use_deterministic_algorithms(True).

    Raises:
        ValueError: an argument makes no sense; its name is in the message.
    """
    _check(q, k, v, cu_seqlens, lengths, scale, window, softcap)
    name, reason = choice(q, lengths, softcap)
    if reason is not None:
        say_once("packed attention", reason)
    return IMPLEMENTATIONS[name](
        q, k, v, cu_seqlens, lengths, scale=scale, window=window, softcap=softcap
    )


def choice(
    q: Tensor, lengths: Sequence[int] | None, softcap: float | None
) -> tuple[str, str | None]:
    """The name of the implementation for these, and why it is only PyTorch's, or None."""
    reason = unsupported(q)
    if varlen_unsupported(q, lengths, softcap) is not None:
        return ("triton", None) if reason is None else ("reference", reason)
    if reason is not None:
        return "varlen", None
    measured = MEASURED.get((hardware.chip(q.device).name, q.shape[-1]), {"varlen": 0.0})
    return min(measured, key=lambda name: measured[name]), None


def unsupported(q: Tensor) -> str | None:
    """Why the Triton kernels cannot take these, or None. Looks at nothing that is on the device."""
    if not 0 < q.shape[-1] <= MAX_HEAD_DIM:
        return f"the head_dim {q.shape[-1]} is not in 1..{MAX_HEAD_DIM}"
    return hardware.trouble(q)


def varlen_unsupported(
    q: Tensor, lengths: Sequence[int] | None, softcap: float | None
) -> str | None:
    """Why PyTorch's varlen attention cannot take these, or None."""
    chip = hardware.chip(q.device).name
    if not chip.startswith("sm_") or int(chip.removeprefix("sm_")) < 80:
        return "it needs an NVIDIA GPU of compute capability 8.0"
    if q.dtype not in (torch.float16, torch.bfloat16):
        return f"it does not take {q.dtype}"
    if q.shape[-1] > 256 or q.shape[-1] % 8:
        return f"it does not take a head_dim of {q.shape[-1]}"
    if softcap is not None:
        return "it has no softcap"
    if not any(lengths or ()):
        return "it must know the longest document on the host"
    return None


def kernels(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    lengths: Sequence[int] | None = None,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The Triton kernels; see `packed_attention`."""
    if lengths is not None:
        lengths = list(lengths)
    out: Tensor = forward(q, k, v, cu_seqlens, lengths, _scale(q, scale), window, softcap)[0]
    return out


def varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    lengths: Sequence[int] | None = None,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """PyTorch's kernel for all documents; see `packed_attention`."""
    longest = max(lengths or (0,))
    sees = (-1 if window is None else window - 1, 0)
    tensors = q, k, v, cu_seqlens, cu_seqlens
    out = varlen_attn(*tensors, longest, longest, scale=scale, window_size=sees, **GROUPED)
    assert isinstance(out, Tensor)  # noqa: S101
    return out


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    lengths: Sequence[int] | None = None,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The same in PyTorch, one document after the other; see `packed_attention`."""
    if lengths is None:
        lengths = _lengths(cu_seqlens, len(q))
    documents = [q[:0]]
    split = (states.split_with_sizes(list(lengths)) for states in (q, k, v))
    for states in zip(*split, strict=True):
        if len(states[0]):
            query, key, value = (x.transpose(0, 1)[None] for x in states)
            out = _document(query, key, value, _scale(q, scale), window, softcap)
            documents.append(out[0].transpose(0, 1))
    return torch.cat(documents)


IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "triton": kernels,
    "varlen": varlen,
    "reference": reference,
}


def _document(
    q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """`reference` for one document; `(1, heads, tokens, head_dim)`."""
    tokens = q.shape[2]
    how: dict[str, Any] = {"scale": scale, "enable_gqa": True}
    if softcap is None and (window is None or window >= tokens):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, **how)
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).tril()
    if window is not None:
        seen = seen.triu(1 - window)
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, seen, **how)
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = softcap * torch.tanh(q @ k.transpose(-1, -2) * scale / softcap)
    scores = scores.masked_fill(~seen, -torch.inf)
    wide = torch.promote_types(q.dtype, torch.float32)
    return torch.softmax(scores, -1, dtype=wide).to(q.dtype) @ v


def _scale(q: Tensor, scale: float | None) -> float:
    return q.shape[-1] ** -0.5 if scale is None else scale


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    lengths: Sequence[int] | None,
    scale: float | None,
    window: int | None,
    softcap: float | None,
) -> None:
    """Refuse what no computation could take; nothing on the device is looked at."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 3:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be (T, heads, head_dim)")
        if x.dtype != q.dtype or x.device != q.device:
            raise ValueError(f"{name} is {x.dtype} on {x.device}, and q {q.dtype} on {q.device}")
    if k.shape != v.shape:
        raise ValueError(f"v has shape {tuple(v.shape)}, and k {tuple(k.shape)}: make them equal")
    tokens, heads, head_dim = q.shape
    if (k.shape[0], k.shape[2]) != (tokens, head_dim):
        raise ValueError(f"k has shape {tuple(k.shape)}; it must be ({tokens}, heads, {head_dim})")
    if not k.shape[1] or heads % k.shape[1]:
        raise ValueError(f"q has {heads} heads; it must be a multiple of k's {k.shape[1]}")
    if cu_seqlens.ndim != 1 or not len(cu_seqlens) or cu_seqlens.dtype != torch.int32:
        found = f"{cu_seqlens.dtype} of shape {tuple(cu_seqlens.shape)}"
        raise ValueError(f"cu_seqlens is {found}; it must be int32 of shape (documents + 1,)")
    if cu_seqlens.device != q.device:
        raise ValueError(f"cu_seqlens is on {cu_seqlens.device}; move it to q's {q.device}")
    if lengths is not None:
        if len(lengths) != len(cu_seqlens) - 1:
            documents = len(cu_seqlens) - 1
            raise ValueError(f"lengths has {len(lengths)} documents, and cu_seqlens {documents}")
        if any(length < 0 for length in lengths) or sum(lengths) != tokens:
            raise ValueError(f"lengths must be at least 0 and sum to the {tokens} tokens of q")
        on_host = cu_seqlens.device.type == "cpu" and not torch.compiler.is_compiling()
        if on_host and _lengths(cu_seqlens, tokens) != list(lengths):
            raise ValueError("lengths are not those of cu_seqlens: make both of the same documents")
    if window is not None and window < 1:
        raise ValueError(f"window is {window}; it must be at least 1: a token sees itself")
    for name, number in (("scale", scale), ("softcap", softcap)):
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"{name} is {number}; it must be a positive number")


def _lengths(cu_seqlens: Tensor, tokens: int) -> list[int]:
    """The documents' lengths, read back from the device; they must cover the pack."""
    edges = cu_seqlens.tolist()
    lengths = [after - before for before, after in itertools.pairwise(edges)]
    if edges[0] != 0 or edges[-1] != tokens or min(lengths, default=0) < 0:
        raise ValueError(
            f"cu_seqlens goes from {edges[0]} to {edges[-1]}; "
            f"it must rise from 0 to the {tokens} tokens of q"
        )
    return lengths


def tiles(cu_seqlens: Tensor, tokens: int, block: int) -> Tensor:
    """What each program works on: `(tiles, 3)` int32 on the device, made without waiting for it.

    A row is where a document begins in the pack, its length, and where in the document the tile
    begins. A document of n tokens has ceil(n / block) tiles. Those with the longest history come
    first, so that no program with much work is left for the end. The host only knows how many tiles
    there are at most; the surplus rows are zero and come last.
    """
    edges = cu_seqlens.clamp(0, tokens)  # no tile lies outside the pack, whatever cu_seqlens says
    begins, lengths = edges[:-1], edges.diff().clamp(min=0)
    counts = (lengths + block - 1) // block
    ends = counts.cumsum(0)
    index = torch.arange(_most_tiles(cu_seqlens, tokens, block), device=cu_seqlens.device)
    document = torch.searchsorted(ends, index, right=True)
    real = document < len(lengths)
    document = document.clamp(max=len(lengths) - 1)
    first = (index - (ends - counts)[document]) * block
    table = torch.stack([begins[document], lengths[document], first], 1) * real[:, None]
    heaviest = first.where(real, -1).argsort(descending=True, stable=True)
    return table[heaviest].to(torch.int32)


def _most_tiles(cu_seqlens: Tensor, tokens: int, block: int) -> int:
    return -(-tokens // block) + len(cu_seqlens) - 1


# What was made of a cu_seqlens of some version; the layers of a model ask for the same.
_made: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _once(cu_seqlens: Tensor, key: object, make: Callable[[], Any]) -> Any:
    """What `make` gives, made once for each key while `cu_seqlens` is not written to."""
    capturing = cu_seqlens.is_cuda and torch.cuda.is_current_stream_capturing()
    if capturing or cu_seqlens.is_inference():  # a graph must make its own; no version is kept
        return make()
    # another stream would not wait for what this one makes
    stream = torch.cuda.current_stream(cu_seqlens.device) if cu_seqlens.is_cuda else None
    version, made = _made.get(cu_seqlens, (None, {}))  # type: ignore[no-untyped-call]
    if version != cu_seqlens._version:
        made = {}
        _made[cu_seqlens] = cu_seqlens._version, made
    if (key, stream) not in made:
        made[key, stream] = make()
    return made[key, stream]


@operator("magicoder::packed_attention")
def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    lengths: Sequence[int] | None,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """The kernel as an operator of PyTorch; see `packed_attention`.

    The second result is lse, `(Hq, T)` float32: the log of the sum of the exponentials, base 2.
    """
    tokens, heads, head_dim = q.shape
    if lengths is None:
        _once(cu_seqlens, tokens, lambda: _lengths(cu_seqlens, tokens))
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse = torch.empty((heads, tokens), dtype=torch.float32, device=q.device)
    if out.numel():
        q, k, v = map(_strided, (q, k, v))
        config = launch("forward", head_dim, q.dtype, hardware.chip(q.device).name)
        table = _tiles(cu_seqlens, tokens, config["BLOCK_M"])
        with hardware.on(q):
            forward_kernel[(len(table) * heads,)](
                q, k, v, out, lse, table, tokens, *_strides(q, k, v),
                *_factors(scale, softcap), window or 0, HEADS=heads, GROUP=heads // k.shape[1],
                WINDOW=window is not None, SOFTCAP=softcap is not None, **config,
            )  # fmt: skip
    return out, lse


@operator("magicoder::packed_attention_backward")
def backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v, contiguous; the same to the bit on each run."""
    tokens, heads, head_dim = q.shape
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    delta = torch.empty_like(lse)
    if dq.numel():
        q, k, v, dout = map(_strided, (q, k, v, dout))
        chip = hardware.chip(q.device).name
        numbers = tokens, *_strides(q, k, v, dout), *_factors(scale, softcap), scale, window or 0
        options: dict[str, Any] = {"HEADS": heads, "GROUP": heads // k.shape[1]}
        options |= {"WINDOW": window is not None, "SOFTCAP": softcap is not None}
        with hardware.on(q):
            config = launch("dq", head_dim, q.dtype, chip)
            table = _tiles(cu_seqlens, tokens, config["BLOCK_M"])
            dq_kernel[(len(table) * heads,)](
                q, k, v, dout, out, lse, delta, dq, table, *numbers, **options, **config
            )
            config = launch("dk_dv", head_dim, q.dtype, chip)
            table = _tiles(cu_seqlens, tokens, config["BLOCK_N"])
            dk_dv_kernel[(len(table) * k.shape[1],)](
                q, k, v, dout, lse, delta, dk, dv, table, *numbers, **options, **config
            )
    return dq, dk, dv


@forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    lengths: Sequence[int] | None,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    return out, q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@backward.register_fake
def _(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    return dq, dk, dv


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, cu_seqlens, _, *ctx.numbers = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, cu_seqlens)


def _backward(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *backward(dout, *ctx.saved_tensors, *ctx.numbers), None, None, None, None, None


forward.register_autograd(_backward, setup_context=_save)


@triton.jit  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    q, k, v, out, lse, tiles, tokens,
    q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    inner, outer, window,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0) % HEADS
    begin, length, first = _tile(tiles, tl.program_id(0) // HEADS)
    if first >= length:
        return
    row = first + tl.arange(0, BLOCK_M)
    q_block = _block(q, q_stride, q_head_stride, begin, head, WIDTH, BLOCK_M)
    k_block = _block(k, k_stride, k_head_stride, begin, head // GROUP, WIDTH, BLOCK_N)
    v_block = _block(v, v_stride, v_head_stride, begin, head // GROUP, WIDTH, BLOCK_N)
    queries = _load(q_block, q_stride, first, length, HEAD_DIM, WIDTH, BLOCK_M, True)
    # finite, so that a row that has seen nothing yet (window) is exp2(-inf - most) = 0, not NaN
    most = tl.full([BLOCK_M], -3.4e38, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mean = tl.zeros([BLOCK_M, WIDTH], tl.float32)
    oldest, whole = _keys_before(first, window, WINDOW, BLOCK_M, BLOCK_N)
    if WINDOW:
        most, total, mean = _attend(
            most, total, mean, queries, k_block, v_block, k_stride, v_stride, row, length,
            oldest, whole, inner, outer, window, WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_N, True,
        )  # fmt: skip
    most, total, mean = _attend(
        most, total, mean, queries, k_block, v_block, k_stride, v_stride, row, length,
        whole, first, inner, outer, window, WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_N, False,
    )  # fmt: skip
    most, total, mean = _attend(
        most, total, mean, queries, k_block, v_block, k_stride, v_stride, row, length,
        first, tl.minimum(first + BLOCK_M, length), inner, outer, window,
        WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_N, True,
    )  # fmt: skip
    out_block = _block(out, HEADS * HEAD_DIM, HEAD_DIM, begin, head, WIDTH, BLOCK_M)
    _store(
        out_block, HEADS * HEAD_DIM, mean / total[:, None], first, length, HEAD_DIM, WIDTH, BLOCK_M
    )
    lse += head.to(tl.int64) * tokens + begin
    tl.store(lse + row, most + tl.log2(total), row < length)


@triton.jit  # type: ignore[untyped-decorator]
def dq_kernel(  # type: ignore[no-untyped-def]
    q, k, v, dout, out, lse, delta, dq, tiles, tokens,
    q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    dout_stride, dout_head_stride, inner, outer, scale, window,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0) % HEADS
    begin, length, first = _tile(tiles, tl.program_id(0) // HEADS)
    if first >= length:
        return
    row = first + tl.arange(0, BLOCK_M)
    q_block = _block(q, q_stride, q_head_stride, begin, head, WIDTH, BLOCK_M)
    k_block = _block(k, k_stride, k_head_stride, begin, head // GROUP, WIDTH, BLOCK_N)
    v_block = _block(v, v_stride, v_head_stride, begin, head // GROUP, WIDTH, BLOCK_N)
    dout_block = _block(dout, dout_stride, dout_head_stride, begin, head, WIDTH, BLOCK_M)
    out_block = _block(out, HEADS * HEAD_DIM, HEAD_DIM, begin, head, WIDTH, BLOCK_M)
    dq_block = _block(dq, HEADS * HEAD_DIM, HEAD_DIM, begin, head, WIDTH, BLOCK_M)
    queries = _load(q_block, q_stride, first, length, HEAD_DIM, WIDTH, BLOCK_M, True)
    grads = _load(dout_block, dout_stride, first, length, HEAD_DIM, WIDTH, BLOCK_M, True)
    means = _load(out_block, HEADS * HEAD_DIM, first, length, HEAD_DIM, WIDTH, BLOCK_M, True)
    offset = head.to(tl.int64) * tokens + begin + row
    logs = tl.load(lse + offset, row < length, other=0.0)
    # the part of the softmax's gradient that is common to a row; dk_dv_kernel reads it too
    common = tl.sum(grads.to(tl.float32) * means.to(tl.float32), 1)
    tl.store(delta + offset, common, row < length)
    sums = tl.zeros([BLOCK_M, WIDTH], tl.float32)
    oldest, whole = _keys_before(first, window, WINDOW, BLOCK_M, BLOCK_N)
    if WINDOW:
        sums = _add_dq(
            sums, queries, grads, logs, common, k_block, v_block, k_stride, v_stride, row, length,
            oldest, whole, inner, outer, window, WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_N, True,
        )  # fmt: skip
    sums = _add_dq(
        sums, queries, grads, logs, common, k_block, v_block, k_stride, v_stride, row, length,
        whole, first, inner, outer, window, WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_N, False,
    )  # fmt: skip
    sums = _add_dq(
        sums, queries, grads, logs, common, k_block, v_block, k_stride, v_stride, row, length,
        first, tl.minimum(first + BLOCK_M, length), inner, outer, window,
        WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_N, True,
    )  # fmt: skip
    _store(dq_block, HEADS * HEAD_DIM, sums * scale, first, length, HEAD_DIM, WIDTH, BLOCK_M)


@triton.jit  # type: ignore[untyped-decorator]
def dk_dv_kernel(  # type: ignore[no-untyped-def]
    q, k, v, dout, lse, delta, dk, dv, tiles, tokens,
    q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride,
    dout_stride, dout_head_stride, inner, outer, scale, window,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    KEY_HEADS: tl.constexpr = HEADS // GROUP
    key_head = tl.program_id(0) % KEY_HEADS
    begin, length, first = _tile(tiles, tl.program_id(0) // KEY_HEADS)
    if first >= length:
        return
    # the document's tiles backwards: here those with the most after them come first
    first = (tl.cdiv(length, BLOCK_N) - 1) * BLOCK_N - first
    key = first + tl.arange(0, BLOCK_N)
    k_block = _block(k, k_stride, k_head_stride, begin, key_head, WIDTH, BLOCK_N)
    v_block = _block(v, v_stride, v_head_stride, begin, key_head, WIDTH, BLOCK_N)
    keys = _load(k_block, k_stride, first, length, HEAD_DIM, WIDTH, BLOCK_N, True)
    values = _load(v_block, v_stride, first, length, HEAD_DIM, WIDTH, BLOCK_N, True)
    dk_sums = tl.zeros([BLOCK_N, WIDTH], tl.float32)
    dv_sums = tl.zeros([BLOCK_N, WIDTH], tl.float32)
    after = first + BLOCK_N  # queries before this are at the diagonal
    whole = length  # behind the last query that sees every key of the tile
    last = length  # behind the last query that sees one of them
    if WINDOW:
        whole = after + tl.maximum(first + window - after, 0) // BLOCK_M * BLOCK_M
        last = tl.minimum(length, after - 1 + window)
    for member in range(GROUP):
        head = key_head * GROUP + member
        q_block = _block(q, q_stride, q_head_stride, begin, head, WIDTH, BLOCK_M)
        dout_block = _block(dout, dout_stride, dout_head_stride, begin, head, WIDTH, BLOCK_M)
        offset = tl.cast(head, tl.int64) * tokens + begin
        dk_sums, dv_sums = _add_dk_dv(
            dk_sums, dv_sums, keys, values, q_block, dout_block, q_stride, dout_stride,
            lse + offset, delta + offset, key, length, first, tl.minimum(after, length),
            inner, outer, window, WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_M, True,
        )  # fmt: skip
        dk_sums, dv_sums = _add_dk_dv(
            dk_sums, dv_sums, keys, values, q_block, dout_block, q_stride, dout_stride,
            lse + offset, delta + offset, key, length, after, tl.minimum(whole, length),
            inner, outer, window, WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_M, False,
        )  # fmt: skip
        if WINDOW:
            dk_sums, dv_sums = _add_dk_dv(
                dk_sums, dv_sums, keys, values, q_block, dout_block, q_stride, dout_stride,
                lse + offset, delta + offset, key, length, whole, last,
                inner, outer, window, WINDOW, SOFTCAP, HEAD_DIM, WIDTH, BLOCK_M, True,
            )  # fmt: skip
    stride = KEY_HEADS * HEAD_DIM
    dk_block = _block(dk, stride, HEAD_DIM, begin, key_head, WIDTH, BLOCK_N)
    dv_block = _block(dv, stride, HEAD_DIM, begin, key_head, WIDTH, BLOCK_N)
    _store(dk_block, stride, dk_sums * scale, first, length, HEAD_DIM, WIDTH, BLOCK_N)
    _store(dv_block, stride, dv_sums, first, length, HEAD_DIM, WIDTH, BLOCK_N)


@triton.jit  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    most, total, mean, queries, k_block, v_block, k_stride, v_stride, row, length,
    start, stop, inner, outer, window,
    WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_N: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Take the keys of [start, stop) into the running maximum, sum and weighted sum of values."""
    for at in range(start, stop, BLOCK_N):
        keys = _load(k_block, k_stride, at, length, HEAD_DIM, WIDTH, BLOCK_N, MASKED)
        scores = _scores(tl.dot(queries, tl.trans(keys), input_precision="ieee"), inner, SOFTCAP)
        if MASKED:
            key = at + tl.arange(0, BLOCK_N)
            seen = _sees(row[:, None], key[None, :], window, WINDOW)
            scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1) * outer)
        weights = tl.exp2(scores * outer - higher[:, None])
        shrink = tl.exp2(most - higher)
        most = higher
        total = total * shrink + tl.sum(weights, 1)
        values = _load(v_block, v_stride, at, length, HEAD_DIM, WIDTH, BLOCK_N, MASKED)
        mean = mean * shrink[:, None]
        mean = tl.dot(weights.to(values.dtype), values, mean, input_precision="ieee")
    return most, total, mean


@triton.jit  # type: ignore[untyped-decorator]
def _add_dq(  # type: ignore[no-untyped-def]
    sums, queries, grads, logs, common, k_block, v_block, k_stride, v_stride, row, length,
    start, stop, inner, outer, window,
    WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_N: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add what the keys of [start, stop) give to dq."""
    for at in range(start, stop, BLOCK_N):
        keys = _load(k_block, k_stride, at, length, HEAD_DIM, WIDTH, BLOCK_N, MASKED)
        values = _load(v_block, v_stride, at, length, HEAD_DIM, WIDTH, BLOCK_N, MASKED)
        scores = _scores(tl.dot(queries, tl.trans(keys), input_precision="ieee"), inner, SOFTCAP)
        weights = tl.exp2(scores * outer - logs[:, None])
        if MASKED:
            key = at + tl.arange(0, BLOCK_N)
            weights = tl.where(_sees(row[:, None], key[None, :], window, WINDOW), weights, 0.0)
        dweights = tl.dot(grads, tl.trans(values), input_precision="ieee")
        dscores = weights * (dweights - common[:, None])
        if SOFTCAP:
            dscores *= 1 - scores * scores
        sums = tl.dot(dscores.to(keys.dtype), keys, sums, input_precision="ieee")
    return sums


@triton.jit  # type: ignore[untyped-decorator]
def _add_dk_dv(  # type: ignore[no-untyped-def]
    dk_sums, dv_sums, keys, values, q_block, dout_block, q_stride, dout_stride,
    lse, delta, key, length, start, stop, inner, outer, window,
    WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add what the queries of [start, stop) give to dk and dv; everything is (keys, queries)."""
    for at in range(start, stop, BLOCK_M):
        row = at + tl.arange(0, BLOCK_M)
        queries = _load(q_block, q_stride, at, length, HEAD_DIM, WIDTH, BLOCK_M, True)
        grads = _load(dout_block, dout_stride, at, length, HEAD_DIM, WIDTH, BLOCK_M, True)
        # all are zero behind the document's end, and so is what is added
        logs = tl.load(lse + row, row < length, other=0.0)
        common = tl.load(delta + row, row < length, other=0.0)
        scores = _scores(tl.dot(keys, tl.trans(queries), input_precision="ieee"), inner, SOFTCAP)
        weights = tl.exp2(scores * outer - logs[None, :])
        if MASKED:
            weights = tl.where(_sees(row[None, :], key[:, None], window, WINDOW), weights, 0.0)
        dv_sums = tl.dot(weights.to(grads.dtype), grads, dv_sums, input_precision="ieee")
        dweights = tl.dot(values, tl.trans(grads), input_precision="ieee")
        dscores = weights * (dweights - common[None, :])
        if SOFTCAP:
            dscores *= 1 - scores * scores
        dk_sums = tl.dot(dscores.to(queries.dtype), queries, dk_sums, input_precision="ieee")
    return dk_sums, dv_sums


@triton.jit  # type: ignore[untyped-decorator]
def _tile(tiles, index):  # type: ignore[no-untyped-def]
    """Where the document begins in the pack (int64), its length, where the tile begins in it."""
    tiles += 3 * index
    return tl.load(tiles).to(tl.int64), tl.load(tiles + 1), tl.load(tiles + 2)


@triton.jit  # type: ignore[untyped-decorator]
def _keys_before(  # type: ignore[no-untyped-def]
    first, window, WINDOW: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """Where the keys begin that some query of a tile sees, and those that every query sees.

    Both are whole blocks of keys from the document's begin.
    """
    oldest = 0
    whole = 0
    if WINDOW:
        oldest = tl.maximum(first + 1 - window, 0) // BLOCK_N * BLOCK_N
        whole = tl.cdiv(tl.maximum(first + BLOCK_M - window, 0), BLOCK_N) * BLOCK_N
        whole = tl.minimum(whole, first)
    return oldest, whole


@triton.jit  # type: ignore[untyped-decorator]
def _block(  # type: ignore[no-untyped-def]
    x, stride, head_stride, begin, head, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Pointers to the first BLOCK rows of one head of a document.

    Offsets are int64, but for those inside the block: `_strided` sees to it that they are small.
    """
    x += begin * stride + tl.cast(head, tl.int64) * head_stride
    return x + (tl.arange(0, BLOCK)[:, None] * stride + tl.arange(0, WIDTH)[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _load(  # type: ignore[no-untyped-def]
    block, stride, at, length,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The rows from `at` on; zeros behind the document's end (MASKED) and the head's."""
    block += tl.cast(at, tl.int64) * stride
    row = at + tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    if MASKED and HEAD_DIM < WIDTH:
        x = tl.load(block, (row < length) & (column < HEAD_DIM), other=0.0)
    elif MASKED:
        x = tl.load(block, row < length, other=0.0)
    elif HEAD_DIM < WIDTH:
        x = tl.load(block, column < HEAD_DIM, other=0.0)
    else:
        x = tl.load(block)
    return x


@triton.jit  # type: ignore[untyped-decorator]
def _store(  # type: ignore[no-untyped-def]
    block, stride, x, at, length, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Write the rows from `at` on that lie in the document."""
    block += tl.cast(at, tl.int64) * stride
    row = at + tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    tl.store(block, x, (row < length) & (column < HEAD_DIM))


@triton.jit  # type: ignore[untyped-decorator]
def _sees(row, key, window, WINDOW: tl.constexpr):  # type: ignore[no-untyped-def]
    seen = row >= key
    if WINDOW:
        seen = seen & (row - key < window)
    return seen


@triton.jit  # type: ignore[untyped-decorator]
def _scores(products, inner, SOFTCAP: tl.constexpr):  # type: ignore[no-untyped-def]
    """What becomes the exponent, base 2, once it is multiplied by `outer`; see `_factors`."""
    if SOFTCAP:
        products = _tanh(products * inner)
    return products


@triton.jit  # type: ignore[untyped-decorator]
def _tanh(x):  # type: ignore[no-untyped-def]
    """To the last bits of float32: where 1 - 2 / (exp(2x) + 1) would cancel, a polynomial.

    Its coefficients are a least-squares fit of (tanh(x) / x - 1) / x^2 in x^2 up to x = 0.625.
    """
    size = tl.abs(x)
    far = 1 - 2 / (tl.exp2(size * 2.8853900817779268) + 1)
    square = x * x
    near = -0.05373971 + square * (0.02063908 - square * 0.00570498)
    near = -0.33333282 + square * (0.13331442 + square * near)
    return tl.where(size < 0.625, x + x * (square * near), tl.where(x < 0, -far, far))


def launch(kernel: str, head_dim: int, dtype: torch.dtype, chip: str) -> dict[str, Any]:
    """How to launch `kernel` ("forward", "dq" or "dk_dv").

    BLOCK_M queries meet BLOCK_N keys at a time; of "dk_dv" a tile is BLOCK_N keys, else BLOCK_M
    queries, and it is a multiple of the other.
    """
    width = max(16, triton.next_power_of_2(head_dim))
    tile, step, warps, stages = _sizes(kernel, width, dtype, chip)
    queries, keys = (step, tile) if kernel == "dk_dv" else (tile, step)
    # Triton 3.10 changes the default of enable_fp_fusion, and the last bits with it
    return {
        "HEAD_DIM": head_dim,
        "WIDTH": width,
        "BLOCK_M": queries,
        "BLOCK_N": keys,
        "num_warps": warps,
        "num_stages": stages,
        "enable_fp_fusion": True,
    }


def _sizes(kernel: str, width: int, dtype: torch.dtype, chip: str) -> tuple[int, int, int, int]:
    """Rows of a tile, rows of a step, warps and pipeline stages.

    On Hopper the fastest of 148 that were measured on an H200, at the lengths of OSS-Instruct's
    documents. Elsewhere the largest that spill nothing, with or without window and softcap.
    """
    wide, hopper, amd = width > 64, chip in ("sm_90", "sm_100"), chip.startswith("gfx")
    if chip == "interpreter":
        return 32, 16, 4, 1  # several tiles and steps in what a test can afford
    if dtype == torch.float32:
        return (16 if wide and kernel == "dq" else 32), 16, (8 if wide else 4), 1
    if hopper:
        if kernel == "forward":
            return (128, 32, 8, 3) if wide else (64, 32, 4, 3)
        return 64, 32, 4, (3 if kernel == "dq" else 1)
    if kernel == "dk_dv":
        if amd:
            return 64, 16, 4, 1
        return (64, 32, 8, 2) if wide else (128, 32, 8, 2)
    if amd:
        return (64, 32, 4, 1) if wide else (128, 32, 4, 1)
    if wide:
        return (128, 32, 8, 2) if kernel == "forward" else (64, 32, 4, 2)
    return (128, 64, 8, 3) if kernel == "forward" else (128, 64, 8, 2)


def _tiles(cu_seqlens: Tensor, tokens: int, block: int) -> Tensor:
    table: Tensor = _once(cu_seqlens, (tokens, block), lambda: tiles(cu_seqlens, tokens, block))
    return table


def _factors(scale: float, softcap: float | None) -> tuple[float, float]:
    """exp(cap(s)) = 2^(outer * s'), where s' is q k^T or, with a softcap, tanh(inner * q k^T)."""
    if softcap is None:
        return 1.0, scale * LOG2_E
    return scale / softcap, softcap * LOG2_E


def _strided(x: Tensor) -> Tensor:
    """`x` itself if a head's elements are adjacent, and tokens no 2^24 elements apart; or a copy.

    128 rows of a block then lie within 2^31 elements.
    """
    return x if x.stride(2) == 1 and x.stride(0) < 2**24 else x.contiguous()


def _strides(*states: Tensor) -> list[int]:
    """How far apart the tokens and the heads of each are."""
    return [stride for x in states for stride in x.stride()[:2]]
