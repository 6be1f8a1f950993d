"""Serves the layers of transformers models by our kernels.

The seam is transformers' own. Its model files mark their layers by kind ("RMSNorm"), and a kernel
layer mapping of the package `kernels` says what serves a kind on a device. A mapping may point to
anything that loads a layer: ours points into this package, so no hub is asked. No model class is
named or patched; the forward is replaced on the instances of one model.
"""

import copy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import nn

from magicoder.custom_kernels.fallback import say_once

Model = TypeVar("Model", bound=nn.Module)


def kernelize(model: Model) -> Model:
    """Let the kernels serve every layer of `model` that computes just what they compute.

    Call it once the model is on its device; it works for any model of transformers, before or
    after peft wraps it, in training, inference and torch.compile. A layer that no kernel can serve
    keeps the forward of transformers, and the log says so once.

    Returns:
        `model`, changed in place.
    """
    reason = _unavailable(next(model.parameters()).device)
    if reason is not None:
        say_once("RMSNorm", reason)
        return model
    from kernels import Mode, use_kernel_mapping  # type: ignore[import-untyped]
    from kernels import kernelize as replace_forward

    from magicoder.custom_kernels.rms_norm import RMSNorm

    devices = dict.fromkeys(("cuda", "rocm", "cpu"), _Source(RMSNorm))  # cpu: the interpreter
    with use_kernel_mapping({"RMSNorm": devices}, inherit_mapping=False):
        for layer in model.modules():
            if getattr(layer, "kernel_layer_name", None) != "RMSNorm":
                continue
            if _same_arithmetic(layer):
                replace_forward(layer, mode=Mode.TRAINING | Mode.TORCH_COMPILE)
            else:
                say_once("RMSNorm", f"{type(layer).__name__} rounds differently from the kernel")
    return model


@dataclass(frozen=True)
class _Source:
    """Where a mapping finds its layer: the `load` that `kernels` calls, without a download."""

    layer: type[nn.Module]

    def load(self) -> type[nn.Module]:
        return self.layer


def _unavailable(device: torch.device) -> str | None:
    """Why nothing can be replaced for a model on `device`, or None."""
    if find_spec("triton") is None:
        return "triton is not installed"
    import triton
    from transformers.utils import is_kernels_available

    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        return f"the model is on {device.type}, and the kernel needs an NVIDIA or AMD GPU"
    if not is_kernels_available():
        return "transformers finds no fitting package kernels: pip install 'magicoder[train]'"
    return None


def _same_arithmetic(layer: nn.Module) -> bool:
    """Whether a layer marked RMSNorm is ours to the bit: OLMo 2's, say, casts after the weight."""
    from magicoder.custom_kernels.rms_norm import reference

    twin: Any = copy.deepcopy(layer).to("cpu", torch.bfloat16)
    hidden = twin.weight.numel()
    twin.weight = nn.Parameter(torch.linspace(0.5, 1.5, hidden, dtype=torch.bfloat16))
    probe = torch.linspace(-2, 3, 8 * hidden).reshape(8, hidden).to(torch.bfloat16)
    theirs = type(twin).forward(twin, probe)  # not an instance's forward that was replaced before
    return torch.equal(theirs, reference(probe, twin.weight, twin.variance_epsilon))
