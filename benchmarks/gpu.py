"""Everything that only a GPU can show, in one call of a few minutes.

    python -m benchmarks.gpu

Needs no network and no installed magicoder: PyTorch, Triton and transformers will do. A part that
cannot run is recorded as skipped, with the reason. Results: benchmarks/results/gpu/.
"""

import sys
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import kernels, measure
from magicoder.custom_kernels import kernelize
from magicoder.custom_kernels.rms_norm import RMSNorm


def model_steps(
    config: LlamaConfig, rows: int, length: int, device: torch.device
) -> dict[str, Any]:
    """A forward and backward of a whole model of random weights, with and without our kernels.

    In float32 for the differences of the loss and of the gradients (as one vector), relative; in
    bfloat16 for the time and the peak memory.
    """
    tokens = torch.randint(config.vocab_size, (rows, length), device=device)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(device)
    plain = _step(model, tokens)
    ours = _step(kernelize(model), tokens)
    record: dict[str, Any] = {"tokens": tokens.numel()}
    record["layers_served"] = sum(map(_ours, model.modules()))
    for what, one, other in zip(("loss", "gradient"), plain, ours, strict=True):
        record[f"{what}_difference"] = ((other - one).norm() / one.norm()).item()
    for name in ("transformers", "magicoder"):
        model = LlamaForCausalLM(config).to(device, torch.bfloat16)
        if name == "magicoder":
            kernelize(model)
        seconds, peak = measure.step(partial(_step, model, tokens), device)
        record[name] = {"seconds": seconds, "peak_bytes": peak}
    return record


def _step(model: nn.Module, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, and its gradient in one vector."""
    model.zero_grad()
    loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.detach(), torch.cat(gradients)


def _ours(layer: nn.Module) -> bool:
    return getattr(layer.forward, "__func__", None) is RMSNorm.forward


def finetune() -> dict[str, Any]:
    try:
        from benchmarks import finetune
    except ImportError as error:  # magicoder's own requirements are not installed here
        return {"skipped": str(error)}
    return finetune.benchmark()


def main() -> int:
    if not torch.cuda.is_available():
        print("benchmarks.gpu needs an NVIDIA or AMD GPU, and PyTorch finds none", file=sys.stderr)
        return 1
    folder, device = measure.results(), torch.device("cuda")
    torch.manual_seed(0)
    print(measure.machine())
    exact = kernels.report(kernels.benchmark(kernels.SHAPES, device), folder)
    model = model_steps(measure.EMBEDDED, 8, 2048, device)
    print(measure.write("model", model, folder), model)
    tuned = finetune()
    print(measure.write("finetune", tuned, folder), tuned)
    differences = [
        record[key]
        for record in (model, tuned)
        for key in ("loss_difference", "gradient_difference")
        if key in record
    ]
    return 0 if exact and max(differences) < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
