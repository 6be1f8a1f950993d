"""The log of a real language server, driven by an editor."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lsprotocol import types

from magicoder.lsp.kept import records

if TYPE_CHECKING:
    from ..conftest import Editor, Endpoint


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "state" / "magicoder" / "lsp"


@pytest.fixture
async def ours(editor: "Editor", monkeypatch: pytest.MonkeyPatch) -> "Editor":
    """The editor, which these tests shut down by themselves."""
    ended = editor.client.shutdown_session

    async def once() -> None:
        monkeypatch.setattr(editor.client, "shutdown_session", editor.client.stop)
        await ended()

    monkeypatch.setattr(editor.client, "shutdown_session", once)
    return editor


async def accepted(editor: "Editor", endpoint: "Endpoint", **options: object) -> None:
    """Ghost text is shown and put in."""
    endpoint.behave = endpoint.says("compute(1)\n")
    await editor.initialize({"base_url": endpoint.base_url, **options})
    editor.open("def compute(n):\n    return n\n\n\nx = \n")
    (text,) = await editor.complete(4, 4)
    position = types.Position(4, 4)
    editor.change(types.Range(position, position), text)


async def test_a_session_is_written_down(ours: "Editor", endpoint: "Endpoint", state: Path) -> None:
    await accepted(ours, endpoint, keep_log=True)
    await ours.client.shutdown_session()
    (record,) = records.read(state / "kept.jsonl")[0]
    assert (record.accepted, record.language, record.model) == ("whole", "python", "m")
    assert (record.lines, record.characters) == (1, len("compute(1)"))
    assert record.latency_ms > 0
    assert record.survival == records.Survival()


async def test_nothing_is_kept_unasked(
    ours: "Editor", endpoint: "Endpoint", state: Path, tmp_path: Path
) -> None:
    await accepted(ours, endpoint)
    await ours.client.shutdown_session()
    assert not (state / "kept.jsonl").exists()
    assert not (tmp_path / "data").exists()


async def test_an_editor_that_goes_without_a_word(
    ours: "Editor", endpoint: "Endpoint", state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(ours, endpoint, keep_log=True)
    await ours.complete(0, 0)  # what came before has arrived
    monkeypatch.setattr(ours.client, "shutdown_session", ours.client.stop)
    server = ours.client._server
    assert server is not None
    assert server.stdin is not None
    server.stdin.close()
    await server.wait()
    assert [record.accepted for record in records.read(state / "kept.jsonl")[0]] == ["whole"]
