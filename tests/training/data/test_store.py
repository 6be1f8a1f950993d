"""The store under a kill, and shared by threads and processes."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from magicoder.errors import UsageError
from magicoder.training.data.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "below" / "answers.sqlite")
    yield store
    store.close()


def test_an_answer_is_found_again_unless_it_was_cut_at_fewer_tokens(store):
    assert store.get("a", 10) is None
    store.put("a", "whole", max_tokens=10, cut=False)
    store.put("b", "part", max_tokens=10, cut=True)
    assert [store.get("a", limit) for limit in (5, 10, 1000)] == ["whole"] * 3
    assert [store.get("b", limit) for limit in (5, 10, 11)] == ["part", "part", None]


def test_a_later_answer_replaces_only_one_that_was_cut_sooner(store):
    store.put("a", "part", max_tokens=10, cut=True)
    store.put("a", "less", max_tokens=5, cut=True)
    assert store.get("a", 10) == "part"
    store.put("a", "more", max_tokens=20, cut=True)
    assert store.get("a", 20) == "more"
    store.put("a", "whole", max_tokens=30, cut=False)
    store.put("a", "other", max_tokens=40, cut=False)
    assert store.get("a", 100) == "whole"


def test_verdicts_are_kept_apart_from_answers(store):
    store.keep_verdict("a", "{}")
    assert (store.verdict("a"), store.get("a", 1), store.verdict("b")) == ("{}", None, None)
    store.keep_verdict("a", "[]")
    assert store.verdict("a") == "[]"


def test_threads_share_a_store(store):
    def work(number):
        store.put(f"{number}", f"answer {number}", max_tokens=1, cut=False)
        store.keep_verdict(f"{number}", f"{number}")
        return store.get(f"{number}", 1), store.verdict(f"{number}")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(400)))
    assert found == [(f"answer {number}", f"{number}") for number in range(400)]


WRITER = """
import sys
from pathlib import Path
from magicoder.training.data.store import Store
store, first, last = Store(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
for number in range(first, last):
    store.put(f"{number}", f"answer {number}" * 50, max_tokens=1, cut=False)
    print(number, flush=True)
"""


def writer(path, first, last):
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_the_store_whole_with_all_that_it_put(tmp_path):
    path = tmp_path / "answers.sqlite"
    child = writer(path, 0, 10**9)
    for line in child.stdout:
        if int(line) >= 300:
            break
    child.send_signal(signal.SIGKILL)
    put = [int(line) for line in child.stdout.read().split("\n")[:-1]] or [300]
    child.wait()
    store = Store(path)
    for number in range(max(put) + 1):
        assert store.get(f"{number}", 1) == f"answer {number}" * 50
    assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.put("new", "x", max_tokens=1, cut=False)
    store.close()


def test_what_is_no_store_is_one_line(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_text("notes of mine\n" * 99)
    with pytest.raises(UsageError, match="cannot keep answers"):
        Store(path)
    assert path.read_text() == "notes of mine\n" * 99
    with pytest.raises(UsageError, match="cannot keep answers"):
        Store(path / "below.sqlite")


def test_processes_share_a_store(tmp_path):
    path = tmp_path / "answers.sqlite"
    children = [writer(path, first, first + 300) for first in (0, 300)]
    for child in children:
        child.communicate(timeout=120)
        assert child.returncode == 0
    store = Store(path)
    assert all(store.get(f"{number}", 1) for number in range(600))
    store.close()
