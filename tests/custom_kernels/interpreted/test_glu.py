"""The GLU kernels against float64, beside what PyTorch reaches in the same dtype."""

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.activations import ACT2FN

from magicoder.custom_kernels.glu import (
    backward,
    forward,
    glu,
    glu_linear,
    linear_backward,
    linear_forward,
    reference,
)

DTYPES = [torch.float32, pytest.param(torch.float16, marks=pytest.mark.slow), torch.bfloat16]
ACTIVATIONS = ["silu", "gelu", "gelu_tanh"]
# one element, odd sizes, one program and several, a last program that is nearly empty
SHAPES = [(1, 1), (5, 1), (1, 7), (3, 5, 7), (2, 3, 576), (2049,), (3, 4099)]
Check = Callable[[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]], None]


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """gate, up and dy of one seed; gates reach both tails."""
    draw = torch.Generator().manual_seed(sum(shape))
    gate, up, dy = (torch.randn(shape, generator=draw) for _ in range(3))
    return (3 * gate).to(dtype), up.to(dtype), dy.to(dtype)


def truth(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """The activations as their papers write them, in the dtype of the input."""
    if activation == "silu":
        return gate / (1 + (-gate).exp()) * up
    if activation == "gelu":
        return gate * (1 + torch.erf(gate / math.sqrt(2))) / 2 * up
    inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    return gate * (1 + inner.tanh()) / 2 * up


def with_gradients(op: Any, names: str, *tensors: Tensor, dy: Tensor) -> dict[str, Tensor]:
    """y and the gradient of each tensor."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    y = op(*leaves)
    grads = torch.autograd.grad(y, leaves, dy)
    return {"y": y.detach(), **dict(zip(names.split(), grads, strict=True))}


def glu_of(op: Any, gate: Tensor, up: Tensor, dy: Tensor, activation: str) -> dict[str, Tensor]:
    return with_gradients(lambda g, u: op(g, u, activation), "gate up", gate, up, dy=dy)


def assert_as_exact_as_pytorch(
    as_exact: Check, gate: Tensor, up: Tensor, dy: Tensor, activation: str
) -> None:
    as_exact(
        glu_of(glu, gate, up, dy, activation),
        glu_of(reference, gate, up, dy, activation),
        glu_of(truth, gate.double(), up.double(), dy.double(), activation),
    )


def projection(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """gate, up, weight, bias and dy of a small layer."""
    gate, up, _ = inputs((3, 5, 24), dtype)
    draw = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(16, 24, generator=draw), torch.randn(16, generator=draw)
    dy = torch.randn(3, 5, 16, generator=draw)
    return gate, up, weight.to(dtype), bias.to(dtype), dy.to(dtype)


@pytest.mark.parametrize(
    ("activation", "name"), [("silu", "silu"), ("gelu", "gelu"), ("gelu_tanh", "gelu_pytorch_tanh")]
)
def test_the_reference_is_what_transformers_computes(activation: str, name: str) -> None:
    gate, up, _ = inputs((2, 5, 576), torch.bfloat16)
    assert torch.equal(ACT2FN[name](gate) * up, reference(gate, up, activation))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounds_where_transformers_rounds(dtype: torch.dtype, activation: str) -> None:
    gate, up, dy = inputs((20, 576), dtype)
    differ = forward(gate, up, activation) != reference(gate, up, activation)
    # float32's last bit may tip a rounding; below -2.5 PyTorch's gelu loses more than that
    assert differ[gate > -2.5].float().mean() < 0.01
    weight = torch.eye(576, dtype=dtype)
    again = linear_backward(dy, gate, up, weight, activation, True)[2]
    assert torch.equal(again, forward(gate, up, activation))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(
    shape: tuple[int, ...], dtype: torch.dtype, activation: str, as_exact: Check
) -> None:
    assert_as_exact_as_pytorch(as_exact, *inputs(shape, dtype), activation)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype: torch.dtype, activation: str, as_exact: Check) -> None:
    gate, up, dy = inputs((6, 10, 72), dtype)
    fused = torch.cat([gate, up], -1)
    assert_as_exact_as_pytorch(as_exact, *fused.chunk(2, -1), dy, activation)
    assert_as_exact_as_pytorch(
        as_exact, gate, up.transpose(0, 1).contiguous().transpose(0, 1), dy, activation
    )
    columns = gate.transpose(-1, -2).contiguous().transpose(-1, -2)
    one = dy[:1, :1, :1].expand(dy.shape)
    assert_as_exact_as_pytorch(as_exact, columns, up, one, activation)
    assert_as_exact_as_pytorch(
        as_exact, gate.repeat_interleave(2, -1)[..., ::2], up, dy, activation
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_elements(activation: str, as_exact: Check) -> None:
    for shape in ((0, 64), (3, 0, 64), (3, 0)):
        assert_as_exact_as_pytorch(as_exact, *inputs(shape, torch.float32), activation)
    gate, up, weight, bias, dy = projection(torch.float32)
    none = with_gradients(
        lambda *t: glu_linear(*t, activation), "gate up weight bias",
        gate[:0], up[:0], weight, bias, dy=dy[:0],
    )  # fmt: skip
    assert none["y"].shape == (0, 5, 16)
    assert not none["weight"].any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_extreme_gates(activation: str) -> None:
    gate = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e-6, 30, -30, 88, -89, 200, -200])
    up, dy = torch.full_like(gate, 2.0), torch.ones_like(gate)
    ours = glu_of(glu, gate, up, dy, activation)
    exact = glu_of(truth, gate.double(), up.double(), dy.double(), activation)
    for name, right in exact.items():
        torch.testing.assert_close(ours[name].double(), right, rtol=1e-6, atol=1e-12, msg=name)


def test_the_tail_of_gelu_tanh_is_kept() -> None:
    """1 + tanh(z) rounds to 0 or 6e-8 there; s(2 z) does not."""
    gate = torch.tensor([-5.0, -6.0, -7.0])
    exact = gate.double() * torch.sigmoid(
        2 * math.sqrt(2 / math.pi) * (gate.double() + 0.044715 * gate.double() ** 3)
    )
    ours = forward(gate, torch.ones(3), "gelu_tanh")
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=0)
    assert reference(gate, torch.ones(3), "gelu_tanh")[1] != ours[1]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_finite_stays_so(activation: str, value: float) -> None:
    gate, up = torch.tensor([1.0, value, 2.0]), torch.ones(3)
    assert torch.equal(
        forward(gate, up, activation).isfinite(), reference(gate, up, activation).isfinite()
    )


def test_rows_further_apart_than_int32_reaches() -> None:
    gate, up, dy = inputs((3, 64), torch.float16)
    memory = torch.empty(2**31 + 64, dtype=torch.float16)  # 4 GiB; three pages are used
    far = memory.as_strided((3, 64), (2**30, 1))
    far.copy_(gate)
    assert torch.equal(forward(far, up, "silu"), forward(gate, up, "silu"))
    assert torch.equal(forward(up, far, "silu"), forward(up, gate, "silu"))
    near = backward(dy, gate, up, "silu")
    assert all(map(torch.equal, backward(dy, far, up, "silu"), near))
    far.copy_(dy)
    assert all(map(torch.equal, backward(far, gate, up, "silu"), near))


def test_the_same_bits_on_every_run_and_a_row_touches_no_other_row() -> None:
    gate, up, dy = inputs((70, 64), torch.bfloat16)
    fused = torch.cat([gate, up], -1)
    other = fused.clone()
    other[30] += 1
    before, again, after = (
        (forward(*x.chunk(2, -1), "gelu"), *backward(dy, *x.chunk(2, -1), "gelu"))
        for x in (fused, fused, other)
    )
    assert all(map(torch.equal, before, again))
    for first, second in zip(before, after, strict=True):
        assert (first != second).any(1).nonzero().flatten().tolist() == [30]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_with_the_projection(dtype: torch.dtype, activation: str, as_exact: Check) -> None:
    *tensors, dy = projection(dtype)
    strided = torch.cat(tensors[:2], -1).chunk(2, -1)
    names = "gate up weight bias"
    linear = torch.nn.functional.linear
    for gate, up in (tensors[:2], strided):
        ours = with_gradients(
            lambda *t: glu_linear(*t, activation), names, gate, up, *tensors[2:], dy=dy
        )
        theirs = with_gradients(
            lambda g, u, w, b: linear(reference(g, u, activation), w, b), names, *tensors, dy=dy
        )
        exact = with_gradients(
            lambda g, u, w, b: truth(g, u, activation) @ w.T + b,
            names, *(t.double() for t in tensors), dy=dy.double(),
        )  # fmt: skip
        as_exact(ours, theirs, exact)


def test_the_product_is_not_saved() -> None:
    gate, up, weight, bias, _ = projection(torch.float32)
    saved: list[Tensor] = []
    leaves = [x.requires_grad_() for x in (gate, up, weight, bias)]
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        glu_linear(*leaves, "silu")
    assert sorted(x.data_ptr() for x in saved) == sorted(x.data_ptr() for x in leaves[:3])


class Products(TorchDispatchMode):
    """Counts the matrix products that run."""

    count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += op._overloadpacket.__name__ in ("mm", "addmm", "linear", "matmul")
        return op(*args, **kwargs or {})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_computes_only_the_gradients_that_are_asked_for(frozen: bool, bias: bool) -> None:
    gate, up, weight, shift, dy = projection(torch.float32)
    for x in (gate, up) if frozen else (gate, up, weight, shift):
        x.requires_grad_()
    y = glu_linear(gate, up, weight, shift if bias else None, "silu")
    with Products() as products:
        y.backward(dy)
    assert products.count == (0 if frozen else 1)  # dy @ weight is inside the operator
    expected = with_gradients(
        lambda g, u: reference(g, u, "silu") @ weight.detach().T, "gate up", gate, up, dy=dy
    )
    torch.testing.assert_close(gate.grad, expected["gate"])
    torch.testing.assert_close(up.grad, expected["up"])
    assert (weight.grad is None) == frozen
    assert (shift.grad is None) == (frozen or not bias)


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_keep_the_rules_of_pytorch(dtype: torch.dtype) -> None:
    gate, up, weight, bias, dy = projection(dtype)
    torch.library.opcheck(backward.custom_op, (gate, gate, up, "silu"))
    for product in (True, False):
        torch.library.opcheck(linear_backward.custom_op, (dy, gate, up, weight, "gelu", product))
    near = {"rtol": 1e-2, "atol": 1e-2}
    halves = [x.requires_grad_() for x in torch.cat([gate, up], -1).chunk(2, -1)]
    torch.library.opcheck(forward.custom_op, (*halves, "gelu_tanh"), **near)
    weight.requires_grad_()
    torch.library.opcheck(
        linear_forward.custom_op, (*halves, weight, bias.requires_grad_(), "silu"), **near
    )
    torch.library.opcheck(linear_forward.custom_op, (*halves, weight, None, "silu"), **near)


def test_compiles_into_one_graph() -> None:
    gate, up, weight, bias, dy = projection(torch.float32)
    compiled = torch.compile(glu, backend="aot_eager", fullgraph=True)
    ours, eager = (glu_of(op, gate, up, gate, "silu") for op in (compiled, glu))
    assert all(torch.equal(ours[name], eager[name]) for name in eager)
    compiled = torch.compile(glu_linear, backend="aot_eager", fullgraph=True)
    ours, eager = (
        with_gradients(
            lambda *t, op=op: op(*t, "silu"), "gate up weight bias", gate, up, weight, bias, dy=dy
        )
        for op in (compiled, glu_linear)
    )
    assert all(torch.equal(ours[name], eager[name]) for name in eager)


def test_falls_back_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    gate, up, weight, bias, _ = projection(torch.float32)
    narrow = weight.bfloat16()
    with caplog.at_level(logging.WARNING, "magicoder"):
        for _ in range(2):
            y = glu(gate.double(), up.double(), "silu")
            assert torch.equal(y, reference(gate.double(), up.double(), "silu"))
            y = glu(gate, up.half(), "silu")
            assert torch.equal(y, reference(gate, up.half(), "silu"))
            with torch.autocast("cpu", torch.bfloat16):
                y = glu_linear(gate, up, weight, bias, "silu")
            assert y.dtype == torch.bfloat16
            with pytest.raises(RuntimeError, match="dtype"):  # PyTorch's own words
                glu_linear(gate, up, narrow, None, "silu")
    assert caplog.messages == [
        "GLU runs in PyTorch: the kernel does not take torch.float64",
        "GLU runs in PyTorch: gate is torch.float32 and up torch.float16",
        "GLU with its projection runs in PyTorch: autocast is on, and the matrix products would "
        "not follow it",
        "GLU with its projection runs in PyTorch: gate is torch.float32 and weight torch.bfloat16",
    ]


def test_refuses_what_cannot_be_computed() -> None:
    gate, up, weight, bias, _ = projection(torch.float32)
    with pytest.raises(ValueError, match="'relu': give one of silu, gelu, gelu_tanh"):
        glu(gate, up, "relu")
    with pytest.raises(ValueError, match=r"\(3, 5, 24\) and up \(3, 1, 24\)"):
        glu(gate, up[:, :1], "silu")
    with pytest.raises(ValueError, match=r"weight has shape \(24, 16\): give \(hidden, 24\)"):
        glu_linear(gate, up, weight.t(), None, "silu")
    with pytest.raises(ValueError, match=r"bias has shape \(15,\): give \(16,\) or None"):
        glu_linear(gate, up, weight, bias[:15], "silu")
