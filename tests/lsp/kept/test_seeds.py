"""Code that stayed becomes documents that `magicoder data` reads; secrets do not."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from magicoder.lsp.context.exclusion import Exclusions
from magicoder.lsp.documents import Edit
from magicoder.lsp.kept.log import Log
from magicoder.lsp.kept.seeds import MAX_LINES, Seeds
from magicoder.training.data import runner
from magicoder.training.data import seeds as data
from magicoder.training.data.records import Seed

from .conftest import Editor, Timers, opened

FUNCTION = "def area(w, h):\n    return w * h\n"


class Workspace:
    """A folder `shapes` with a licence; what is accepted in its file a.py."""

    def __init__(self, tmp_path: Path, name: str = "shapes/src/a.py", language: str = "python"):
        self.root, self.file = tmp_path / "shapes", tmp_path / "data" / "seeds.jsonl"
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        timers, kept = Timers(), tmp_path / "kept.jsonl"
        seeds = Seeds([self.root], Exclusions([self.root], []), self.file)
        log = Log(kept, timers=timers, seeds=seeds)
        self.editor = Editor(log, timers, kept, opened("", path.as_uri(), language), [])

    def accept(self, text: str, *, before: str = "", after: str = "") -> None:
        self.editor.insert(0, before + after)
        self.editor.show(len(before), text)
        self.editor.accept(len(before), text)

    def seeds(self) -> list[dict[str, Any]]:
        self.editor.timers.wait(600)
        self.editor.log.close()
        return [json.loads(line) for line in self.file.open()] if self.file.exists() else []


def test_what_was_kept(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    licence = (Path(__file__).parents[3] / "LICENSE").read_text()
    (work.root / "LICENSE").write_text(licence)
    work.accept("return w * h", before="x = 1\ndef area(w, h):\n    ", after="\n\ny = 2\n")
    assert work.seeds() == [
        {
            "origin": "dir:shapes",
            "path": "src/a.py",
            "language": "python",
            "license": "Apache-2.0",
            "fate": "kept",
            "text": "    return w * h\n",
        }
    ]
    assert stat.S_IMODE(work.file.stat().st_mode) == 0o600


def test_a_file_that_is_ignored_by_now_gives_none(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.accept(FUNCTION)
    (work.root / ".gitignore").write_text("src/\n")
    assert work.seeds() == []


def test_a_private_key_written_since_keeps_its_file_back(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.accept(FUNCTION)
    work.editor.insert(len(FUNCTION), "# -----BEGIN PRIVATE KEY-----\n")
    assert work.seeds() == []


def test_what_was_rewritten_is_as_the_user_left_it(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.accept(FUNCTION)
    at = FUNCTION.index("w * h")
    work.editor.edit(at, at + 1, "abs(w)")
    (seed,) = work.seeds()
    assert (seed["fate"], seed["license"]) == ("rewritten", "")
    assert seed["text"] == FUNCTION.replace("w * h", "abs(w) * h")


def test_a_header_tells_the_licence(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.accept("x = 1", before="# SPDX-License-Identifier: MIT\n")
    assert [(seed["license"], seed["text"]) for seed in work.seeds()] == [("MIT", "x = 1")]


def test_secrets_are_removed(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    secret = "AKIA" + "IOSFODNN7EXAMPLE"
    work.accept("key", before=f"mail = 'jane@uni-koeln.de'; token = '{secret}'; ")
    (seed,) = work.seeds()
    assert seed["text"] == "mail = '<EMAIL>'; token = '<KEY>'; key"
    assert secret not in work.file.read_text()


def test_outside_the_workspace_the_folder_is_the_origin(tmp_path: Path) -> None:
    work = Workspace(tmp_path, "elsewhere/b.py")
    work.accept("x = 1")
    assert [(s["origin"], s["path"]) for s in work.seeds()] == [("dir:elsewhere", "b.py")]


def test_line_ends_are_plain(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.accept("a = 1\r\nb = 2\r\n")
    assert [seed["text"] for seed in work.seeds()] == ["a = 1\nb = 2\n"]


@pytest.mark.parametrize("undone", ["deleted", "replaced", "never accepted", "closed", "huge"])
def test_what_did_not_stay_is_no_seed(tmp_path: Path, undone: str) -> None:
    work = Workspace(tmp_path)
    if undone == "never accepted":
        work.editor.show(0, FUNCTION)
        work.editor.insert(0, "pass\n")
    else:
        work.accept(FUNCTION * (MAX_LINES if undone == "huge" else 1))
    if undone == "deleted":
        work.editor.edit(0, len(FUNCTION), "")
    elif undone == "replaced":
        work.editor.edit(0, len(FUNCTION), "@#$")
    elif undone == "closed":
        work.editor.timers.wait(599)
        work.editor.log.closed(work.editor.document)
    assert work.seeds() == []


def test_only_languages_that_data_knows(tmp_path: Path) -> None:
    work = Workspace(tmp_path, "shapes/notes.txt", "plaintext")
    work.accept("one two three")
    assert work.seeds() == []


def test_without_the_second_consent_nothing_is_kept(tmp_path: Path) -> None:
    editor = Editor(Log(tmp_path / "k", timers=Timers()), Timers(), tmp_path / "k", opened(""), [])
    editor.show(0, FUNCTION)
    editor.document.apply(Edit(0, 0, FUNCTION))
    editor.end()
    assert list(tmp_path.iterdir()) == [tmp_path / "k"]


def test_a_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = Workspace(tmp_path)
    work.file.mkdir(parents=True)
    work.accept(FUNCTION)
    work.editor.timers.wait(600)
    work.editor.log.close()
    assert "no seed was kept" in caplog.text
    assert len(work.editor.records()) == 1, "the log goes on"


def test_magicoder_data_reads_them(tmp_path: Path) -> None:
    """The seeds step takes them as documents: licences, duplicates and secrets are its own work."""
    work = Workspace(tmp_path)
    work.accept(FUNCTION, before="# SPDX-License-Identifier: MIT\n")
    work.editor.timers.wait(600)
    work.editor.document = opened("", (work.root / "src" / "b.py").as_uri())
    work.editor.accepted = []
    work.accept(FUNCTION)
    assert len(work.seeds()) == 2
    config = data.Seeds(sources=(f"jsonl:{work.file}",), licenses=("any",))
    funnel = runner.run(data.step(config), tmp_path / "out.jsonl")
    (seed,) = (Seed.model_validate_json(line) for line in (tmp_path / "out.jsonl").open())
    assert (seed.origin, seed.path, seed.license) == ("dir:shapes", "src/a.py", "MIT")
    assert seed.code.strip() in FUNCTION
    distinct = next(counts for counts in funnel.stages if counts.stage == "distinct")
    assert distinct.rejected == {"exact duplicate": 1}
