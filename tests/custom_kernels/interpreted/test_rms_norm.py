"""The RMSNorm kernels against float64, beside what PyTorch reaches in the same dtype."""

import logging
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from magicoder.custom_kernels.rms_norm import (
    add_forward,
    add_rms_norm,
    backward,
    forward,
    reference,
    rms_norm,
)

EPS = 1e-5
DTYPES = [torch.float32, pytest.param(torch.float16, marks=pytest.mark.slow), torch.bfloat16]
# one row, one column, no power of two, several rows a tile, several tiles a program, a long row
SHAPES = [(1, 1), (5, 1), (1, 7), (9, 7), (2, 3, 576), (300, 64), (1, 4096), (3, 8192)]
ARITHMETIC = {
    LlamaRMSNorm: ("before", 0.0),
    Olmo2RMSNorm: ("after", 0.0),
    GemmaRMSNorm: ("after", 1.0),
}
HOW = [*ARITHMETIC.values(), ("before", 1.0)]
Check = Callable[..., None]


def inputs(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight and dy of one seed."""
    draw = torch.Generator().manual_seed(sum(shape) + 1000 * seed)
    x = 3 * torch.randn(shape, generator=draw) + 0.5
    weight = 1 + 0.3 * torch.randn(shape[-1], generator=draw)
    return x.to(dtype), weight.to(dtype), torch.randn(shape, generator=draw).to(dtype)


def with_gradients(norm: Check, x: Tensor, weight: Tensor, dy: Tensor) -> dict[str, Tensor]:
    """The result and the gradients."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = norm(x, weight)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy)
    return {"y": y.detach(), "dx": dx, "dweight": dweight}


def with_all_gradients(
    norm: Check, x: Tensor, residual: Tensor, *others: Tensor
) -> dict[str, Tensor]:
    """Both results and all gradients of add + norm."""
    weight, *upstream = others
    leaves = [t.detach().requires_grad_() for t in (x, residual, weight)]
    results = norm(*leaves)
    gradients = torch.autograd.grad(results, leaves, upstream)
    names = ("y", "total", "dx", "dresidual", "dweight")
    return dict(zip(names, [*(r.detach() for r in results), *gradients], strict=True))


@pytest.fixture
def check(as_exact: Check) -> Check:
    """Ours, PyTorch's, and the norm as the paper writes it."""

    def compare(
        x: Tensor, weight: Tensor, dy: Tensor, cast: str = "before", offset: float = 0.0
    ) -> None:
        def truth(x: Tensor, weight: Tensor) -> Tensor:
            return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * (offset + weight)

        as_exact(
            with_gradients(
                lambda x, w: rms_norm(x, w, EPS, cast=cast, offset=offset), x, weight, dy
            ),
            with_gradients(lambda x, w: reference(x, w, EPS, cast, offset), x, weight, dy),
            with_gradients(truth, x.double(), weight.double(), dy.double()),
        )

    return compare


@pytest.fixture
def check_add(as_exact: Check) -> Check:
    """The same for add + norm, with gradients that reach both results, over one draw or more."""

    def compare(*draws: list[Tensor], cast: str = "before", offset: float = 0.0) -> None:
        def ours(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            return add_rms_norm(x, residual, weight, EPS, cast=cast, offset=offset)

        def theirs(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            return reference(x + residual, weight, EPS, cast, offset), x + residual

        def truth(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            total = x + residual
            mean = total.square().mean(-1, keepdim=True)
            return total / (mean + EPS).sqrt() * (offset + weight), total

        def stacked(norm: Check, draws: Sequence[list[Tensor]]) -> dict[str, Tensor]:
            found = [with_all_gradients(norm, *tensors) for tensors in draws]
            return {name: torch.stack([each[name] for each in found]) for name in found[0]}

        exact = stacked(truth, [[t.double() for t in tensors] for tensors in draws])
        as_exact(stacked(ours, draws), stacked(theirs, draws), exact)

    return compare


def add_inputs(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """x, residual, weight, dy and dtotal of one seed."""
    x, weight, dy = inputs(shape, dtype, seed)
    draw = torch.Generator().manual_seed(seed + 1)
    residual, dtotal = (torch.randn(shape, generator=draw).to(dtype) for _ in range(2))
    return [x, residual, weight, dy, dtotal]


@pytest.mark.parametrize("layer", ARITHMETIC)
def test_the_reference_is_what_transformers_computes(layer: type[torch.nn.Module]) -> None:
    x, weight, _ = inputs((2, 5, 576), torch.bfloat16)
    theirs = layer(576, EPS).to(torch.bfloat16)
    theirs.weight.data = weight
    assert torch.equal(theirs(x), reference(x, weight, EPS, *ARITHMETIC[layer]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("how", HOW)
def test_rounds_where_transformers_rounds(how: tuple[str, float], dtype: torch.dtype) -> None:
    x, residual, weight, *_ = add_inputs((20, 576), dtype)
    differ = forward(x, weight, EPS, *how) != reference(x, weight, EPS, *how)
    assert differ.float().mean() < 0.01  # float32's last bit may tip a rounding; else the same bits
    y, total = add_forward(x, residual, weight, EPS, *how)
    assert torch.equal(total, x + residual)
    assert torch.equal(y, forward(total, weight, EPS, *how))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(
    shape: tuple[int, ...], dtype: torch.dtype, check: Check, check_add: Check
) -> None:
    check(*inputs(shape, dtype))
    check_add(add_inputs(shape, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cast", "offset"), HOW)
def test_other_arithmetic(
    cast: str, offset: float, dtype: torch.dtype, check: Check, check_add: Check
) -> None:
    check(*inputs((70, 100), dtype), cast=cast, offset=offset)
    check_add(add_inputs((70, 100), dtype), cast=cast, offset=offset)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [127, 128, 129, 1000, 2048, 4095, 5000])
@pytest.mark.parametrize("rows", [1, 2, 33, 150])
def test_more_shapes(
    rows: int, hidden: int, dtype: torch.dtype, check: Check, check_add: Check
) -> None:
    check(*inputs((rows, hidden), dtype))
    check_add(add_inputs((rows, hidden), dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 2), (33, 2), (150, 3)])
def test_narrow_rows(shape: tuple[int, ...], dtype: torch.dtype, check_add: Check) -> None:
    check_add(*(add_inputs(shape, dtype, seed) for seed in range(20)))  # in one, chance decides


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype: torch.dtype, check: Check, check_add: Check) -> None:
    x, weight, dy = inputs((6, 10, 64), dtype)
    wide = torch.cat([x, x], -1)[..., :64]
    check(wide, weight, dy)
    check(x.transpose(0, 1), weight, dy.transpose(0, 1))
    check(x, weight.repeat_interleave(2)[::2], dy)
    columns = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    check(columns, weight, dy[:1, :1, :1].expand(dy.shape))
    check_add([wide, columns, weight, dy, dy[:1].expand(dy.shape)])
    check_add([x[:1].expand(x.shape), wide, weight, columns, wide])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 64), (3, 0, 64)])
def test_no_rows(
    shape: tuple[int, ...], dtype: torch.dtype, check: Check, check_add: Check
) -> None:
    check(*inputs(shape, dtype))
    check_add(add_inputs(shape, dtype))


def test_extreme_values(check: Check, check_add: Check) -> None:
    x, residual, weight, *upstream = add_inputs((4, 64), torch.float32)
    for scale in (0.0, 1e-6, 1e15):
        check(x * scale, weight, upstream[0])
        check_add([x * scale, residual * scale, weight, *upstream])


def test_rows_further_apart_than_int32_reaches() -> None:
    few, weight, dy = inputs((3, 64), torch.float16)
    memory = torch.empty(2**31 + 64, dtype=torch.float16)  # 4 GiB; three pages are used
    x = memory.as_strided((3, 64), (2**30, 1))
    x.copy_(few)
    assert torch.equal(forward(x, weight, EPS), forward(few, weight, EPS))
    expected = add_forward(dy, few, weight, EPS)
    assert all(map(torch.equal, add_forward(dy, x, weight, EPS), expected))
    expected = backward(dy, few, weight, EPS, 0.0, few)[0]
    assert torch.equal(backward(dy, x, weight, EPS, 0.0, x)[0], expected)


def test_add_saves_the_sum_and_the_weight_alone() -> None:
    x, residual, weight, *_ = add_inputs((3, 64), torch.float32)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.data_ptr()) or t, lambda t: t
    ):
        _, total = add_rms_norm(x.requires_grad_(), residual, weight.requires_grad_(), EPS)
    assert saved == [total.data_ptr(), weight.data_ptr()]


def test_one_result_of_add_is_used() -> None:
    leaves = [t.requires_grad_() for t in add_inputs((3, 64), torch.float32)[:3]]
    dy = torch.linspace(-1, 1, 192).reshape(3, 64)
    y, total = add_rms_norm(*leaves, EPS)
    ours = torch.autograd.grad(y, leaves, dy)
    dx, dweight = backward(dy, total.detach(), leaves[2].detach(), EPS)
    assert all(map(torch.equal, ours, (dx, dx, dweight)))
    _, total = add_rms_norm(*leaves, EPS)
    ours = torch.autograd.grad(total, leaves, dy, allow_unused=True)
    assert torch.equal(ours[0], dy)
    assert torch.equal(ours[1], dy)
    assert ours[2] is None


def test_the_same_bits_on_every_run() -> None:
    x, weight, dy = inputs((300, 64), torch.float16)
    first, second = (backward(dy, x, weight, EPS, 0.0, dy) for _ in range(2))
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
    near = {"rtol": 1e-2, "atol": 1e-2}
    torch.library.opcheck(backward.custom_op, (dy, x, weight, EPS, 1.0, dy))
    strided = x.transpose(0, 1).requires_grad_()
    torch.library.opcheck(
        forward.custom_op, (strided, weight.requires_grad_(), EPS, "after", 1.0), **near
    )
    tensors = strided, dy.transpose(0, 1).requires_grad_(), weight
    torch.library.opcheck(add_forward.custom_op, (*tensors, EPS, "before", 0.0), **near)


def test_compiles_into_one_graph() -> None:
    tensors = add_inputs((2, 3, 64), torch.float32)

    def both(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        y, total = add_rms_norm(x, residual, weight, EPS)
        return rms_norm(y, weight, EPS, cast="after", offset=1.0), total

    compiled = torch.compile(both, backend="aot_eager", fullgraph=True)
    ours, eager = (with_all_gradients(f, *tensors) for f in (compiled, both))
    assert all(torch.equal(ours[name], eager[name]) for name in eager)


@pytest.mark.parametrize(
    ("x", "weight", "why"),
    [
        (torch.ones(2, 8, dtype=torch.float64), torch.ones(8, dtype=torch.float64), "float64"),
        (torch.ones(2, 8, dtype=torch.float16), torch.ones(8), "the weight torch.float32"),
        (torch.ones(2, 9000), torch.ones(9000), "9000 is not in 1..8192"),
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


@pytest.mark.parametrize("shape", [(1,), (4, 8), (9,), ()])
def test_a_weight_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    x, weight = torch.ones(2, 8), torch.ones(shape)
    for call in (lambda: rms_norm(x, weight, EPS), lambda: add_rms_norm(x, x, weight, EPS)):
        with pytest.raises(ValueError, match="weight has shape"):
            call()


def test_add_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    x, residual, weight, *_ = add_inputs((2, 64), torch.float16)
    with caplog.at_level(logging.WARNING, "magicoder"):
        y, total = add_rms_norm(x, residual.float(), weight, EPS)
    assert total.dtype == torch.float32
    assert torch.equal(total, x + residual.float())
    assert torch.equal(y, reference(total, weight, EPS))
    assert "the input is torch.float16 and the residual torch.float32" in caplog.text


def test_refuses_what_does_not_fit() -> None:
    x, weight, _ = inputs((2, 64), torch.float32)
    with pytest.raises(ValueError, match=r"residual has shape \(64,\) and x \(2, 64\)"):
        add_rms_norm(x, x[0], weight, EPS)
    with pytest.raises(ValueError, match="cast is 'between': give one of"):
        add_rms_norm(x, x, weight, EPS, cast="between")
    with pytest.raises(ValueError, match="cast is 'between': give one of"):
        rms_norm(x, weight, EPS, cast="between")
