"""A step of AdamW over the weights of a model, or of the first layers of a larger one."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels.harness import OURS, PYTORCH, Inputs, Kernel, Peer, Shape, Work, reason
from magicoder.custom_kernels import adamw

Optimizer = Callable[..., torch.optim.Optimizer]
TOLD: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
STEPS = 20


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Weights and their gradients: the embedding, then each layer's."""
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = [(wide, shape.hidden), (narrow, shape.hidden), (narrow, shape.hidden)]
    layer += [(shape.hidden, wide), (shape.hidden,), (shape.hidden,)]
    layer += 2 * [(shape.intermediate, shape.hidden)] + [(shape.hidden, shape.intermediate)]
    sizes = [(shape.vocabulary, shape.hidden), *(shape.layers * layer)]
    weights, gradients = (
        tuple((0.02 * torch.randn(size, device=device)).to(dtype) for size in sizes)
        for _ in range(2)
    )
    return Inputs(weights, {"gradients": gradients})


def work(shape: Shape, inputs: Inputs) -> tuple[Work, ...]:
    """Weight and gradient in, weight out; two states of a byte each in and out."""
    count = sum(weight.numel() for weight in inputs.leaves)
    size = inputs.leaves[0].element_size()
    return (Work(count * (3 * size + 4), 15 * count),)


def stepping(optimizer: Callable[[], Optimizer]) -> Peer:
    """A step, after a first one that made the states."""

    def build(inputs: Inputs) -> Callable[..., tuple[Tensor, ...]]:
        weights = [torch.nn.Parameter(weight.clone()) for weight in inputs.leaves]
        for weight, gradient in zip(weights, inputs.rest["gradients"], strict=True):
            weight.grad = gradient
        made = optimizer()(weights, **TOLD)
        made.step()

        def step(*_: Tensor) -> tuple[Tensor, ...]:
            made.step()
            return ()

        step.state_bytes = lambda: sum(  # type: ignore[attr-defined]
            value.nbytes
            for state in made.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        return step

    return build


def bitsandbytes() -> Optimizer:
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit  # type: ignore[no-any-return]


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    OURS: lambda: adamw.AdamW8bit,
    PYTORCH: lambda: partial(torch.optim.AdamW, foreach=True),
    "torch fused": lambda: partial(torch.optim.AdamW, fused=True),
    "bitsandbytes": bitsandbytes,
}


def drift(kernel: Kernel, device: torch.device) -> Iterator[dict[str, Any]]:
    """How far 20 steps end from float64's AdamW, relative to how far that one went.

    In float32, where the 8 bits of the states are all that differs: a tenth is allowed.
    """
    given = inputs(Shape(hidden=256, intermediate=512), torch.float32, device)
    noise = [[torch.randn_like(weight) for weight in given.leaves] for _ in range(STEPS)]

    def after(optimizer: Optimizer, dtype: torch.dtype) -> Tensor:
        weights = [torch.nn.Parameter(weight.to(dtype, copy=True)) for weight in given.leaves]
        made = optimizer(weights, **TOLD)
        for gradients in noise:
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient.to(dtype)
            made.step()
        return torch.cat([weight.detach().double().flatten() for weight in weights])

    true = after(torch.optim.AdamW, torch.float64)
    way = (true - torch.cat([weight.double().flatten() for weight in given.leaves])).norm()
    for name, optimizer in OPTIMIZERS.items():
        row: dict[str, Any] = {"peer": name, "what": f"weights after {STEPS} steps"}
        try:
            error = ((after(optimizer(), torch.float32) - true).norm() / way).item()
            row |= {"error": error, "exact": error <= 0.1 or name != OURS}
        except Exception as trouble:
            row |= {"failed": reason(trouble), "exact": name != OURS}
        yield row


KERNEL = Kernel(
    name="adamw",
    title="AdamW, 8-bit states",
    results=(),
    tokens={"135M": 0, "1B": 0, "7B": 0},
    small=8,
    inputs=inputs,
    work=work,
    peers={name: stepping(optimizer) for name, optimizer in OPTIMIZERS.items()},
    check=drift,
    differentiable=False,
    captured=False,
)
