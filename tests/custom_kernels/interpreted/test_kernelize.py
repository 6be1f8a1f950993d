"""The kernels inside whole models of transformers."""

import functools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from magicoder.custom_kernels import ATTENTION, fallback, kernelize

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
WINDOW = {"sliding_window": 5}
MORE = {
    "mistral": WINDOW,
    "starcoder2": WINDOW | {"attention_dropout": 0.0},
    "gemma2": WINDOW | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 0.5},
    "gemma3_text": WINDOW,
    "granite": {"residual_multiplier": 0.5, "attention_multiplier": 0.1},
}
# What two layers and the last norm call in a forward, and as often in a backward
LLAMA = {"rms_norm": 3, "add_rms_norm": 2, "rope": 2, "glu_linear": 2, "packed_attention": 2}
CALLS = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA | {"rms_norm": 7},  # of q and k
    "mistral": LLAMA,
    "starcoder2": {"rope": 2, "packed_attention": 2},  # LayerNorm, and an MLP without a gate
    "gemma": LLAMA,
    "gemma2": LLAMA | {"rms_norm": 9, "add_rms_norm": 0},  # normalises before it adds
    "gemma3_text": LLAMA | {"rms_norm": 13, "add_rms_norm": 0},
    "granite": LLAMA | {"rms_norm": 5, "add_rms_norm": 0},  # multiplies before it adds
    "olmo2": LLAMA | {"rms_norm": 9, "add_rms_norm": 0},
}
BACKWARD = {"add_rms_norm": "rms_norm_backward", "rope": "rope"}  # else NAME_backward
LENGTHS = (9, 1, 14, 2)
TOKENS = torch.arange(1, 27)[None] * 7 % 97


FUNCTIONS: set[nn.Module] = set()


@pytest.fixture(autouse=True)
def plain_functions() -> None:
    """What an earlier test replaced for a family: RoPE, which its models share."""
    for function in FUNCTIONS:
        vars(function).pop("forward", None)


class Operators(TorchDispatchMode):
    """Counts the operators of ours that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op.namespace == "magicoder":
            self.seen[op._overloadpacket.__name__] += 1
        return op(*args, **kwargs or {})


def tiny(kind: str, attention: str = "sdpa", **more: Any) -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **MORE.get(kind, {}), **more)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
    for weight in model.parameters():  # norms start as ones or zeros, which hide mistakes
        weight.data += 0.05 * torch.randn(weight.shape)
    for layer in model.modules():
        FUNCTIONS.update(getattr(layer, "_kernel_funcs", {}).values())
    return model


def alone(model: nn.Module) -> Tensor:
    """The summed loss of all documents, each by itself."""
    documents = TOKENS.split(LENGTHS, 1)
    return sum(loss_of(model(input_ids=tokens).logits, tokens) for tokens in documents)


def packed(model: nn.Module) -> Tensor:
    """The same of a pack."""
    logits = model(
        input_ids=TOKENS,
        position_ids=torch.cat([torch.arange(length) for length in LENGTHS])[None],
        cu_seqlens=torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32),
        lengths=LENGTHS,
        use_cache=False,
    ).logits
    split = zip(logits.split(LENGTHS, 1), TOKENS.split(LENGTHS, 1), strict=True)
    return sum(loss_of(own, tokens) for own, tokens in split)


def loss_of(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="sum")


def step(
    model: nn.Module, loss_of: Callable[[nn.Module], Tensor] = alone
) -> tuple[Tensor, dict[str, Tensor], Counter[str]]:
    """The loss, all gradients, and the operators of ours that ran."""
    model.zero_grad()
    with Operators() as operators:
        loss = loss_of(model)
        loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss, grads, operators.seen


def assert_same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=0)
    assert ours[1].keys() == theirs[1].keys()
    for name, truth in theirs[1].items():
        error = (ours[1][name] - truth).abs().max()
        assert error <= 1e-5 * truth.abs().max(), f"{name}: {error}"


FAST = {"llama", "gemma"}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k in FAST else [pytest.mark.slow]) for k in CALLS]
)
def test_a_pack_trains_as_its_documents_alone_in_plain_transformers(kind: str) -> None:
    truth = step(tiny(kind, "eager"))
    model = tiny(kind, ATTENTION)
    assert kernelize(model) is model
    ours = step(model, packed)
    assert_same(ours, truth)
    expected: Counter[str] = Counter()
    for name, count in CALLS[kind].items():
        expected[name] += count
        expected[BACKWARD.get(name, f"{name}_backward")] += count
    assert ours[2] == +expected


def test_without_packs_and_called_twice() -> None:
    model = tiny("llama")
    truth = step(model)
    assert not truth[2]
    assert_same(step(kernelize(kernelize(model))), truth)


@pytest.mark.slow
def test_with_checkpoints_of_layers() -> None:
    model = tiny("llama", ATTENTION)
    truth = step(model, packed)
    kernelize(model).gradient_checkpointing_enable({"use_reentrant": False})
    ours = step(model, packed)
    assert_same(ours, truth)
    assert ours[2]["add_rms_norm"] == 4  # each once more on the way back


@pytest.mark.parametrize("first", ["kernels", pytest.param("peft", marks=pytest.mark.slow)])
def test_together_with_peft(first: str) -> None:
    def lora(model: nn.Module) -> nn.Module:
        targets = ["q_proj", "up_proj", "down_proj"]
        config = peft.LoraConfig(target_modules=targets, init_lora_weights=False)
        torch.manual_seed(1)
        return peft.get_peft_model(model, config)

    truth = step(lora(tiny("llama")))
    model = tiny("llama")
    ours = step(lora(kernelize(model)) if first == "kernels" else kernelize(lora(model)))
    assert_same(ours, truth)
    # The adapter of down_proj must see its input
    documents = len(LENGTHS)
    assert ours[2]["glu"] == 2 * documents
    assert ours[2]["add_rms_norm"] == 2 * documents
    assert "glu_linear" not in ours[2]


def test_hooks_are_called() -> None:
    model = kernelize(tiny("llama"))
    called = []
    first, second = model.model.layers
    first.mlp.down_proj.register_forward_hook(lambda *_: called.append("down"))
    second.post_attention_layernorm.register_forward_pre_hook(lambda *_: called.append("norm"))
    with Operators() as operators:
        model(TOKENS)
    assert called == ["down", "norm"]
    assert operators.seen["glu"] == operators.seen["glu_linear"] == 1
    assert operators.seen["add_rms_norm"] == 1


def test_a_forward_from_elsewhere_stays(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny("llama")
    norm = model.model.norm
    norm.forward = forward = functools.partial(type(norm).forward, norm)  # as accelerate does
    model.model.layers[0].mlp.down_proj.forward = lambda x: torch.zeros_like(x[..., :32])
    with caplog.at_level(logging.WARNING, "magicoder"), Operators() as operators:
        kernelize(model)(TOKENS)
    assert norm.forward is forward
    assert "RMSNorm runs in PyTorch: LlamaRMSNorm has a forward from elsewhere" in caplog.messages
    assert operators.seen["rms_norm"] == 2
    assert operators.seen["glu"] == operators.seen["glu_linear"] == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("granite", ["add + RMSNorm runs in PyTorch: GraniteDecoderLayer computes something else"]),
        ("starcoder2", []),
    ],
)
def test_what_is_not_served_is_said_once(
    kind: str, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny(kind)
    logits = model(TOKENS).logits
    fallback._say.cache_clear()  # another test may have heard it
    with caplog.at_level(logging.WARNING, "magicoder"):
        kernelize(kernelize(model))
        torch.testing.assert_close(model(TOKENS).logits, logits)
    assert [r.message for r in caplog.records if r.name == "magicoder.custom_kernels"] == said


def test_compiles_into_one_graph() -> None:
    model = kernelize(tiny("llama", ATTENTION))
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        targets = (node.target for node in graph.graph.nodes)
        names = {t._name for t in targets if isinstance(t, torch._ops.OpOverload)}
        graphs.append({name for name in names if name.startswith("magicoder::")})
        return graph.forward

    truth = packed(model)
    assert torch.equal(packed(torch.compile(model, backend=backend, fullgraph=True)), truth)
    assert len(graphs) == 1
    assert graphs[0] == {f"magicoder::{name}" for name in LLAMA}


def test_one_model_only_but_for_rope() -> None:
    """transformers shares the function of RoPE between all models of a family."""
    kernelize(tiny("llama"))
    with Operators() as operators:
        tiny("llama")(TOKENS)
    assert operators.seen.keys() == {"rope"}
