"""A run that is killed ten times ends like one that was not, and pays for nothing twice."""

import hashlib
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from magicoder.training.data import runner

ROOT = Path(__file__).parents[3]
KILLS = 10
SEEDS = 80
IN_FLIGHT = 4


class Teacher:
    """Answers each request by what it asks alone, and counts what it answered."""

    def __init__(self):
        self.answered = []
        self.kept = set()  # ids of the answers that a killed run had in its store
        self.asked_again = []
        self.lock = threading.Lock()

    def __call__(self, handler, body):
        name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
        with self.lock:
            if name in self.kept:
                self.asked_again.append(name)
        time.sleep(0.02)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer(body, name)},
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        made = {"object": "chat.completion", "created": 0, "model": "m", "usage": usage}
        text = json.dumps({"id": name, "choices": [choice], **made}).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
        with self.lock:
            self.answered.append(name)


def answer(body, name):
    prompt = body["messages"][-1]["content"]
    if "gain inspiration" in prompt:
        words = " ".join(re.findall(r"\w+", hashlib.sha256(prompt.encode()).hexdigest() * 2))
        digits = [int(digit) for digit in name if digit.isdigit()][:4] or [1]
        problem = f"Add the digits {digits} to a number, which is known as {words}, and return it."
        code = f"def add_{name}(number):\n" + "".join(f"    number += {d}\n" for d in digits)
        return (
            f"[Problem Description]\n{problem}\n\n"
            f"[Solution]\n```python\n{code}    return number\n```"
        )
    called = re.search(r"add_\w+", prompt)
    if "You write tests" in prompt and called:
        return f"```python\nassert {called[0]}(0) < 99\nassert {called[0]}(1) > {called[0]}(0)\n```"
    return f"```python\ndef {called[0] if called else 'f'}(number):\n    return number\n```"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"""
output: {tmp_path / "run"}
seeds:
  sources: ["dir:{ROOT / "magicoder"}", "dir:{ROOT / "training"}", "dir:{ROOT / "tests"}"]
  languages: [python]
  licenses: [any]
  count: {SEEDS}
teacher: {{base_url: "http://127.0.0.1:1/v1", model: m, in_flight: {IN_FLIGHT}, structured: never}}
verify: {{samples: 2, workers: 2}}
clean: {{benchmarks: null}}
report: null
""")
    return path


def start(recipe, url, output):
    arguments = ["--set", f"teacher.base_url={url}", "--set", f"output={output}"]
    return subprocess.Popen(
        [sys.executable, "-m", "magicoder", "data", "run", str(recipe), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def files(folder):
    """Every file of a run whose bytes the recipe decides."""
    names = [path.name for path in folder.iterdir() if path.suffix == ".jsonl"]
    return {name: (folder / name).read_bytes() for name in sorted(names)}


def kept(output):
    """The ids of the answers in a store."""
    store = output / "answers.sqlite"
    if not store.exists():
        return set()
    database = sqlite3.connect(store)
    try:
        rows = database.execute("SELECT body FROM answer").fetchall()
    except sqlite3.OperationalError:  # killed before the table was made
        rows = []
    database.close()
    return {json.loads(body)["id"] for (body,) in rows}


@pytest.mark.slow
def test_ten_kills(recipe, tmp_path, faulty_server, needs):
    needs("bwrap")
    undisturbed = Teacher()
    server = faulty_server(undisturbed)
    finish(start(recipe, server.base_url, tmp_path / "calm"))
    assert len(undisturbed.answered) == len(set(undisturbed.answered)) > 2 * SEEDS

    killed = Teacher()
    server = faulty_server(killed)
    output = tmp_path / "killed"
    dice = random.Random(7)
    kills = 0
    while kills < KILLS:
        before = len(killed.answered)
        enough = before + dice.randrange(len(undisturbed.answered) // KILLS)
        process = start(recipe, server.base_url, output)
        while process.poll() is None and len(killed.answered) < enough:
            time.sleep(0.005)
        time.sleep(dice.random() * 0.3)
        if process.poll() is not None:  # done before its time: what is left is the last run
            break
        process.kill()
        process.communicate()
        kills += 1
        time.sleep(0.1)  # what the server was writing is over
        killed.kept = kept(output)
        assert len(killed.kept) <= len(set(killed.answered))
    assert kills == KILLS
    finish(start(recipe, server.base_url, output))

    assert files(output) == files(tmp_path / "calm")
    assert killed.asked_again == []
    assert set(killed.answered) == set(undisturbed.answered)
    twice = len(killed.answered) - len(set(killed.answered))
    assert twice <= KILLS * IN_FLIGHT  # those in flight when it was killed, and no others
    assert not list(output.glob("*.part"))


@pytest.mark.slow
def test_an_unchanged_recipe_keeps_everything_and_a_changed_one_what_it_can(
    recipe, tmp_path, faulty_server, needs
):
    needs("bwrap")
    teacher = Teacher()
    server = faulty_server(teacher)
    output = tmp_path / "run"
    finish(start(recipe, server.base_url, output))
    first, paid = files(output), len(teacher.answered)
    stamps = {path.name: path.stat().st_mtime_ns for path in output.glob("*.jsonl")}
    finish(start(recipe, server.base_url, output))
    assert {path.name: path.stat().st_mtime_ns for path in output.glob("*.jsonl")} == stamps
    shutil.rmtree(output / "x", ignore_errors=True)
    (output / "generate.jsonl").unlink()
    finish(start(recipe, server.base_url, output))
    assert files(output) == first
    assert len(teacher.answered) == paid
    funnel = runner.funnel_of(output / "generate.jsonl")
    assert funnel.account["from_store"] == SEEDS
    assert funnel.account["requests"] == 0
