"""Compiles the kernels for GPUs that need not be there and prints what came out as JSON.

    python tests/custom_kernels/ahead_of_time.py 576,4096 bf16,fp32

Run it without TRITON_INTERPRET: an interpreted kernel cannot be compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from magicoder.custom_kernels import rms_norm

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
KERNELS = [rms_norm.forward_kernel, rms_norm.backward_kernel]
TYPES = {"rows": "i32", "x_stride": "i32", "dy_stride": "i32", "eps": "fp32", "parts": "*fp32"}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def compiled(kernel: Any, target: GPUTarget, dtype: str, launch: dict[str, int]) -> Any:
    """The kernel for aligned tensors of `dtype`, as `launch` would start it."""
    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        if name in launch:
            signature[name], constants[(index,)] = "constexpr", launch[name]
            continue
        signature[name] = TYPES.get(name, f"*{dtype}")
        if signature[name].startswith("*") or name.endswith("stride"):
            attributes[(index,)] = [["tt.divisibility", 16]]
    options = {key: launch[key] for key in ("num_warps", "enable_fp_fusion")}
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=options)


def resources(asm: dict[str, Any]) -> dict[str, Any]:
    """What the machine code takes: registers a thread, bytes spilled, widest global load."""
    if "hsaco" in asm:
        text = asm["amdgcn"]
        spills = re.findall(r"\.[sv]gpr_spill_count: +(\d+)", text)
        return {
            "binary": len(asm["hsaco"]),
            "registers": int(re.search(r"\.vgpr_count: +(\d+)", text)[1]),
            "spilled": sum(map(int, spills)),
            "wide_loads": "global_load_dwordx4" in text or "buffer_load_dwordx4" in text,
        }
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        command = [CUOBJDUMP, "-res-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {
        "binary": len(asm["cubin"]),
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "spilled": sum(int(re.search(rf"{area}:(\d+)", usage)[1]) for area in ("STACK", "LOCAL")),
        "wide_loads": re.search(r"ld\.global[\w.:]*\.v4\.b32", asm["ptx"]) is not None,
    }


def main(hidden_sizes: str, dtypes: str) -> None:
    rows = []
    for hidden in map(int, hidden_sizes.split(",")):
        for dtype in dtypes.split(","):
            for kernel in KERNELS:
                for name, target in TARGETS.items():
                    launch = rms_norm.launch(hidden)
                    binary = compiled(kernel, target, dtype, launch)
                    row = {"kernel": kernel.__name__, "hidden": hidden, "dtype": dtype}
                    row |= {"target": name, "threads": launch["num_warps"] * target.warp_size}
                    rows.append(row | resources(binary.asm) | {"shared": binary.metadata.shared})
    print(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
