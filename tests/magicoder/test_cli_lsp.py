"""`magicoder lsp` as a user types it: where it listens, traces and statistics."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from magicoder.cli import cli
from magicoder.cli.lsp import lsp
from magicoder.errors import MagicoderError, UsageError
from magicoder.lsp.completion import trace
from magicoder.lsp.completion.trace import Trace
from magicoder.lsp.kept import records
from magicoder.lsp.kept.records import Record, Survival


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "magicoder" / "lsp"


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["lsp", *args], catch_exceptions=False)


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def record(**known: object) -> None:
    made = {"id": "a", "time": 0, "language": "python", "model": "qwen", "source": "model"}
    made |= {"lines": 1, "characters": 10, "latency_ms": 100, "shown_ms": 100, "accepted": "no"}
    records.append(records.path(), [Record.model_validate(made | known).model_dump_json()])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":2087", ("127.0.0.1", 2087)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:99", ("0.0.0.0", 99)),
        ("[::1]:2087", ("::1", 2087)),
        ("2087", ("127.0.0.1", 2087)),
    ],
)
def test_an_address(text: str, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("magicoder.lsp.server.run", lambda tcp: asked.append(tcp) or 3)
    assert run("--tcp", text).exit_code == 3
    assert asked == [address]


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:70000", "::1:80", ":-1"])
def test_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="write HOST:PORT, or :2087"):
        run("--tcp", text)


def test_it_says_where_it_listens() -> None:
    command = [sys.executable, "-m", "magicoder", "lsp", "--tcp", ":0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
    assert re.fullmatch(r"listening on 127\.0\.0\.1:[1-9]\d+\n", line)


def test_in_a_terminal_it_says_what_it_waits_for() -> None:
    screen, terminal = os.openpty()
    command = [sys.executable, "-m", "magicoder", "lsp"]
    with subprocess.Popen(command, stdin=terminal, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
        assert process.stderr.read() == ""
    os.close(screen)
    os.close(terminal)
    assert "an editor starts it, see docs/editors.md" in line


def test_without_a_log_it_says_how_to_have_one(state: Path) -> None:
    result = run("stats")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert "set keep_log to true" in result.stdout
    assert not state.exists()
    figures = json.loads(run("stats", "--json").stdout)
    assert figures == {"path": str(state / "kept.jsonl"), "unreadable": 0, "rows": []}


def test_the_table() -> None:
    record(accepted="whole", accepted_characters=9, survival=Survival(s30=1, min2=0.5), lines=2)
    record(language="go", latency_ms=1234.56, shown_ms=800)
    text = "\n".join(" ".join(line.split()) for line in run("stats").stdout.splitlines())
    assert text.startswith("shown read whole part rate of read 30 s 2 min 10 min s p50/p95\n")
    assert "\nall 2 2 1 0 50% 50% 100% 50% - 0.10/1.23\n" in text
    assert "\ngo 1 1 0 0 0% 0% - - - 1.23/1.23\n" in text
    assert "\nblock 1 " in text
    assert "\none line 1 " in text
    assert "\nqwen 2 " in text


def test_the_table_as_json() -> None:
    record(accepted="part", accepted_characters=5, survival=Survival(s30=0.25))
    figures = json.loads(run("stats", "--json").stdout)
    assert {row["name"] for row in figures["rows"]} == {"all", "python", "one line", "qwen"}
    assert figures["rows"][0]["survival"] == {"s30": 0.25, "min2": None, "min10": None}


def test_unreadable_lines_are_said(state: Path) -> None:
    record()
    with (state / "kept.jsonl").open("a") as file:
        file.write("{}\nnothing\n")
    result = run("stats")
    assert "2 lines of" in result.stderr
    assert "all" in result.stdout
    assert json.loads(run("stats", "--json").stdout)["unreadable"] == 2


def test_a_log_that_is_no_file(state: Path) -> None:
    (state / "kept.jsonl").mkdir(parents=True)
    with pytest.raises(UsageError, match="make it readable"):
        run("stats")


def test_stats_takes_no_options_of_the_server() -> None:
    with pytest.raises(UsageError, match="takes no options before it"):
        run("--tcp", ":1", "stats")


def test_where_it_cannot_listen_or_log_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MagicoderError, match=rf"cannot listen on 127\.0\.0\.1:{port} \("):
            run("--tcp", f":{port}")
    with pytest.raises(MagicoderError, match=r"cannot listen on host\.invalid:1 \("):
        run("--tcp", "host.invalid:1")
    with pytest.raises(UsageError, match="cannot be written"):
        run("--log-file", str(tmp_path / "none" / "lsp.log"))


def test_traces() -> None:
    for number in range(1, 101):
        stages = {"gate": number / 100, "server": float(number)} if number > 50 else {"gate": 1.0}
        made = Trace(0.0, "python", "automatic", f"n{number}", stages, total_ms=number)
        if number == 100:
            made.prompt_tokens, made.cached_tokens, made.server_ms = 64, 32, 7.0
        trace.write(made)
    lines = run("--trace").stdout.splitlines()
    assert lines[0].split()[:6] == ["time", "language", "asked", "outcome", "ms", "cached"]
    assert [cells(line)[3] for line in lines[1:21]] == [f"n{number}" for number in range(81, 101)]
    assert cells(lines[20])[4:] == ["100", "32/64", "gate 1.0, server 100, model 7.0"]
    figures = {cells(line)[0]: cells(line)[1:] for line in lines[22:]}
    assert figures["100 completions"] == ["took", "p50 ms", "p95 ms"]
    assert figures["gate"] == ["100", "1.0", "1.0"]
    assert figures["server"] == ["50", "75.0", "98.0"]
    assert figures["all"] == ["100", "50.0", "95.0"]
    assert figures["first token"] == ["0", "-", "-"]


def test_without_traces_it_says_so() -> None:
    result = run("--trace")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert "no completions yet" in result.stdout


def test_help_is_light() -> None:
    code = (
        "import sys; from magicoder.cli import cli\n"
        "try: cli.main(['lsp', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'openai', 'pydantic', 'rich', 'pygls', 'platformdirs', 'tree_sitter'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "HEAVY []" in done.stdout
    assert "stats" in done.stdout


def test_its_commands_teach_by_example() -> None:
    assert set(lsp.commands) == {"stats"}
    assert "magicoder lsp stats --json" in run("stats", "--help").stdout
