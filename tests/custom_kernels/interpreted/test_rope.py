"""The RoPE kernel against float64, beside what PyTorch reaches in the same dtype."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from magicoder.custom_kernels import fallback
from magicoder.custom_kernels.rope import forward, forward_inplace, reference, rope

DTYPES = [torch.float32, pytest.param(torch.float16, marks=pytest.mark.slow), torch.bfloat16]
# (batch, query heads, key heads, tokens, head_dim): one of each, one pair, odd heads, several
# tiles, several groups of heads, heads that are no power of two, many tokens a tile
SHAPES = [
    (1, 1, 1, 1, 2),
    (2, 9, 3, 37, 64),
    (1, 5, 1, 1, 128),
    (1, 12, 4, 9, 80),
    (3, 2, 3, 5, 96),
    (1, 1, 1, 70, 6),
    (2, 3, 7, 3, 256),
]
Shape = tuple[int, int, int, int, int]


def angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin of `(batch, tokens, head_dim)` as Su et al. define them, in float64."""
    frequency = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = (positions[..., None].double() * frequency).repeat(1, 1, 2)
    return angle.cos(), angle.sin()


def inputs(shape: Shape, dtype: torch.dtype, batches: int = 1) -> list[Tensor]:
    """q, k, cos, sin, dq and dk of one seed; q and k are transposed, as in transformers."""
    batch, q_heads, k_heads, tokens, head_dim = shape
    draw = torch.Generator().manual_seed(sum(shape))
    made = [
        torch.randn(batch, tokens, heads, head_dim, generator=draw).to(dtype).transpose(1, 2)
        for heads in (q_heads, k_heads, q_heads, k_heads)
    ]
    # two documents of a pack, both from position 0
    positions = torch.cat([torch.arange(tokens // 3), torch.arange(tokens - tokens // 3)])
    positions = positions + 100 * torch.arange(batches)[:, None]
    cos, sin = (angle.to(dtype) for angle in angles(positions, head_dim))
    return [*made[:2], cos, sin, *made[2:]]


def truth(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Every head of every token by the matrix of the rotation: nothing is clever here."""
    head_dim = q.shape[-1]
    half = head_dim // 2

    def turned(x: Tensor) -> Tensor:
        matrix = x.new_zeros(len(cos), cos.shape[1], head_dim, head_dim)
        for pair in range(half):
            low, high = pair, pair + half
            matrix[..., low, low], matrix[..., low, high] = cos[..., low], -sin[..., low]
            matrix[..., high, high], matrix[..., high, low] = cos[..., high], sin[..., high]
        return torch.einsum("btij,bhtj->bhti", matrix.expand(len(x), -1, -1, -1), x)

    return turned(q), turned(k)


def with_gradients(
    rotate: Callable[..., tuple[Tensor, Tensor]], tensors: list[Tensor]
) -> dict[str, Tensor]:
    """Both results and both gradients."""
    q, k, cos, sin, *upstream = tensors
    q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
    results = rotate(q, k, cos, sin)
    gradients = torch.autograd.grad(results, (q, k), upstream)
    return dict(zip(("q", "k", "dq", "dk"), [*results, *gradients], strict=True))


@pytest.fixture
def check(as_exact: Callable[..., None]) -> Callable[[list[Tensor]], None]:
    """Ours, PyTorch's and the truth of one set of inputs."""

    def compare(tensors: list[Tensor]) -> None:
        exact = with_gradients(truth, [t.double() for t in tensors])
        as_exact(with_gradients(rope, tensors), with_gradients(reference, tensors), exact)

    return compare


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(shape: Shape, dtype: torch.dtype, check: Callable[..., None]) -> None:
    check(inputs(shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_halves_that_differ(dtype: torch.dtype, check: Callable[..., None]) -> None:
    q, k, cos, sin, *upstream = inputs((2, 3, 2, 11, 64), dtype, batches=2)
    cos, sin = cos + torch.linspace(0, 1, 64, dtype=dtype), sin * torch.linspace(1, 2, 64).to(dtype)
    check([q, k, cos, sin, *upstream])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batches", [1, 2])
def test_has_the_bits_of_transformers(dtype: torch.dtype, batches: int) -> None:
    tensors = inputs((2, 9, 3, 37, 64), dtype, batches)
    ours, theirs, own = (
        with_gradients(f, tensors) for f in (rope, apply_rotary_pos_emb, reference)
    )
    for name, their in theirs.items():
        assert torch.equal(ours[name], their), name
        assert torch.equal(own[name], their), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype: torch.dtype, check: Callable[..., None]) -> None:
    q, k, cos, sin, dq, dk = inputs((2, 4, 2, 19, 32), dtype, batches=2)
    check([q.contiguous(), k, cos, sin, dq, dk.contiguous()])
    heads = torch.cat([q, k, k], 1)  # one projection of q, k and v
    check([heads[:, :4], heads[:, 4:6], cos, sin, dq, dk])
    wide = torch.cat([q, q], -1)[..., 16:48]  # a part of each head
    check([wide, k, cos, sin, dq, dk])
    check([q[:, :1].expand(q.shape), k, cos, sin, dq, dk])
    columns = dq.transpose(-1, -2).contiguous().transpose(-1, -2)
    check([q, k, cos, sin, columns, dk[:1, :1, :1, :1].expand(dk.shape)])
    interleaved = cos.repeat_interleave(2, -1)[..., ::2]
    check([q, k, interleaved, torch.cat([sin, sin], 1)[:, :19], dq, dk])


def test_results_lie_in_memory_as_the_inputs() -> None:
    q, k, cos, sin, dq, _ = inputs((2, 9, 3, 5, 64), torch.float32)
    q.requires_grad_()
    turned = rope(q, k.contiguous(), cos, sin)
    assert turned[0].stride() == q.stride()
    assert turned[1].stride() == k.contiguous().stride()
    assert torch.autograd.grad(turned[0], q, dq)[0].stride() == q.stride()


@pytest.mark.parametrize("shape", [(2, 3, 2, 0, 64), (0, 3, 2, 4, 64), (2, 3, 0, 4, 64)])
def test_nothing_to_rotate(shape: Shape, check: Callable[..., None]) -> None:
    check(inputs(shape, torch.float32))


def test_saves_cos_and_sin_alone() -> None:
    q, k, cos, sin, *_ = inputs((1, 2, 1, 4, 8), torch.float32)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(id(t)) or t, lambda t: t):
        rope(q.requires_grad_(), k.requires_grad_(), cos, sin)
    assert saved == [id(cos), id(sin)]


def test_no_gradient_for_the_angles() -> None:
    q, k, cos, sin, *_ = inputs((1, 2, 1, 4, 8), torch.float32)
    turned, _ = rope(q.requires_grad_(), k, cos.requires_grad_(), sin)
    turned.sum().backward()
    assert q.grad is not None
    assert cos.grad is None


def test_offsets_further_than_int32_reaches() -> None:
    q, k, cos, sin, *_ = inputs((1, 3, 2, 3, 16), torch.float16)
    memory = torch.empty(2**31 + 2**26, dtype=torch.float16)  # 4 GiB; a few pages are used
    expected = rope(q, k, cos, sin)
    for strides in ((0, 2**30, 16, 1), (0, 16, 2**30, 1)):  # heads, then tokens far apart
        far = memory.as_strided(q.shape, strides)
        far.copy_(q)
        assert torch.equal(rope(far, k, cos, sin)[0], expected[0])
        near = k.clone()
        rope(far, near, cos, sin, inplace=True)
        assert torch.equal(far, expected[0])
        assert torch.equal(near, expected[1])


def test_a_token_and_a_head_touch_no_other() -> None:
    q, k, cos, sin, *_ = inputs((2, 3, 2, 19, 32), torch.float32)
    other = q.clone()
    other[1, 2, 7] += 1
    first, second = rope(q, k, cos, sin), rope(other, k, cos, sin)
    assert (first[0] != second[0]).any(-1).nonzero().tolist() == [[1, 2, 7]]
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(dtype: torch.dtype) -> None:
    q, k, cos, sin, *_ = inputs((2, 9, 3, 19, 64), dtype)
    expected = rope(q, k, cos, sin)
    heads = torch.cat([q, k, k], 1)
    untouched = heads[:, 12:].clone()
    results = rope(heads[:, :9], heads[:, 9:12], cos, sin, inplace=True)
    for result, expect in zip(results, expected, strict=True):
        assert torch.equal(result, expect)
    assert torch.equal(heads[:, :12], torch.cat(expected, 1))
    assert torch.equal(heads[:, 12:], untouched)


def test_in_place_without_the_kernel() -> None:
    q, k, cos, sin, *_ = inputs((2, 9, 3, 19, 64), torch.float32)
    q, k, cos, sin = (t.double() for t in (q, k, cos, sin))
    expected = reference(q, k, cos, sin)
    results = rope(q, k, cos, sin, inplace=True)
    assert results[0] is q
    assert torch.equal(q, expected[0])
    assert torch.equal(k, expected[1])


def test_in_place_only_where_autograd_records_nothing() -> None:
    q, k, cos, sin, *_ = inputs((1, 2, 2, 4, 8), torch.float32)
    with pytest.raises(ValueError, match="inplace: autograd records k"):
        rope(q, k.clone().requires_grad_(), cos, sin, inplace=True)
    with torch.no_grad():
        rope(q, k.clone().requires_grad_(), cos, sin, inplace=True)
    with pytest.raises(ValueError, match="inplace: the elements of q share memory"):
        rope(q[:, :1].expand(-1, 2, -1, -1), k, cos, sin, inplace=True)


def test_operators_keep_the_rules_of_pytorch() -> None:
    q, k, cos, sin, *_ = inputs((2, 3, 2, 5, 16), torch.float32)
    torch.library.opcheck(forward_inplace, (q.clone(), k.clone(), cos, sin))
    torch.library.opcheck(forward.custom_op, (q.requires_grad_(), k.contiguous(), cos, sin, True))


@pytest.mark.parametrize("inplace", [False, True])
def test_compiles_into_one_graph(inplace: bool) -> None:
    tensors = inputs((2, 3, 2, 5, 16), torch.float32)
    compiled = torch.compile(rope, backend="aot_eager", fullgraph=True)
    if inplace:
        ours, eager = (f(*(t.clone() for t in tensors[:4]), inplace=True) for f in (compiled, rope))
        assert all(map(torch.equal, ours, eager))
    else:
        ours, eager = with_gradients(compiled, tensors), with_gradients(rope, tensors)
        assert all(torch.equal(ours[name], eager[name]) for name in eager)


ONES = torch.ones(2, 3, 4, 8)
ANGLE = torch.ones(1, 4, 8)


@pytest.mark.parametrize(
    ("q", "k", "angle", "why"),
    [
        (ONES.double(), ONES.double(), ANGLE.double(), "float64"),
        (ONES.half(), ONES.half(), ANGLE, "q is torch.float16 and cos torch.float32"),
        (ONES, ONES.half(), ANGLE, "q is torch.float32 and k torch.float16"),
        (ONES, ONES.repeat(1, 1, 1, 2)[..., ::2], ANGLE, "dimension of k has stride 2"),
        (torch.ones(1, 1, 1, 514), torch.ones(1, 1, 1, 514), torch.ones(1, 1, 514), "514 is over"),
    ],
)
def test_falls_back_and_says_so_once(
    q: Tensor, k: Tensor, angle: Tensor, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    fallback._say.cache_clear()  # another test may have heard it
    with caplog.at_level(logging.WARNING, "magicoder"):
        for _ in range(2):
            ours, theirs = rope(q, k, angle, angle), reference(q, k, angle, angle)
            assert all(map(torch.equal, ours, theirs))
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("RoPE runs in PyTorch: ")
    assert why in caplog.records[0].message


@pytest.mark.parametrize(
    ("q", "k", "cos", "sin", "why"),
    [
        (ONES[0], ONES, ANGLE, ANGLE, r"q has shape \(3, 4, 8\): give \(batch, heads"),
        (ONES[..., :7], ONES, ANGLE, ANGLE, "head_dim even"),
        (ONES, ONES[:1], ANGLE, ANGLE, r"k has shape \(1, 3, 4, 8\)"),
        (ONES, ONES[:, :, :3], ANGLE, ANGLE, r"k has shape \(2, 3, 3, 8\)"),
        (ONES, ONES, ANGLE[..., :4], ANGLE, r"cos has shape \(1, 4, 4\).*slice q and k"),
        (ONES, ONES, ANGLE, ANGLE[0], r"sin has shape \(4, 8\)"),
        (ONES, ONES, ANGLE.repeat(3, 1, 1), ANGLE, r"cos has shape \(3, 4, 8\)"),
    ],
)
def test_refuses_what_does_not_fit(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        rope(q, k, cos, sin)


@pytest.mark.parametrize("one", ["cos", "sin"])
def test_cos_or_sin_may_be_shared_alone(one: str) -> None:
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, heads, 5, 16, generator=draw) for heads in (3, 1))
    angles = {name: torch.randn(2, 5, 16, generator=draw) for name in ("cos", "sin")}
    angles[one] = angles[one][:1]
    for ours, theirs in zip(rope(q, k, **angles), reference(q, k, **angles), strict=True):
        assert torch.equal(ours, theirs)
