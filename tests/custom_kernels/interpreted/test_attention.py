"""The attention kernels against float64, beside what PyTorch reaches in the same dtype."""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from magicoder.custom_kernels import attention, fallback, hardware
from magicoder.custom_kernels.attention import kernels, packed_attention, reference
from magicoder.custom_kernels.hardware import Chip

DTYPES = [torch.float32, pytest.param(torch.float16, marks=pytest.mark.slow), torch.bfloat16]
# The interpreter's tiles are 32 tokens, and 16 meet them at a time
PACKS = [
    (15, 16, 17),
    (31, 32, 33, 1),
    (70,),  # one document as long as the pack
    (0, 20, 0, 0, 7, 0),  # empty documents, the last one too
]
Pack = tuple[Tensor, Tensor, Tensor, Tensor]


def edges(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def draw(
    lengths: Sequence[int], dtype: torch.dtype, heads: int = 2, group: int = 1, head_dim: int = 16
) -> Pack:
    """q, k, v and dout of one seed."""
    tokens = sum(lengths)
    seed = torch.Generator().manual_seed(tokens + heads)
    shapes = [(tokens, n, head_dim) for n in (heads, heads // group, heads // group, heads)]
    q, k, v, dout = (torch.randn(shape, generator=seed).to(dtype) for shape in shapes)
    return q, k, v, dout


def truth(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention over the whole pack under one mask."""
    tokens, heads, head_dim = q.shape
    document = torch.tensor([i for i, n in enumerate(lengths) for _ in range(n)], dtype=torch.int64)
    back = torch.arange(tokens)[:, None] - torch.arange(tokens)[None, :]
    seen = (document[:, None] == document[None, :]) & (back >= 0)
    if window is not None:
        seen &= back < window
    k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * (scale or 1 / math.sqrt(head_dim))
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v)


def gradients(attend: Callable[..., Tensor], pack: Pack) -> dict[str, Tensor]:
    """out, dq, dk and dv."""
    *states, dout = pack
    q, k, v = (x.detach().requires_grad_() for x in states)
    out = attend(q, k, v)
    found = [out.detach(), *torch.autograd.grad(out, (q, k, v), dout.to(out.dtype))]
    return dict(zip(["out", "dq", "dk", "dv"], found, strict=True))


def ours(pack: Pack, lengths: Sequence[int], **options: Any) -> dict[str, Tensor]:
    lengths, cu_seqlens = tuple(lengths), edges(lengths)
    return gradients(lambda q, k, v: kernels(q, k, v, cu_seqlens, lengths, **options), pack)


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def check(as_exact: Callable[..., None]) -> Callable[..., None]:
    """Each of ours is at most 1.5 times as far from the truth as PyTorch's."""

    def check(pack: Pack, lengths: Sequence[int], **options: Any) -> None:
        cu_seqlens = edges(lengths)
        theirs = gradients(lambda *x: reference(*x, cu_seqlens, lengths, **options), pack)
        wide = tuple(x.double() for x in pack)
        exact = gradients(lambda *x: truth(*x, lengths, **options), wide)
        as_exact(ours(pack, lengths, **options), theirs, exact)

    return check


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", PACKS)
def test_forward_and_backward(
    lengths: tuple[int, ...], dtype: torch.dtype, check: Callable[..., None]
) -> None:
    check(draw(lengths, dtype), lengths)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "group", "head_dim"), [(3, 3, 64), (4, 4, 16), (6, 3, 8), (2, 1, 24), (2, 2, 128)]
)
def test_shared_keys_and_head_dims(
    heads: int, group: int, head_dim: int, dtype: torch.dtype, check: Callable[..., None]
) -> None:
    lengths = (40, 1, 9)
    check(draw(lengths, dtype, heads, group, head_dim), lengths)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [2, 15, 16, 17, 33, 50, 69, 70, 1000])
def test_sliding_window(window: int, dtype: torch.dtype, check: Callable[..., None]) -> None:
    lengths = (70, 3, 33)
    check(draw(lengths, dtype, 2, 2), lengths, window=window)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lengths", "window"), [((1,), None), ((1, 1, 1), None), ((1, 0, 1), 5), ((20, 3), 1)]
)
def test_a_token_that_sees_itself_alone(
    lengths: tuple[int, ...], window: int | None, dtype: torch.dtype
) -> None:
    q, k, v, dout = draw(lengths, dtype)
    found = ours((q, k, v, dout), lengths, window=window)
    assert torch.equal(found["out"], v)
    assert torch.equal(found["dv"], dout)
    for name in ("dq", "dk"):  # zero, but for the rounding of the sums that cancel
        assert found[name].abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("softcap", [0.5, 50.0])
def test_softcap_and_scale(softcap: float, dtype: torch.dtype, check: Callable[..., None]) -> None:
    lengths = (40, 21)
    check(draw(lengths, dtype), lengths, softcap=softcap)
    check(draw(lengths, dtype), lengths, softcap=softcap, scale=0.3, window=20)
    check(draw(lengths, dtype), lengths, scale=0.07)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
def test_more_packs(seed: int, dtype: torch.dtype, check: Callable[..., None]) -> None:
    seeded = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 60, (5,), generator=seeded).tolist()
    window = [None, 7, 32][seed % 3]
    softcap = [None, 2.0][seed % 2]
    heads, group = [(2, 1), (3, 3), (6, 3), (4, 4)][seed % 4]
    pack = draw(lengths, dtype, heads, group, [16, 32, 40][seed % 3])
    check(pack, lengths, window=window, softcap=softcap)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sm_80", "sm_90", "sm_100", "sm_120", "gfx942"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_tiles_of_real_chips(
    head_dim: int,
    name: str,
    dtype: torch.dtype,
    check: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "chip", lambda device: Chip(name, 2, 2**16))
    lengths = (1, 300, 127, 128, 129, 0)
    check(draw(lengths, dtype, 2, 2, head_dim), lengths)
    check(draw(lengths, dtype, 1, 1, head_dim), lengths, window=140, softcap=5.0)


@pytest.mark.parametrize("name", ["interpreter", "sm_80", "sm_90", "sm_100", "sm_120", "gfx942"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_divide_tiles(name: str, dtype: torch.dtype) -> None:
    for kernel, head_dim in itertools.product(["forward", "dq", "dk_dv"], [8, 16, 64, 80, 128]):
        config = attention.launch(kernel, head_dim, dtype, name)
        tile, step = config["BLOCK_M"], config["BLOCK_N"]
        if kernel == "dk_dv":
            tile, step = step, tile
        assert tile % step == 0
        assert tile <= 128  # _strided counts on it
        assert config["WIDTH"] >= max(16, head_dim)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype: torch.dtype) -> None:
    lengths = (20, 17)
    pack = draw(lengths, dtype, 4, 2)
    plain = ours(pack, lengths)
    heads_first = tuple(x.transpose(0, 1).contiguous().transpose(0, 1) for x in pack)
    assert same_bits(ours(heads_first, lengths), plain)
    together = torch.cat(pack[:3], 1).split([4, 2, 2], 1)  # as one projection gives them
    assert same_bits(ours((*together, pack[3]), lengths), plain)
    scattered = tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in pack)
    assert same_bits(ours(scattered, lengths), plain)
    constant = pack[3][:1, :1, :1].expand(pack[3].shape)
    flat = ours((*pack[:3], constant), lengths)
    assert same_bits(flat, ours((*pack[:3], constant.contiguous()), lengths))


def test_heads_further_apart_than_int32_reaches() -> None:
    lengths = (5, 12)
    q, k, v, dout = draw(lengths, torch.float16, 3, 1)
    plain = ours((q, k, v, dout), lengths)
    apart = torch.empty(2**31 + 17 * 16, dtype=torch.float16)  # 4 GiB; a few pages are used
    for name, x in (("q", q), ("k", k), ("v", v), ("dout", dout)):
        far = apart.as_strided(x.shape, (16, 2**30, 1))
        far.copy_(x)
        pack = {"q": q, "k": k, "v": v, "dout": dout} | {name: far}
        assert same_bits(ours(tuple(pack.values()), lengths), plain), name


def test_tokens_further_apart_than_int32_reaches() -> None:
    lengths = (150, 5)
    q, k, v, dout = draw(lengths, torch.float16, 1, 1)
    plain = ours((q, k, v, dout), lengths)
    for stride in (2**24 - 1, 2**24):  # the last that is not copied, the first that is
        apart = torch.empty(154 * stride + 16, dtype=torch.float16)  # 5 GiB; a few pages are used
        far = apart.as_strided(k.shape, (stride, 16, 1))
        far.copy_(k)
        assert (attention._strided(far) is far) == (stride < 2**24)
        assert same_bits(ours((q, far, v, dout), lengths), plain)


def test_no_tokens() -> None:
    for lengths in ((), (0, 0)):
        found = ours(draw(lengths, torch.float32), lengths)
        assert all(x.shape == (0, 2, 16) for x in found.values())
        assert reference(*draw(lengths, torch.float32)[:3], edges(lengths)).shape == (0, 2, 16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_scores(dtype: torch.dtype, check: Callable[..., None]) -> None:
    q, k, v, dout = draw((40, 3), dtype)
    for factor in (0.0, 1e-4):
        check((q * factor, k, v, dout), (40, 3))


@pytest.mark.parametrize("window", [None, 9])
def test_large_scores(window: int | None) -> None:
    q, k, v, dout = draw((40, 3), torch.float32)
    pack = (q * 50, k, v, dout)
    exact = gradients(lambda *x: truth(*x, (40, 3), window=window), tuple(x.double() for x in pack))
    # scores reach 200, so the backward knows each from lse to 200 * 2^-24, and q is 50 times as big
    for name, x in ours(pack, (40, 3), window=window).items():
        assert (x - exact[name]).norm() < 1e-4 * exact[name].norm(), name


@triton.jit
def tanh_kernel(x, y):
    at = tl.arange(0, 4096)
    tl.store(y + at, attention._tanh(tl.load(x + at)))


def test_tanh_to_the_last_bits() -> None:
    x = torch.cat([torch.logspace(-8, 1.5, 2047), torch.zeros(1)])
    x = torch.cat([x, -x])
    y = torch.empty_like(x)
    tanh_kernel[(1,)](x, y)
    exact = x.double().tanh()
    assert ((y - exact).abs() <= 1.5 * torch.finfo(torch.float32).eps * exact.abs()).all()


# What a document gives depends on nothing else.


@pytest.mark.parametrize("window", [None, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("changed", [0, 1, 2, 3])
def test_a_document_touches_no_other(changed: int, window: int | None) -> None:
    lengths = (20, 37, 1, 18)
    pack = draw(lengths, torch.float32, 2, 2)
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    before = ours(pack, lengths, window=window)
    for noise in (1.0, math.inf, math.nan):
        inside = (document == changed)[:, None, None]
        other = tuple(torch.where(inside, x + noise, x) for x in pack)
        after = ours(other, lengths, window=window)
        for name, x in before.items():
            kept = (x == after[name]).flatten(1).all(1)
            assert kept[document != changed].all(), (name, noise)
            assert not kept[document == changed].all(), (name, noise)


@pytest.mark.parametrize("attend", [kernels, reference])
def test_documents_may_change_places(attend: Callable[..., Tensor]) -> None:
    lengths = (20, 37, 0, 1, 18)
    pack = draw(lengths, torch.float32, 2, 2)
    found = gradients(lambda *x: attend(*x, edges(lengths), lengths), pack)
    order = [3, 1, 4, 0, 2]
    moved = tuple(torch.cat([x.split(lengths)[i] for i in order]) for x in pack)
    new = [lengths[i] for i in order]
    again = gradients(lambda *x: attend(*x, edges(new), new), moved)
    for name, x in found.items():
        assert torch.equal(again[name], torch.cat([x.split(lengths)[i] for i in order])), name


def test_the_same_bits_on_every_run() -> None:
    lengths = (50, 31)
    pack = draw(lengths, torch.float16, 4, 2)
    assert same_bits(ours(pack, lengths), ours(pack, lengths))


# The tiles


@pytest.mark.parametrize("lengths", [*PACKS, (64, 5, 130, 1)])
@pytest.mark.parametrize("block", [16, 32, 128])
def test_tiles_cover_each_document_once(lengths: tuple[int, ...], block: int) -> None:
    table = attention.tiles(edges(lengths), sum(lengths), block)
    assert table.dtype == torch.int32
    begins = edges(lengths).tolist()
    expected = [
        [begin, length, first]
        for begin, length in zip(begins, lengths, strict=False)
        for first in range(0, length, block)
    ]
    assert sorted(table.tolist()[: len(expected)]) == sorted(expected)
    assert not table[len(expected) :].any()
    firsts = table[: len(expected), 2].tolist()
    assert firsts == sorted(firsts, reverse=True)  # the heaviest first


def test_tiles_are_made_once_while_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    make = attention.tiles

    def counted(cu_seqlens: Tensor, tokens: int, block: int) -> Tensor:
        asked.append(block)
        return make(cu_seqlens, tokens, block)

    monkeypatch.setattr(attention, "tiles", counted)
    q, k, v, dout = draw((20, 12), torch.float32)
    cu_seqlens = edges((20, 12))
    attend = lambda *x: kernels(*x, cu_seqlens)  # noqa: E731
    first = gradients(attend, (q, k, v, dout))
    assert same_bits(gradients(attend, (q, k, v, dout)), first)
    assert asked == [32]  # one size serves all three kernels in the interpreter
    cu_seqlens[1] = 12
    assert same_bits(gradients(attend, (q, k, v, dout)), ours((q, k, v, dout), (12, 20)))
    assert asked == [32, 32, 32]
    with torch.inference_mode():  # such tensors do not count how often they are written to
        found = kernels(q, k, v, edges((20, 12)))
    assert torch.equal(found, first["out"])


# As PyTorch's operators


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_keep_the_rules_of_pytorch(dtype: torch.dtype) -> None:
    q, k, v, dout = draw((20, 3), dtype, 2, 2)
    cu_seqlens = edges((20, 3))
    numbers = 0.25, 7, 3.0
    out, lse = attention.forward(q, k, v, cu_seqlens, [20, 3], *numbers)
    torch.library.opcheck(
        attention.backward.custom_op, (dout, q, k, v, out, lse, cu_seqlens, *numbers)
    )
    strided = q.transpose(0, 1).contiguous().transpose(0, 1)
    states = [x.detach().requires_grad_() for x in (strided, k, v)]
    for lengths, rest in (([20, 3], (0.25, None, None)), (None, numbers)):
        torch.library.opcheck(
            attention.forward.custom_op, (*states, cu_seqlens, lengths, *rest), rtol=1e-2, atol=1e-2
        )


@pytest.mark.parametrize("lengths", [(20, 12), None])
def test_compiles_into_one_graph(lengths: tuple[int, ...] | None) -> None:
    pack = draw((20, 12), torch.float32, 4, 2)
    cu_seqlens = edges((20, 12))
    compiled = torch.compile(packed_attention, backend="aot_eager", fullgraph=True)
    found = gradients(lambda *x: compiled(*x, cu_seqlens, lengths, window=9), pack)
    assert same_bits(found, ours(pack, (20, 12), window=9))


def test_the_reference_in_float64() -> None:
    lengths = (20, 0, 7)
    pack = draw(lengths, torch.float64, 4, 2)
    for options in ({}, {"window": 5}, {"softcap": 2.0}, {"softcap": 2.0, "window": 5}):
        options |= {"scale": 0.3}
        exact = gradients(lambda *x, o=options: truth(*x, lengths, **o), pack)
        found = gradients(lambda *x, o=options: reference(*x, edges(lengths), **o), pack)
        for name, x in exact.items():
            torch.testing.assert_close(found[name], x, rtol=1e-12, atol=1e-14, msg=name)


# Which implementation


@pytest.mark.parametrize(
    ("dtype", "head_dim", "why"),
    [
        (torch.float64, 16, "the kernel does not take torch.float64"),
        (torch.float32, 136, "the head_dim 136 is not in 1..128"),
    ],
)
def test_falls_back_and_says_so_once(
    dtype: torch.dtype, head_dim: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    fallback._say.cache_clear()
    lengths = (5, 3)
    states = draw(lengths, dtype, 2, 2, head_dim)[:3]
    with caplog.at_level(logging.WARNING, "magicoder"):
        for _ in range(2):
            found = packed_attention(*states, edges(lengths), lengths)
            assert torch.equal(found, reference(*states, edges(lengths), lengths))
    assert caplog.messages == [f"packed attention runs in PyTorch: {why}"]


def test_the_kernels_run_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, _ = draw((5, 3), torch.float32)
    monkeypatch.setattr(attention, "reference", None)
    found = packed_attention(q, k, v, edges((5, 3)), (5, 3))
    assert torch.equal(found, kernels(q, k, v, edges((5, 3)), (5, 3)))


def test_what_was_measured_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    q = draw((8,), torch.float16)[0]
    for name in ("interpreter", "gfx942", "sm_75"):
        monkeypatch.setattr(hardware, "chip", lambda device, name=name: Chip(name, 2, 2**16))
        assert "it needs an NVIDIA GPU" in attention.varlen_unsupported(q, (8,), None)
        assert attention.choice(q, (8,), None) == ("triton", None)
    monkeypatch.setattr(hardware, "chip", lambda device: Chip("sm_120", 2, 2**16))
    assert attention.choice(q, (8,), None) == ("varlen", None)
    assert attention.choice(q, (8,), 50.0) == ("triton", None)
    assert attention.choice(q, None, None) == ("triton", None)
    assert attention.choice(q.float(), (8,), None) == ("triton", None)
    assert attention.choice(q[..., :4], (8,), None) == ("triton", None)
    for triton_ms, expected in ((1.0, "triton"), (3.0, "varlen")):
        row = {("sm_120", 16): {"triton": triton_ms, "varlen": 2.0}}
        monkeypatch.setattr(attention, "MEASURED", row)
        assert attention.choice(q, (8,), None) == (expected, None)
    monkeypatch.setattr(hardware, "trouble", lambda q: "triton is not installed")
    assert attention.choice(q, (8,), None) == ("varlen", None)
    assert attention.choice(q, None, None) == ("reference", "triton is not installed")


def test_what_is_handed_to_the_varlen_kernel_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def stub(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> Tensor:
        before, longest_q, longest_k = rest[1:]
        assert torch.equal(rest[0], before)
        assert longest_q == longest_k == 20
        back, ahead = options.pop("window_size")
        assert ahead == 0
        assert options == {"scale": 0.3, "enable_gqa": True}
        window = None if back == -1 else back + 1
        return truth(q, k, v, before.diff().tolist(), 0.3, window)

    monkeypatch.setattr(attention, "varlen_attn", stub)
    states = draw((20, 7), torch.float64, 4, 2)[:3]
    for window in (None, 1, 5):
        found = attention.varlen(*states, edges((20, 7)), (20, 7), scale=0.3, window=window)
        assert torch.allclose(found, truth(*states, (20, 7), 0.3, window))


# Bad input


GOOD = torch.ones(8, 4, 16)
EDGES = edges((5, 3))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"q": torch.ones(4, 16)}, "q has shape (4, 16); it must be (T, heads, head_dim)"),
        ({"q": GOOD[:, :3]}, "q has 3 heads; it must be a multiple of k's 4"),
        ({"k": GOOD[:, :0], "v": GOOD[:, :0]}, "q has 4 heads; it must be a multiple of k's 0"),
        ({"k": GOOD.half()}, "k is torch.float16 on cpu, and q torch.float32 on cpu"),
        ({"v": GOOD.to("meta")}, "v is torch.float32 on meta, and q torch.float32 on cpu"),
        ({"v": GOOD[:, :2]}, "v has shape (8, 2, 16), and k (8, 4, 16): make them equal"),
        ({"q": GOOD[:7]}, "k has shape (8, 4, 16); it must be (7, heads, 16)"),
        ({"q": GOOD[..., :8]}, "k has shape (8, 4, 16); it must be (8, heads, 8)"),
        ({"cu_seqlens": EDGES.long()}, "cu_seqlens is torch.int64 of shape (3,)"),
        ({"cu_seqlens": EDGES[None]}, "it must be int32 of shape (documents + 1,)"),
        ({"cu_seqlens": EDGES[:0]}, "it must be int32 of shape (documents + 1,)"),
        ({"cu_seqlens": EDGES.to("meta")}, "cu_seqlens is on meta; move it to q's cpu"),
        ({"lengths": (8,)}, "lengths has 1 documents, and cu_seqlens 2"),
        ({"lengths": (5, 2)}, "lengths must be at least 0 and sum to the 8 tokens of q"),
        ({"lengths": (9, -1)}, "lengths must be at least 0 and sum to the 8 tokens of q"),
        ({"cu_seqlens": edges((5, 2))}, "cu_seqlens goes from 0 to 7; it must rise from 0 to"),
        ({"cu_seqlens": edges((5, 4))}, "to the 8 tokens of q"),
        ({"cu_seqlens": EDGES + 1}, "cu_seqlens goes from 1 to 9"),
        ({"cu_seqlens": edges((9, -1))}, "it must rise from 0"),
        ({"cu_seqlens": EDGES[:1]}, "cu_seqlens goes from 0 to 0"),
        ({"window": 0}, "window is 0; it must be at least 1"),
        ({"scale": math.nan}, "scale is nan; it must be a positive number"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": math.inf}, "scale is inf"),
        ({"softcap": -1.0}, "softcap is -1.0; it must be a positive number"),
    ],
)
def test_bad_input_is_refused_before_a_launch(
    change: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "forward_kernel", None)
    arguments = {"q": GOOD, "k": GOOD, "v": GOOD, "cu_seqlens": EDGES} | change
    with pytest.raises(ValueError, match=r"^[a-z_]+ ") as error:
        packed_attention(**arguments)
    assert why in str(error.value)


@pytest.mark.parametrize("edges", [(0, 3, 7), (0, 3, 9), (-1, 3, 8), (0, 5, 8)])
def test_lengths_are_held_against_cu_seqlens_on_the_host(edges: tuple[int, ...]) -> None:
    q = torch.randn(8, 1, 16)
    with pytest.raises(ValueError, match="cu_seqlens"):
        attention.packed_attention(q, q, q, torch.tensor(edges, dtype=torch.int32), (3, 5))


@pytest.mark.parametrize("edges", [(0, 3, 90), (-7, 3, 8), (5, 1, 8)])
def test_no_tile_lies_outside_the_pack(edges: tuple[int, ...]) -> None:
    begin, length, first = attention.tiles(torch.tensor(edges, dtype=torch.int32), 8, 4).unbind(1)
    assert (begin >= 0).all()
    assert (length >= 0).all()
    assert (begin + length <= 8).all()
    assert (first >= 0).all()
