"""AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) with two bytes of state.

    m <- m + (1 - beta1) (g - m)        v <- v + (1 - beta2) (g^2 - v)
    w <- w - lr (weight_decay w + m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps))

Both moments are kept in 8 bits, by blocks of 256 values with scales of their own (Dettmers et al.
2022, https://arxiv.org/abs/2110.02861, section 2). The codes are not that paper's tables:

- v by its logarithm. Code 0 is v = 0; codes 1 to 255 divide the octaves between the smallest and
  the largest v of the block evenly. A block whose gradients are alike gets steps far below 1%, one
  with a rare token's row beside a common one's at most 11% (the span ends at 2^-40 of the largest,
  and what is smaller counts as that: never as zero, which would make its next update huge).
- m as m / sqrt(v), which says how far the next update goes, whatever the gradient's size: by
  Cauchy-Schwarz it is below 7.3 for the default betas. Its magnitude is 127 steps of a square law,
  finest near zero, up to the largest of the block. The v divided by is the one just stored.
- Both are rounded at random to one of the two nearest codes, such that the expectation is exact.
  Rounding to the nearest would stop v for good: a step changes it by 0.1%, far less than half the
  distance of two codes.

After 600 steps of noisy gradients, the weights are this far from AdamW's in float64 (norm of the
difference over norm of the change), beside what the paper's tables, rounded to the nearest but
never to v = 0, lead to (tests/custom_kernels/interpreted/test_adamw.py):

    gradients of one size                               2.7%    3.5%
    sizes spread by 0.3 decades (standard deviation)    7.4%    9.3%
    the same, and half of them fall to a 30th           7.0%   15.6%
    sizes spread by one decade                         16.0%   48.7%

bfloat16 weights are rounded at random too (Zamirai et al. 2020, https://arxiv.org/abs/2010.06192):
to the nearest, most updates would be less than half of the last bit and lost. The random bits are
a function of the optimizer's seed, the step, the parameter's number and the element (Philox,
Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405, with the 7 rounds that they find
enough), so that a run can be repeated and resumed to the same bits.
"""

import hashlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim import Optimizer

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels.fallback import say_once
from magicoder.custom_kernels.hardware import tl, triton

DTYPES = (torch.float32, torch.bfloat16)
BLOCK = 256  # values that share their scales
SMALLEST = 4096  # tensors with fewer values keep float32 states
PIECE = 2**20  # values that the reference takes at a time, to bound its memory


class AdamW8bit(Optimizer):
    """AdamW whose state takes 2.05 bytes a weight instead of 8.

    Tensors of fewer than 4096 values keep float32 moments and have no scales. One launch of the
    kernel updates one parameter; nothing waits for the device. On the CPU, and wherever the kernel
    cannot run, PyTorch computes the same with other random bits, which is logged once for each
    reason.

    `state[p]` holds "step" (int), "exp_avg" (int8) and "exp_avg_sq" (uint8) in the parameter's
    shape, and "scales", float32 `(3, blocks)`: the largest v, the octaves from one code of v to the
    next, the largest |m| / sqrt(v). `load_state_dict` keeps their dtypes.

    Args:
        params: parameters or groups of them, dense, float32 or bfloat16.
        lr: the learning rate, a float; schedulers may change it.
        betas: the shares that the moments keep a step.
        eps: added to the root of the second moment.
        weight_decay: the decay of the weights, decoupled: times `lr`.
        seed: of the rounding, 0 to 2^31 - 1. It is part of the groups, so of `state_dict`.

    Raises:
        ValueError: an argument is out of its range, or a parameter sparse or of another dtype.
        RuntimeError: by `step`, a gradient is sparse.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        seed: int = 0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"seed": seed})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in PyTorch, after a look at what is added."""
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in PyTorch, which however would cast codes and scales to the parameters' dtype.

        Raises:
            ValueError: another optimizer saved it, or the parameters had other shapes.
        """
        states = []
        for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=False):
            if not saved.keys() >= group.keys():
                raise ValueError("state_dict is another optimizer's: give what AdamW8bit saved")
            for index, weight in zip(saved["params"], group["params"], strict=False):
                state = state_dict["state"].get(index)
                if state is None:
                    continue
                new = self._new_state(weight)
                if not all(
                    name in state and state[name].shape == x.shape and state[name].dtype == x.dtype
                    for name, x in new.items()
                ):
                    raise ValueError(
                        f"state_dict does not fit parameter {index} of shape "
                        f"{tuple(weight.shape)}: give what AdamW8bit saved for these parameters"
                    )
                states.append((weight, {name: state[name] for name in new}))
        super().load_state_dict(state_dict)  # refuses groups of other sizes
        for weight, state in states:
            for name, x in state.items():
                self.state[weight][name] = x.to(weight.device, copy=True)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and the gradients again, as in PyTorch.

        Returns:
            What `closure` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        numbers = itertools.count()
        with torch.no_grad():
            for group in self.param_groups:
                beta1, beta2 = group["betas"]
                shared = group["lr"] * group["weight_decay"], 1 - beta1, 1 - beta2, group["eps"]
                taken = []
                for weight, number in zip(group["params"], numbers, strict=False):
                    if weight.grad is None:
                        continue
                    state = self._next_state(weight, number)
                    step = state["step"]
                    one = (
                        *(weight, weight.grad, state["exp_avg"], state["exp_avg_sq"]),
                        *(state["scales"], group["lr"] / (1 - beta1**step)),
                        *(1 / math.sqrt(1 - beta2**step), _key(group["seed"], step, number)),
                    )
                    reason = unsupported(weight)
                    if reason is None:
                        taken.append(one)
                    else:
                        say_once("AdamW with 8-bit states", reason)
                        reference(*one, *shared)
                if taken:  # one call of the operator, as a call takes longer than a launch
                    update(*map(list, zip(*taken, strict=True)), *shared)
        return loss

    def _next_state(self, weight: Tensor, number: int) -> dict[str, Any]:
        if weight.grad is not None and weight.grad.layout != torch.strided:
            raise RuntimeError(
                f"parameter {number} has a sparse gradient, which AdamW8bit does not take: create "
                "its embedding with sparse=False"
            )
        state: dict[str, Any] = self.state[weight]
        if not state:
            state.update(self._new_state(weight), step=0)
        state["step"] += 1
        return state

    @staticmethod
    def _new_state(weight: Tensor) -> dict[str, Tensor]:
        coded, device = weight.numel() >= SMALLEST, weight.device
        state = {}
        for name, kind in (("exp_avg", torch.int8), ("exp_avg_sq", torch.uint8)):
            dtype = kind if coded else torch.float32
            state[name] = torch.zeros(weight.shape, dtype=dtype, device=device)
        blocks = -(-weight.numel() // BLOCK) if coded else 0
        return state | {"scales": torch.zeros(3, blocks, device=device)}


def unsupported(weight: Tensor) -> str | None:
    """Why the kernel cannot update `weight`, or None. Looks at nothing that is on the device."""
    if not weight.is_contiguous():
        return "a parameter is not contiguous"
    return hardware.trouble(weight)


def reference(
    weight: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    scales: Tensor,
    lr: float,
    correction: float,
    key: int,
    decay: float,
    fresh1: float,
    fresh2: float,
    eps: float,
) -> None:
    """`update` of one parameter in PyTorch, with the random bits of its generator."""
    random = torch.Generator(weight.device)
    random.manual_seed(key)
    flat, flat_grad = weight.reshape(-1), grad.reshape(-1)
    first, second = exp_avg.view(-1), exp_avg_sq.view(-1)
    for start in range(0, len(flat), PIECE):
        piece = slice(start, start + PIECE)
        w, g = flat[piece].float(), flat_grad[piece].float()
        if not scales.numel():
            m, v = first[piece], second[piece]
        else:
            part = scales[:, start // BLOCK : (start + PIECE) // BLOCK]
            m, v = _decoded(first[piece], second[piece], part)
        m = m + fresh1 * (g - m)
        v = v + fresh2 * (g * g - v)
        w = w - (decay * w + lr * m / (v.sqrt() * correction + eps))
        bits = _random_bits(len(w), random)
        flat[piece] = _rounded(w, bits) if flat.dtype == torch.bfloat16 else w
        if not scales.numel():
            first[piece], second[piece] = m, v
        else:
            first[piece], second[piece], part[:] = _encoded(m, v, bits)
    if flat.data_ptr() != weight.data_ptr():
        weight.copy_(flat.view(weight.shape))


@torch.library.custom_op(
    "magicoder::adamw_8bit", mutates_args=("weights", "exp_avgs", "exp_avg_sqs", "scales")
)
def update(
    weights: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    scales: list[Tensor],
    lrs: list[float],
    corrections: list[float],
    keys: list[int],
    decay: float,
    fresh1: float,
    fresh2: float,
    eps: float,
) -> None:
    """One step of the parameters of a group, in place; the kernel as an operator of PyTorch.

    For each parameter: its moments and scales as in `AdamW8bit`; lr / (1 - beta1^t); 1 / sqrt(1 -
    beta2^t); what its random bits depend on, see `_key`. For all: lr * weight_decay, 1 - beta1 and
    1 - beta2 (in float32, 1 - 0.999 would have four digits), and eps.
    """
    each = zip(weights, grads, exp_avgs, exp_avg_sqs, scales, lrs, corrections, keys, strict=True)
    for weight, grad, exp_avg, exp_avg_sq, own, lr, correction, key in each:
        config = launch(hardware.chip(weight.device))
        programs = triton.cdiv(weight.numel(), BLOCK * config["ROWS"])
        tensors = weight, grad.contiguous(), exp_avg, exp_avg_sq, own
        numbers = weight.numel(), lr, correction, key, decay, fresh1, fresh2, eps
        flags = {"CODED": own.numel() > 0, "ROUNDED": weight.dtype == torch.bfloat16}
        if programs:
            with hardware.on(weight):
                update_kernel[(programs,)](*tensors, *numbers, **flags, BLOCK=BLOCK, **config)


@update.register_fake
def _(weights: list[Tensor], *_: Any) -> None:
    return None


@triton.jit  # type: ignore[untyped-decorator]
def update_kernel(  # type: ignore[no-untyped-def]
    weight, grad, exp_avg, exp_avg_sq, scales,
    size, lr, correction, key, decay, fresh1, fresh2, eps,
    CODED: tl.constexpr, ROUNDED: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    # int64, as a tensor may have more than 2^31 values
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)[:, None]
    at = row * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = at < size
    w = tl.load(weight + at, inside, other=0.0).to(tl.float32)
    g = tl.load(grad + at, inside, other=0.0).to(tl.float32)
    m = tl.load(exp_avg + at, inside, other=0).to(tl.float32)
    v = tl.load(exp_avg_sq + at, inside, other=0).to(tl.float32)
    blocks = tl.cdiv(size, BLOCK)
    if CODED:
        largest = tl.load(scales + row, row < blocks, other=0.0)
        octaves = tl.load(scales + blocks + row, row < blocks, other=0.0)
        peak = tl.load(scales + 2 * blocks + row, row < blocks, other=0.0)
        v = second_moment(v, largest, octaves)
        m = m * tl.abs(m) * (peak / 16129) * tl.sqrt(v)
    m += fresh1 * (g - m)
    v += fresh2 * (g * g - v)
    w -= decay * w + lr * m / (tl.sqrt(v) * correction + eps)
    if CODED or ROUNDED:
        # One call of Philox serves four neighbours. The lower half of a word rounds w and m, which
        # need not be independent; m's expectation depends on the stored v, which has the upper.
        group = (row * (BLOCK // 4) + tl.arange(0, BLOCK // 4)[None, :]).to(tl.int32)
        a, b, c, d = tl.randint4x(key, group, 7)
        bits = tl.join(tl.join(a, c), tl.join(b, d)).reshape(ROWS, BLOCK)  # in order
        lower = bits & 0xFFFF
    if ROUNDED:
        cut = ((w.to(tl.uint32, bitcast=True) + lower) & 0xFFFF0000).to(tl.float32, bitcast=True)
        w = tl.where(w == w, cut, w)  # the carry could turn NaN into -0
    tl.store(weight + at, w, inside)
    if CODED:
        # v: how many octaves below the largest, in steps of the block
        largest = tl.max(v, 1, keep_dims=True)
        below = tl.where(v > 0, -tl.log2(tl.maximum(v / largest, 2.0**-40)), 0.0)
        octaves = tl.maximum(tl.max(below, 1, keep_dims=True) / 254, 2.0**-16)
        steps = tl.floor(below / octaves)
        chance = (1 - tl.exp2(steps * octaves - below)) / (1 - tl.exp2(-octaves))
        steps += tl.where(((bits >> 16).to(tl.float32) + 0.5) / 65536 < chance, 1.0, 0.0)
        code = tl.where(v > 0, tl.maximum(255 - steps, 1), 0.0)
        tl.store(exp_avg_sq + at, code.to(tl.uint8), inside)
        tl.store(scales + row, largest, row < blocks)
        tl.store(scales + blocks + row, octaves, row < blocks)
        # m over the root of the v that was stored, by a square law
        root = tl.sqrt(second_moment(code, largest, octaves))
        ratio = tl.where(root > 0, m / root, 0.0)
        peak = tl.max(tl.abs(ratio), 1, keep_dims=True)
        square = tl.where(peak > 0, tl.abs(ratio) / peak, 0.0) * 16129
        steps = tl.minimum(tl.floor(tl.sqrt(square)), 126)
        chance = (square - steps * steps) / (2 * steps + 1)
        steps += tl.where((lower.to(tl.float32) + 0.5) / 65536 < chance, 1.0, 0.0)
        tl.store(exp_avg + at, tl.where(m < 0, -steps, steps).to(tl.int8), inside)
        tl.store(scales + 2 * blocks + row, peak, row < blocks)
    else:
        tl.store(exp_avg + at, m, inside)
        tl.store(exp_avg_sq + at, v, inside)


@triton.jit  # type: ignore[untyped-decorator]
def second_moment(code, largest, octaves):  # type: ignore[no-untyped-def]
    """v of its code, see the top of this module."""
    return tl.where(code > 0, largest * tl.exp2((code - 255) * octaves), 0.0)


def launch(chip: hardware.Chip) -> dict[str, int]:
    """How to launch: 4 warps, 8 values a thread, which are 16 bytes of a bfloat16 weight."""
    # Triton 3.10 changes the default of enable_fp_fusion, and the last bits with it
    return {
        "ROWS": 8 if chip.name.startswith("gfx") else 4,
        "num_warps": 4,
        "enable_fp_fusion": True,
    }


def _key(seed: int, step: int, number: int) -> int:
    """63 bits for a seed, a step and a parameter's number.

    They are odd and above 2^31: Triton compiles a kernel anew for 1, for multiples of 16 and for
    small numbers.
    """
    told = hashlib.sha256(f"{seed} {step} {number}".encode()).digest()
    return int.from_bytes(told[:8], "big") >> 1 | 2**62 | 1


def _blocks(values: Tensor) -> Tensor:
    """`(blocks, 256)` of a flat tensor, filled up with zeros."""
    return F.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)


def _second_moment(code: Tensor, largest: Tensor, octaves: Tensor) -> Tensor:
    return torch.where(code > 0, largest * torch.exp2((code - 255) * octaves), 0.0)


def _decoded(first: Tensor, second: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """m and v of flat codes."""
    largest, octaves, peak = scales.unsqueeze(-1)
    v = _second_moment(_blocks(second).float(), largest, octaves)
    m = _blocks(first).float()
    m = m * m.abs() * (peak / 16129) * v.sqrt()
    return m.view(-1)[: len(first)], v.view(-1)[: len(first)]


def _encoded(flat_m: Tensor, flat_v: Tensor, bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The codes of flat m and v, and their scales."""
    m, v = _blocks(flat_m), _blocks(flat_v)
    upper, lower = (((_blocks(bits) >> shift & 0xFFFF) + 0.5) / 65536 for shift in (16, 0))
    largest = v.amax(1, keepdim=True)
    below = torch.where(v > 0, -(v / largest).clamp_min(2.0**-40).log2(), 0.0)
    octaves = (below.amax(1, keepdim=True) / 254).clamp_min(2.0**-16)
    steps = (below / octaves).floor()
    chance = (1 - torch.exp2(steps * octaves - below)) / (1 - torch.exp2(-octaves))
    code = torch.where(v > 0, (255 - steps - (upper < chance).float()).clamp_min(1), 0.0)
    root = _second_moment(code, largest, octaves).sqrt()
    ratio = torch.where(root > 0, m / root, 0.0)
    peak = ratio.abs().amax(1, keepdim=True)
    square = torch.where(peak > 0, ratio.abs() / peak, 0.0) * 16129
    steps = square.sqrt().floor().clamp_max(126)
    chance = (square - steps * steps) / (2 * steps + 1)
    steps = (steps + (lower < chance).float()).copysign(m)
    first, second = (x.view(-1)[: len(flat_m)] for x in (steps, code))
    return first.to(torch.int8), second.to(torch.uint8), torch.cat([largest, octaves, peak], 1).t()


def _random_bits(count: int, random: torch.Generator) -> Tensor:
    bits = torch.empty(count, dtype=torch.int32, device=random.device)
    return bits.random_(-(2**31), 2**31, generator=random)


def _rounded(w: Tensor, bits: Tensor) -> Tensor:
    """float32 to bfloat16, up with the chance that keeps the expectation."""
    cut = (w.view(torch.int32) + (bits & 0xFFFF) & -0x10000).view(torch.float32)
    return torch.where(w.isnan(), w, cut).to(torch.bfloat16)


def _check(group: dict[str, Any]) -> None:
    """Refuse what AdamW cannot work with."""
    for name in ("lr", "eps", "weight_decay"):
        value = group[name]
        if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}: give a number of 0 or more")
    if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"betas is {group['betas']}: give two numbers from 0 to below 1")
    if not 0 <= group["seed"] < 2**31:
        raise ValueError(f"seed is {group['seed']}: give an integer from 0 to 2^31 - 1")
    for weight in group["params"]:
        if weight.layout != torch.strided or weight.dtype not in DTYPES:
            kind = weight.dtype if weight.layout == torch.strided else weight.layout
            raise ValueError(
                f"params holds a {kind} tensor of shape {tuple(weight.shape)}: AdamW8bit takes "
                "dense float32 and bfloat16"
            )
