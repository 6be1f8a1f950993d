"""AdamW with 8-bit states against AdamW in float64."""

import io
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from magicoder.custom_kernels import adamw, fallback
from magicoder.custom_kernels.adamw import AdamW8bit, reference, update

LR, BETAS, EPS, DECAY = 1e-2, (0.9, 0.999), 1e-8, 0.1
# lr / (1 - beta1), 1 / sqrt(1 - beta2) and so on: what the first step of these would be
FIRST = {"lr": LR / 0.1, "correction": 0.001**-0.5, "key": 2**62 + 12345}
SHARED = (LR * DECAY, 0.1, 0.001, EPS)
# coded or not, whole blocks or not, one program or several, one value
SHAPES = [(1,), (300,), (4095,), (4096,), (3, 1367), (41, 129)]


@pytest.fixture
def in_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the reference, which is fast, where the interpreter would take minutes."""
    monkeypatch.setattr(adamw, "unsupported", lambda weight: "a test asks for it")


def philox(key: int, count: int) -> Tensor:
    """The words of Philox4x32-7 (Salmon et al. 2011, section 3.3) for counters 0, 1 and so on."""
    word = np.uint64(0xFFFFFFFF)
    groups = -(-count // 4)
    c = [np.arange(groups, dtype=np.uint64), *(np.zeros(groups, np.uint64) for _ in range(3))]
    k0, k1 = np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)
    for _ in range(7):
        even, odd = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        shift = np.uint64(32)
        c = [odd >> shift ^ c[1] ^ k0, odd & word, even >> shift ^ c[3] ^ k1, even & word]
        k0, k1 = k0 + np.uint64(0x9E3779B9) & word, k1 + np.uint64(0xBB67AE85) & word
    words = np.stack(c, 1).reshape(-1)[:count].astype(np.uint32)
    return torch.from_numpy(words.view(np.int32))


def parameters(dtype: torch.dtype, *shapes: tuple[int, ...], seed: int = 0) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=draw).to(dtype)) for shape in shapes]


def spread_grad(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 1) -> Tensor:
    """Gradients over eight decades, some of them zero."""
    draw = torch.Generator().manual_seed(seed)
    size = 10 ** (-4 - 8 * torch.rand(shape, generator=draw))
    kept = torch.rand(shape, generator=draw) > 0.1
    return (torch.randn(shape, generator=draw) * size * kept).to(dtype)


def fresh(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moments and scales before the first step."""
    if weight.numel() < 4096:
        return torch.zeros(weight.shape), torch.zeros(weight.shape), torch.zeros(3, 0)
    codes = torch.zeros(weight.shape, dtype=torch.int8)
    return codes, codes.to(torch.uint8), torch.zeros(3, -(-weight.numel() // 256))


def decoded(first: Tensor, second: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """m and v in float64, value by value."""
    place = torch.arange(first.numel()) // 256
    largest, octaves, peak = scales.double()[:, place]
    c, k = first.flatten().double(), second.flatten().double()
    v = torch.where(k > 0, largest * 2 ** ((k - 255) * octaves), 0.0)
    m = c.sign() * (c / 127) ** 2 * peak * v.sqrt()
    return m.view(first.shape), v.view(first.shape)


def run_kernel(weight: Tensor, grad: Tensor, state: tuple[Tensor, ...], **first: Any) -> None:
    lr, correction, key = (FIRST | first).values()
    update([weight], [grad], *([x] for x in state), [lr], [correction], [key], *SHARED)


def test_the_words_of_philox_are_the_published_ones() -> None:
    words = ["5f6fb709", "0d893f64", "4f121f81", "4f730a48"]  # Random123's kat_vectors, key 0
    assert [f"{word & 0xFFFFFFFF:08x}" for word in philox(0, 4).tolist()] == words


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_and_reference_agree(
    shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same random bits; a last bit of exp2 may tip one rounding in a thousand."""
    monkeypatch.setattr(adamw, "_random_bits", lambda n, random: philox(random.initial_seed(), n))
    ours, theirs = parameters(dtype, shape), parameters(dtype, shape)
    states = fresh(ours[0]), fresh(theirs[0])
    for step in range(3):
        grad = spread_grad(shape, dtype, step)
        key = 2**62 + step
        run_kernel(ours[0].detach(), grad, states[0], key=key)
        reference(theirs[0].detach(), grad, *states[1], LR / 0.1, 0.001**-0.5, key, *SHARED)
        pairs = zip((ours[0].data, *states[0]), (theirs[0].data, *states[1]), strict=True)
        for our, their in pairs:
            differ = ~torch.isclose(our.float(), their.float(), rtol=1e-5, atol=1e-12)
            assert differ.sum() <= 2e-3 * our.numel()
            their.copy_(our)  # go on from the same place


@pytest.mark.parametrize("shape", SHAPES)
def test_a_first_step_is_exact_in_float32(shape: tuple[int, ...]) -> None:
    """States are coded after they are used."""
    (ours,), (theirs,) = parameters(torch.float32, shape), parameters(torch.float64, shape)
    theirs.data.copy_(ours.data)
    ours.grad = spread_grad(shape, torch.float32)
    theirs.grad = ours.grad.double()
    AdamW8bit([ours], LR, BETAS, EPS, DECAY).step()
    torch.optim.AdamW([theirs], LR, BETAS, EPS, DECAY).step()
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(4096,), (3, 1367), (41, 129)])
def test_states_are_one_of_the_two_nearest_codes(shape: tuple[int, ...]) -> None:
    (weight,) = parameters(torch.float32, shape)
    grad, state = spread_grad(shape, torch.float32), fresh(weight)
    run_kernel(weight.detach(), grad, state)
    m, v = decoded(*state)
    exact_m, exact_v = 0.1 * grad.double(), 0.001 * grad.double() ** 2
    place = (torch.arange(grad.numel()) // 256).view(shape)
    largest, octaves, peak = state[2].double()[:, place]
    assert ((v == 0) == (exact_v == 0)).all()
    held = exact_v > largest * 2.0**-39.99
    assert held.float().mean() > 0.5
    assert not held[exact_v > 0].all()  # eight decades of gradients are 53 octaves of v
    off = ((v / exact_v).log2()[held]).abs()
    assert (off <= octaves[held] * (1 + 1e-3) + 1e-5).all()
    assert (v[~held] <= largest[~held] * 2.0**-39.8).all()
    root = v.sqrt()
    ratio = torch.where(root > 0, exact_m / root, 0.0)
    steps = 127 * (ratio.abs() / peak).sqrt()
    distance = (2 * steps + 1) / 127**2 * peak  # of the codes around it
    assert ((m / root - ratio)[root > 0].abs() <= distance[root > 0] * (1 + 1e-3)).all()
    # a block's largest are exact
    at_peak = steps > 127 * (1 - 1e-6)
    assert at_peak.sum() >= len(state[2][0])
    assert (state[0].abs()[at_peak] == 127).all()
    assert (state[1][exact_v >= largest * (1 - 1e-6)] == 255).all()


def test_roundings_of_the_states_are_unbiased() -> None:
    (weight,) = parameters(torch.float32, (4096,))
    draw = torch.Generator().manual_seed(0)
    grad = torch.randn(4096, generator=draw).sign() * 10 ** -(
        4 + 3 * torch.rand(4096, generator=draw)
    )
    place = torch.arange(4096) // 256
    chances, taken = [[], []], [[], []]
    for key in range(20):
        state = fresh(weight)
        run_kernel(weight.detach().clone(), grad, state, key=key)
        largest, octaves, peak = state[2].double()[:, place]
        below = (largest / (0.001 * grad.double() ** 2)).log2().clamp_min(0)
        steps = (below / octaves).floor()
        chances[0].append((1 - 2 ** (steps * octaves - below)) / (1 - 2**-octaves))
        taken[0].append(255 - state[1] - steps)
        _, v = decoded(*state)
        square = 127**2 * 0.1 * grad.double().abs() / v.sqrt() / peak
        steps = square.sqrt().floor()
        chances[1].append((square - steps**2) / (2 * steps + 1))
        taken[1].append(state[0].abs() - steps)
    for chance, took in zip(map(torch.cat, chances), map(torch.cat, taken), strict=True):
        sigma = (chance * (1 - chance)).clamp_min(0).sum().sqrt()
        assert sigma > 50
        assert (took - chance).sum().abs() < 5 * sigma
        # to the nearest, or by half as much: the sum may be right, not its slope over the chance
        assert ((took - chance) * (chance - 0.5)).sum().abs() < 5 * sigma / 2


def test_bfloat16_weights_are_rounded_without_bias() -> None:
    size, runs = 4000, 30
    total = torch.zeros(size, dtype=torch.float64)
    start = torch.linspace(1, 2, size).to(torch.bfloat16)
    for key in range(runs):
        weight = start.clone()
        # the update is lr: a tenth of the last bit, which rounding to the nearest would lose
        run_kernel(weight, torch.ones(size).bfloat16(), fresh(weight), lr=2**-7 / 10 / 0.1, key=key)
        total += weight.double() / runs
        assert ((weight - start).abs() <= 2**-7).all()
    decayed = start.double() * (1 - LR * DECAY) - 2**-7 / 10
    share = (start.double() - decayed) / 2**-7 % 1
    sigma = (share * (1 - share)).sum().sqrt() * 2**-7 / math.sqrt(runs) / size
    assert (total - decayed).mean().abs() < 5 * sigma


def test_random_bits_depend_on_seed_step_and_parameter() -> None:
    triples = list(itertools.product((0, 1), (1, 2, 12), (0, 1, 11)))
    keys = {adamw._key(*triple) for triple in triples}
    assert len(keys) == len(triples)
    assert all(2**62 < key < 2**63 and key % 2 == 1 for key in keys)
    seen = []
    for seed in (0, 0, 1):
        weights = parameters(torch.bfloat16, (500,)) + parameters(torch.bfloat16, (500,))
        optimizer = AdamW8bit(weights, 1e-4, seed=seed)
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        seen.append([weight.detach().clone() for weight in weights])
    assert all(map(torch.equal, seen[0], seen[1]))
    assert not torch.equal(seen[0][0], seen[2][0])
    assert not torch.equal(seen[0][0], seen[0][1])


def gradients(kind: str, steps: int) -> Iterator[Tensor]:
    """Noise around a signal that turns; kinds as in the docstring of adamw.py."""
    draw = torch.Generator().manual_seed(1)
    spread = {"one size": 0.0, "spread": 0.3, "fall": 0.3, "decade": 1.0}[kind]
    normal = lambda: torch.randn(8192, generator=draw, dtype=torch.float64)  # noqa: E731
    scale, signal = 1e-4 * 10 ** (spread * normal()), 0.3 * normal()
    for step in range(1, steps + 1):
        grad = scale * (signal * math.cos(step / 60) + normal())
        if kind == "fall" and step >= steps // 3:
            grad[::2] /= 30
        yield grad


def table(signed: bool) -> Tensor:
    """Dynamic quantisation (Dettmers et al. 2022, section 1.3): an exponent, then a fraction."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (exponent + (not signed)) + 1, dtype=torch.float64)
        middles = ((edges[1:] + edges[:-1]) / 2 * 10.0 ** (exponent - 6)).tolist()
        values += middles + ([-x for x in middles] if signed else [])
    assert len(values) == 256
    return torch.tensor(sorted(values), dtype=torch.float64)


def nearest(x: Tensor, codes: Tensor) -> Tensor:
    blocks = x.view(-1, 256)
    largest = blocks.abs().amax(1, keepdim=True)
    middles = (codes[1:] + codes[:-1]) / 2
    return (codes[torch.searchsorted(middles, blocks / largest)] * largest).view(-1)


def in_tables(kind: str, steps: int) -> Tensor:
    """The weights that the paper's states lead to, in float64."""
    # its v may become 0 where m is not, which sends weights away; the least code does not
    signed, unsigned = table(True), table(False)[1:]
    m, v, w = torch.zeros(3, 8192, dtype=torch.float64)
    for step, grad in enumerate(gradients(kind, steps), 1):
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        w = w - 1e-3 * m / (1 - 0.9**step) / ((v / (1 - 0.999**step)).sqrt() + EPS)
        m, v = nearest(m, signed), nearest(v, unsigned)
    return w


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "bound"), [("one size", 0.04), ("spread", 0.09), ("fall", 0.09), ("decade", 0.2)]
)
def test_follows_float64_closer_than_the_papers_codes(
    kind: str, bound: float, in_pytorch: None
) -> None:
    """Both kinds of code start at 8 bits; see the docstring of adamw.py for the figures."""
    ours = nn.Parameter(torch.zeros(8192))
    theirs = nn.Parameter(torch.zeros(8192, dtype=torch.float64))
    optimizers = AdamW8bit([ours], weight_decay=0), torch.optim.AdamW([theirs], weight_decay=0)
    for grad in gradients(kind, 600):
        ours.grad, theirs.grad = grad.float(), grad
        for optimizer in optimizers:
            optimizer.step()
    error = (ours.double() - theirs).norm() / theirs.norm()
    error_of_tables = (in_tables(kind, 600) - theirs).norm() / theirs.norm()
    print(kind, error.item(), error_of_tables.item())
    assert error < bound
    assert error < 0.85 * error_of_tables


def test_the_kernel_follows_float64() -> None:
    """A few steps of the kernel; the bound is what their roundings can add up to."""
    ours, theirs = parameters(torch.float32, (16, 300))[0], parameters(torch.float64, (16, 300))[0]
    theirs.data.copy_(ours.data)
    start = theirs.detach().clone()
    optimizers = [
        kind([weight], LR, BETAS, EPS, 0)
        for kind, weight in ((AdamW8bit, ours), (torch.optim.AdamW, theirs))
    ]
    for step in range(15):
        ours.grad = torch.randn(16, 300, generator=torch.Generator().manual_seed(step))
        theirs.grad = ours.grad.double()
        for optimizer in optimizers:
            optimizer.step()
    assert (ours - theirs).norm() / (theirs - start).norm() < 0.03


def test_momentum_without_gradients_fades_and_decay_goes_on() -> None:
    (weight,) = parameters(torch.float32, (4096,))
    optimizer = AdamW8bit([weight], LR, BETAS, EPS, DECAY)
    weight.grad = torch.ones(4096)
    weight.grad[::2] = 0  # never a gradient: only decay
    start = weight.detach().clone()
    for _ in range(20):
        optimizer.step()
        weight.grad.zero_()
    torch.testing.assert_close(weight[::2].detach(), start[::2] * (1 - LR * DECAY) ** 20)
    m, _ = decoded(*(optimizer.state[weight][n] for n in ("exp_avg", "exp_avg_sq", "scales")))
    torch.testing.assert_close(m[1::2].mean().item(), 0.1 * 0.9**19, rtol=0.05, atol=0)
    assert not m[::2].any()


def test_a_block_touches_no_other_block() -> None:
    grads = [spread_grad((20, 256), torch.float32) for _ in range(2)]
    grads[1][7] += 1e-4
    results = []
    for grad in grads:
        (weight,) = parameters(torch.bfloat16, (20, 256))
        state = fresh(weight)
        run_kernel(weight.detach(), grad, state)
        results.append((weight.detach(), *state[:2], state[2].t()))
    for first, second in zip(*results, strict=True):
        assert (first != second).any(1).nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_shows(value: float) -> None:
    for dtype, size in itertools.product((torch.float32, torch.bfloat16), (4096, 10)):
        (weight,) = parameters(dtype, (size,))
        weight.grad = torch.ones_like(weight)
        weight.grad[3] = value
        AdamW8bit([weight]).step()
        assert weight.isnan().nonzero().flatten().tolist() == [3]


def test_the_carry_of_rounding_keeps_nan() -> None:
    weight = torch.ones(100).bfloat16()
    grad = torch.full((100,), 2**31 - 1, dtype=torch.int32).view(torch.float32)  # a GPU's NaN
    run_kernel(weight, grad, fresh(weight))
    assert weight.isnan().all()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resumes_to_the_same_bits(
    dtype: torch.dtype, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(adamw, "unsupported", lambda weight: "a test asks for it")
    shapes = (4096,), (5, 11)

    def train(weights: list[nn.Parameter], optimizer: AdamW8bit, steps: range) -> None:
        for step in steps:
            for index, weight in enumerate(weights):
                weight.grad = spread_grad(shapes[index], dtype, 10 * step + index)
            optimizer.step()

    weights = parameters(dtype, *shapes)
    groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, (1e-2, 1e-3), strict=True)]
    optimizer = AdamW8bit(groups, seed=5)
    train(weights, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"weights": [w.data for w in weights], "optimizer": optimizer.state_dict()}, file)
    train(weights, optimizer, range(3, 6))

    file.seek(0)
    content = torch.load(file, weights_only=True)
    again = parameters(dtype, *shapes, seed=9)
    for weight, saved in zip(again, content["weights"], strict=True):
        weight.data.copy_(saved)
    resumed = AdamW8bit([{"params": [w]} for w in again])
    resumed.load_state_dict(content["optimizer"])
    before = {n: x.clone() for n, x in content["optimizer"]["state"][0].items() if n != "step"}
    train(again, resumed, range(3, 6))
    assert all(map(torch.equal, weights, again))
    for weight, other in zip(weights, again, strict=True):
        for name, value in optimizer.state[weight].items():
            mine = resumed.state[other][name]
            assert value == mine if name == "step" else torch.equal(value, mine)
            assert name == "step" or value.dtype == mine.dtype
    assert all(torch.equal(content["optimizer"]["state"][0][n], x) for n, x in before.items())


def test_state_takes_two_bytes_a_weight() -> None:
    (weight,) = parameters(torch.bfloat16, (64, 576))
    optimizer = AdamW8bit([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    state = [x for x in optimizer.state[weight].values() if isinstance(x, Tensor)]
    assert sum(x.nbytes for x in state) == weight.numel() * 2 + 3 * 4 * weight.numel() // 256


def test_a_parameter_without_gradient_waits() -> None:
    weights = parameters(torch.float32, (10,), (10,))
    start = weights[0].detach().clone()
    optimizer = AdamW8bit([{"params": weights[:1]}, {"params": weights[1:]}])
    weights[1].grad = torch.ones(10)
    optimizer.step()
    assert torch.equal(weights[0], start)
    weights[0].grad = torch.ones(10)
    optimizer.step()
    assert [optimizer.state[weight]["step"] for weight in weights] == [1, 2]


def test_any_strides_and_no_values() -> None:
    flat = nn.Parameter(torch.randn(70, 64, generator=torch.Generator().manual_seed(0)))
    turned = nn.Parameter(flat.detach().t().contiguous().t())
    none = nn.Parameter(torch.zeros(0, 5))
    grad = spread_grad((70, 64), torch.float32)
    optimizer = AdamW8bit([turned, none])
    turned.grad, none.grad = grad, torch.zeros(0, 5)
    optimizer.step()
    flat.grad = grad.t().contiguous().t()  # a gradient with other strides than its weight
    AdamW8bit([flat]).step()
    torch.testing.assert_close(turned.detach(), flat.detach(), rtol=1e-6, atol=1e-7)


def test_a_closure_is_called_once_with_gradients() -> None:
    (weight,) = parameters(torch.float32, (10,))

    def closure() -> Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    before = weight.square().sum().item()
    assert AdamW8bit([weight]).step(closure).item() == before
    assert weight.square().sum().item() < before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operator_keeps_the_rules_of_pytorch(dtype: torch.dtype) -> None:
    weights = [w.detach() for w in parameters(dtype, (4097,), (30,))]
    states = [list(x) for x in zip(*map(fresh, weights), strict=True)]
    grads = [torch.ones_like(w) for w in weights]
    torch.library.opcheck(update, (weights, grads, *states, [LR] * 2, [1.0] * 2, [3] * 2, *SHARED))


def teacher() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(512, 64, generator=draw)
    hidden = (x @ torch.randn(64, 64, generator=draw) / 8).relu()
    return x, hidden @ torch.randn(64, 8, generator=draw) / 8


def trained_loss(make: Callable[[Any], torch.optim.Optimizer], dtype: torch.dtype) -> float:
    torch.manual_seed(0)
    x, y = teacher()
    student = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    student.append(nn.Linear(64, 8)).to(dtype)
    optimizer = make(student.parameters())
    draw = torch.Generator().manual_seed(3)
    for _ in range(300):
        rows = torch.randint(512, (64,), generator=draw)
        loss = (student(x[rows].to(dtype)).float() - y[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (student.float()(x) - y).square().mean().item()


@pytest.mark.slow
def test_trains_as_well_as_adamw(in_pytorch: None) -> None:
    losses = {
        "ours": trained_loss(lambda p: AdamW8bit(p, 3e-3), torch.float32),
        "theirs": trained_loss(lambda p: torch.optim.AdamW(p, 3e-3), torch.float32),
        "ours, bfloat16": trained_loss(lambda p: AdamW8bit(p, 3e-3), torch.bfloat16),
        "theirs, bfloat16": trained_loss(lambda p: torch.optim.AdamW(p, 3e-3), torch.bfloat16),
    }
    print(losses)
    assert losses["ours"] < 1.1 * losses["theirs"]
    assert losses["ours, bfloat16"] < losses["theirs, bfloat16"]


def test_falls_back_and_says_so_once(in_pytorch: None, caplog: pytest.LogCaptureFixture) -> None:
    (weight,) = parameters(torch.float32, (10,))
    weight.grad = torch.ones(10)
    optimizer = AdamW8bit([weight])
    fallback._say.cache_clear()
    with caplog.at_level(logging.WARNING, "magicoder"):
        optimizer.step()
        optimizer.step()
    assert caplog.messages == ["AdamW with 8-bit states runs in PyTorch: a test asks for it"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"lr": -1.0}, "lr is -1.0: give a number of 0 or more"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": torch.tensor(1e-3)}, r"lr is tensor\(0.0010\)"),
        ({"eps": -1e-8}, "eps is -1e-08"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"betas": (1.0, 0.9)}, r"betas is \(1.0, 0.9\): give two numbers from 0 to below 1"),
        ({"betas": (0.9,)}, "betas is"),
        ({"seed": 2**31}, "seed is 2147483648: give an integer from 0 to"),
        (
            {"params": [torch.ones(3).half()]},
            r"params holds a torch.float16 tensor of shape \(3,\)",
        ),
        ({"params": [torch.ones(3, dtype=torch.complex64)]}, "params holds a torch.complex64"),
        ({"params": [torch.ones(3, dtype=torch.float64)]}, "params holds a torch.float64"),
        ({"params": [torch.eye(3).to_sparse()]}, "params holds a torch.sparse_coo"),
    ],
)
def test_refuses_what_it_cannot_work_with(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AdamW8bit(**{"params": [torch.ones(3)]} | wrong)
    optimizer = AdamW8bit([torch.ones(3)])
    with pytest.raises(ValueError, match=why):
        optimizer.add_param_group({"params": [torch.ones(3)]} | wrong)
    assert len(optimizer.param_groups) == 1


def test_refuses_sparse_gradients_and_foreign_states() -> None:
    embedding = nn.Embedding(5, 4, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="parameter 0 has a sparse gradient"):
        AdamW8bit(embedding.parameters()).step()
    (weight,) = parameters(torch.float32, (10,))
    weight.grad = torch.ones(10)
    for other, why in (
        (torch.optim.AdamW([weight]), "another optimizer's"),
        (torch.optim.SGD([weight], lr=0.5), "another optimizer's"),
        (AdamW8bit([weight], lr=0.5), r"does not fit parameter 0 of shape \(11,\)"),
    ):
        other.step()
        mine = AdamW8bit([nn.Parameter(torch.ones(11))])
        with pytest.raises(ValueError, match=why):
            mine.load_state_dict(other.state_dict())
        assert not mine.state
        assert mine.param_groups[0]["lr"] == 1e-3
