"""The SDK and the commands that talk to a server, against the real one."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from magicoder import AsyncMagicoder, Magicoder
from magicoder.client import ModelInfo
from magicoder.errors import ServerError
from magicoder.server.process import Server

pytestmark = pytest.mark.e2e
README = Path(__file__).parents[2] / "README.md"
ADD = "def add(a, b):\n    return "


@pytest.fixture
def client(server: Server) -> Magicoder:
    return Magicoder(base_url=server.base_url)


def magicoder(server: Server, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "magicoder", *args, "--base-url", server.base_url],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


@pytest.mark.parametrize("block", range(2))
def test_the_examples_of_the_readme_run(server: Server, block: int) -> None:
    text = re.sub(r"^````$.*?^````$", "", README.read_text(), flags=re.M | re.S)  # the tour
    code = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)[block]
    code = code.replace("http://127.0.0.1:8000/v1", server.base_url)
    env = {**os.environ, "MAGICODER_BASE_URL": server.base_url}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "smollm2-135m" in done.stdout


def test_the_server_tells_about_its_model(client: Magicoder) -> None:
    info = client.model_info()
    known = {"context": info.context, "tokenizer": info.tokenizer}
    assert info == ModelInfo("smollm2-135m", structured=True, **known)
    assert info.context
    assert re.fullmatch("[0-9a-f]{64}", info.tokenizer or "")
    assert [model.id for model in client.models()] == ["smollm2-135m"]


def test_a_stream_gives_what_a_whole_answer_gives(client: Magicoder) -> None:
    whole = client.complete(ADD, max_tokens=12, seed=0)
    with client.complete(ADD, max_tokens=12, seed=0, stream=True) as stream:
        text = "".join(stream)
    assert text == stream.result.text == whole.text
    assert whole.usage
    assert (whole.finish_reason, whole.usage.completion_tokens) == ("length", 12)
    assert stream.result.usage == whole.usage


def test_chat_knows_the_conversation(client: Magicoder) -> None:
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "Repeat my name."},
    ]
    longer, shorter = client.chat(messages, max_tokens=8), client.chat("Hi", max_tokens=8)
    assert longer.usage
    assert shorter.usage
    assert longer.usage.prompt_tokens > shorter.usage.prompt_tokens
    assert longer.text


def test_a_model_without_infilling_says_so(client: Magicoder) -> None:
    with pytest.raises(ServerError, match="FIM") as error:
        client.infill("def f():", "return 1")
    assert error.value.status == 400


def test_even_the_weak_model_writes_a_problem(client: Magicoder) -> None:
    code = "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n"
    with client.problem_from_code(code, language="python", stream=True) as stream:
        text = "".join(stream)
    assert stream.result.problem in text
    assert "```python" in stream.result.solution


def test_long_prompts_with_a_seed_do_not_end_the_server(client: Magicoder) -> None:
    sampling = {"temperature": 0.7, "seed": 3, "max_tokens": 2}
    with ThreadPoolExecutor(3) as pool:
        prompts = [f"word {number} " * 1200 for number in range(3)]
        answers = list(pool.map(lambda prompt: client.complete(prompt, **sampling), prompts))
    assert [answer.finish_reason for answer in answers] == ["length"] * 3


def test_a_prompt_longer_than_the_context_is_one_clear_error(client: Magicoder) -> None:
    with pytest.raises(ServerError, match="context") as error:
        client.complete("word " * 20_000)
    assert "\n" not in str(error.value)


async def test_the_async_client_speaks_with_the_real_server(server: Server) -> None:
    async with AsyncMagicoder(base_url=server.base_url) as client:
        async with await client.chat("Say hi.", max_tokens=5, stream=True) as stream:
            text = "".join([delta async for delta in stream])
        assert text == stream.result.text
        assert (await client.model_info()).id == "smollm2-135m"


def test_the_commands_print_answers_alone(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "add.py"
    file.write_text(ADD + "\n")
    done = magicoder(server, "complete", f"{file}:2:12", "--max-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "cannot infill" in done.stderr
    done = magicoder(server, "chat", "Say hi.", "--max-tokens", "5")
    assert done.returncode == 0
    assert done.stdout.strip()
    done = magicoder(server, "problem", str(file))
    assert done.returncode == 0, done.stderr
    assert "[Solution]" in done.stdout
    done = magicoder(server, "chat", "x", "--model", "nope")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the server answered 404: The model `nope` does not exist")
