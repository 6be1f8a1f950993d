"""The language server on the real server with the embedded model."""

import ast
import asyncio
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import pytest_lsp
from lsprotocol import types

from magicoder import Magicoder
from magicoder.lsp.completion import trace

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's traces stay in the test's folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


FILE = types.TextDocumentIdentifier("file:///w/a.py")


@pytest_lsp.fixture(
    config=pytest_lsp.ClientServerConfig([sys.executable, "-m", "magicoder", "lsp"])
)
async def editor(
    lsp_client: pytest_lsp.LanguageClient,
    server: Any,
    tmp_path: Path,
) -> Any:
    show = types.ShowDocumentClientCapabilities(support=True)
    window = types.WindowClientCapabilities(work_done_progress=True, show_document=show)
    await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=types.ClientCapabilities(window=window),
            initialization_options={"base_url": server.base_url, "max_tokens": 32},
        )
    )
    yield
    await lsp_client.shutdown_session()


def open_file(editor: pytest_lsp.LanguageClient, text: str) -> None:
    item = types.TextDocumentItem(FILE.uri, "python", 0, text)
    editor.text_document_did_open(types.DidOpenTextDocumentParams(item))


async def complete(editor: pytest_lsp.LanguageClient, line: int, character: int) -> list[str]:
    context = types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic)
    items = await editor.text_document_inline_completion_async(
        types.InlineCompletionParams(context, FILE, types.Position(line, character))
    )
    assert isinstance(items, list)
    return [str(item.insert_text) for item in items]


async def test_a_python_function_is_completed_with_code(editor: Any) -> None:
    start = "def is_even(n):\n    return "
    open_file(editor, start)
    [text] = await complete(editor, 1, 11)
    [function] = ast.parse(start + text).body
    assert isinstance(function, ast.FunctionDef)
    returned = function.body[0]
    assert isinstance(returned, ast.Return)
    assert "n" in {node.id for node in ast.walk(returned) if isinstance(node, ast.Name)}


async def test_edits_and_emoji_reach_the_model_as_typed(editor: Any, server: Any) -> None:
    open_file(editor, "# 😀 漢字\nx\n")
    insert = types.Range(types.Position(0, 5), types.Position(1, 0))  # utf-16: after 漢
    edits = [
        types.TextDocumentContentChangePartial(range=insert, text="🎉\ndef area(width, height):\n"),
        types.TextDocumentContentChangePartial(
            range=types.Range(types.Position(2, 0), types.Position(2, 1)), text="    return"
        ),
    ]
    identifier = types.VersionedTextDocumentIdentifier(1, FILE.uri)
    editor.text_document_did_change(types.DidChangeTextDocumentParams(identifier, edits))
    typed = "# 😀 漢🎉\ndef area(width, height):\n    return"
    with Magicoder(base_url=server.base_url) as client:
        raw = client.complete(typed, max_tokens=32, stop=["\n\n", "\n```"]).text
    [shown] = await complete(editor, 2, 10)
    assert raw.startswith(shown)
    assert shown.strip()


async def test_a_replaced_request_is_answered_and_frees_the_server(
    editor: Any, server: Any
) -> None:
    open_file(editor, "import os\n\n\ndef is_even(n):\n    return ")
    requests = [asyncio.create_task(complete(editor, 4, 11)) for _ in range(5)]
    answers = await asyncio.gather(*requests)
    assert answers[:-1] == [[], [], [], []]
    assert answers[-1]
    metrics = server.base_url.removesuffix("/v1") + "/metrics"
    for _ in range(100):
        with await asyncio.to_thread(urllib.request.urlopen, metrics) as answer:
            lines = answer.read().decode().splitlines()
        [running] = [line for line in lines if line.startswith("vllm:num_requests_running{")]
        if float(running.rpartition(" ")[2]) == 0:
            return
        await asyncio.sleep(0.1)
    pytest.fail(running)


async def test_what_is_typed_as_predicted_asks_no_server(editor: Any) -> None:
    open_file(editor, "def is_even(n):\n    return ")
    [text] = await complete(editor, 1, 11)
    typed = text[:1]
    here = types.Position(1, 11)
    change = types.TextDocumentContentChangePartial(types.Range(here, here), typed)
    identifier = types.VersionedTextDocumentIdentifier(1, FILE.uri)
    editor.text_document_did_change(types.DidChangeTextDocumentParams(identifier, [change]))
    assert await complete(editor, 1, 12) == [text[1:]]
    found = [each.outcome for each in trace.read() if each.trigger == "automatic"]
    assert found == ["model", "cache"]


async def test_code_becomes_a_problem(editor: Any) -> None:
    open_file(editor, "def add(a, b):\n    c = a + b\n    return c\n")
    span = types.Range(types.Position(0, 0), types.Position(3, 0))
    command = types.ExecuteCommandParams("magicoder.createProblem", [FILE.uri, span])
    markdown = await editor.workspace_execute_command_async(command)
    assert [message.message for message in editor.messages] == []
    problem, _, solution = markdown.partition("\n\n# Solution\n\n")
    assert problem.removeprefix("# Problem Description\n\n").strip()
    assert solution.strip()
    [shown] = editor.shown_documents
    assert shown.uri.endswith(".md")
