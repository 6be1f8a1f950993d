"""The kernels inside whole models of transformers."""

import logging
from collections import Counter
from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from magicoder.custom_kernels import kernelize

SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
TOKENS = torch.arange(40).reshape(2, 20) * 7 % 97


class Operators(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[op._overloadpacket.__name__] += 1
        return op(*args, **kwargs or {})


def tiny(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES))


def step(model: nn.Module) -> tuple[float, dict[str, torch.Tensor], Counter[str]]:
    """One training step: loss, gradients, operators."""
    model.zero_grad()
    with Operators() as operators:
        loss = model(input_ids=TOKENS, labels=TOKENS).loss
        loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), grads, operators.seen


@pytest.mark.parametrize(
    ("kind", "norms"), [("llama", 5), ("qwen2", 5), ("qwen3", 9), ("mistral", 5), ("granite", 5)]
)
def test_a_model_trains_the_same_with_the_kernels(kind: str, norms: int) -> None:
    model = tiny(kind)
    loss, grads, seen = step(model)
    assert seen["rms_norm"] == 0
    assert kernelize(model) is model
    kernel_loss, kernel_grads, seen = step(model)
    assert seen["rms_norm"] == seen["rms_norm_backward"] == norms
    assert kernel_loss == pytest.approx(loss, rel=1e-6)
    assert kernel_grads.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(kernel_grads[name], grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["olmo2", "gemma", "starcoder2"])
def test_layers_with_other_arithmetic_are_left_alone(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny(kind)
    loss, _, _ = step(model)
    with caplog.at_level(logging.WARNING, "magicoder"):
        kernel_loss, _, seen = step(kernelize(kernelize(model)))
    assert seen["rms_norm"] == 0
    assert kernel_loss == loss
    said = ["RMSNorm runs in PyTorch: Olmo2RMSNorm rounds differently from the kernel"]
    ours = [r.message for r in caplog.records if r.name == "magicoder.custom_kernels"]
    assert ours == (said if kind == "olmo2" else [])


@pytest.mark.parametrize("first", ["kernels", "peft"])
def test_together_with_peft(first: str) -> None:
    model = tiny("llama")
    if first == "kernels":
        kernelize(model)
    lora = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))
    if first == "peft":
        kernelize(lora)
    _, grads, seen = step(lora)
    assert seen["rms_norm"] == 5
    assert all("lora" in name for name in grads)


def test_one_model_only() -> None:
    kernelize(tiny("llama"))
    assert step(tiny("llama"))[2]["rms_norm"] == 0
