"""How a kernel is measured against its peers: time, memory, exactness, and what a chip allows.

What allows: a kernel has to move some bytes and do some operations. The larger of bytes over the
measured copy bandwidth and operations over the measured rate of matrix products is the `floor`,
the least time it can take (the roofline model of Williams, Waterman and Patterson 2009,
https://doi.org/10.1145/1498765.1498785). A share is floor over time: 1 is perfect.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from magicoder.custom_kernels import fallback

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OURS, PYTORCH = "magicoder", "pytorch"  # every kernel has these two peers
Outputs = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Shape:
    """A model's sizes, and the tokens of a pack."""

    model: str = "odd"
    tokens: int = 0
    hidden: int = 64
    intermediate: int = 96
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    vocabulary: int = 1000
    layers: int = 1
    longest: int = 1216  # tokens of the longest document

    def small(self, tokens: int) -> "Shape":
        """What a CPU does in a moment: few tokens, a part of the vocabulary, no layers."""
        vocabulary, longest = self.vocabulary // 32, tokens // 2
        return replace(self, tokens=tokens, vocabulary=vocabulary, layers=0, longest=longest)


MODELS = {
    "135M": Shape("135M", 0, 576, 1536, 9, 3, 64, 49152, 30),  # SmolLM2
    "1B": Shape("1B", 0, 2048, 8192, 32, 8, 64, 128256, 4),  # Llama 3.2; layers: what AdamW steps
    "7B": Shape("7B", 0, 4096, 14336, 32, 8, 128, 32000, 1),  # Mistral
}


@dataclass(frozen=True)
class Inputs:
    """`leaves` are the tensors that get a gradient; `rest` is whatever else a kernel reads."""

    leaves: tuple[Tensor, ...]
    rest: dict[str, Any] = field(default_factory=dict)

    def double(self) -> "Inputs":
        rest = {
            name: value.double()
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for name, value in self.rest.items()
        }
        return Inputs(tuple(leaf.double() for leaf in self.leaves), rest)


@dataclass(frozen=True)
class Work:
    """What no implementation can avoid: bytes to and from memory, and operations."""

    bytes: int
    flops: int


Peer = Callable[[Inputs], Callable[..., Outputs]]  # prepares; what it gives takes the leaves


@dataclass(frozen=True)
class Kernel:
    """One kernel's table.

    results: the names of the outputs, then of the leaves' gradients.
    tokens: by model; on a CPU, `small` of them.
    work: of a forward, and of a forward with its backward where it has one.
    peers: ours first; one that cannot run raises.
    truth: a peer that is run in float64 at the shapes `odd`; or `check` says what is exact.
    differentiable: or a step of an optimizer, whose function has `state_bytes()`.
    captured: no peer waits for the device, so that time can be taken from a CUDA graph.
    tune: for `sweep`, what to try in the place of what `module` has: its constants, and what its
    `launch` returns (with "of", only where that is launch's first argument).
    """

    name: str
    title: str
    results: tuple[str, ...]
    tokens: dict[str, int]
    small: int
    inputs: Callable[[Shape, torch.dtype, torch.device], Inputs]
    work: Callable[[Shape, Inputs], tuple[Work, ...]]
    peers: dict[str, Peer]
    truth: Peer | None = None
    odd: tuple[Shape, ...] = ()
    check: "Callable[[Kernel, torch.device], Iterator[dict[str, Any]]] | None" = None
    differentiable: bool = True
    captured: bool = True
    after: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # adds "choices" to a record
    module: Any = None
    tune: tuple[dict[str, Any], ...] = ()

    def shapes(self, device: torch.device) -> list[Shape]:
        if device.type == "cuda":
            return [replace(MODELS[name], tokens=tokens) for name, tokens in self.tokens.items()]
        return [MODELS[name].small(self.small) for name in self.tokens]


def compiled(peer: Peer) -> Peer:
    """The same under torch.compile, on a GPU."""

    def build(inputs: Inputs) -> Callable[..., Outputs]:
        if not inputs.leaves[0].is_cuda:
            raise RuntimeError("compiling for a CPU takes longer than the whole run")
        torch.compiler.reset()
        return torch.compile(peer(inputs), dynamic=False)

    return build


def tuple_of(outputs: Outputs) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def both(
    run: Callable[..., Outputs], leaves: tuple[Tensor, ...], dys: tuple[Tensor, ...]
) -> list[Tensor]:
    """A forward and backward: the outputs and the gradients of the leaves."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    outputs = tuple_of(run(*leaves))
    gradients = torch.autograd.grad(outputs, leaves, dys)
    return [*(output.detach() for output in outputs), *gradients]


def gradients_like(peer: Callable[..., Outputs], leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Random gradients for what `peer` gives; of a scalar, one part of a mean."""
    with torch.no_grad():
        outputs = tuple_of(peer(*(leaf.clone() for leaf in leaves)))
    return tuple(
        torch.randn_like(output) if output.dim() else torch.full_like(output, 2**-10)
        for output in outputs
    )


def exactness(kernel: Kernel, device: torch.device, peer: str = OURS) -> Iterator[dict[str, Any]]:
    """Errors of `peer`'s results against float64, beside PyTorch's in the same dtype.

    A row is `exact` where its error is at most 1.5 times PyTorch's, or float32's last bit.
    """
    assert kernel.truth is not None  # noqa: S101
    for shape, dtype in itertools.product(kernel.odd, DTYPES):
        inputs = kernel.inputs(shape, dtype, device)
        dys = gradients_like(kernel.peers[PYTORCH](inputs), inputs.leaves)
        found = [_apart(kernel.peers[name], inputs, dys) for name in (peer, PYTORCH)]
        wide = inputs.double()
        true = both(kernel.truth(wide), wide.leaves, tuple(dy.double() for dy in dys))
        for what, our, their, exact in zip(kernel.results, *found, true, strict=True):
            error, pytorch = ((t.double() - exact).norm().item() for t in (our, their))
            scale = exact.norm().item()
            allowed = max(1.5 * pytorch, torch.finfo(torch.float32).eps * scale)
            row = {"shape": _told(shape), "dtype": str(dtype).split(".")[1], "what": what}
            relative = {"error": error / (scale or 1), "pytorch": pytorch / (scale or 1)}
            yield row | relative | {"exact": error <= allowed}  # false for a nan


def _apart(peer: Peer, inputs: Inputs, dys: tuple[Tensor, ...]) -> list[Tensor]:
    """`both` on copies: Liger writes over its inputs, and over the gradients that arrive."""
    leaves, dys = (tuple(x.clone() for x in tensors) for tensors in (inputs.leaves, dys))
    return [result.clone() for result in both(peer(inputs), leaves, dys)]


def _told(shape: Shape) -> dict[str, Any]:
    """What differs from a shape's defaults."""
    return {name: size for name, size in vars(shape).items() if size != getattr(Shape, name)}


def speed(kernel: Kernel, name: str, inputs: Inputs) -> dict[str, Any]:
    """Seconds, bytes above the inputs at the peak, and bytes kept for the backward."""
    device = inputs.leaves[0].device
    peer = kernel.peers[name](inputs)
    seconds = partial(measure.seconds, device=device, captured=kernel.captured)
    with torch.no_grad():
        forward = partial(peer, *inputs.leaves)
        row: dict[str, Any] = {"forward_s": seconds(forward)}
        row["forward_peak_bytes"] = measure.peak(forward, device)
    if not kernel.differentiable:
        return row | {"state_bytes": peer.state_bytes()}  # type: ignore[attr-defined]
    run = partial(both, peer, inputs.leaves, gradients_like(peer, inputs.leaves))
    row["both_s"] = seconds(run)
    row["both_peak_bytes"] = measure.peak(run, device)
    row["host_s"] = measure.host_seconds(run) if device.type == "cuda" else None
    leaves = tuple(leaf.detach().requires_grad_() for leaf in inputs.leaves)
    with measure.saved() as storages:
        outputs = peer(*leaves)
    del outputs
    given = {leaf.untyped_storage().data_ptr() for leaf in leaves}
    row["saved_bytes"] = sum(storages.values())
    row["saved_beyond_inputs_bytes"] = sum(
        size for place, size in storages.items() if place not in given
    )
    return row


def benchmark(kernel: Kernel, device: torch.device) -> dict[str, Any]:
    """The whole record. Whatever fails is named with its reason."""
    with said() as reasons:
        try:
            found = list((kernel.check or exactness)(kernel, device))
        except Exception as error:
            found = [{"exact": False, "failed": reason(error)}]
        ceilings = measure.ceilings(device)
        rows = [
            row
            for shape in kernel.shapes(device)
            for row in _shape(kernel, shape, device, ceilings)
        ]
    record = {
        "kernel": kernel.name,
        "title": kernel.title,
        "runs": f"PyTorch in the kernel's place ({reasons[0]})" if reasons else "the kernel",
        "ceilings": ceilings,
        "exactness": found,
        "speed": rows,
    }
    return record | ({"choices": kernel.after(record)} if kernel.after else {})


def grid(**values: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Every combination."""
    rows = itertools.product(*values.values())
    return tuple(dict(zip(values, row, strict=True)) for row in rows)


def sweep(kernel: Kernel, device: torch.device) -> Iterator[dict[str, Any]]:
    """Ours as it is and with everything in `tune`, in bfloat16."""
    for shape in kernel.shapes(device):
        inputs = kernel.inputs(shape, torch.bfloat16, device)
        for chosen in ({}, *kernel.tune):
            row: dict[str, Any] = {"model": shape.model} | chosen
            try:
                with _tuned(kernel.module, chosen):
                    found = speed(kernel, OURS, inputs)
                row |= {name: time for name, time in found.items() if name.endswith("_s")}
            except Exception as error:
                row["failed"] = reason(error)
            yield row


@contextmanager
def _tuned(module: Any, chosen: dict[str, Any]) -> Iterator[None]:
    constants = {name: value for name, value in chosen.items() if hasattr(module, name)}
    config = {n: value for n, value in chosen.items() if n != "of" and n not in constants}
    usual = {name: getattr(module, name) for name in ("launch", *constants)}

    def launch(*arguments: Any, **more: Any) -> Any:
        made = usual["launch"](*arguments, **more)
        if "of" in chosen and chosen["of"] != arguments[0]:
            return made
        return (*made[:-1], made[-1] | config) if isinstance(made, tuple) else made | config

    try:
        for name, value in (constants | {"launch": launch}).items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in usual.items():
            setattr(module, name, value)


def _shape(
    kernel: Kernel, shape: Shape, device: torch.device, ceilings: dict[str, float]
) -> Iterator[dict[str, Any]]:
    inputs = kernel.inputs(shape, torch.bfloat16, device)
    work = dict(zip(("forward", "both"), kernel.work(shape, inputs), strict=kernel.differentiable))
    common: dict[str, Any] = {"model": shape.model, "tokens": shape.tokens}
    for what, least in work.items():
        floor = max(
            least.bytes / ceilings["copy_bytes_a_second"], least.flops / ceilings["flops_a_second"]
        )
        common |= {f"{what}_{name}": size for name, size in vars(least).items()}
        common[f"{what}_floor_s"] = floor
    for name in kernel.peers:
        row = common | {"peer": name}
        try:
            row |= speed(kernel, name, inputs)
            for what in work:
                row[f"{what}_share"] = row[f"{what}_floor_s"] / row[f"{what}_s"]
        except Exception as error:
            row["failed"] = reason(error)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        yield row


def reason(error: Exception) -> str:
    """An error in one line of at most 200 characters."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


@contextmanager
def said() -> Iterator[list[str]]:
    """Collects what our kernels say of falling back to PyTorch, each reason once."""
    reasons: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reasons.append(record.getMessage())

    handler = Keep()
    fallback._say.cache_clear()
    fallback.logger.addHandler(handler)
    try:
        yield reasons
    finally:
        fallback.logger.removeHandler(handler)
