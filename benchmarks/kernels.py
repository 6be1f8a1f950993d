"""Each kernel against its peers by shape: exactness, and the share of copy bandwidth it reaches.

    python -m benchmarks.kernels

On a GPU the figures are the claim. Elsewhere our kernels fall back to PyTorch, and a small run
proves this harness; its figures say nothing about the kernels.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from magicoder.custom_kernels.rms_norm import reference, rms_norm

EPS = 1e-5
Norm = Callable[[Tensor, Tensor, float], Tensor]

# model: (hidden size, tokens in a pack): 135M, 1B and 7B models, each input 256 MB in bfloat16
SHAPES = {"135M": (576, 2**17 * 7 // 4), "1B": (2048, 2**16), "7B": (4096, 2**15)}
SMALL = {"135M": (576, 64), "1B": (2048, 32), "7B": (4096, 16)}
ODD = [(1, 1), (5, 1), (9, 7), (2, 3, 576), (300, 64), (1, 4096), (33, 8192), (4097, 1000)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def peers(device: torch.device) -> dict[str, Norm]:
    """Every RMSNorm that can run here, ours first."""
    found: dict[str, Norm] = {"magicoder": rms_norm, "pytorch": reference}
    found["torch rms_norm"] = lambda x, w, eps: torch.nn.functional.rms_norm(x, w.shape, w, eps)
    if device.type == "cuda":  # on a CPU it needs a C++ compiler and minutes
        found["torch.compile"] = torch.compile(reference, dynamic=False)
        if find_spec("liger_kernel"):
            from liger_kernel.ops.rms_norm import (  # type: ignore[import-not-found]
                LigerRMSNormFunction as Liger,
            )

            found["liger"] = lambda x, w, eps: Liger.apply(x, w, eps, 0.0, "llama", False)
    return found


def exactness(
    norm: Norm, device: torch.device, shapes: Sequence[tuple[int, ...]]
) -> Iterator[dict[str, Any]]:
    """Errors of y, dx and dweight against float64, beside PyTorch's in the same dtype.

    A row is `exact` where its error is at most 1.5 times PyTorch's, or float32's last bit.
    """
    for shape in shapes:
        for dtype in DTYPES:
            x = (3 * torch.randn(shape, device=device) + 0.5).to(dtype)
            weight = (1 + 0.3 * torch.randn(shape[-1], device=device)).to(dtype)
            dy = torch.randn(shape, device=device).to(dtype)
            ours, theirs = (_run(f, x, weight, dy) for f in (norm, reference))
            true = _run(_paper, x.double(), weight.double(), dy.double())
            for what, our, their, exact in zip(("y", "dx", "dw"), ours, theirs, true, strict=True):
                error, pytorch = ((t.double() - exact).norm().item() for t in (our, their))
                scale = exact.norm().item()
                allowed = max(1.5 * pytorch, torch.finfo(torch.float32).eps * scale)
                row = {"shape": shape, "dtype": str(dtype), "what": what}
                relative = {"error": error / scale, "pytorch": pytorch / scale}
                yield row | relative | {"exact": error <= allowed}  # false for a nan


def _paper(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm as the paper writes it, to be run in float64."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def _run(norm: Norm, x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = norm(x, weight, EPS)
    return y.detach(), *torch.autograd.grad(y, (x, weight), dy)


def speed(
    norm: Norm, hidden: int, tokens: int, bandwidth: float, device: torch.device
) -> dict[str, float]:
    """Seconds of a forward and of forward with backward in bfloat16.

    Shares are of `bandwidth`, by the bytes that have to move: 2 tensors forward (x, y), 5 in all
    (x, dy and dx as well). `host_s` is what a forward and backward costs the host.
    """
    x = torch.randn(tokens, hidden, dtype=torch.bfloat16, device=device)
    weight = torch.randn(hidden, dtype=torch.bfloat16, device=device)
    dy = torch.randn_like(x)
    with torch.no_grad():
        forward = measure.seconds(lambda: norm(x, weight, EPS), device)
    both = measure.seconds(lambda: _run(norm, x, weight, dy), device)
    size = x.numel() * x.element_size()
    return {
        "forward_s": forward,
        "both_s": both,
        "host_s": measure.host_seconds(lambda: _run(norm, x[:1], weight, dy[:1])),
        "forward_share": 2 * size / forward / bandwidth,
        "both_share": 5 * size / both / bandwidth,
    }


def benchmark(shapes: dict[str, tuple[int, int]], device: torch.device) -> dict[str, Any]:
    """The whole record: exactness of ours, speed of all. A peer that fails is named as such."""
    rows: list[dict[str, Any]] = []
    for model, (hidden, tokens) in shapes.items():
        bandwidth = measure.copy_bandwidth(2 * hidden * tokens, device)
        for name, norm in peers(device).items():
            row = {"model": model, "hidden": hidden, "tokens": tokens, "peer": name}
            try:
                times = speed(norm, hidden, tokens, bandwidth, device)
            except Exception as error:
                if norm is rms_norm:
                    raise
                print(f"{name} fails on {model}: {error}", file=sys.stderr)
                continue
            rows.append(row | {"copy_bytes_a_second": bandwidth} | times)
    return {
        "kernel": "rms_norm",
        "runs": "the kernel" if device.type == "cuda" else "PyTorch in the kernel's place",
        "exactness": list(exactness(rms_norm, device, ODD)),
        "speed": rows,
    }


def draw(record: dict[str, Any], figure: Any) -> None:
    """Shares of copy bandwidth as bars, by model and peer."""
    names = list(dict.fromkeys(row["peer"] for row in record["speed"]))
    models = list(dict.fromkeys(row["model"] for row in record["speed"]))
    width = 0.8 / len(names)
    titles = {"forward_share": "forward", "both_share": "forward and backward"}
    for axes, (share, title) in zip(
        figure.subplots(1, 2, sharey=True), titles.items(), strict=True
    ):
        for row in record["speed"]:
            place = names.index(row["peer"])
            at = models.index(row["model"]) + (place - len(names) / 2 + 0.5) * width
            axes.bar(
                at,
                row[share],
                width,
                color=f"C{place}",
                label=row["peer"] if row["model"] == models[0] else None,
            )
        axes.set_xticks(range(len(models)), models)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_title(f"RMSNorm, {title}")
    axes.legend()
    figure.supylabel("share of copy bandwidth")


def report(record: dict[str, Any], folder: Path) -> bool:
    """Write the record and its plot, print a table; whether everything was exact."""
    print(measure.write("rms_norm", record, folder))
    print(measure.plot(lambda figure: draw(record, figure), folder / "rms_norm.png"))
    keys = ("forward_s", "forward_share", "both_s", "both_share", "host_s")
    print(f"{'':22}" + "".join(f"{key:>15}" for key in keys))
    for row in record["speed"]:
        figures = (f"{row[k]:.0%}" if "share" in k else f"{row[k] * 1e6:.1f}us" for k in keys)
        print(f"{row['model']:6}{row['peer']:16}" + "".join(f"{f:>15}" for f in figures))
    inexact = [row for row in record["exactness"] if not row["exact"]]
    for row in inexact:
        print(f"not exact: {row}")
    print(f"{len(record['exactness']) - len(inexact)} of {len(record['exactness'])} results exact")
    return not inexact


def main() -> int:
    torch.manual_seed(0)
    cuda = torch.cuda.is_available()
    record = benchmark(SHAPES if cuda else SMALL, torch.device("cuda" if cuda else "cpu"))
    return 0 if report(record, measure.results()) else 1


if __name__ == "__main__":
    sys.exit(main())
