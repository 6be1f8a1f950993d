"""The layers of transformers models that a kernel serves: how they are found, what serves them.

A layer is known by what it computes. Each finder below looks at the structure of a layer (its
children and weights) and then runs the forward of its class on a small probe on the CPU, with
stand-ins for the weights and children: only where the result is the kernel's formula, every bit of
it, is the layer served. A finder returns the module whose forward takes the layer's place, the
reason why there is none, or None for a layer of another kind.

Such a module has no state of its own, as the package `kernels` demands: its forward is bound to the
layer that it serves and finds the weights there, so that peft, hooks on children and checkpointing
go on as before.
"""

import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from magicoder.custom_kernels import glu, rms_norm, rope
from magicoder.custom_kernels.fallback import say_once

Found = type[nn.Module] | str | None


def norm(layer: nn.Module) -> Found:
    """RMSNorm: one weight, and an epsilon; families differ in where they round."""
    arithmetic = _norm_arithmetic(layer)
    if arithmetic is not None:
        return _norm(*arithmetic)
    if getattr(layer, "kernel_layer_name", None) == "RMSNorm":
        return f"{type(layer).__name__} computes something else"
    return None


@functools.cache
def _norm(epsilon: str, cast: str, offset: float) -> type[nn.Module]:
    class RMSNorm(nn.Module):
        can_torch_compile = True

        def forward(self: Any, hidden_states: Tensor) -> Tensor:
            weight, eps = self.weight, getattr(self, epsilon)
            return rms_norm.rms_norm(hidden_states, weight, eps, cast=cast, offset=offset)

    return RMSNorm


def _norm_arithmetic(layer: nn.Module) -> tuple[str, str, float] | None:
    """The name of its epsilon, and the kernel's `cast` and `offset`; None if it is no RMSNorm."""
    weights = dict(layer.named_parameters())
    epsilons = [name for name in ("variance_epsilon", "eps") if hasattr(layer, name)]
    if weights.keys() != {"weight"} or weights["weight"].ndim != 1 or not epsilons:
        return None
    if _parameters(layer) != 1 or not isinstance(getattr(layer, epsilons[0]), float):
        return None
    hidden = len(weights["weight"])
    weight = torch.linspace(0.5, 1.5, hidden, dtype=torch.bfloat16)
    # Small rows show what is done with epsilon
    scales = torch.logspace(-4, 1, 12)[:, None]
    x = (scales * torch.linspace(-2, 3, 12 * hidden).reshape(12, hidden)).to(torch.bfloat16)
    theirs = _probe(layer, x, weights={"weight": nn.Parameter(weight)})
    for cast, offset in itertools.product(rms_norm.CASTS, (0.0, 1.0)):
        eps = getattr(layer, epsilons[0])
        if _same(theirs, rms_norm.reference(x, weight, eps, cast, offset)):
            return epsilons[0], cast, offset
    return None


def rotary(function: nn.Module) -> Found:
    """RoPE: transformers marks the function, one for all models of a family in the process."""
    if getattr(function, "kernel_layer_name", None) != "rotary_pos_emb":
        return None
    q, k, cos, sin = (
        torch.linspace(first, 1, heads * 24).reshape(1, heads, 3, 8).to(torch.bfloat16)
        for first, heads in ((-1, 2), (-2, 1), (-3, 1), (-4, 1))
    )
    cos, sin = cos[:, 0], sin[:, 0]
    ours = rope.reference(q, k, cos, sin)
    theirs = _probe(function, q, k, cos, sin)
    if _parameters(function) == 5 and isinstance(theirs, tuple) and all(map(_same, theirs, ours)):
        return RotaryEmbedding
    return "the model's own function computes something else"


class RotaryEmbedding(nn.Module):
    can_torch_compile = True

    def forward(
        self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        # Models that nobody asked to serve come here too, so what is not ours goes back as it came
        if unsqueeze_dim == 1 and q.ndim == 4 and cos.ndim == 3 and cos.shape[-1] == q.shape[-1]:
            reason = rope.unsupported(q, k, cos, sin)
            if reason is None:
                return rope.rope(q, k, cos, sin)
            say_once("RoPE", reason)
        turned: tuple[Tensor, Tensor] = type(self).forward(self, q, k, cos, sin, unsqueeze_dim)
        return turned


def gated_mlp(layer: nn.Module) -> Found:
    """down(act(gate(x)) * up(x))."""
    children = dict(layer.named_children())
    if children.keys() != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return None
    activation = _activation(children["act_fn"])
    if activation is None:
        return f"{type(children['act_fn']).__name__} is none of {', '.join(glu.ACTIVATIONS)}"
    stubs: dict[str, Callable[[Tensor], Tensor]] = {
        "gate_proj": lambda x: 2 * x + 1,
        "up_proj": lambda x: x - 3,
        "down_proj": lambda x: x.cumsum(-1),
        "act_fn": torch.sin,
    }
    x = torch.linspace(-2, 3, 24, dtype=torch.float64).reshape(1, 4, 6)
    theirs = _probe(layer, x, children={name: _Stub(stub) for name, stub in stubs.items()})
    ours = stubs["down_proj"](torch.sin(2 * x + 1) * (x - 3))
    if _parameters(layer) == 1 and _same(theirs, ours):
        return _gated_mlp(activation)
    return f"{type(layer).__name__} computes something else"


@functools.cache
def _gated_mlp(activation: str) -> type[nn.Module]:
    class GatedMLP(nn.Module):
        can_torch_compile = True

        def forward(self: Any, hidden_states: Tensor) -> Tensor:
            gate, up = self.gate_proj(hidden_states), self.up_proj(hidden_states)
            down = self.down_proj
            # An adapter, a quantised projection or autocast need the projection's own call
            autocast = torch.is_autocast_enabled(gate.device.type)
            if _bare(down, nn.Linear) and not autocast:
                return glu.glu_linear(gate, up, down.weight, down.bias, activation)
            y: Tensor = down(glu.glu(gate, up, activation))
            return y

    return GatedMLP


def _activation(act: nn.Module) -> str | None:
    """The kernel's name for an activation."""
    x = torch.linspace(-8, 8, 97, dtype=torch.float64)
    theirs = _probe(act, x, weights={})
    if not isinstance(theirs, Tensor):
        return None
    for name in glu.ACTIVATIONS:
        # Not to the bit, as the tanh is written in several ways; the exact gelu is 5e-4 from it
        if (theirs - glu.reference(x, torch.ones_like(x), name)).abs().max() < 1e-6:
            return name
    return None


def decoder_layer(layer: nn.Module) -> Found:
    """total = x + attention(norm(x)); total + mlp(norm(total)): the second norm takes the sum."""
    children = dict(layer.named_children())
    expected = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
    if not children.keys() >= expected:
        return None
    second = children["post_attention_layernorm"]
    arithmetic = _norm_arithmetic(second)
    if arithmetic is None:
        return None  # a LayerNorm, say
    seen: dict[str, Any] = {}

    def attention(hidden_states: Tensor, **more: Any) -> tuple[Tensor, None]:
        seen.update(more)
        return 3 * hidden_states, None

    stubs: dict[str, Callable[..., Any]] = {
        "input_layernorm": lambda x: 2 * x + 1,
        "self_attn": attention,
        "post_attention_layernorm": torch.sin,
        "mlp": torch.cos,
    }
    x = torch.linspace(-2, 3, 24, dtype=torch.float64).reshape(1, 4, 6)
    names = ("attention_mask", "position_ids", "past_key_values", "position_embeddings", "lengths")
    given: dict[str, Any] = {name: object() for name in names} | {"use_cache": False}
    fakes = {name: _Stub(stub) for name, stub in stubs.items()}
    theirs = _probe(layer, x, children=fakes, **given)
    total = x + 3 * (2 * x + 1)
    if (
        children.keys() == expected
        and seen == given
        and _same(theirs, total + torch.cos(total.sin()))
    ):
        kind: Any = type(second)
        return _decoder_layer(kind, *arithmetic)
    return f"{type(layer).__name__} computes something else"


@functools.cache
def _decoder_layer(
    kind: type[nn.Module], epsilon: str, cast: str, offset: float
) -> type[nn.Module]:
    class DecoderLayer(nn.Module):
        can_torch_compile = True

        def forward(self: Any, hidden_states: Tensor, *positional: Any, **more: Any) -> Any:
            norm = self.post_attention_layernorm
            if positional or not _bare(norm, kind):
                return type(self).forward(self, hidden_states, *positional, **more)
            normed = self.input_layernorm(hidden_states)
            attended = self.self_attn(hidden_states=normed, **more)[0]
            weight, eps = norm.weight, getattr(norm, epsilon)
            normed, total = rms_norm.add_rms_norm(
                attended, hidden_states, weight, eps, cast=cast, offset=offset
            )
            return total + self.mlp(normed)

    return DecoderLayer


# Outer layers first, by what the log calls them
FINDERS: dict[str, Callable[[nn.Module], Found]] = {
    "add + RMSNorm": decoder_layer,
    "GLU": gated_mlp,
    "RMSNorm": norm,
    "RoPE": rotary,
}


class _Stub(nn.Module):
    """Stands in for a child in a probe."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.forward = function


def _probe(
    layer: nn.Module,
    *inputs: Tensor,
    weights: Mapping[str, nn.Parameter] | None = None,
    children: Mapping[str, nn.Module] | None = None,
    **more: Any,
) -> Any:
    """What the forward of the layer's class gives with these weights and children, or None.

    The instance's own forward may have been replaced before, and is not asked.
    """
    twin: Any = copy.copy(layer)
    twin._parameters = dict(layer._parameters if weights is None else weights)
    twin._modules = dict(layer._modules if children is None else children)
    twin.training = True  # so that dropout shows
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return type(layer).forward(twin, *inputs, **more)
    except Exception:  # whatever it needs, it is not what we serve
        return None


def _same(theirs: Any, ours: Tensor) -> bool:
    return isinstance(theirs, Tensor) and theirs.dtype == ours.dtype and torch.equal(theirs, ours)


def _parameters(layer: nn.Module) -> int:
    """How many arguments the forward of its class takes."""
    return len(inspect.signature(type(layer).forward).parameters) - 1


def untouched(layer: nn.Module) -> bool:
    """Whether the forward of `layer` is its class's or ours: accelerate, say, sets its own."""
    forward: Any = vars(layer).get("forward")
    if forward is None or getattr(forward, "__func__", None) is type(layer).forward:
        return True
    return getattr(forward, "__module__", None) == __name__


def _bare(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of `layer` does nothing but what its class does: no hook, no wrapper."""
    hooks = layer._forward_pre_hooks, layer._forward_hooks
    backward = layer._backward_pre_hooks, layer._backward_hooks
    return type(layer) is kind and not any((*hooks, *backward)) and untouched(layer)
