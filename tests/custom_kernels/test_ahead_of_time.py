"""Every kernel is compiled for every supported GPU, none of which is here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What one program may have: bytes of shared memory, and registers over all its threads.
LIMITS = {
    "sm_80": (166912, 65536),
    "sm_90": (232448, 65536),
    "sm_100": (232448, 65536),
    "sm_120": (101376, 65536),
    "gfx942": (65536, 131072),
}


@pytest.mark.parametrize(
    ("hidden", "dtypes"),
    [
        ([576], ["bf16"]),
        pytest.param([64, 576, 2048, 4096, 8192], ["bf16", "fp16", "fp32"], marks=pytest.mark.slow),
    ],
)
def test_compiles_without_spills(hidden: list[int], dtypes: list[str], tmp_path: Path) -> None:
    script = Path(__file__).with_name("ahead_of_time.py")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, script, ",".join(map(str, hidden)), ",".join(dtypes)],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert len(rows) == 2 * len(LIMITS) * len(hidden) * len(dtypes)
    for row in rows:
        shared, registers = LIMITS[row["target"]]
        assert row["binary"] > 0, row
        assert row["spilled"] == 0, row
        assert row["shared"] <= shared, row
        assert 0 < row["registers"] * row["threads"] <= registers, row
        assert row["threads"] <= 1024, row
        assert row["wide_loads"], row
