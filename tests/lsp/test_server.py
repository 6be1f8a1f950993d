"""The protocol, through pytest-lsp, against a real `magicoder lsp` process."""

import asyncio
import itertools
import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from magicoder.cli import cli
from magicoder.errors import MagicoderError

from .conftest import Editor, make_client

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


@pytest.mark.slow
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


@pytest.mark.slow
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
            await editor.complete(at.line, at.character, invoked=True)
            sides = tuple(
                side.replace("\r\n", "\n").replace("\r", "\n")
                for side in (text[:place], text[place:])
            )
            asked_for = [(seen["prompt"], seen["suffix"]) for seen in endpoint.requests[asked:]]
            assert sides in asked_for  # others are what was prepared ahead


@pytest.mark.slow
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
    editor.insert(1, 11, "n + ")
    assert await editor.complete(1, 15) == []
    endpoint.behave = endpoint.says("1")
    assert await editor.complete(1, 15) == ["1"], "after an error the model is asked for again"
    assert endpoint.requests[-1]["suffix"] == "\n"


@pytest.mark.slow
async def test_a_decided_completion_ends_its_request(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.hangs("a", " + b\n", "\n# Test\n", "c")
    editor.open("def f(a, b):\n    return ")
    assert await editor.complete(1, 11) == ["a + b"]
    await endpoint.closed.wait()


@pytest.mark.slow
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
    editor.change(types.Range(types.Position(0, 0), types.Position(0, 1)), "y")
    assert await editor.complete(0, 4) == ["2"]
    assert await older == []
    await endpoint.closed.wait()
    assert endpoint.most == 1


async def test_a_newer_request_takes_over_an_answer_that_agrees(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    gate = asyncio.Event()
    endpoint.behave = endpoint.keeps_on("so", "me", gate=gate)
    editor.open("x = ")
    older = asyncio.create_task(editor.complete(0, 4))
    await endpoint.asked.wait()
    editor.insert(0, 4, "s")
    newer = asyncio.create_task(editor.complete(0, 5))
    assert await older == []
    gate.set()
    assert await newer == ["ome"]
    assert len(endpoint.requests) == 1


@pytest.mark.slow
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
    assert await answer == []
    await endpoint.closed.wait()


@pytest.mark.slow
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
    editor.insert(0, 0, "y = ")
    for _ in range(3):
        assert await editor.complete(0, 8) == []
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


@pytest.mark.slow
async def test_a_faulty_server_is_told_once_and_recovered_from(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    for number, (name, fault) in enumerate(FAULTS.items(), 1):
        uri = f"file:///w/{number}.py"
        editor.open("x = ", uri)
        endpoint.behave = fault(endpoint)
        for _ in range(2):
            assert await editor.complete(0, 4, uri) == [], name
        endpoint.behave = endpoint.says("1")
        assert await editor.complete(0, 4, uri) == ["1"], name
        assert len(editor.messages) == number, (name, editor.messages)
        assert "\n" not in editor.messages[-1]


@pytest.mark.slow
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


@pytest.mark.slow
async def test_a_hanging_server_blocks_nothing_else(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.hangs()
    editor.open(f"{FUNCTION}y = ")
    waiting = asyncio.create_task(editor.complete(10, 4))
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
    action, *_ = await editor.actions((5, 6, 5, 6))
    assert await editor.run(action.command) is None
    assert editor.messages[1:] == ["mend the settings first"]
    assert endpoint.requests == []


@pytest.mark.slow
async def test_changed_settings_are_taken(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"timeout": -1})
    mended = {"timeout": None, "base_url": endpoint.base_url}
    for settings in (None, {}, {"other": 1}, {"magicoder": mended}):
        editor.client.workspace_did_change_configuration(
            types.DidChangeConfigurationParams(settings)
        )
    editor.open("x = ")
    assert await editor.complete(0, 4) == ["1"]
    assert len(editor.messages) == 1


async def test_settings_that_are_not_named_stay(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url, "exclude": ["a.py"]})
    editor.open("x = ")

    def give(settings: Any) -> None:
        editor.client.workspace_did_change_configuration(
            types.DidChangeConfigurationParams({"magicoder": settings})
        )

    for settings in ({"max_tokens": 8}, "no settings", {"max_tokens": 9}):
        give(settings)
        assert await editor.complete(0, 4) == []
    assert endpoint.requests == []
    give({"exclude": None})
    assert await editor.complete(0, 4) == ["1"]
    assert [request["max_tokens"] for request in endpoint.requests] == [9]
    told = "didChangeConfiguration: expected an object of settings under 'magicoder'"
    assert editor.messages == [told]


async def test_a_change_of_a_closed_document_is_left(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    editor.insert(0, 0, "x = ")
    editor.open("x = ")
    assert await editor.complete(0, 4) == ["1"]
    assert editor.messages == []


def test_settings_that_come_while_it_connects_leave_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        messages = [
            {"id": 1, "method": "initialize", "params": {"capabilities": {}}},
            {"method": "initialized", "params": {}},
            *(
                {
                    "method": types.WORKSPACE_DID_CHANGE_CONFIGURATION,
                    "params": {"settings": {"magicoder": {"base_url": url, "max_tokens": tokens}}},
                }
                for tokens in (8, 9)
            ),
            {"id": 2, "method": "shutdown"},
            {"method": "exit"},
        ]
        messages[0]["params"]["initializationOptions"] = {"base_url": url}
        ended = subprocess.run(
            [sys.executable, "-m", "magicoder", "lsp"],
            input=b"".join(map(frame, messages)),
            capture_output=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, b"")


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


async def test_nothing_is_sent_for_an_excluded_file(
    editor: Any, endpoint: Any, tmp_path: Path
) -> None:
    (tmp_path / ".gitignore").write_text("private.py\n")
    await editor.initialize({"base_url": endpoint.base_url}, folders=[tmp_path])
    for name in ("private.py", ".env"):
        uri = (tmp_path / name).as_uri()
        editor.open("def of_the_house(key):\n    return key\n\nx = ", uri)
        for invoked in (False, True):
            assert await editor.complete(3, 4, uri, invoked=invoked) == []
    uri = (tmp_path / "public.py").as_uri()
    editor.open("from private import of_the_house\n\nx = of_the_house()\ny = ", uri)
    assert await editor.complete(3, 4, uri) == ["1"]
    assert "return key" not in json.dumps(endpoint.requests)
    assert len(endpoint.requests) == 1


@pytest.mark.slow
async def test_a_folder_that_comes_later_counts(editor: Any, endpoint: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / ".gitignore").write_text("private.py\n")
    await editor.initialize({"base_url": endpoint.base_url}, folders=[first])
    uri = (second / "private.py").as_uri()
    editor.open("x = ", uri)
    assert await editor.complete(0, 4, uri) == ["1"], "it is in no folder of the workspace"
    event = types.WorkspaceFoldersChangeEvent([types.WorkspaceFolder(second.as_uri(), "")], [])
    editor.client.workspace_did_change_workspace_folders(
        types.DidChangeWorkspaceFoldersParams(event)
    )
    assert await editor.complete(0, 4, uri) == []
    assert len(endpoint.requests) == 1


@pytest.mark.slow
async def test_files_are_watched_where_the_editor_can(
    editor: Any, endpoint: Any, tmp_path: Path
) -> None:
    watching = types.DidChangeWatchedFilesClientCapabilities(dynamic_registration=True)
    asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @editor.client.feature(types.CLIENT_REGISTER_CAPABILITY)
    def register(params: types.RegistrationParams) -> None:
        asked.set_result(params.registrations)

    endpoint.fim = "psm"
    (tmp_path / "shapes.py").write_text("def area_of(width):\n    return width\n")
    await editor.initialize(
        {"base_url": endpoint.base_url},
        folders=[tmp_path],
        workspace=types.WorkspaceClientCapabilities(did_change_watched_files=watching),
    )
    [registration] = await asked
    assert registration.method == types.WORKSPACE_DID_CHANGE_WATCHED_FILES
    made = tmp_path / "colours.py"
    made.write_text("def colour_of(name):\n    return name\n")
    change = types.FileEvent(made.as_uri(), types.FileChangeType.Created)
    editor.client.workspace_did_change_watched_files(types.DidChangeWatchedFilesParams([change]))
    text = "import shapes\nfrom colours import colour_of\n\nx = colour_of("
    for number in range(50):  # it is read in the background
        uri = (tmp_path / f"use{number}.py").as_uri()
        editor.open(text, uri)
        await editor.complete(3, 14, uri)
        if "def colour_of(name)" in endpoint.requests[-1]["prompt"]:
            return
        await asyncio.sleep(0.1)
    pytest.fail(endpoint.requests[-1]["prompt"])


async def test_the_state_is_told_to_editors_that_show_it(editor: Any, endpoint: Any) -> None:
    shows = {"magicoder": {"status": True}}
    await editor.initialize({"base_url": endpoint.base_url}, experimental=shows)
    await editor.reaches("ready")
    editor.open("x = ")
    assert await editor.complete(0, 4) == ["1"]
    await endpoint.stop()
    editor.insert(0, 4, "y + ")
    assert await editor.complete(0, 8) == []
    states = [told["state"] for told in editor.states]
    assert states == ["starting", "ready", "working", "ready", "working", "failed"]
    assert editor.states[1] == {"state": "ready", "model": "m", "message": ""}
    assert editor.states[-1]["message"] == editor.messages[-1]


@pytest.mark.slow
async def test_other_editors_get_no_notification_of_ours(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    editor.open("x = ")
    assert await editor.complete(0, 4) == ["1"]
    assert editor.states == []


@pytest.mark.slow
async def test_a_suggestion_extends_the_menus_selection(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    endpoint.behave = endpoint.says("(1)")
    editor.open("x = '😀' + pr\n")
    span = types.Range(types.Position(0, 11), types.Position(0, 13))
    chosen = types.SelectedCompletionInfo(span, "print")
    assert await editor.complete(0, 13, selected=chosen) == ["print(1)"]
    assert endpoint.requests[-1]["prompt"] == "x = '😀' + print"


@pytest.mark.slow
async def test_who_asks_gets_alternatives(editor: Any, endpoint: Any) -> None:
    await editor.initialize({"base_url": endpoint.base_url})
    answers = itertools.cycle(["one", "two", "three"])

    async def behave(server: Any, writer: asyncio.StreamWriter) -> None:
        await server.says(next(answers))(server, writer)

    endpoint.behave = behave
    editor.open("x = ")
    assert await editor.complete(0, 4, invoked=True) == ["one", "two", "three"]
    assert endpoint.most == 1


@pytest.mark.slow
async def test_each_connection_is_a_session(endpoint: Any, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "magicoder", "lsp", "--tcp", "127.0.0.1:0"]
    server = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, env=environment
    )
    assert server.stderr
    told = (await server.stderr.readline()).decode()
    port = int(told.rpartition(":")[2])
    editors = [Editor(make_client()) for _ in range(2)]
    for number, each in enumerate(editors):
        await each.client.start_tcp("127.0.0.1", port)
        await each.initialize({"base_url": endpoint.base_url, "max_tokens": 10 + number})
        each.open(f"x{number} = ")
    for number, each in enumerate(editors):
        assert await each.complete(0, 5) == ["1"]
        assert endpoint.requests[-1]["prompt"] == f"x{number} ="
        assert endpoint.requests[-1]["max_tokens"] == 10 + number
    await editors[0].client.shutdown_session()
    editors[1].insert(0, 5, "y + ")
    assert await editors[1].complete(0, 9) == ["1"], "the other session goes on"
    await editors[1].client.shutdown_session()
    for each in editors:
        await each.client.stop()
    assert server.returncode is None
    server.terminate()
    await server.wait()


async def opens_slowly(editor: Any, endpoint: Any) -> "asyncio.Task[list[str]]":
    """A request for a document in which somebody types so fast that it waits for the next key."""
    await editor.initialize({"base_url": endpoint.base_url})
    editor.open("x = ")
    for column in range(4, 10):
        editor.insert(0, column, "a")
        await asyncio.sleep(0.1)
    waiting = asyncio.create_task(editor.complete(0, 10))
    await asyncio.sleep(0.02)
    return waiting


@pytest.mark.slow
@pytest.mark.parametrize("reopened", [False, True])
async def test_a_closed_document_is_not_sent(editor: Any, endpoint: Any, reopened: bool) -> None:
    waiting = await opens_slowly(editor, endpoint)
    if reopened:
        editor.open("y = ")  # without a word that the first is closed
    else:
        editor.client.text_document_did_close(
            types.DidCloseTextDocumentParams(types.TextDocumentIdentifier("file:///w/a.py"))
        )
    assert await waiting == []
    await asyncio.sleep(0.4)
    assert endpoint.requests == []


@pytest.mark.slow
async def test_settings_changed_in_between_answer_what_was_asked(
    editor: Any, endpoint: Any
) -> None:
    waiting = await opens_slowly(editor, endpoint)
    settings = {"magicoder": {"base_url": endpoint.base_url, "exclude": ["*"]}}
    editor.client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings))
    assert await waiting == []
    await asyncio.sleep(0.4)
    assert (endpoint.requests, editor.messages) == ([], [])


@pytest.mark.slow
def test_a_request_that_cannot_be_read_is_answered() -> None:
    lines = (-1, 2**31, None)
    document = {"textDocument": {"uri": "file:///w/a.py"}, "context": {"triggerKind": 1}}
    asked = [
        {
            "id": number,
            "method": types.TEXT_DOCUMENT_INLINE_COMPLETION,
            "params": document | {"position": {"line": line, "character": 0}},
        }
        for number, line in enumerate(lines, 10)
    ]
    first = {"id": 1, "method": "initialize", "params": {"capabilities": {}}}
    ended = subprocess.run(
        [sys.executable, "-m", "magicoder", "lsp"],
        input=b"".join(map(frame, [first, *asked])),
        capture_output=True,
        check=False,
    )
    told = [json.loads(part) for part in re.findall(rb'\{"[^\r\n]*\}(?=Content|$)', ended.stdout)]
    errors = {each["id"]: each["error"]["code"] for each in told if "error" in each}
    assert errors == dict.fromkeys((10, 11, 12), -32602)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"POST / HTTP/1.1\r\n", b"Content-" + b"x" * 100_000], ids=len)
async def test_a_connection_that_is_no_editors_is_closed(sent: bytes, tmp_path: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "magicoder", "lsp", "--tcp", "127.0.0.1:0"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    )
    assert server.stderr
    port = int((await server.stderr.readline()).decode().rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    with suppress(ConnectionError):  # closed with something unread
        assert await reader.read() == b""
    writer.close()
    server.terminate()
    assert await server.stderr.read() == b""
    await server.wait()


@pytest.mark.slow
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
        input=frame(
            {
                "id": 1,
                "method": "initialize",
                "params": {"capabilities": {}, "initializationOptions": {"api_key": "tell-no-one"}},
            }
        ),
        stdout=subprocess.DEVNULL,
        check=False,
    )
    assert "inlineCompletionProvider" in log.read_text()
    assert "api_key" in log.read_text()
    assert "tell-no-one" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
