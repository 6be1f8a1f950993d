"""python -m benchmarks.kernels"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import kernels, measure
from benchmarks.kernels import NAMES, harness, load, plots


def report(record: dict[str, Any], folder: Path) -> bool:
    """Write the record and its plot, print a table; whether ours ran and everything was exact."""
    print(measure.write(record["kernel"], record, folder))
    record = {"machine": measure.machine()} | record
    draw = partial(plots.kernel, record)
    print(measure.plot(draw, folder / f"{record['kernel']}.png", (11, 4.2)))
    if not record["speed"]:
        return False
    keys = ("forward_s", "forward_share", "both_s", "both_share", "host_s", "both_peak_bytes")
    keys += ("saved_bytes", "state_bytes")
    print(f"{record['title']:24}" + "".join(f"{key:>16}" for key in keys))
    for row in record["speed"]:
        cells = row.get("failed") or "".join(f"{_cell(key, row.get(key)):>16}" for key in keys)
        print(f"{row['model']:5}{row['peer']:19}{cells}")
    wrong = [row for row in record["exactness"] if not row["exact"]]
    for row in wrong:
        print(f"not exact: {row}")
    rows = len(record["exactness"])
    print(f"{rows - len(wrong)} of {rows} results exact; {record['runs']}", flush=True)
    failed = any(row["peer"] == harness.OURS and "failed" in row for row in record["speed"])
    return not wrong and not failed


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    if key.endswith("share"):
        return f"{value:.0%}"
    return f"{value / 2**20:.1f} MiB" if key.endswith("bytes") else f"{value * 1e6:.1f} us"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels", description=kernels.__doc__
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--sweep", action="store_true", help="try launch parameters instead")
    told = parser.parse_args(arguments)
    for name in told.names:
        if name not in NAMES:
            parser.error(f"no kernel {name!r}: use one of {', '.join(NAMES)}")
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)  # on shared cores threads wait for each other
    folder, good = measure.results(), True
    for name in told.names or NAMES:
        kernel = load(name)
        if told.sweep:
            rows = list(harness.sweep(kernel, device)) if kernel.tune else []
            if rows:
                print(measure.write(f"{name}_sweep", {"kernel": name, "rows": rows}, folder))
            continue
        good &= report(harness.benchmark(kernel, device), folder)
    if not told.sweep:
        found = plots.records(folder, NAMES)
        draw = partial(plots.roofline, found)
        print(measure.plot(draw, folder / "roofline.png", (9.5, 5.2)))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
