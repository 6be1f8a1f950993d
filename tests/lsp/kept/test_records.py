"""The log's file: whole lines, whoever writes and whatever happens."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from magicoder.lsp.kept import records
from magicoder.lsp.kept.records import Record, Survival

RECORD = Record(
    id="a",
    time=1.5,
    language="python",
    model="m",
    source="model",
    lines=1,
    characters=4,
    latency_ms=9.5,
    shown_ms=800,
    accepted="whole",
    accepted_characters=4,
    survival=Survival(s30=0.5),
)

WRITER = """
import sys
from pathlib import Path
from magicoder.lsp.kept import records
line = sys.argv[2] * 3000
while not Path(sys.argv[1]).with_name("go").exists():
    pass
for number in range(int(sys.argv[3])):
    records.append(Path(sys.argv[1]), [line])
"""


def writer(file: Path, letter: str, times: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(file), letter, str(times)])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "kept.jsonl"
    records.append(file, [RECORD.model_dump_json()])
    records.append(file, [RECORD.model_dump_json()])
    assert records.read(file) == ([RECORD, RECORD], 0)


def test_several_servers_write_one_file(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    writers = [writer(file, letter, 400) for letter in "xyz"]
    (tmp_path / "go").touch()
    assert [process.wait(60) for process in writers] == [0, 0, 0]
    lines = file.read_text().split()  # a blank line between two is none
    assert sorted(lines) == [letter * 3000 for letter in "xyz" for _ in range(400)]


def test_a_kill_costs_the_last_line_at_most(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    process = writer(file, "x", 10**9)
    (tmp_path / "go").touch()
    while not file.exists() or file.stat().st_size < 10_000:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    records.append(file, ["after"])
    *lines, last, after = file.read_text().split()
    assert set(lines) == {"x" * 3000}
    assert last == "x" * len(last)
    assert after == "after"


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    line = RECORD.model_dump_json()
    file.write_text(f"{line}\n{line[:40]}")  # the disk was full
    records.append(file, [line])
    assert records.read(file) == ([RECORD, RECORD], 1)


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[]",
        "{}",
        RECORD.model_dump_json().replace('"whole"', '"perhaps"'),
        RECORD.model_dump_json().replace("0.5", "1.5"),
        RECORD.model_dump_json().replace("800", "-800"),
        "\udcff",
    ],
)
def test_a_line_that_is_no_record_is_passed_over(tmp_path: Path, line: str) -> None:
    file = tmp_path / "kept.jsonl"
    text = f"{line}\n\n{RECORD.model_dump_json()}\n"
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert records.read(file) == ([RECORD], 1)
