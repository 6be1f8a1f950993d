"""Processes that end with their parent, and errors in one line. The real end is in tests/e2e."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import BaseModel, Field, ValidationError

from magicoder.errors import MagicoderError, UsageError
from magicoder.server import supervisor
from magicoder.server.launcher import Plan
from magicoder.server.process import Server

LOG = """\
(APIServer pid=1) ERROR 11-22 16:00:11 [__init__.py:72] ModuleNotFoundError: No module named 'x'
(EngineCore pid=2) ERROR 11-22 16:00:12 [core.py:1511] EngineCore failed to start.
(EngineCore pid=2) ERROR 11-22 16:00:12 [core.py:1511] Traceback (most recent call last):
(EngineCore pid=2) ERROR 11-22 16:00:12 [core.py:1511]   File "/x.py", line 3, in load
(EngineCore pid=2) ERROR 11-22 16:00:12 [core.py:1511] safetensors.SafetensorError: file is short
(EngineCore pid=2) ValueError: later
"""


def test_cause_is_the_first_error_of_what_failed() -> None:
    assert supervisor.cause(LOG) == "safetensors.SafetensorError: file is short"
    assert supervisor.cause(LOG.partition("EngineCore failed")[0]) is None


def plan(log: Path) -> Plan:
    return Plan("m", "127.0.0.1", 1, (), {}, log)


def ended(tmp_path: Path, code: int, message: str, log: str = "") -> str:
    """What the user reads after vLLM ended so."""
    file = tmp_path / "log"
    file.write_text(log)
    process = supervisor._Supervisor(plan(file), supervisor.Display(verbose=False))
    with pytest.raises(MagicoderError) as caught:
        process.end(code, message)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_end_says_the_cause_and_the_mend(tmp_path: Path) -> None:
    said = ended(tmp_path, 1, "Engine core initialization failed", LOG)
    assert said.startswith("vLLM could not start: safetensors.SafetensorError: file is short: ")
    assert f"(log: {tmp_path / 'log'})" in said
    assert "--max-model-len" in ended(tmp_path, 1, "max_model_len (9) is greater than ...")
    assert "perhaps for memory: free memory" in ended(tmp_path, -signal.SIGKILL, "")
    assert "exit code 3" in ended(tmp_path, 3, "")
    assert "unrecognized" in ended(tmp_path, 1, "usage: unrecognized arguments: --foo")


def test_errors_become_one_short_line() -> None:
    class Config(BaseModel):
        size: int = Field(ge=1)

    with pytest.raises(ValidationError) as caught:
        Config(size=0)
    said = supervisor._one_line(caught.value)
    assert said == "size: Input should be greater than or equal to 1"
    assert supervisor._one_line(UsageError("no")) == "usage: no"
    assert supervisor._one_line(KeyError()) == "KeyError"
    assert len(supervisor._one_line(ValueError("many words\n" * 100))) <= 240


def test_log_cannot_be_copied_to_itself(tmp_path: Path) -> None:
    command = (
        "import sys; from pathlib import Path; from magicoder.server import supervisor\n"
        "from magicoder.server.launcher import Plan\n"
        "plan = Plan('m', '127.0.0.1', 1, (), {}, Path(sys.argv[1]))\n"
        "supervisor.run(plan, supervisor.Display(verbose=True))"
    )
    log = tmp_path / "log"
    with log.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", command, str(log)], stdout=out, stderr=subprocess.PIPE, text=True
        )
    assert "UsageError: --verbose copies the log" in done.stderr


def test_vllm_is_as_nice_as_planned(tmp_path: Path) -> None:
    command = (
        "import os, sys; from pathlib import Path; from magicoder.server import supervisor\n"
        "from magicoder.server.launcher import Plan\n"
        "plan = Plan('m', '127.0.0.1', 1, (), {}, Path(sys.argv[1]), 3)\n"
        "supervisor._vllm = lambda _: print(os.nice(0), flush=True)\n"
        "supervisor.run(plan, supervisor.Display(verbose=False))"
    )
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", command, str(log)], capture_output=True)
    assert int(log.read_text()) == os.nice(0) + 3


def test_child_ends_with_its_parent() -> None:
    parent = (
        "import signal, subprocess, sys, time\n"
        "from magicoder.server.supervisor import die_with_parent\n"
        "child = subprocess.Popen(['sleep', '60'],\n"
        "    preexec_fn=lambda: die_with_parent(signal.SIGTERM))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    child.wait(10)
    assert not child.is_running()


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(MagicoderError, match=f"port {port} is in use") as caught,
            Server("smollm2-135m", port=port, log=log),
        ):
            pass
    assert str(log) in str(caught.value)
    with (
        pytest.raises(MagicoderError, match="adapter 'a': no "),
        Server("smollm2-135m", adapters={"a": tmp_path}, log=log),
    ):
        pass


def test_lines_are_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    display = supervisor.Display(verbose=False)
    display.phase("loading")
    display.line("(Worker pid=1) INFO [x] Loading weights took 1.2 seconds\n")
    display.line("(Worker pid=1) INFO [x] something else\n")
    display.ready(plan(Path("/log")), 1.2)
    display.stop()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "loading",
        "warming up",
        "m is served at http://127.0.0.1:1/v1 (ready in 1 s)",
    ]
    verbose = supervisor.Display(verbose=True)
    verbose.line("a [bold]line[/bold]\n")
    assert capsys.readouterr().out == "a [bold]line[/bold]\n"
