"""Pushing: what arrives loads with datasets, holds every field, and is whole or not there."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data import push
from magicoder.training.data.push import Push
from magicoder.training.data.records import Evolution, Sample, Seed, Verification

FULL = Sample(
    problem="Sort.",
    solution="```python\nsorted([])\n```",
    language="python",
    tests="assert True",
    style="oss-instruct",
    teacher="t",
    structured=True,
    seed=Seed(
        origin="pypi:a", version="1", path="a.py", language="python", license="MIT", code="x"
    ),
    evolution=Evolution(round=1, heuristic="deepen", parent="00"),
    verification=Verification(
        level="passed",
        passed=2,
        total=2,
        difficulty=0.25,
        tests_can_fail=True,
        note="",
        tests=("assert 1", "assert 2"),
    ),
)
BARE = Sample(problem="Größe: 日本語", solution="none")


@pytest.fixture
def dataset(tmp_path):
    """Ten bare rows, whose optional columns a guess would get wrong, and then ten full ones."""
    path = tmp_path / "dataset.jsonl"
    rows = [BARE] * 10 + [FULL] * 10
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_pushed_loads(dataset, tmp_path, streaming):
    from datasets import load_dataset

    card = tmp_path / "card.md"
    card.write_text(
        "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: data/train-*.parquet\n---\n# Card\n"
    )
    where = push.push(Push(to=str(tmp_path / "out"), card=card, row_group=3), dataset)
    assert where == str(tmp_path / "out")
    cache = str(tmp_path / "cache")
    rows = list(load_dataset(where, split="train", streaming=streaming, cache_dir=cache))
    assert [Sample.model_validate(row) for row in rows] == [BARE] * 10 + [FULL] * 10
    assert rows[-1]["seed"]["hash"] == FULL.seed.hash
    assert (tmp_path / "out/README.md").read_text() == card.read_text()


def test_the_columns_are_the_same_whatever_the_rows_hold(dataset, tmp_path):
    bare = tmp_path / "bare.jsonl"
    bare.write_text(BARE.model_dump_json() + "\n", encoding="utf-8")
    for source, name in ((dataset, "a"), (bare, "b")):
        push.push(Push(to=str(tmp_path / name)), source)
    file = "data/train-00000-of-00001.parquet"
    schemas = [pq.read_schema(tmp_path / name / file) for name in "ab"]
    assert schemas[0] == schemas[1]
    assert schemas[0].names == list(Sample.model_fields)
    seed = schemas[0].field("seed").type
    assert str(seed.field("line").type) == "int64"
    assert str(schemas[0].field("verification").type.field("tests").type) == "list<element: string>"
    assert {field.name for field in seed} == {*Seed.model_fields, "hash"}


def test_files_are_cut_by_size_and_numbered(dataset, tmp_path):
    push.push(Push(to=str(tmp_path / "out"), file_bytes=1, row_group=6), dataset)
    files = sorted(path.name for path in (tmp_path / "out/data").iterdir())
    assert files == [f"train-{number:05}-of-00004.parquet" for number in range(4)]
    counts = [pq.read_metadata(tmp_path / "out/data" / name).num_rows for name in files]
    assert counts == [6, 6, 6, 2]


def test_the_same_rows_give_the_same_bytes(dataset, tmp_path):
    for name in "ab":
        push.push(Push(to=str(tmp_path / name)), dataset)
    file = "data/train-00000-of-00001.parquet"
    assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_folder_of_another_s_is_left_alone(dataset, tmp_path):
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "README.md").write_text("docs")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for target in (out, tmp_path / "link"):
        with pytest.raises(UsageError, match="holds something else"):
            push.push(Push(to=str(target)), dataset)
    assert (out / "README.md").read_text() == "docs"


def test_an_earlier_push_is_replaced_and_nothing_else(dataset, tmp_path):
    out = tmp_path / "out"
    push.push(Push(to=str(out), file_bytes=1, row_group=6), dataset)
    push.push(Push(to=str(out)), dataset)
    assert [path.name for path in (out / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        push.push(Push(to=str(out)), dataset)
    assert (out / "thesis.tex").read_text() == "years of work"


def test_a_push_that_fails_leaves_what_was_there(dataset, tmp_path):
    out = tmp_path / "out"
    push.push(Push(to=str(out)), dataset)
    before = (out / "data/train-00000-of-00001.parquet").read_bytes()
    with dataset.open("a") as file:
        file.write('{"problem": 3}\n')
    with pytest.raises(UsageError, match=r"dataset\.jsonl:21"):
        push.push(Push(to=str(out), row_group=5), dataset)
    assert (out / "data/train-00000-of-00001.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.jsonl", "out"]


def test_an_empty_dataset_and_a_missing_card_are_told(dataset, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(UsageError, match="no samples"):
        push.push(Push(to=str(tmp_path / "out")), empty)
    with pytest.raises(UsageError, match="magicoder data report"):
        push.push(Push(to=str(tmp_path / "out"), card=tmp_path / "no.md"), dataset)
    assert not (tmp_path / "out").exists()


class Hub(BaseHTTPRequestHandler):
    """The hub's part in one commit, as far as its client asks for it."""

    status = 200
    seen: list[tuple[str, bytes]]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body))
        assert self.headers["Authorization"] == "Bearer hf_test"
        if self.path.endswith("/repos/create"):
            found = {"url": "http://127.0.0.1/datasets/me/mine"}
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            found = {
                "files": [
                    {**file, "uploadMode": "regular", "shouldIgnore": False} for file in files
                ]
            }
        else:
            url = f"http://{self.headers['Host']}/datasets/me/mine/commit/{'1' * 40}"
            found = {"commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""}
        self._send(found)

    def do_GET(self):
        old = {"rfilename": "data/train-00000-of-00009.parquet"}
        self._send(
            {"id": "me/mine", "sha": "0" * 40, "siblings": [old]}
            if "tree" not in self.path
            else [{"type": "file", "path": old["rfilename"], "size": 1, "oid": "2" * 40}]
        )

    def _send(self, found):
        data = json.dumps(found).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine, and a token for it."""
    from huggingface_hub import constants

    handler = type("OneHub", (Hub,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield handler
    server.shutdown()
    server.server_close()


def test_the_hub_gets_the_files_in_place_of_older_ones(dataset, tmp_path, hub):
    where = push.push(Push(to="hf:me/mine", private=True), dataset)
    assert where.endswith("/datasets/me/mine")
    (created,) = [json.loads(body) for path, body in hub.seen if path.endswith("/repos/create")]
    assert created["visibility"] == "private"
    assert created["type"] == "dataset"
    (commit,) = [body for path, body in hub.seen if "/commit/" in path]
    rows = [json.loads(line) for line in commit.splitlines()]
    files = {row["value"]["path"]: row["value"] for row in rows if row["key"] == "file"}
    (name,) = files
    assert name == "data/train-00000-of-00001.parquet"
    push.push(Push(to=str(tmp_path / "out")), dataset)
    assert base64.b64decode(files[name]["content"]) == (tmp_path / "out" / name).read_bytes()
    gone = [row["value"]["path"] for row in rows if row["key"] == "deletedFile"]
    assert gone == ["data/train-00000-of-00009.parquet"]


def test_a_hub_that_refuses_is_told_in_one_line(dataset, hub):
    hub.status = 403
    with pytest.raises(MagicoderError, match="the hub did not take me/mine") as caught:
        push.push(Push(to="hf:me/mine"), dataset)
    assert "\n" not in str(caught.value)


def test_a_name_that_the_hub_cannot_take(dataset, hub):
    with pytest.raises(UsageError, match="hf:USER/NAME"):
        push.push(Push(to="hf:me/too/many"), dataset)


def test_without_a_token_the_error_names_the_mend(dataset, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(MagicoderError, match="hf auth login"):
        push.push(Push(to="hf:me/mine"), dataset)


def test_the_command(dataset, tmp_path):
    from magicoder.cli.data.push import push as command

    out = tmp_path / "out"
    result = CliRunner().invoke(command, [str(dataset), str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(out)
    assert (out / "data/train-00000-of-00001.parquet").is_file()
