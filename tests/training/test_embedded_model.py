"""The embedded model: LoRA through its recipe, and our path against plain transformers."""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AutoModelForCausalLM, AutoTokenizer

from magicoder import models
from magicoder.custom_kernels import ATTENTION, hardware, kernelize
from magicoder.training import finetune, packing, recipe
from magicoder.training.loss import SupervisedLoss
from magicoder.training.packing import IGNORED, Example

EXAMPLES = [
    Example(problem="Double a number.", solution="def double(x):\n    return 2 * x"),
    Example(
        problem="Say hello to somebody.", solution="def hello(name):\n    print('Hello,', name)"
    ),
    Example(problem="Is a list empty?", solution="def empty(items):\n    return not items"),
]


@pytest.mark.e2e
def test_its_loss_falls(tmp_path):
    rows = [
        {
            "problem": f"Write a Python function that multiplies a number by {number}.",
            "solution": f"```python\ndef times_{number}(x):\n    return x * {number}\n```",
        }
        for number in range(2, 18)
    ]
    data = tmp_path / "dataset.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = recipe.load(
        "smollm2-lora", [f"data=[{data}]", f"output={tmp_path / 'out'}", "epochs=3"]
    )
    steps = []
    adapter = finetune.run(chosen, watch=steps.append)
    assert len(steps) == 6
    assert steps[-1].loss < 0.8 * steps[0].loss
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == (
        "smollm2-135m"
    )


@pytest.fixture(scope="module")
def documents():
    tokenizer = AutoTokenizer.from_pretrained(models.pull("smollm2-135m"))
    return packing.tokenize(EXAMPLES, tokenizer, "magicoder", 512)[0]


def model_with(implementation):
    source = models.pull("smollm2-135m")
    return AutoModelForCausalLM.from_pretrained(
        source,
        dtype=torch.float32,
        attn_implementation=implementation,
        num_hidden_layers=5 if hardware.INTERPRETED else 30,  # the interpreter takes 6 s a layer
    ).train()


def gradients(model):
    return {name: weight.grad for name, weight in model.named_parameters()}


def padded(documents):
    """Plain transformers: a batch as wide as its longest document.

    Only the cross-entropy of its float32 logits is taken in float64: on a CPU, PyTorch's own in
    float32 puts the gradients 8e-5 beside the truth, and ours 3e-6.
    """
    width = max(map(len, documents))
    model = model_with("sdpa")
    logits = model(
        input_ids=torch.tensor([d.ids + [0] * (width - len(d)) for d in documents]),
        attention_mask=torch.tensor([[1] * len(d) + [0] * (width - len(d)) for d in documents]),
    ).logits
    labels = torch.tensor([d.labels + [IGNORED] * (width - len(d)) for d in documents])
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).double(), labels[:, 1:].flatten())
    loss.backward()
    return loss, gradients(model)


def packed(documents):
    """What `magicoder train` does with a pack."""
    model = kernelize(model_with(ATTENTION))
    pack = packing.collate(documents)
    hidden = model.base_model(
        input_ids=pack.input_ids,
        position_ids=pack.position_ids,
        cu_seqlens=pack.cu_seqlens,
        lengths=pack.lengths,
        use_cache=False,
    ).last_hidden_state
    loss = SupervisedLoss(model)(hidden, pack) / len(pack.rows)
    loss.backward()
    return loss, gradients(model)


@pytest.mark.slow
def test_packs_train_as_padded_batches_of_plain_transformers(documents):
    ours, our_gradients = packed(documents)
    theirs, their_gradients = padded(documents)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert our_gradients.keys() == their_gradients.keys()
    errors = {name: our_gradients[name] - truth for name, truth in their_gradients.items()}
    for name, truth in their_gradients.items():
        assert errors[name].norm() <= 2e-5 * truth.norm(), name  # a norm's alone: 1.4e-5 at most
    whole = [torch.cat([x.flatten() for x in each.values()]) for each in (errors, their_gradients)]
    assert whole[0].norm() <= 1e-5 * whole[1].norm()


@pytest.mark.slow
def test_so_they_do_with_the_kernels_themselves():
    """The same test where Triton interprets its kernels on the CPU, with the first 5 layers."""
    test = f"{__file__}::{test_packs_train_as_padded_batches_of_plain_transformers.__name__}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", test, "-q"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout
