"""How long `magicoder --help` takes, beside Python's own start.

python -m benchmarks.cli
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import measure

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "magicoder --help": [str(Path(sys.executable).with_name("magicoder")), "--help"],
    "magicoder serve --help": [str(Path(sys.executable).with_name("magicoder")), "serve", "--help"],
}
RUNS = 20


def seconds(command: list[str]) -> dict[str, float]:
    """Median and worst of `RUNS` starts, after one that fills the caches."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return {"median_s": statistics.median(times[1:]), "worst_s": max(times[1:])}


def main() -> None:
    record = {name: seconds(command) for name, command in COMMANDS.items()}
    print(measure.write("cli", {"start": record}, measure.results()))
    for name, times in record.items():
        print(f"{name:24}{times['median_s'] * 1e3:6.0f} ms, worst {times['worst_s'] * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
