"""The command line as a user types it: real processes, so exit codes and streams are real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from magicoder.cli import COMMANDS, data
from magicoder.cli.complete import split
from magicoder.cli.problem import select
from magicoder.errors import UsageError


def run(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "magicoder", *args],
        input=stdin,
        text=True,
        capture_output=True,
        env={**os.environ, **env},
        timeout=60,
    )


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The error of a failed command: one line, nothing on standard output."""
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
    return done.stderr


def test_help_imports_nothing_heavy_and_names_every_command():
    code = (
        "import sys; from magicoder.cli import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'openai', 'torch', 'vllm', 'transformers', 'pydantic', 'rich', 'pygls'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, *(f"data {name}" for name in data.COMMANDS)])
def test_every_command_teaches_by_example(command):
    done = run(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert f"magicoder {command}" in done.stdout.split("Options:")[0].partition("\n")[2]


def test_usage_errors_are_one_line_with_exit_code_2(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\x00")
    for args, says in [
        (("chatt",), "use one of serve, models, chat"),
        (("complete",), "give either FILE:LINE:COL or --prefix"),
        (("complete", f"{tmp_path}/a.py:9:1"), "has lines 1 to 2, not 9"),
        (("complete", f"{tmp_path}/a.py:1:9"), "has columns 1 to 6, not 9"),
        (("complete", f"{tmp_path}/none.py:1:1"), "No such file"),
        (("problem", f"{tmp_path}/b.bin"), "is not UTF-8 text"),
        (("problem", str(tmp_path)), "Is a directory"),
        (("problem", f"{tmp_path}/a.py:2-1"), "give START-END within them"),
        (("chat", ""), "the prompt is empty"),
        (("chat", "x", "--base-url", "nowhere"), "expected an http"),
        (("chat", "x", "--max-tokens", "0"), "--max-tokens"),
    ]:
        assert says in one_line(run(*args), 2)


def test_settings_that_cannot_be_used_name_their_key(tmp_path):
    assert "MAGICODER_TIMEOUT" in one_line(run("chat", "x", MAGICODER_TIMEOUT="soon"), 2)


def test_no_server_is_one_line_with_exit_code_1():
    url = "http://127.0.0.1:9/v1"
    for args in [("chat", "x"), ("complete", "--prefix", "x"), ("problem", __file__)]:
        assert f"no server at {url}: start one with" in one_line(run(*args, "--base-url", url), 1)


def test_a_pipe_can_carry_the_prompt(faulty_server):
    def answer(handler, body):
        prompt = body["messages"][-1]["content"]
        chunk = {
            "id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"content": f"<{prompt}>"}, "finish_reason": "stop"}],
        }  # fmt: skip
        text = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    server = faulty_server(answer)
    done = run("chat", "--base-url", server.base_url, stdin="from the pipe")
    assert (done.stdout, done.returncode) == ("<from the pipe>\n", 0)


def test_places_count_from_one_and_lose_nothing(tmp_path: Path):
    text = "def f():\r\n    ab = '😀'\n"
    file = tmp_path / "a:b.py"
    file.write_bytes(text.encode())
    for place, before in [("1:1", ""), ("2:7", "def f():\r\n    ab"), ("3:1", text)]:
        prefix, suffix = split(f"{file}:{place}")
        assert prefix == before
        assert prefix + suffix == text
    assert split(f"{file}:2:12")[1].startswith("'\n")  # columns are characters, not bytes


def test_selections_are_whole_lines(tmp_path: Path):
    file = tmp_path / "a.py"
    file.write_text("one\ntwo\nthree")
    assert select(f"{file}:2-3") == (str(file), "two\nthree")
    assert select(str(file)) == (str(file), "one\ntwo\nthree")
    file.write_text("\n\n")
    with pytest.raises(UsageError, match="holds no code"):
        select(str(file))
