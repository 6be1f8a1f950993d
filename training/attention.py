"""Causal attention inside each document of a pack; no document sees another.

Registered with transformers under `NAME` (AttentionInterface), for any model that hands the extra
arguments of its forward on to attention. Load a model with `attn_implementation=NAME` and give its
forward `cu_seqlens` and `lengths` of a `Pack`.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from magicoder.errors import MagicoderError

NAME = "magicoder_packed"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seqlens: Tensor,
    lengths: tuple[int, ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attend inside documents.

    Args:
        module: the calling layer; `attention_mask` is None. Both are transformers' convention.
        query: `(1, heads, T, head_dim)`; key and value may have fewer heads, which are shared.
        cu_seqlens: `(D + 1,)` int32 on the query's device; lengths: the same on the host.
        sliding_window: how many tokens back a token sees, itself included.

    Returns:
        `(1, T, heads, head_dim)`, and no weights.

    Raises:
        MagicoderError: the model's attention does more than this one.
    """
    for name in ("softcap", "s_aux"):
        if more.get(name) is not None:
            kind = type(module).__name__
            raise MagicoderError(f"{kind} has attention '{name}', which packing cannot do yet")
    if not dropout and _flash_takes(query):
        return _flash(query, key, value, cu_seqlens, max(lengths), scaling, sliding_window), None
    documents = []
    split = (states.split_with_sizes(lengths, 2) for states in (query, key, value))
    for q, k, v in zip(*split, strict=True):
        band = _band(q.shape[2], sliding_window, q.device)
        documents.append(
            F.scaled_dot_product_attention(
                q, k, v, band, dropout, is_causal=band is None, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(documents, 2).transpose(1, 2).contiguous(), None


def _flash_takes(query: Tensor) -> bool:
    """Whether PyTorch's varlen attention serves this device and type."""
    return (
        query.is_cuda
        and torch.version.hip is None
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and query.dtype in (torch.float16, torch.bfloat16)
    )


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """All documents in one kernel."""
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    out = varlen_attn(
        q,
        k,
        v,
        cu_seqlens,
        cu_seqlens,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=True,
    )
    assert isinstance(out, Tensor)  # noqa: S101
    return out[None]


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """`(length, length)`, True where a token sees another; None where all before it are seen."""
    if window is None or length <= window:
        return None
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


AttentionInterface.register(NAME, packed_attention)
