"""Compiles what the kernels launch for GPUs that need not be there, and prints what came out.

    python tests/custom_kernels/ahead_of_time.py                     # every kernel, a table
    python tests/custom_kernels/ahead_of_time.py rms_norm --targets sm_90 --dtypes bf16 --json

The functions of launches.py run on CPU tensors. Triton is told that a GPU of the target's kind is
active, so that it specialises each launch as it would there; it compiles, and nothing is started.
Run it without TRITON_INTERPRET: an interpreted kernel cannot be compiled.
"""

import argparse
import itertools
import json
import multiprocessing
import re
import subprocess
import tempfile
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import triton
from launches import LAUNCHES
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from magicoder.custom_kernels import hardware
from magicoder.custom_kernels.hardware import Chip

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# the chip, and how many registers one program may have over all its threads
TARGETS = {
    "sm_80": (GPUTarget("cuda", 80, 32), Chip("sm_80", 108, 166912), 65536),
    "sm_90": (GPUTarget("cuda", 90, 32), Chip("sm_90", 132, 232448), 65536),
    "sm_100": (GPUTarget("cuda", 100, 32), Chip("sm_100", 148, 232448), 65536),
    "sm_120": (GPUTarget("cuda", 120, 32), Chip("sm_120", 170, 101376), 65536),
    "gfx942": (GPUTarget("hip", "gfx942", 64), Chip("gfx942", 304, 65536), 131072),
}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SASS_MATRIX = re.compile(r"\b(?:UTC)?[A-Z]{1,3}MMA\b")
AMD_MATRIX = re.compile(r"\bv_s?mfmac?_\w+")


class Driver:
    """Stands for the driver of a GPU that is not there."""

    def __init__(self, name: str, target: GPUTarget) -> None:
        self.name, self.target = name, target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> str:
        return self.name  # Triton keeps what it compiled by device

    def get_current_stream(self, device: str) -> int:
        return 0


def compiled(kernel: str, dtype: str, target: str) -> list[dict[str, Any]]:
    """One row for each launch of one function of launches.py that differs from the others."""
    torch.set_num_threads(1)
    # Triton warns of a launch without enable_fp_fusion, whose last bits depend on the version
    warnings.filterwarnings("error", message="TRITON_DEFAULT_FP_FUSION")
    gpu, chip, registers = TARGETS[target]
    driver.set_active(Driver(target, gpu))
    hardware.chip = lambda device: chip
    run, binaries = JITFunction.run, {}

    def compile_only(self: JITFunction[Any], *args: Any, **kwargs: Any) -> Any:
        binary = run(self, *args, **kwargs | {"warmup": True})
        binaries[id(binary)] = binary
        return binary

    JITFunction.run = compile_only
    try:
        LAUNCHES[kernel](DTYPES[dtype])
    except Exception:  # Triton's own cannot travel between processes
        raise RuntimeError(f"{kernel} {dtype} {target}: {traceback.format_exc()}") from None
    finally:
        JITFunction.run = run
    rows = []
    for binary in binaries.values():
        names, meta = binary.src.fn.arg_names, binary.metadata
        constants = binary.src.constants.items()
        row = {"kernel": kernel, "function": binary.src.fn.__name__, "dtype": dtype}
        row["launch"] = {names[path[0]]: value for path, value in constants if value is not None}
        row |= {"target": target, "threads": meta.num_warps * gpu.warp_size}
        row |= {"stages": meta.num_stages, "shared": meta.shared, "shared_limit": chip.shared}
        row |= resources(binary.asm) | {"registers_limit": registers}
        rows.append(row)
    return rows


def resources(asm: dict[str, Any]) -> dict[str, Any]:
    """What the machine code takes: registers a thread, bytes spilled, wide loads, matrix units."""
    if "hsaco" in asm:
        text = asm["amdgcn"]
        return {
            "binary": len(asm["hsaco"]),
            "registers": int(re.search(r"\.vgpr_count: +(\d+)", text)[1]),
            # Bytes of scratch memory: scalar registers spill into lanes of vector registers
            "spilled": int(re.search(r"\.private_segment_fixed_size: +(\d+)", text)[1]),
            "wide_loads": re.search(r"(global|buffer)_load_dwordx4", text) is not None,
            "matrix": sorted(set(AMD_MATRIX.findall(text))),
        }
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        usage, sass = (
            subprocess.run([CUOBJDUMP, how, file.name], check=True, capture_output=True, text=True)
            for how in ("-res-usage", "-sass")
        )
    return {
        "binary": len(asm["cubin"]),
        "registers": int(re.search(r"REG:(\d+)", usage.stdout)[1]),
        "spilled": sum(
            int(re.search(rf"{area}:(\d+)", usage.stdout)[1]) for area in ("STACK", "LOCAL")
        ),
        "wide_loads": re.search(r"\b(LDG|LDGSTS)\.[\w.]*128|\bUTMALDG", sass.stdout) is not None,
        "matrix": sorted(set(SASS_MATRIX.findall(sass.stdout))),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """What a reader compares; an exclamation mark where a limit is passed or something spills."""
    lines = [
        f"{'target':7}{'type':6}{'threads':>7}{'stages':>7}{'regs':>6}{'spill':>7}{'shared':>9}"
    ]
    lines[0] += "  wide  function(launch) matrix instructions"
    for row in rows:
        launch = ", ".join(f"{name}={value}" for name, value in row["launch"].items())
        over = row["registers"] * row["threads"] > row["registers_limit"]
        lines.append(
            f"{row['target']:7}{row['dtype']:6}{row['threads']:7}{row['stages']:7}"
            f"{row['registers']:5}{' !'[over]}{row['spilled']:6}{' !'[row['spilled'] > 0]}"
            f"{row['shared']:8}{' !'[row['shared'] > row['shared_limit']]}"
            f"  {'yes' if row['wide_loads'] else '-':4}  {row['function']}({launch})"
            f" {' '.join(row['matrix'])}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernels", nargs="*", metavar="kernel", help=", ".join(LAUNCHES))
    parser.add_argument("--targets", default=",".join(TARGETS), help="default: %(default)s")
    parser.add_argument("--dtypes", default="bf16,fp32", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    asked = parser.parse_args()
    kernels = asked.kernels or LAUNCHES
    jobs = itertools.product(kernels, asked.dtypes.split(","), asked.targets.split(","))
    fork = multiprocessing.get_context("fork")  # quick, and no thread runs yet
    with ProcessPoolExecutor(2, mp_context=fork) as pool:
        rows = [row for found in pool.map(compiled, *zip(*jobs, strict=True)) for row in found]
    print(json.dumps(rows, default=str) if asked.json else table(rows))


if __name__ == "__main__":
    main()
