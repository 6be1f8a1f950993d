"""Everything that only a GPU can show, in one call of under ten minutes.

    python -m benchmarks.gpu

Needs no network and no installed magicoder: PyTorch, Triton and transformers will do. Each part is
a process of its own, as an illegal address in one kernel ends the process: it writes its results to
benchmarks/results/gpu/ when it is done, and what became of it stands in parts.json there. The exit
code is 1 where a part failed.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import ROOT, measure

SECONDS = 550  # for everything
LEAST = 5  # a part with less is not begun


@dataclass(frozen=True)
class Part:
    """A module of benchmarks with its arguments, and the seconds that it may take."""

    name: str
    arguments: tuple[str, ...]
    seconds: float


# The claims come first, should time run out
PARTS = (
    Part("attention", ("kernels", "attention"), 150),
    Part("step", ("step",), 120),
    Part("linear_cross_entropy", ("kernels", "linear_cross_entropy"), 110),
    Part("rms_norm", ("kernels", "rms_norm"), 80),
    Part("add_rms_norm", ("kernels", "add_rms_norm"), 80),
    Part("adamw", ("kernels", "adamw"), 60),
    Part("rope", ("kernels", "rope"), 60),
    Part("glu", ("kernels", "glu"), 60),
    Part("finetune", ("finetune",), 90),
)


def run(part: Part, left: float) -> dict[str, Any]:
    """What became of a part; it is stopped when its time or all time is over."""
    limit = min(part.seconds, left)
    start = time.monotonic()
    row: dict[str, Any] = {"part": part.name}
    if left < LEAST:
        return row | {"failed": "no time was left"}
    command = [sys.executable, "-m", f"benchmarks.{part.arguments[0]}", *part.arguments[1:]]
    try:
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return row | {"failed": f"stopped after {limit:.0f} s"}
    row["seconds"] = round(time.monotonic() - start, 1)
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-15:] or ["a result is not exact"]
        row["failed"] = "\n".join(lines)
    return row


def every(parts: tuple[Part, ...], folder: Path, seconds: float = SECONDS) -> bool:
    """Run all parts, writing what became of each as soon as it is known; whether all were good."""
    end = time.monotonic() + seconds
    rows: list[dict[str, Any]] = []
    for part in parts:
        rows.append(run(part, end - time.monotonic()))
        print(rows[-1], flush=True)
        measure.write("parts", {"parts": rows}, folder)
    return not any("failed" in row for row in rows)


def main() -> int:
    if not torch.cuda.is_available():
        print("benchmarks.gpu needs an NVIDIA or AMD GPU, and PyTorch finds none", file=sys.stderr)
        return 1
    return 0 if every(PARTS, measure.results()) else 1


if __name__ == "__main__":
    sys.exit(main())
