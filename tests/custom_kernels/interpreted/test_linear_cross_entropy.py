"""The linear cross-entropy against float64, beside what PyTorch reaches in the same dtype."""

import gc
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.loss.loss_utils import ForCausalLMLoss

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels import linear_cross_entropy as linear_cross_entropy_module
from magicoder.custom_kernels.linear_cross_entropy import (
    Terms,
    backward,
    forward,
    linear_cross_entropy,
    reference,
    rows_by_kernel,
    rows_by_pytorch,
)

DTYPES = [torch.float32, pytest.param(torch.float16, marks=pytest.mark.slow), torch.bfloat16]
UPSTREAM = 0.37  # no power of two, so that a second rounding would show
# tokens, hidden, classes, supervised: one of each, one row, odd sizes, one row of two supervised,
# none left out, several blocks of classes with a tail, none supervised
SHAPES = [
    (1, 1, 1, 1),
    (1, 7, 3, 1),
    (9, 33, 71, 4),
    (2, 64, 128, 1),
    (60, 24, 300, 60),
    (7, 16, 8193, 5),
    (3, 4, 20000, 3),
    (6, 8, 50, 0),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "smoothed": {"label_smoothing": 0.1},
    "uniform": {"label_smoothing": 1.0},
    "z-loss": {"z_loss": 0.01},
    "capped": {"softcap": 3.0},
    "scaled": {"scale": 1 / 6},
    "ignored": {"ignore_index": 5},
    "all": {
        "label_smoothing": 0.2,
        "z_loss": 1e-2,
        "softcap": 2.0,
        "scale": 1.7,
        "ignore_index": 5,
    },
}


@pytest.fixture(params=["kernel", "pytorch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to do the rows: the kernel, and PyTorch as on a CPU."""
    monkeypatch.setattr(hardware, "INTERPRETED", request.param == "kernel")
    name: str = request.param
    return name


class Inputs:
    """Random inputs of one shape; `bias` on request."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        *,
        bias: bool = False,
        seed: int = 0,
    ) -> None:
        tokens, hidden, classes, supervised = shape
        draw = torch.Generator().manual_seed(seed)
        self.hidden = torch.randn(tokens, hidden, generator=draw).to(dtype)
        self.weight = (1.5 * torch.randn(classes, hidden, generator=draw) / hidden**0.5).to(dtype)
        self.bias = torch.randn(classes, generator=draw).to(dtype) if bias else None
        self.rows = torch.randperm(tokens, generator=draw)[:supervised].sort().values
        self.targets = torch.randint(0, classes, (supervised,), generator=draw)

    def of(self, loss: Any, dtype: torch.dtype | None = None, **options: Any) -> dict[str, Tensor]:
        """What `loss` gives for these, and the gradients for `UPSTREAM`."""
        given = {"hidden": self.hidden, "weight": self.weight, "bias": self.bias}
        leaves = {
            name: x.detach().to(dtype or x.dtype).requires_grad_()
            for name, x in given.items()
            if x is not None
        }
        args = leaves["hidden"], leaves["weight"], self.targets, self.rows
        total, count = loss(*args, bias=leaves.get("bias"), **options)
        assert count.dtype == torch.int64
        assert count.item() == (self.targets != options.get("ignore_index", -100)).sum()
        grads = torch.autograd.grad(UPSTREAM * total, tuple(leaves.values()))
        return {"total": total.detach(), **dict(zip(leaves, grads, strict=True))}


def truth(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    rows: Tensor,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """As the papers write it, row by row."""
    total, count = 0 * (hidden.sum() + weight.sum() + (0 if bias is None else bias.sum())), 0
    for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
        if target == ignore_index:
            continue
        z = (weight @ hidden[row] + (0 if bias is None else bias)) * scale
        if softcap is not None:
            e = (2 * z / softcap).exp()
            z = softcap * (e - 1) / (e + 1)
        log_z = z.exp().sum().log()
        wanted = torch.full_like(z, label_smoothing / len(z))
        wanted[target] += 1 - label_smoothing
        total = total - (wanted * (z - log_z)).sum() + z_loss * log_z**2
        count += 1
    return total, torch.tensor(count)


def assert_as_exact(
    as_exact: Any,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    *,
    bias: bool = False,
    chunk_bytes: int | None = None,
    **options: Any,
) -> None:
    """Over several draws, as the error of one number may be anything."""
    ours, theirs, exact = [], [], []
    for seed in range(max(4, 24 // (1 + shape[3]))):
        inputs = Inputs(shape, dtype, bias=bias, seed=seed)
        inputs.targets[3:4] = options.get("ignore_index", inputs.targets[3:4])
        ours.append(inputs.of(linear_cross_entropy, **options, chunk_bytes=chunk_bytes))
        theirs.append(inputs.of(reference, **options))
        exact.append(inputs.of(truth, torch.float64, **options))
    stacked = [
        {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}
        for draws in (ours, theirs, exact)
    ]
    as_exact(*stacked)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradients(
    shape: tuple[int, int, int, int], dtype: torch.dtype, path: str, as_exact: Any
) -> None:
    assert_as_exact(as_exact, shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_options(options: str, dtype: torch.dtype, path: str, as_exact: Any) -> None:
    bias = options in ("scaled", "all")
    assert_as_exact(
        as_exact, (40, 24, 71, 15), dtype, bias=bias, chunk_bytes=2**11, **OPTIONS[options]
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
@pytest.mark.parametrize("softcap", [None, 2.0, 30.0])
@pytest.mark.parametrize("classes", [127, 128, 129, 9000])
def test_more_options(
    classes: int, softcap: float | None, z_loss: float, smoothing: float, dtype: torch.dtype,
    path: str, as_exact: Any,
) -> None:  # fmt: skip
    chosen = {"softcap": softcap, "z_loss": z_loss, "label_smoothing": smoothing, "scale": 1.3}
    # 6 rows: a BLAS adds up the products of one or two rows in another way, which is less exact
    chunk_bytes = 6 * (classes + 64) * dtype.itemsize
    assert_as_exact(
        as_exact, (30, 48, classes, 12), dtype, bias=True, chunk_bytes=chunk_bytes, **chosen
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_odd_vocabulary_of_the_usual_size(dtype: torch.dtype, as_exact: Any) -> None:
    assert_as_exact(as_exact, (12, 16, 49153, 11), dtype)


def test_float64_and_its_derivative() -> None:
    inputs = Inputs((9, 5, 11, 6), torch.float64, bias=True)
    for chosen in ({}, *OPTIONS.values()):
        ours = inputs.of(linear_cross_entropy, **chosen, chunk_bytes=1)
        for name, exact in inputs.of(truth, **chosen).items():
            torch.testing.assert_close(ours[name], exact, rtol=1e-12, atol=1e-14, msg=name)

    def total(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rest = inputs.targets, inputs.rows
        return linear_cross_entropy(hidden, weight, *rest, bias=bias, **OPTIONS["all"]).total

    leaves = [x.requires_grad_() for x in (inputs.hidden, inputs.weight, inputs.bias)]
    assert torch.autograd.gradcheck(total, leaves)


def test_what_transformers_computes() -> None:
    inputs = Inputs((2 * 12, 16, 71, 0), torch.float32)
    hidden, weight = inputs.hidden.view(2, 12, 16), inputs.weight
    labels = torch.randint(0, 71, (2, 12))
    labels[:, :5] = -100
    mean = ForCausalLMLoss(hidden @ weight.T, labels, vocab_size=71)
    # the row before a label predicts it
    shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100).flatten()
    rows = (shifted != -100).nonzero().flatten()
    total, count = linear_cross_entropy(hidden, weight, shifted[rows], rows)
    torch.testing.assert_close(total / count, mean, rtol=1e-6, atol=0)
    total, count = linear_cross_entropy(hidden, weight, shifted)
    torch.testing.assert_close(total / count, mean, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_change_nothing(dtype: torch.dtype, path: str) -> None:
    inputs = Inputs((200, 24, 50, 140), dtype, bias=True)
    row = 64 * inputs.hidden.element_size()
    whole = inputs.of(linear_cross_entropy)
    for rows in (20,) if path == "kernel" else (1, 7, 128, 139):
        parts = inputs.of(linear_cross_entropy, chunk_bytes=rows * row)
        for name, exact in whole.items():
            # a last bit may tip a rounding; a CPU rounds each chunk's product in bfloat16
            last = torch.finfo(torch.float32 if name == "total" else dtype).eps
            off = (parts[name].double() - exact.double()).norm()
            assert off <= 4 * last * exact.double().norm(), (rows, name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_and_leading_dimensions(dtype: torch.dtype, path: str) -> None:
    inputs = Inputs((24, 16, 71, 9), dtype, bias=True)
    plain = inputs.of(linear_cross_entropy)
    inputs.hidden = torch.cat([inputs.hidden] * 2, 1)[:, :16]
    inputs.weight = inputs.weight.T.contiguous().T
    inputs.bias = inputs.bias.repeat_interleave(2)[::2]
    inputs.rows = inputs.rows.repeat_interleave(2)[::2]
    inputs.targets = inputs.targets.repeat_interleave(2)[::2]
    for name, x in inputs.of(linear_cross_entropy).items():
        torch.testing.assert_close(
            x, plain[name], rtol=1e-5, atol=1e-2 if dtype != torch.float32 else 1e-6
        )
    hidden = inputs.hidden.contiguous().view(2, 3, 4, 16).requires_grad_()
    total, _ = linear_cross_entropy(
        hidden, inputs.weight, inputs.targets, inputs.rows, bias=inputs.bias
    )
    torch.testing.assert_close(total, plain["total"])
    (UPSTREAM * total).backward()
    assert hidden.grad.shape == hidden.shape
    torch.testing.assert_close(hidden.grad.view(24, 16), plain["hidden"])


def test_all_rows_by_default(path: str) -> None:
    inputs = Inputs((20, 16, 71, 20), torch.float32)
    given = inputs.of(linear_cross_entropy)
    inputs.rows = None
    for name, x in inputs.of(linear_cross_entropy).items():
        assert torch.equal(x, given[name]), name


def test_ignored_rows_are_as_if_left_out(path: str) -> None:
    inputs = Inputs((20, 16, 71, 9), torch.float32, bias=True)
    inputs.targets[[0, 4, 8]] = -100
    ignored = inputs.of(linear_cross_entropy, **{**OPTIONS["all"], "ignore_index": -100})
    kept = inputs.targets != -100
    assert not ignored["hidden"][inputs.rows[~kept]].any()
    inputs.rows, inputs.targets = inputs.rows[kept], inputs.targets[kept]
    out = inputs.of(linear_cross_entropy, **{**OPTIONS["all"], "ignore_index": -100})
    for name, x in out.items():
        torch.testing.assert_close(ignored[name], x, rtol=1e-6, atol=1e-7)


def test_a_row_touches_no_other_row(path: str) -> None:
    inputs = Inputs((40, 16, 71, 30), torch.float32, bias=True)
    before = inputs.of(linear_cross_entropy, **OPTIONS["all"])
    others = torch.ones(40, dtype=torch.bool)
    others[inputs.rows] = False
    assert others.sum() == 10
    inputs.hidden[others] = float("nan")  # rows that are not trained on
    after = inputs.of(linear_cross_entropy, **OPTIONS["all"])
    for name, x in before.items():
        assert torch.equal(x, after[name]), name
    assert not after["hidden"][others].any()
    inputs.hidden[inputs.rows[7]] += 1
    changed = (inputs.of(linear_cross_entropy, **OPTIONS["all"])["hidden"] != after["hidden"]).any(
        1
    )
    assert changed.nonzero().flatten().tolist() == [inputs.rows[7]]


def test_the_same_bits_on_every_run(path: str) -> None:
    inputs = Inputs((60, 16, 300, 50), torch.float16, bias=True)
    first, second = (inputs.of(linear_cross_entropy, chunk_bytes=2**14) for _ in range(2))
    for name, x in first.items():
        assert torch.equal(x, second[name]), name


def test_rows_further_apart_than_int32_reaches() -> None:
    memory = torch.empty(2**31 + 64, dtype=torch.float16)  # 4 GiB; three pages are used
    far = memory.as_strided((3, 64), (2**30, 1))
    near = torch.randn(3, 64).to(torch.float16)
    far.copy_(near)
    targets, losses = torch.tensor([3, 0, 63]), torch.empty(2, 3)
    for logits, loss in zip((near, far), losses, strict=True):
        rows_by_kernel(logits, targets, loss, Terms(-100, 0.0, 0.0, None, 1.0, 1.0), True)
    assert torch.equal(far, near)
    assert torch.equal(*losses)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_extreme_logits(shift: float, path: str) -> None:
    """Large logits, and a vocabulary padded with -inf, as a first block and as a tail."""
    logits = (torch.randn(3, 9024) * 20 + shift)[:, :9000]  # rows end a multiple of 64 apart
    logits[0, :8500] = logits[1, 8500:] = -float("inf")
    targets, losses = torch.tensor([8800, 7, 0]), torch.empty(3)
    exact = logits.double().requires_grad_()
    total = torch.nn.functional.cross_entropy(exact, targets, reduction="none")
    (grad,) = torch.autograd.grad(total.sum(), exact)
    rows = rows_by_kernel if path == "kernel" else rows_by_pytorch
    rows(logits, targets, losses, Terms(-100, 0.0, 0.0, None, 1.0, 1.0), True)
    torch.testing.assert_close(losses.double(), total.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits.double(), grad, rtol=1e-5, atol=1e-30)


def test_small_gradients_survive_float16(path: str) -> None:
    """Of 300 classes, 290 have a probability of 3e-8: under what float16 holds."""
    hidden = torch.ones(4, 8, dtype=torch.float16, requires_grad=True)
    weight = torch.full((300, 8), -17.25 / 8, dtype=torch.float16)
    weight[:10] = 0
    weight.requires_grad_()
    total, _ = linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2, 3]))
    (2.0**16 * total).backward()  # as a GradScaler
    exact = 4 * 2**16 * torch.tensor(-17.25).exp() / 10
    torch.testing.assert_close(weight.grad[10:].float().mean(), exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize("trained", range(8))
def test_only_what_is_asked_for(trained: int, path: str) -> None:
    inputs = Inputs((12, 8, 20, 5), torch.float32, bias=True)
    every = inputs.of(linear_cross_entropy)
    leaves = {"hidden": inputs.hidden, "weight": inputs.weight, "bias": inputs.bias}
    wanted = [name for bit, name in enumerate(leaves) if trained >> bit & 1]
    for name in wanted:
        leaves[name].requires_grad_()
    args = inputs.hidden, inputs.weight, inputs.targets, inputs.rows
    total, _ = linear_cross_entropy(*args, bias=inputs.bias)
    assert torch.equal(total.detach(), every["total"])
    assert total.requires_grad == bool(wanted)
    if wanted:
        (UPSTREAM * total).backward()
    for name, leaf in leaves.items():
        assert (leaf.grad is not None) == (name in wanted)
        assert leaf.grad is None or torch.equal(leaf.grad, every[name])
    with torch.no_grad():
        total, _ = linear_cross_entropy(*args, bias=inputs.bias)
    assert not total.requires_grad
    assert torch.equal(total, every["total"])


def test_a_frozen_weight_costs_no_product() -> None:
    inputs = Inputs((12, 8, 20, 5), torch.float32)
    args = inputs.hidden, inputs.weight, None, inputs.targets, inputs.rows
    terms = -100, 0.0, 0.0, None, 1.0, 2**20
    sizes = [x.numel() for x in forward(*args, *terms, True, False, False)]
    assert sizes == [1, 1, 5 * 8, 0, 0]
    assert [x.numel() for x in forward(*args, *terms, False, False, False)] == [1, 1, 0, 0, 0]


def test_the_mean_over_a_global_batch_is_exact() -> None:
    whole = Inputs((64, 16, 71, 41), torch.float32)
    exact = whole.of(truth, torch.float64)
    total, count = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    weight = whole.weight.requires_grad_()
    for rows in (slice(0, 7), slice(7, 7), slice(7, 41)):  # micro-batches, one without a target
        part = linear_cross_entropy(whole.hidden, weight, whole.targets[rows], whole.rows[rows])
        (UPSTREAM * part.total).backward()
        total, count = total + part.total.detach(), count + part.count
    assert count == 41
    torch.testing.assert_close(total.double(), exact["total"], rtol=1e-6, atol=0)
    torch.testing.assert_close(weight.grad.double(), exact["weight"], rtol=1e-5, atol=1e-6)


def test_a_tied_embedding_gets_both_gradients(path: str) -> None:
    inputs = Inputs((12, 8, 20, 5), torch.float32)
    tokens = torch.arange(12)
    grads = []
    for loss in (linear_cross_entropy, reference):
        weight = inputs.weight.clone().requires_grad_()
        loss(weight[tokens] * 2, weight, inputs.targets, inputs.rows).total.backward()
        grads.append(weight.grad)
    torch.testing.assert_close(*grads)


def test_the_backward_rounds_once() -> None:
    dhidden, dweight, upstream = torch.randn(3, 8), torch.randn(20, 8), torch.tensor(UPSTREAM)
    rows = torch.tensor([1, 4, 5])
    found = backward(upstream, dhidden, dweight, torch.empty(0), rows, 7, 1.0, torch.bfloat16)
    assert torch.equal(found[0][rows], (dhidden * upstream).bfloat16())
    assert torch.equal(found[1], (dweight * upstream).bfloat16())


def test_a_second_backward_but_no_second_derivative() -> None:
    inputs = Inputs((12, 8, 20, 5), torch.float32)
    hidden = inputs.hidden.requires_grad_()
    total, _ = linear_cross_entropy(hidden, inputs.weight, inputs.targets, inputs.rows)
    first, second = (torch.autograd.grad(total, hidden, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="linear_cross_entropy has no second derivative"):
        torch.autograd.grad(total, hidden, create_graph=True)


def allocations(path: Path, run: Any) -> list[tuple[int, int]]:
    """Bytes of each allocation that `run` makes (negative: freed), and what it holds then."""
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        run()
        gc.collect()  # the interpreter holds what it was given
    profile.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    events = sorted((x for x in events if x["name"] == "[memory]"), key=lambda x: x["ts"])
    sizes = [event["args"]["Bytes"] for event in events]
    return list(zip(sizes, itertools.accumulate(sizes), strict=True))


@pytest.mark.slow
def test_memory(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak is what the module says: a chunk and the gradients; then only these."""
    monkeypatch.setattr(linear_cross_entropy_module, "SLICE_BYTES", 2**13)
    tokens, size, classes, rows = 400, 32, 1500, 60
    chunk = 4 * 16 * 1536
    inputs = Inputs((tokens, size, classes, rows), torch.float32)
    leaves = inputs.hidden.requires_grad_(), inputs.weight.requires_grad_()
    held: list[Any] = []

    def run_forward() -> None:
        args = inputs.targets, inputs.rows
        held.append(linear_cross_entropy(*leaves, *args, chunk_bytes=chunk).total)

    def run_backward() -> None:
        held.append(torch.autograd.grad(held.pop(), leaves))

    run_forward()
    run_backward()  # the first run makes what stays for all
    held.clear()
    kept, outputs = 4 * (rows + classes) * size, 4 * (tokens + classes) * size
    small = 2**15
    events = allocations(tmp_path / "forward.json", run_forward)
    assert [n for n, _ in events if n > chunk] == [4 * classes * size]
    assert kept + chunk <= max(n for _, n in events) <= kept + chunk + small
    assert kept <= events[-1][1] <= kept + small
    events = allocations(tmp_path / "backward.json", run_backward)
    assert outputs <= max(n for _, n in events) <= outputs + 4 * rows * size + small


class Storages(TorchDispatchMode):
    """The bytes behind each tensor that an operator makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            x.untyped_storage().data_ptr()
            for x in tree_leaves((args, kwargs))
            if isinstance(x, Tensor)
        }
        result = op(*args, **kwargs or {})
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.bytes.append(x.untyped_storage().nbytes())
        return result


def test_no_tensor_is_larger_than_a_chunk(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But the gradients: in 16 bits too, where what is wide is made slice by slice."""
    monkeypatch.setattr(linear_cross_entropy_module, "SLICE_BYTES", 2**13)
    inputs = Inputs((400, 32, 1500, 40), torch.bfloat16, bias=True)
    chunk = 2 * 16 * 1536
    args = inputs.hidden, inputs.weight, inputs.bias, inputs.targets, inputs.rows
    with Storages() as made:
        _, _, *grads = forward.function(*args, -100, 0.1, 0.1, 2.0, 0.5, chunk, True, True, True)
    assert [n for n in made.bytes if n > chunk] == [4 * 1500 * 32]
    assert max(made.bytes[1:]) >= chunk  # the logits are among them
    with Storages() as made:
        backward.function(torch.ones(()), *grads, inputs.rows, 400, 0.5, torch.bfloat16)
    assert sorted(n for n in made.bytes if n > 2**13) == [2 * 400 * 32, 2 * 1500 * 32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_keep_the_rules_of_pytorch(dtype: torch.dtype) -> None:
    inputs = Inputs((12, 8, 20, 5), dtype, bias=True)
    leaves = [x.requires_grad_() for x in (inputs.hidden, inputs.weight, inputs.bias)]
    terms = -100, 0.1, 0.01, 3.0, 0.5, 256
    for wanted in ((True, True, True), (True, False, False)):
        args = *leaves, inputs.targets, inputs.rows, *terms, *wanted
        torch.library.opcheck(forward.custom_op, args, rtol=1e-2, atol=1e-2)
        detached = [x.detach() for x in leaves]
        _, _, *grads = forward(*detached, inputs.targets, inputs.rows, *terms, *wanted)
        rest = inputs.rows, 12, 0.5, dtype
        torch.library.opcheck(backward.custom_op, (torch.tensor(UPSTREAM), *grads, *rest))


def test_compiles_into_one_graph(path: str) -> None:
    inputs = Inputs((12, 8, 20, 5), torch.float32, bias=True)
    compiled = torch.compile(linear_cross_entropy, backend="aot_eager", fullgraph=True)
    ours = inputs.of(compiled, **OPTIONS["all"])
    for name, x in inputs.of(linear_cross_entropy, **OPTIONS["all"]).items():
        assert torch.equal(ours[name], x), name
    inputs.targets[1] = 20  # checked there too
    with pytest.raises(ValueError, match=r"targets\[1\] is 20"):
        inputs.of(compiled, **OPTIONS["all"])


def test_falls_back_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    inputs = Inputs((12, 8, 20, 5), torch.float64)
    with caplog.at_level(logging.WARNING, "magicoder"):
        for _ in range(2):
            inputs.of(linear_cross_entropy)
    said = [r.message for r in caplog.records if r.name == "magicoder.custom_kernels"]
    # an earlier test may have said it
    assert said in (
        [],
        ["Linear cross-entropy runs in PyTorch: the kernel does not take torch.float64"],
    )


def index(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"targets": index(0, 3)}, r"targets\[1\] is 3: give a class in 0..2, or -100"),
        ({"targets": index(-1, 0)}, r"targets\[0\] is -1: give a class"),
        ({"targets": index(0)}, "targets are 1, and rows are 2"),
        ({"targets": index(0, 1), "rows": None}, "targets are 2, and hidden has 4"),
        ({"targets": torch.zeros(2)}, "targets is torch.float32 of shape"),
        ({"rows": index(1, 1)}, "rows must increase strictly and lie in 0..3"),
        ({"rows": index(2, 1)}, "rows must increase strictly"),
        ({"rows": index(-1, 1)}, "rows must increase strictly and lie"),
        ({"rows": index(1, 4)}, "rows must increase strictly and lie"),
        ({"rows": index(0, 1)[None]}, "rows is torch.int64 of shape"),
        ({"hidden": torch.ones(5)}, "hidden is torch.float32 of shape"),
        ({"hidden": torch.ones(4, 5, dtype=torch.int64)}, "hidden is torch.int64 of shape"),
        ({"weight": torch.ones(3, 6)}, r"weight has shape \(3, 6\): give \(V, 5\)"),
        ({"weight": torch.ones(3, 5, dtype=torch.float16)}, "weight is torch.float16 on cpu"),
        ({"weight": torch.ones(3, 5, device="meta")}, "weight is torch.float32 on meta"),
        ({"bias": torch.ones(4)}, r"bias has shape \(4,\): give \(3,\)"),
        ({"bias": torch.ones(3, dtype=torch.float16)}, "bias is torch.float16"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"softcap": 0.0}, "softcap is 0.0"),
        ({"chunk_bytes": 0}, "chunk_bytes is 0"),
    ],
)
def test_refuses_what_makes_no_sense(change: dict[str, Any], why: str) -> None:
    good = {
        "hidden": torch.ones(4, 5),
        "weight": torch.ones(3, 5),
        "targets": index(0, 2),
        "rows": index(1, 3),
    }
    linear_cross_entropy(**good)
    with pytest.raises(ValueError, match=why):
        linear_cross_entropy(**(good | change))
