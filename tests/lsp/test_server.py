"""The protocol, through pytest-lsp, against a real `magicoder lsp` process."""

import asyncio
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from magicoder.cli import cli
from magicoder.errors import MagicoderError

UNITS: dict[types.PositionEncodingKind | None, Callable[[str], int]] = {
    types.PositionEncodingKind.Utf8: lambda text: len(text.encode()),
    types.PositionEncodingKind.Utf16: lambda text: len(text.encode("utf-16-le")) // 2,
    types.PositionEncodingKind.Utf32: len,
    None: lambda text: len(text.encode("utf-16-le")) // 2,
}
"""How many units a text has in each position encoding; none agreed on means utf-16."""

FUNCTION = (
    "import os\n\n\n@cached\ndef add(a, b):\n    c = a\n    return c + b\n\n\nx = add(1, 2)\n"
)


def position(text: str, encoding: types.PositionEncodingKind | None) -> types.Position:
    """Where `text` ends, counted here as the specification says."""
    lines = re.split("\r\n|\r|\n", text)
    return types.Position(len(lines) - 1, UNITS[encoding](lines[-1]))


@pytest.mark.parametrize("encoding", UNITS)
async def test_positions_are_counted_as_agreed(
    editor: Any, endpoint: Any, encoding: types.PositionEncodingKind | None
) -> None:
    await editor.initialize({"base_url": endpoint.base_url}, encodings=encoding and [encoding])
    agreed = encoding or types.PositionEncodingKind.Utf16
    assert editor.capabilities.position_encoding == agreed
    assert editor.capabilities.inline_completion_provider is not None
    endpoint.fim = "psm"
    before, after = 's = "漢字"\n# 😀é\u2028\f🧑‍💻 x', ' 😀"\n'
    editor.open(before + after)
    at = position(before, encoding)
    assert await editor.complete(at.line, at.character) == ["1"]
    assert endpoint.requests[-1]["prompt"] == before
    assert endpoint.requests[-1]["suffix"] == after
    assert endpoint.requests[-1]["stop"] == ["\n"]


@pytest.mark.parametrize("encoding", [e for e in UNITS if e])
async def test_random_edits_leave_the_editors_text(
    editor: Any, endpoint: Any, encoding: types.PositionEncodingKind
) -> None:
    endpoint.fim = "psm"
    await editor.initialize({"base_url": endpoint.base_url}, encodings=[encoding])
    chance = random.Random(7)
    alphabet = ["a", "()", "é", "漢字", "😀", "\n", "\r\n", "\n\n", "\f", "\u2028", "\x85", "\t"]
    text = "start 😀\r\n漢字\n"
    editor.open(text)

    def places() -> list[int]:
        """Where a cursor can stand: between characters, but not inside a line's end."""
        return [i for i in range(1, len(text) + 1) if text[i - 1 : i + 1] != "\r\n"]

    for turn in range(300):
        start, end = sorted(chance.choices(places(), k=2))
        end = min(end, start + 8) if min(end, start + 8) in places() else start
        new = "".join(chance.choices(alphabet, k=chance.randrange(4)))
        if text[:start].endswith("\r") and (new + text[end:]).startswith("\n"):
            continue  # it would move a position while it is told
        edit = types.Range(position(text[:start], encoding), position(text[:end], encoding))
        editor.change(edit, new)
        text = text[:start] + new + text[end:]
        if turn % 20 == 0:
            place = chance.choice(places())
            at = position(text[:place], encoding)
            asked = len(endpoint.requests)
            await editor.complete(at.line, at.character)
            seen = endpoint.requests[asked]
            sides = text[:place], text[place:]
            assert (seen["prompt"], seen["suffix"]) == tuple(
                side.replace("\r\n", "\n").replace("\r", "\n") for side in sides
            )


async def test_positions_outside_the_text_are_clamped(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    editor.open("ab\ncd")
    for place, prompt in {(1, 99): "ab\ncd", (9, 0): "ab\ncd", (0, 99): "ab"}.items():
        await editor.complete(*place)
        assert endpoint.requests[-1]["prompt"] == prompt


async def test_the_model_decides_between_infilling_and_continuing(
    editor: Any, endpoint: Any
) -> None:
    await editor.initialize({"base_url": endpoint.base_url, "max_tokens": 20})
    editor.open("def f():\n    return \n")
    assert await editor.complete(1, 11) == ["1"]
    assert "suffix" not in endpoint.requests[-1]
    assert endpoint.requests[-1]["prompt"] == "def f():\n    return"
    assert endpoint.requests[-1]["max_tokens"] == 20
    endpoint.behave, endpoint.fim = endpoint.sends(500, "{}"), "psm"
    assert await editor.complete(1, 11) == []
    endpoint.behave = endpoint.says("1")
    assert await editor.complete(1, 11) == ["1"], "after an error the model is asked for again"
    assert endpoint.requests[-1]["suffix"] == "\n"


async def test_a_decided_completion_ends_its_request(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.hangs("a", " + b\n", "\n# Te")
    editor.open("def f(a, b):\n    return ")
    assert await editor.complete(1, 11) == ["a + b"]
    await endpoint.closed.wait()


@pytest.mark.parametrize("begun", [(), ("some ",)])
async def test_a_newer_request_replaces_the_older_one(
    editor: Any, endpoint: Any, begun: tuple[str, ...]
) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.hangs(*begun)
    editor.open("x = ")
    older = asyncio.create_task(editor.complete(0, 4))
    await endpoint.asked.wait()
    endpoint.behave = endpoint.says("2")
    assert await editor.complete(0, 4) == ["2"]
    assert await older == []
    await endpoint.closed.wait()


async def test_documents_do_not_replace_each_others_requests(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    gate = asyncio.Event()
    says = endpoint.says("1")

    async def behave(server: Any, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await says(server, writer)

    endpoint.behave = behave
    editor.open("x = ")
    editor.open("y = ", "file:///w/b.py")
    first = asyncio.create_task(editor.complete(0, 4))
    await endpoint.asked.wait()
    endpoint.asked.clear()
    second = asyncio.create_task(editor.complete(0, 4, "file:///w/b.py"))
    await endpoint.asked.wait()
    gate.set()
    assert [await first, await second] == [["1"], ["1"]]


async def test_a_cancelled_request_is_answered_and_closed(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.hangs()
    editor.open("x = ")
    params = types.InlineCompletionParams(
        types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
        types.TextDocumentIdentifier("file:///w/a.py"),
        types.Position(0, 4),
    )
    request = editor.client.protocol.send_request_async
    answer = asyncio.create_task(
        request(types.TEXT_DOCUMENT_INLINE_COMPLETION, params, msg_id="it")
    )
    await endpoint.asked.wait()
    editor.client.cancel_request(types.CancelParams("it"))
    with pytest.raises(JsonRpcException) as error:
        await answer
    assert error.value.code == types.LSPErrorCodes.RequestCancelled.value
    await endpoint.closed.wait()


async def test_one_word_for_each_outage(editor: Any, endpoint: Any) -> None:
    await endpoint.stop()
    await editor.initialize({"base_url": endpoint.base_url})
    editor.open("x = ")
    for _ in range(3):
        assert await editor.complete(0, 4) == []
    mend = f"no server at {endpoint.base_url}: start one with `magicoder serve`"
    assert [message[: len(mend)] for message in editor.messages] == [mend]
    await endpoint.start()
    assert await editor.complete(0, 4) == ["1"]
    await endpoint.stop()
    for _ in range(3):
        assert await editor.complete(0, 4) == []
    assert [message[: len(mend)] for message in editor.messages] == [mend, mend]


FAULTS = {
    "error": lambda server: server.sends(500, json.dumps({"error": {"message": "broken"}})),
    "overloaded": lambda server: server.sends(503, "no"),
    "cut": lambda server: server.breaks_off("a", "b"),
    "not json": lambda server: server.sends(200, "data: {nonsense\n\n", "event-stream"),
    "an error inside": lambda server: server.sends(
        200, 'data: {"error": {"message": "broken"}}\n\n', "event-stream"
    ),
}


async def test_a_faulty_server_is_told_once_and_recovered_from(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    editor.open("x = ")
    for number, (name, fault) in enumerate(FAULTS.items(), 1):
        endpoint.behave = fault(endpoint)
        for _ in range(2):
            assert await editor.complete(0, 4) == [], name
        endpoint.behave = endpoint.says("1")
        assert await editor.complete(0, 4) == ["1"], name
        assert len(editor.messages) == number, (name, editor.messages)
        assert "\n" not in editor.messages[-1]


@pytest.mark.parametrize("begun", [(), ("a",)])
async def test_a_server_that_stalls_is_told(
    editor: Any, endpoint: Any, begun: tuple[str, ...]
) -> None:
    await editor.initialize({"base_url": endpoint.base_url, "timeout": 2})
    editor.open("x = ")
    endpoint.behave = endpoint.hangs(*begun)
    assert await editor.complete(0, 4) == []
    [message] = editor.messages
    assert message.startswith(f"{endpoint.base_url} did not answer within 2 s")
    endpoint.behave = endpoint.says("1")
    assert await editor.complete(0, 4) == ["1"]


async def test_a_hanging_server_blocks_nothing_else(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.hangs()
    editor.open(FUNCTION)
    waiting = asyncio.create_task(editor.complete(9, 4))
    await endpoint.asked.wait()
    assert await editor.actions((5, 0, 5, 0))
    assert not waiting.done()
    waiting.cancel()


async def test_a_bad_setting_is_named_once_and_asks_no_server(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url, "timeout": -1})
    editor.open(FUNCTION)
    for _ in range(2):
        assert await editor.complete(9, 4) == []
    [message] = editor.messages
    assert message.startswith("setting 'timeout'")
    [action] = await editor.actions((5, 6, 5, 6))
    assert await editor.run(action.command) is None
    assert editor.messages[1:] == ["mend the settings first"]
    assert endpoint.requests == []


async def test_changed_settings_are_taken(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"timeout": -1})
    for settings in (None, {}, {"other": 1}, {"magicoder": {"base_url": endpoint.base_url}}):
        editor.client.workspace_did_change_configuration(
            types.DidChangeConfigurationParams(settings)
        )
    editor.open("x = ")
    assert await editor.complete(0, 4) == ["1"]
    assert len(editor.messages) == 1


async def test_an_unopened_file_is_never_read(editor: Any, endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "secret.py"
    path.write_text("key = ")
    await editor.initialize({"base_url": endpoint.base_url})
    assert await editor.complete(0, 6, path.as_uri()) == []
    editor.open("x = ")
    editor.client.text_document_did_close(
        types.DidCloseTextDocumentParams(types.TextDocumentIdentifier("file:///w/a.py"))
    )
    assert await editor.complete(0, 4) == []
    assert endpoint.requests == []


async def test_the_code_action_is_offered_for_code(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    editor.open(FUNCTION)
    [action] = await editor.actions((9, 4, 9, 13))
    assert action.title == "Create a problem from this code"
    uri, chosen = action.command.arguments
    assert (uri, chosen["start"]) == ("file:///w/a.py", {"line": 9, "character": 4})
    [action] = await editor.actions((5, 6, 5, 6))
    assert action.command.arguments[1] == {
        "start": {"line": 3, "character": 0},
        "end": {"line": 7, "character": 0},
    }
    assert await editor.actions((9, 4, 9, 4)) == [], "no function here"
    assert await editor.actions((1, 0, 2, 0)) == [], "nothing but blank lines selected"
    for only, offered in {
        "": 1,
        "refactor": 1,
        "refactor.problem": 1,
        "ref": 0,
        "source": 0,
    }.items():
        assert len(await editor.actions((5, 6, 5, 6), [only])) == offered, only


def answer(problem: str, solution: str) -> list[str]:
    """The model's answer, in two parts."""
    text = f"[Problem Description]\n{problem}\n\n[Solution]\n{solution}"
    return [text[:20], text[20:]]


SHOWS = types.WindowClientCapabilities(
    work_done_progress=True, show_document=types.ShowDocumentClientCapabilities(support=True)
)


def files(folder: Path) -> dict[str, str]:
    return {os.fspath(path): path.read_text() for path in folder.iterdir()}


async def test_a_problem_opens_in_a_new_document(
    editor: Any, endpoint: Any, tmp_path: Path
) -> None:
    await editor.initialize({"base_url": endpoint.base_url}, window=SHOWS)
    endpoint.behave = endpoint.says(*answer("Add numbers 😀.", "def add(a, b): ..."))
    editor.open(FUNCTION)
    [action] = await editor.actions((5, 6, 5, 6))
    markdown = await editor.run(action.command)
    assert markdown == (
        "# Problem Description\n\nAdd numbers 😀.\n\n# Solution\n\ndef add(a, b): ...\n"
    )
    code = "@cached\ndef add(a, b):\n    c = a\n    return c + b"
    assert code in endpoint.requests[-1]["messages"][-1]["content"]
    [shown] = editor.client.shown_documents
    folder = tmp_path / "problems"
    assert files(folder) == {unquote(urlparse(shown.uri).path): markdown}
    [reports] = editor.client.progress_reports.values()
    assert [report.kind for report in reports] == ["begin", "report", "report", "end"]
    assert reports[0].cancellable
    assert editor.messages == []


async def test_an_editor_that_shows_no_documents_gets_the_path(
    editor: Any, endpoint: Any, tmp_path: Path
) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.says(*answer("p", "s"))
    editor.open(FUNCTION)
    [action] = await editor.actions((9, 0, 9, 3))
    assert await editor.run(action.command) == "# Problem Description\n\np\n\n# Solution\n\ns\n"
    [path] = files(tmp_path / "problems")
    assert editor.messages == [f"wrote {path}"]
    assert not editor.client.progress_reports


async def test_creating_a_problem_can_be_cancelled(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url}, window=SHOWS)
    endpoint.behave = endpoint.hangs("[Problem Description]\nAdd")
    editor.open(FUNCTION)
    [action] = await editor.actions((5, 6, 5, 6))
    running = asyncio.create_task(editor.run(action.command))
    await endpoint.asked.wait()
    [token] = editor.client.progress_reports
    editor.client.window_work_done_progress_cancel(types.WorkDoneProgressCancelParams(token))
    assert await running is None
    await endpoint.closed.wait()
    assert editor.client.progress_reports[token][-1].kind == "end"
    assert not editor.client.shown_documents


async def test_a_problem_that_fails_is_told_each_time(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url}, window=SHOWS)
    editor.open(FUNCTION)
    [action] = await editor.actions((5, 6, 5, 6))
    endpoint.behave = endpoint.says("Sorry, I cannot.")
    assert await editor.run(action.command) is None
    await endpoint.stop()
    assert await editor.run(action.command) is None
    lacks, down = editor.messages
    assert lacks.startswith("the model's answer is no problem: ")
    assert "start one with `magicoder serve`" in down


@pytest.mark.parametrize(
    ("told", "code"), [(("shutdown", "exit"), 0), (("exit",), 1), ((), 1)], ids=str
)
def test_it_ends_with_the_editor(told: tuple[str, ...], code: int) -> None:
    numbers = itertools.count()
    messages: list[dict[str, Any]] = [
        {"id": next(numbers), "method": "initialize", "params": {"capabilities": {}}},
        *({"method": name} | ({"id": 1} if name == "shutdown" else {}) for name in told),
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "magicoder", "lsp"],
        input=b"".join(map(frame, messages)),
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (code, b"")


def frame(message: dict[str, Any]) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def test_it_ends_when_the_editor_dies_but_its_pipe_stays_open() -> None:
    dying = subprocess.Popen(["sleep", "60"])
    params = {"capabilities": {}, "processId": dying.pid}
    with subprocess.Popen(
        [sys.executable, "-m", "magicoder", "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin
        assert server.stdout
        server.stdin.write(frame({"id": 1, "method": "initialize", "params": params}))
        server.stdin.flush()
        server.stdout.readline()
        assert server.poll() is None
        dying.kill()
        dying.wait()
        assert server.wait() == 1


def test_nothing_else_reaches_the_editor() -> None:
    noisy = (
        "import os, magicoder.lsp.server as server\n"
        "real = server.build\n"
        "def build():\n"
        "    print('noise', flush=True); os.system('echo noise')\n"
        "    return real()\n"
        "server.build = build\n"
        "server.run()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", noisy],
        input=frame({"id": 1, "method": "initialize", "params": {"capabilities": {}}}),
        capture_output=True,
        check=False,
    )
    assert ended.stdout.startswith(b"Content-Length: ")
    assert b"noise" not in ended.stdout
    assert ended.stderr == b"noise\nnoise\n"


def test_it_starts_without_what_is_heavy() -> None:
    heavy = ("torch", "transformers", "vllm", "openai", "tree_sitter")
    program = f"import sys, magicoder.lsp.server; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout == b"[]\n"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygls", None)
    with pytest.raises(MagicoderError, match=re.escape("pip install 'magicoder[lsp]'")):
        cli.main(["lsp"], standalone_mode=False)


def test_a_log_file_holds_the_conversation(tmp_path: Path) -> None:
    log = tmp_path / "lsp.log"
    subprocess.run(
        [sys.executable, "-m", "magicoder", "lsp", "--log-file", os.fspath(log)],
        input=frame({"id": 1, "method": "initialize", "params": {"capabilities": {}}}),
        stdout=subprocess.DEVNULL,
        check=False,
    )
    assert "inlineCompletionProvider" in log.read_text()
