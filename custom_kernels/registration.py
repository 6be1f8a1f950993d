"""Serves the layers and the attention of transformers models by our kernels.

The seams are transformers' own. `ATTENTION` is registered with its AttentionInterface. Its model
files mark layers and functions by kind ("RMSNorm", "rotary_pos_emb"), and a kernel layer mapping of
the package `kernels` says what serves a kind on a device. A mapping may point to anything that
loads a layer: ours points to layers.py, so no hub is asked. A mapping replaces the forward of an
instance; where transformers has no mark, `kernelize` does just that by itself. No model class is
named or patched.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.utils import is_kernels_available

from magicoder.custom_kernels import attention, hardware, layers
from magicoder.custom_kernels.fallback import say_once
from magicoder.errors import MagicoderError

ATTENTION = "magicoder_packed"  # load a model with attn_implementation=ATTENTION
Model = TypeVar("Model", bound=nn.Module)


def kernelize(model: Model) -> Model:
    """Let the kernels serve every layer of `model` that computes just what they compute.

    Call it once the model is on its device; it works for any model of transformers, before or
    after peft wraps it, in training, inference and torch.compile. A layer that no kernel can serve
    keeps the forward of transformers, and the log says so once. RoPE is a function, which all
    models of a family share: it is replaced for all of them in the process.

    Returns:
        `model`, changed in place.
    """
    device = next(model.parameters()).device
    reason = hardware.trouble(torch.empty(0, device=device))
    if reason is not None:
        say_once("the model", reason)
        return model
    if not is_kernels_available():
        reason = "transformers finds no fitting package kernels: pip install 'magicoder[train]'"
        say_once("RoPE", reason)
    for layer in _layers(model):
        for name, find in layers.FINDERS.items():
            found = find(layer)
            if isinstance(found, str):
                say_once(name, found)
            elif found is not None and not layers.untouched(layer):
                say_once(name, f"{type(layer).__name__} has a forward from elsewhere")
            elif found is not None:
                _replace_forward(layer, found, device)
    return model


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seqlens: Tensor | None = None,
    lengths: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document of a pack, as transformers calls it.

    It is registered as `ATTENTION`, for any model that hands the extra arguments of its forward on
    to attention: give the model's forward `cu_seqlens` and `lengths`.

    Args:
        module: the calling layer; `attention_mask` is None. Both are transformers' convention.
        query: `(1, heads, T, head_dim)`; key and value may have fewer heads, which are shared.
        cu_seqlens: `(D + 1,)` int32 on the query's device.
        lengths: the documents' lengths on the host; without them cu_seqlens is read back.
        dropout: what share of the weights is dropped; PyTorch computes it where it is not 0.
        sliding_window: how many tokens back a token sees, itself included.
        softcap: bounds the scores, as Gemma 2 does.

    Returns:
        `(1, T, heads, head_dim)`, and no weights.

    Raises:
        MagicoderError: the model's attention does more than this one.
    """
    kind = type(module).__name__
    if cu_seqlens is None or query.shape[2] != key.shape[2]:
        raise MagicoderError(
            f"{ATTENTION} is for packs: give the model's forward cu_seqlens, without a cache; to "
            "generate, call model.set_attn_implementation('sdpa')"
        )
    if s_aux is not None:
        raise MagicoderError(
            f"{kind} has attention sinks, which packing cannot do: use another model"
        )
    if not getattr(module, "is_causal", True):
        raise MagicoderError(f"{kind} is not causal: train it without packing")
    if query.shape[0] != 1:
        raise MagicoderError(f"{len(query)} rows were given, and a pack is one: join the documents")
    if dropout:
        if softcap is not None:
            raise MagicoderError(
                f"{kind} has both a softcap and dropout: set attention_dropout to 0 in its config"
            )
        say_once("packed attention", f"{kind} drops weights (attention_dropout in its config)")
        if lengths is None:
            lengths = tuple(cu_seqlens.diff().tolist())
        out = _with_dropout(query, key, value, lengths, scaling, dropout, sliding_window)
        return out.transpose(1, 2).contiguous(), None
    if value.shape[-1] != key.shape[-1]:
        raise MagicoderError(
            f"{kind} has values narrower than its keys, which packing cannot do: use another model"
        )
    if torch.is_autocast_enabled(query.device.type):  # RoPE gives float32 there
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (states.to(dtype) for states in (query, key, value))
    q, k, v = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    out = attention.packed_attention(
        q, k, v, cu_seqlens, lengths, scale=scaling, window=sliding_window, softcap=softcap
    )
    return out[None], None


def _with_dropout(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> Tensor:
    """One document after the other in PyTorch: `(1, heads, T, head_dim)`."""
    documents = []
    split = (states.split_with_sizes(lengths, 2) for states in (query, key, value))
    for q, k, v in zip(*split, strict=True):
        length = q.shape[2]
        band = None
        if window is not None and window < length:
            sees = torch.ones(length, length, dtype=torch.bool, device=q.device)
            band = sees.tril().triu(1 - window)
        documents.append(
            F.scaled_dot_product_attention(
                q, k, v, band, dropout, is_causal=band is None, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(documents, 2)


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model, and the functions that transformers attached to them, each once."""
    functions: dict[int, nn.Module] = {}
    for layer in model.modules():
        yield layer
        for function in getattr(layer, "_kernel_funcs", {}).values():
            functions[id(function)] = function
    yield from functions.values()


def _replace_forward(layer: nn.Module, server: type[nn.Module], device: torch.device) -> None:
    """Let `layer` compute by the forward of `server`."""
    mark = getattr(layer, "kernel_layer_name", None)
    if mark is None:
        layer.forward = MethodType(server.forward, layer)  # as the package kernels does it
        return
    from kernels import Mode, kernelize, use_kernel_mapping  # type: ignore[import-untyped]

    mapping = {mark: dict.fromkeys(("cuda", "rocm", "cpu"), _Source(server))}  # cpu: interpreted
    with use_kernel_mapping(mapping, inherit_mapping=False):
        kernelize(layer, mode=Mode.TRAINING | Mode.TORCH_COMPILE, device=device)


@dataclass(frozen=True)
class _Source:
    """Where a mapping finds its layer: the `load` that `kernels` calls, without a download."""

    layer: type[nn.Module]

    def load(self) -> type[nn.Module]:
        return self.layer


AttentionInterface.register(ATTENTION, packed_attention)
