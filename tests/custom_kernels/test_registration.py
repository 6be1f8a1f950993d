"""What kernelize serves, and what it leaves alone; attention in packs where no kernel runs."""

import logging
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
from transformers.activations import ACT2FN
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from magicoder.custom_kernels import ATTENTION, fallback, kernelize, layers
from magicoder.errors import MagicoderError

CONFIG = LlamaConfig(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    attn_implementation="eager",
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels would run")
def test_on_the_cpu_the_model_is_untouched(caplog: pytest.LogCaptureFixture) -> None:
    model = LlamaForCausalLM(CONFIG)
    tokens = torch.arange(20).reshape(1, 20)
    before = model(tokens).logits
    fallback._say.cache_clear()  # another test of this process may have heard it
    with caplog.at_level(logging.WARNING, "magicoder"):
        assert kernelize(kernelize(model)) is model
    assert torch.equal(model(tokens).logits, before)
    assert not any("forward" in vars(layer) for layer in model.modules())
    assert caplog.messages == [
        "the model runs in PyTorch: the input is on cpu, and the kernel needs an NVIDIA or AMD GPU"
    ]


def test_works_without_triton() -> None:
    code = """
import sys
sys.modules["triton"] = None  # as where it is not installed
import torch
from magicoder.custom_kernels import fallback, kernelize
kernelize(torch.nn.Linear(2, 2))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == "the model runs in PyTorch: triton is not installed\n"


def test_a_kernel_by_itself_needs_no_transformers() -> None:
    code = """
import sys
import magicoder.custom_kernels.rms_norm, magicoder.custom_kernels.attention
assert "transformers" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("kind", "arithmetic"),
    [
        (LlamaRMSNorm, ("variance_epsilon", "before", 0.0)),
        (Olmo2RMSNorm, ("variance_epsilon", "after", 0.0)),
        (GemmaRMSNorm, ("eps", "after", 1.0)),
    ],
)
def test_a_norm_is_known_by_its_arithmetic(
    kind: type[nn.Module], arithmetic: tuple[str, str, float]
) -> None:
    assert layers._norm_arithmetic(kind(48)) == arithmetic
    served = layers.norm(kind(48))
    assert served is layers.norm(kind(32))  # kernels loads it once
    x = torch.randn(3, 48)
    norm = kind(48)
    assert torch.equal(served.forward(norm, x), norm(x))


class EpsilonOutside(LlamaRMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        root = x.float().pow(2).mean(-1, keepdim=True).sqrt()
        return self.weight * (x / (root + self.variance_epsilon)).to(x.dtype)


class Centred(LlamaRMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(-1, keepdim=True))


class Gated(LlamaRMSNorm):
    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        return super().forward(x if gate is None else x * gate)


@pytest.mark.parametrize("kind", [EpsilonOutside, Centred, Gated])
def test_another_norm_is_left_alone(kind: type[nn.Module]) -> None:
    assert layers.norm(kind(48)) == f"{kind.__name__} computes something else"


@pytest.mark.parametrize("layer", [nn.LayerNorm(48, bias=False), nn.Linear(4, 4), nn.GELU()])
def test_what_is_no_norm_is_not_spoken_of(layer: nn.Module) -> None:
    assert [find(layer) for find in layers.FINDERS.values()] == [None] * len(layers.FINDERS)


def test_rope_is_known_by_its_arithmetic() -> None:
    assert layers.rotary(modeling_llama.apply_rotary_pos_emb) is layers.RotaryEmbedding
    other = modeling_gpt_oss.apply_rotary_pos_emb
    assert layers.rotary(other) == "the model's own function computes something else"


def test_rope_gives_what_is_not_ours_back_to_the_model() -> None:
    function = modeling_llama.apply_rotary_pos_emb
    q, k = torch.randn(1, 5, 4, 8), torch.randn(1, 5, 2, 8)
    cos, sin = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    ours = layers.RotaryEmbedding.forward(function, q, k, cos, sin, unsqueeze_dim=2)
    theirs = type(function).forward(function, q, k, cos, sin, unsqueeze_dim=2)
    assert all(map(torch.equal, ours, theirs))


class Scaled(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * super().forward(x)


class Swapped(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gate_proj(x) * self.act_fn(self.up_proj(x)))


class Dropping(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.1, self.training)


@pytest.mark.parametrize("kind", [Scaled, Swapped, Dropping])
def test_another_mlp_is_left_alone(kind: type[nn.Module]) -> None:
    assert layers.gated_mlp(kind(CONFIG).eval()) == f"{kind.__name__} computes something else"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("silu", "silu"),
        ("gelu", "gelu"),
        ("gelu_python", "gelu"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("gelu_new", "gelu_tanh"),
        ("quick_gelu", None),
        ("relu", None),
        ("xielu", None),
    ],
)
def test_an_activation_is_known_by_its_values(name: str, ours: str | None) -> None:
    assert layers._activation(ACT2FN[name]) == ours


class Multiplied(LlamaDecoderLayer):
    def forward(self, hidden_states: Tensor, **more: Any) -> Tensor:
        return 2 * super().forward(hidden_states, **more)


class Parallel(LlamaDecoderLayer):
    def forward(self, hidden_states: Tensor, **more: Any) -> Tensor:
        normed = self.input_layernorm(hidden_states)
        both = self.self_attn(hidden_states=normed, **more)[0] + self.mlp(normed)
        return hidden_states + both


class Forgetful(LlamaDecoderLayer):
    def forward(self, hidden_states: Tensor, position_ids: Any = None, **more: Any) -> Tensor:
        return super().forward(hidden_states, **more)


@pytest.mark.parametrize("kind", [Multiplied, Parallel, Forgetful])
def test_another_decoder_layer_is_left_alone(kind: type[nn.Module]) -> None:
    assert layers.decoder_layer(kind(CONFIG, 0)) == f"{kind.__name__} computes something else"


def test_a_probe_leaves_no_trace() -> None:
    layer = Dropping(CONFIG).eval()
    weights, state = dict(layer.named_parameters()), torch.get_rng_state()
    layers.gated_mlp(layer)
    assert dict(layer.named_parameters()).items() == weights.items()
    assert not layer.training
    assert torch.equal(torch.get_rng_state(), state)


def attend(
    lengths: tuple[int, ...] = (4, 1, 3), module: nn.Module | None = None, **more: Any
) -> Tensor:
    """Attention as a model calls it: 2 heads of queries and one of keys."""
    draw = torch.Generator().manual_seed(0)
    tokens = sum(lengths)
    query = torch.randn(more.pop("rows", 1), 2, tokens, 16, generator=draw)
    key, value = (torch.randn(1, 1, tokens, 16, generator=draw) for _ in range(2))
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    function = AttentionInterface()[ATTENTION]
    states = module or nn.Identity(), query, key, value, None
    given = None if more.pop("omit_lengths", False) else lengths
    out, weights = function(*states, cu_seqlens=ends, lengths=given, **more)
    assert weights is None
    assert out.shape == (1, tokens, 2, 16)
    return out


@pytest.mark.parametrize("window", [None, 2])
def test_documents_with_dropout(window: int | None, caplog: pytest.LogCaptureFixture) -> None:
    plain = attend(sliding_window=window)
    fallback._say.cache_clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "magicoder"):
        # So rare that nothing is dropped here
        torch.testing.assert_close(attend(sliding_window=window, dropout=1e-9), plain)
        assert not torch.allclose(attend(sliding_window=window, dropout=0.5), plain)
    [said] = caplog.messages
    assert said.endswith("Identity drops weights (attention_dropout in its config)")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"s_aux": torch.zeros(2)}, "Identity has attention sinks"),
        ({"dropout": 0.1, "softcap": 30.0}, "set attention_dropout to 0"),
        ({"rows": 2}, "2 rows were given, and a pack is one"),
    ],
)
def test_attention_refuses_what_it_cannot_do(more: dict[str, Any], message: str) -> None:
    with pytest.raises(MagicoderError, match=message):
        attend(**more)


def test_attention_refuses_a_model_that_looks_ahead() -> None:
    module = nn.Identity()
    module.is_causal = False
    with pytest.raises(MagicoderError, match="Identity is not causal"):
        attend(module=module)


@pytest.mark.parametrize("cached", [False, True])
def test_a_model_for_packs_says_what_it_needs(cached: bool) -> None:
    model = LlamaForCausalLM._from_config(CONFIG, attn_implementation=ATTENTION).eval()
    tokens = torch.arange(8).reshape(1, 8)
    given: dict[str, Any] = {}
    if cached:
        given["cu_seqlens"] = torch.tensor([0, 8], dtype=torch.int32)
        given["past_key_values"] = model(tokens, use_cache=True, **given).past_key_values
    with pytest.raises(MagicoderError, match=r"cu_seqlens.*set_attn_implementation\('sdpa'\)"):
        model(tokens, **given)
    model.set_attn_implementation("sdpa")
    assert model.generate(tokens, max_new_tokens=2, do_sample=False).shape == (1, 10)


def test_lengths_may_be_left_out() -> None:
    assert torch.equal(attend(), attend(omit_lengths=True))
