"""The instruct tools on the real server with the embedded model, which is weak: form, not worth."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from lsprotocol import types

from magicoder.lsp import server as language_server
from magicoder.lsp.instruct import problem
from tests.lsp.conftest import Editor, make_client
from tests.lsp.test_commands import Desk

pytestmark = pytest.mark.e2e

CODE = """\
import statistics


def middle(numbers):
    ordered = sorted(numbers)
    return statistics.median(ordered)


def total(numbers):
    # TODO: add them up
    pass
"""


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any) -> AsyncIterator[Desk]:
    """An editor in which the file a.py is open."""
    for name in ("MAGICODER_CACHE_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    listening = await asyncio.start_server(language_server._session, "127.0.0.1", 0)
    client = make_client()
    await client.start_tcp(*listening.sockets[0].getsockname()[:2])
    found = Desk(Editor(client))
    await found.start(server)
    path = tmp_path / "w" / "a.py"
    path.parent.mkdir()
    path.write_text(CODE)
    found.open(CODE, path.as_uri())
    yield found
    await client.shutdown_session()
    await client.stop()
    listening.close()


def uri(desk: Desk) -> str:
    return next(iter(desk.texts))


def lines(first: int, last: int) -> types.Range:
    return types.Range(types.Position(first, 0), types.Position(last + 1, 0))


async def test_code_becomes_a_problem_that_is_verified_and_kept(
    desk: Desk, tmp_path: Path, needs: Callable[..., None]
) -> None:
    needs("bwrap")
    assert await desk.run("createProblem", uri(desk), lines(3, 5))
    [path] = desk.shown
    written = problem.read(desk.text(path))
    assert written.made.seed
    assert (written.made.seed["path"], written.made.seed["line"]) == ("a.py", 4)
    assert written.code(), "a weak model is held to a code block"
    verified = await desk.run("verifyProblem", path.as_uri())
    assert verified["message"].startswith("the solution ")
    assert await desk.run("addToDataset", path.as_uri()) is True
    [row] = [json.loads(line) for line in read(tmp_path / "magicoder" / "problems.jsonl")]
    assert (row["problem"], row["solution"]) == (written.problem, written.solution)


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def test_code_is_explained_in_words(desk: Desk) -> None:
    said = await desk.run("explain", uri(desk), lines(3, 5))
    [path] = desk.shown
    assert desk.text(path) == f"# a.py, lines 4 to 6\n\n{said}\n"
    assert len(said.split()) > 5
    assert desk.messages == []


async def test_a_todo_is_solved_after_a_question(desk: Desk) -> None:
    solved = await desk.run("solve", uri(desk), lines(8, 10))
    assert desk.messages == []
    [question] = desk.questions
    assert question.startswith("Solve in a.py: ")
    assert solved
    assert desk.texts[uri(desk)].source.startswith("import statistics\n\n\ndef middle")
    assert solved in desk.texts[uri(desk)].source


async def test_tests_are_written_beside_the_file(desk: Desk) -> None:
    tests = await desk.run("writeTests", uri(desk), lines(3, 5))
    [path] = desk.shown
    assert unquote(urlparse(uri(desk)).path) == str(path.with_name("a.py"))
    assert path.name == "test_a.py"
    assert desk.text(path) == tests
    assert tests.strip()
