"""The RMSNorm kernels against float64, beside what PyTorch reaches in the same dtype."""

import logging

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from magicoder.custom_kernels.rms_norm import backward, forward, reference, rms_norm

EPS = 1e-5
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# one row, one column, no power of two, several rows a tile, several tiles a program, a long row
SHAPES = [(1, 1), (5, 1), (1, 7), (9, 7), (2, 3, 576), (300, 64), (1, 4096), (3, 8192)]


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight and dy of one seed."""
    draw = torch.Generator().manual_seed(sum(shape))
    x = 3 * torch.randn(shape, generator=draw) + 0.5
    weight = 1 + 0.3 * torch.randn(shape[-1], generator=draw)
    return x.to(dtype), weight.to(dtype), torch.randn(shape, generator=draw).to(dtype)


def truth(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm as the paper writes it."""
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight


def with_gradients(norm, x: Tensor, weight: Tensor, dy: Tensor) -> list[Tensor]:
    """y, dx and dweight."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = norm(x, weight)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), dy)]


def assert_as_exact_as_pytorch(x: Tensor, weight: Tensor, dy: Tensor) -> None:
    """Each error, as a norm over all elements, is at most 1.5 times PyTorch's.

    Where PyTorch happens to be almost exact (one element, say), float32's last bit is allowed.
    """
    ours = with_gradients(lambda x, w: rms_norm(x, w, EPS), x, weight, dy)
    theirs = with_gradients(lambda x, w: reference(x, w, EPS), x, weight, dy)
    exact = with_gradients(truth, x.double(), weight.double(), dy.double())
    for name, our, their, true in zip(["y", "dx", "dweight"], ours, theirs, exact, strict=True):
        assert our.dtype == their.dtype
        assert our.shape == their.shape
        last_bit = torch.finfo(torch.float32).eps * true.norm().item()
        error, allowed = [(t.double() - true).norm().item() for t in (our, their)]
        assert error <= max(1.5 * allowed, last_bit), name


def test_the_reference_is_what_transformers_computes() -> None:
    x, weight, _ = inputs((2, 5, 576), torch.bfloat16)
    layer = LlamaRMSNorm(576, EPS).to(torch.bfloat16)
    layer.weight.data = weight
    assert torch.equal(layer(x), reference(x, weight, EPS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounds_where_llama_rounds(dtype: torch.dtype) -> None:
    x, weight, _ = inputs((20, 576), dtype)
    differ = forward(x, weight, EPS) != reference(x, weight, EPS)
    assert differ.float().mean() < 0.01  # float32's last bit may tip a rounding; else the same bits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_as_exact_as_pytorch(*inputs(shape, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [2, 3, 127, 128, 129, 1000, 2048, 4095, 5000])
@pytest.mark.parametrize("rows", [1, 2, 33, 150])
def test_more_shapes(rows: int, hidden: int, dtype: torch.dtype) -> None:
    assert_as_exact_as_pytorch(*inputs((rows, hidden), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype: torch.dtype) -> None:
    x, weight, dy = inputs((6, 10, 64), dtype)
    wide = torch.cat([x, x], -1)[..., :64]
    assert_as_exact_as_pytorch(wide, weight, dy)
    assert_as_exact_as_pytorch(x.transpose(0, 1), weight, dy.transpose(0, 1))
    assert_as_exact_as_pytorch(x, weight.repeat_interleave(2)[::2], dy)
    columns = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert_as_exact_as_pytorch(columns, weight, dy[:1, :1, :1].expand(dy.shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype: torch.dtype) -> None:
    assert_as_exact_as_pytorch(*inputs((0, 64), dtype))
    assert_as_exact_as_pytorch(*inputs((3, 0, 64), dtype))


def test_extreme_values() -> None:
    x, weight, dy = inputs((4, 64), torch.float32)
    for scale in (0.0, 1e-6, 1e15):
        assert_as_exact_as_pytorch(x * scale, weight, dy)


def test_rows_further_apart_than_int32_reaches() -> None:
    few, weight, dy = inputs((3, 64), torch.float16)
    memory = torch.empty(2**31 + 64, dtype=torch.float16)  # 4 GiB; three pages are used
    x = memory.as_strided((3, 64), (2**30, 1))
    x.copy_(few)
    assert torch.equal(forward(x, weight, EPS), forward(few, weight, EPS))
    assert torch.equal(backward(dy, x, weight, EPS)[0], backward(dy, few, weight, EPS)[0])


def test_the_same_bits_on_every_run() -> None:
    x, weight, dy = inputs((300, 64), torch.float16)
    first, second = (backward(dy, x, weight, EPS) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_a_row_touches_no_other_row() -> None:
    x, weight, dy = inputs((70, 64), torch.float32)
    other = x.clone()
    other[30] += 1
    changed = (forward(x, weight, EPS) != forward(other, weight, EPS)).any(1)
    assert changed.nonzero().flatten().tolist() == [30]
    changed = (backward(dy, x, weight, EPS)[0] != backward(dy, other, weight, EPS)[0]).any(1)
    assert changed.nonzero().flatten().tolist() == [30]


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_keep_the_rules_of_pytorch(dtype: torch.dtype) -> None:
    x, weight, dy = inputs((2, 3, 64), dtype)
    torch.library.opcheck(backward, (dy, x, weight, EPS))
    strided = x.transpose(0, 1).requires_grad_()
    torch.library.opcheck(forward, (strided, weight.requires_grad_(), EPS), rtol=1e-2, atol=1e-2)


def test_compiles_into_one_graph() -> None:
    x, weight, dy = inputs((2, 3, 64), torch.float32)
    compiled = torch.compile(rms_norm, backend="aot_eager", fullgraph=True)
    ours = with_gradients(lambda x, w: compiled(x, w, EPS), x, weight, dy)
    eager = with_gradients(lambda x, w: rms_norm(x, w, EPS), x, weight, dy)
    assert all(map(torch.equal, ours, eager))


@pytest.mark.parametrize(
    ("x", "weight", "why"),
    [
        (torch.ones(2, 8, dtype=torch.float64), torch.ones(8, dtype=torch.float64), "float64"),
        (torch.ones(2, 8, dtype=torch.float16), torch.ones(8), "the weight torch.float32"),
        (torch.ones(2, 9000), torch.ones(9000), "9000 is not in 1..8192"),
        (torch.ones(2, 8), torch.ones(1), "(1,), not (8,)"),
    ],
)
def test_falls_back_and_says_so_once(
    x: Tensor, weight: Tensor, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "magicoder"):
        for _ in range(2):
            assert torch.equal(rms_norm(x, weight, EPS), reference(x, weight, EPS))
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("RMSNorm runs in PyTorch: ")
    assert why in caplog.records[0].message
