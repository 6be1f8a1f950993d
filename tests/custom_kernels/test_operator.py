"""An operator gives the same in all its ways, and lets itself be seen where something looks."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from magicoder.custom_kernels.operator import operator


@operator("magicoder_tests::scaled_square")
def scaled_square(x: Tensor, scale: float = 3.0) -> Tensor:
    return scale * x * x


@operator("magicoder_tests::scaled_square_backward")
def scaled_square_backward(dy: Tensor, x: Tensor, scale: float) -> Tensor:
    return 2 * scale * x * dy


@scaled_square.register_fake
def _(x: Tensor, scale: float = 3.0) -> Tensor:
    return torch.empty_like(x)


@scaled_square_backward.register_fake
def _(dy: Tensor, x: Tensor, scale: float) -> Tensor:
    return torch.empty_like(x)


def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.scale = inputs
    ctx.save_for_backward(x)


def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    return scaled_square_backward(dy, *ctx.saved_tensors, ctx.scale), None


scaled_square.register_autograd(backward, setup_context=save)


class Seen(TorchDispatchMode):
    """Collects the names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("arguments", [(), (0.5,)])
def test_gradients_are_those_of_the_custom_op(arguments: tuple[float, ...]) -> None:
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    ways = scaled_square, scaled_square.custom_op, torch.compile(scaled_square, backend="eager")
    ours, op, compiled = (torch.autograd.grad(way(x, *arguments).sum(), x)[0] for way in ways)
    assert torch.equal(ours, 2 * (arguments or (3.0,))[0] * x.detach())
    assert torch.equal(ours, op)
    assert torch.equal(ours, compiled)


def test_the_rules_of_pytorch() -> None:
    x = torch.randn(5, requires_grad=True)
    torch.library.opcheck(scaled_square.custom_op, (x, 2.0))
    torch.autograd.gradcheck(scaled_square, x.detach().double().requires_grad_())


def test_a_mode_sees_the_operator() -> None:
    with Seen() as seen:
        scaled_square(torch.ones(2))
    assert "magicoder_tests.scaled_square.default" in seen.names


def test_a_tensor_of_another_kind_sees_the_operator() -> None:
    with torch._subclasses.FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.ones(2, 3))
    assert scaled_square(fake).shape == (2, 3)


def test_without_a_formula_there_is_no_gradient() -> None:
    x = torch.randn(5, requires_grad=True)
    with pytest.raises(RuntimeError, match="autograd"):
        scaled_square_backward(x, x, 1.0).sum().backward()


def test_no_second_derivative_is_made_up() -> None:
    x = torch.randn(5, requires_grad=True)
    (first,) = torch.autograd.grad(scaled_square(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        first.sum().backward()
