"""The routes and the end of `magicoder serve`, with the embedded model, by plain clients."""

import os
import re
import signal
import time
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from magicoder import models
from magicoder.server.process import Server

pytestmark = pytest.mark.e2e
NO_FIM = "this model has no fill-in-the-middle (FIM) tokens"


def client_of(server: Server, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key=key, max_retries=0)


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return client_of(server)


def running(server: Server) -> int:
    """Requests that the engine works on."""
    text = httpx.get(server.base_url.removesuffix("/v1") + "/metrics").text
    return sum(
        int(float(n)) for n in re.findall(r"^vllm:num_requests_running\{.*\} (.+)$", text, re.M)
    )


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [models.DEFAULT]
    model = client.models.retrieve(models.DEFAULT)
    assert model.object == "model"
    ours = model.model_extra["magicoder"]
    assert (ours["fim"], ours["context"], ours["adapters"]) == (None, 8192, [])
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("org/nothing")


def test_chat_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=models.DEFAULT,
        messages=[{"role": "user", "content": "Name a colour."}],
        max_tokens=12,
        temperature=0,
        stream=True,
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert len([piece for piece in pieces if piece]) > 1


def test_completion_streams_what_it_gives_whole(client: openai.OpenAI) -> None:
    asked = {"model": models.DEFAULT, "prompt": "def add(a, b):", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked)
    streamed = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text
    assert whole.usage.completion_tokens == 8


def test_suffix_is_refused_without_infilling_tokens(server: Server, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=models.DEFAULT, prompt="a", suffix="b")
    assert NO_FIM in caught.value.body["message"]
    assert caught.value.param == "suffix"
    body = {"model": models.DEFAULT, "prompt": "a", "suffix": "b"}
    for stream in (False, True):
        answer = httpx.post(f"{server.base_url}/fim/completions", json={**body, "stream": stream})
        assert answer.status_code == 400
        assert NO_FIM in answer.json()["error"]["message"]
    with pytest.raises(openai.NotFoundError):  # what is wrong first is said first
        client.completions.create(model="nothing", prompt="a", suffix="b")


def test_empty_prompt_without_suffix_is_vllms_to_answer(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="must be provided and non-empty"):
        client.completions.create(model=models.DEFAULT, prompt="")


def test_request_is_dropped_when_its_client_goes(server: Server) -> None:
    body = {"prompt": "def f(", "max_tokens": 4000, "ignore_eos": True}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.base_url}/completions", json=body, timeout=1)
    url = f"{server.base_url}/completions"
    with httpx.stream("POST", url, json={**body, "stream": True}, timeout=60) as stream:
        next(stream.iter_lines())
    waited = 0
    while running(server) and waited < 20:  # 4000 tokens take minutes
        time.sleep(1)
        waited += 1
    assert running(server) == 0


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_running_requests_finish_when_it_is_told_to_stop(how: str, tmp_path: Path) -> None:
    with Server(models.DEFAULT, log=tmp_path / "serve.log") as server:
        main = psutil.Process(server.pid)
        processes = main.children(recursive=True)
        stream = client_of(server).completions.create(
            model=models.DEFAULT,
            prompt="def f(",
            max_tokens=60,
            stream=True,
            extra_body={"ignore_eos": True, "stream_options": {"include_usage": True}},
        )
        next(iter(stream))
        if how == "SIGTERM":
            main.terminate()
        else:  # a terminal tells the whole group
            os.killpg(server.pid, signal.SIGINT)
        rest = list(stream)
        assert rest[-2].choices[0].finish_reason == "length"
        assert rest[-1].usage.completion_tokens == 60
        assert main.wait(60) == 0
    assert not psutil.wait_procs(processes, timeout=10)[1]


@pytest.mark.parametrize("end", ["a second Ctrl-C", "kill -9"])
def test_nothing_is_left_behind(end: str, tiny_model: Path, tmp_path: Path) -> None:
    with Server(str(tiny_model), log=tmp_path / "serve.log") as server:
        main = psutil.Process(server.pid)
        processes = main.children(recursive=True)
        assert len(processes) >= 2  # vLLM's front and its engine
        if end == "kill -9":
            main.kill()
            assert main.wait(10) == -signal.SIGKILL
        else:
            main.send_signal(signal.SIGINT)
            main.send_signal(signal.SIGINT)
            assert server.stop() in (0, 130)  # 0: it had ended before the second
        assert not psutil.wait_procs(processes, timeout=30)[1]


def test_key_and_adapters(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    lora = LoraConfig(r=12, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    (tmp_path / "key").write_text("secret\n")
    with Server(
        str(tiny_model),
        adapters={"mine": tmp_path / "adapter"},
        args=["--api-key-file", str(tmp_path / "key")],
        log=tmp_path / "serve.log",
    ) as server:
        client = client_of(server, "secret")
        assert [model.id for model in client.models.list()] == ["tiny", "mine"]
        for name in ("tiny", "mine"):
            ours = client.models.retrieve(name).model_extra["magicoder"]
            assert (ours["fim"], ours["context"], ours["adapters"]) == ("qwen", 512, ["mine"])
        asked = {"prompt": "def f(", "suffix": "\n", "max_tokens": 16, "temperature": 0}
        texts = [
            client.completions.create(model=m, **asked).choices[0].text for m in ("tiny", "mine")
        ]
        assert texts[0] != texts[1]

        for method, path in (
            ("GET", "models/tiny"),
            ("POST", "completions"),
            ("POST", "fim/completions"),
        ):
            answer = httpx.request(method, f"{server.base_url}/{path}", json={"prompt": "a"})
            assert answer.status_code == 401
        commands = [p.cmdline() for p in psutil.process_iter() if "serve" in " ".join(p.cmdline())]
        assert commands
        assert "secret" not in str(commands)
        assert "secret" not in (tmp_path / "serve.log").read_text()
