"""The mended bfloat16 of the interpreter (conftest.py) against PyTorch's."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

BFLOAT16 = torch.bfloat16
SIZE = 16


@triton.jit
def cast_kernel(x, y):
    at = tl.arange(0, 16)
    tl.store(y + at, tl.load(x + at).to(y.dtype.element_ty))


@triton.jit
def dot_kernel(a, b, c):
    at = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    tl.store(c + at, tl.dot(tl.load(a + at), tl.load(b + at)))


@triton.jit
def arithmetic_kernel(a, b, added, product, negative, less, larger, kept):
    at = tl.arange(0, 16)
    x, y = tl.load(a + at), tl.load(b + at)
    tl.store(added + at, x + y)
    tl.store(product + at, x * y)
    tl.store(negative + at, -x)
    tl.store(less + at, (x < y).to(tl.int32))
    tl.store(larger + at, tl.maximum(x, y))
    tl.store(kept + at, tl.where(x < y, x, 0.5))


@triton.jit
def reduction_kernel(x, total, most, where):
    values = tl.load(x + tl.arange(0, 16))
    tl.store(total, tl.sum(values, 0))
    tl.store(most, tl.max(values, 0))
    tl.store(where, tl.argmax(values, 0))


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(BFLOAT16)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (torch.float32, BFLOAT16),
        (torch.float16, BFLOAT16),
        (torch.int32, BFLOAT16),
        (BFLOAT16, torch.float32),
        (BFLOAT16, torch.float16),
        (BFLOAT16, torch.int32),
    ],
)
def test_casts(source: torch.dtype, target: torch.dtype) -> None:
    ties = [1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8, 257.0, 2.0**-130, 0.0, -7.9]
    x = torch.tensor(ties + torch.randn(9).mul(100).tolist()).to(source)
    y = torch.empty(SIZE, dtype=target)
    cast_kernel[(1,)](x, y)
    assert torch.equal(y, x.to(target))


def test_casts_what_is_not_a_number() -> None:
    x = torch.full((SIZE,), torch.inf)
    x[1], x[2] = -torch.inf, torch.nan
    x[3] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)  # NaN, all bits set
    x[4] = torch.finfo(torch.float32).max  # rounds up to infinity
    y = torch.empty(SIZE, dtype=BFLOAT16)
    cast_kernel[(1,)](x, y)
    assert torch.allclose(y, x.to(BFLOAT16), rtol=0, atol=0, equal_nan=True)


def test_dot_accumulates_in_float32() -> None:
    a, b = draw(SIZE, SIZE), draw(SIZE, SIZE)
    c = torch.empty(SIZE, SIZE)
    dot_kernel[(1,)](a, b, c)
    exact = a.double() @ b.double()
    assert (c - exact).abs().max() < 1e-5


def test_arithmetic() -> None:
    a, b = draw(SIZE), draw(SIZE, 1).flatten()
    added, product, negative, larger, kept = (torch.empty_like(a) for _ in range(5))
    less = torch.empty(SIZE, dtype=torch.int32)
    arithmetic_kernel[(1,)](a, b, added, product, negative, less, larger, kept)
    assert torch.equal(added, a + b)
    assert torch.equal(product, a * b)
    assert torch.equal(negative, -a)
    assert torch.equal(less.bool(), a < b)
    assert torch.equal(larger, torch.maximum(a, b))
    assert torch.equal(kept, torch.where(a < b, a, 0.5))


def test_reductions() -> None:
    x = draw(SIZE)
    total, most = torch.empty(1, dtype=BFLOAT16), torch.empty(1, dtype=BFLOAT16)
    where = torch.empty(1, dtype=torch.int32)
    reduction_kernel[(1,)](x, total, most, where)
    assert total.item() == x.double().sum().to(BFLOAT16).item()
    assert most.item() == x.max().item()
    assert where.item() == x.argmax().item()
