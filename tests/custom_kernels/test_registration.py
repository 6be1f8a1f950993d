"""Where no kernel can run: transformers' own forward, and one line in the log."""

import logging
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from magicoder.custom_kernels import fallback, kernelize


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels would run")
def test_on_the_cpu_the_model_is_untouched(caplog: pytest.LogCaptureFixture) -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    )
    tokens = torch.arange(20).reshape(1, 20)
    before = model(tokens).logits
    fallback._say.cache_clear()  # another test of this process may have heard it
    with caplog.at_level(logging.WARNING, "magicoder"):
        assert kernelize(kernelize(model)) is model
    assert torch.equal(model(tokens).logits, before)
    assert caplog.messages == [
        "RMSNorm runs in PyTorch: the model is on cpu, and the kernel needs an NVIDIA or AMD GPU"
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
    assert run.stderr == "RMSNorm runs in PyTorch: triton is not installed\n"
