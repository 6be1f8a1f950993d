"""Infilling over HTTP. The weights are random: what is checked is what reaches the model."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tokenizers import Tokenizer

from magicoder import AsyncMagicoder, Magicoder
from magicoder.client import File
from magicoder.lsp.context import tokens
from magicoder.server.process import Server
from magicoder.server.supervisor import die_with_parent

pytestmark = pytest.mark.e2e
PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"
LITERAL = "a <|fim_middle|> b <|endoftext|> <|file_sep|>"


@pytest.fixture(scope="module")
def tiny(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(str(tiny_model), log=tmp_path_factory.mktemp("tiny") / "serve.log") as server:
        yield server


@pytest.fixture(scope="module")
def client(tiny: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=tiny.base_url, api_key="none", max_retries=0)


class Truth:
    """The tiny model's tokenizer, and the same one without any added token."""

    def __init__(self, folder: Path) -> None:
        text = (folder / "tokenizer.json").read_text()
        self.whole = Tokenizer.from_str(text)
        self.bare = Tokenizer.from_str(json.dumps({**json.loads(text), "added_tokens": []}))
        self.pre, self.suf, self.mid = (
            self.whole.token_to_id(f"<|fim_{part}|>") for part in ("prefix", "suffix", "middle")
        )

    def prompt(self, prefix: str, suffix: str) -> list[int]:
        before, after = self.bare.encode(prefix).ids, self.bare.encode(suffix).ids
        return [self.pre, *before, self.suf, *after, self.mid]

    def texts(self, ids: list[int]) -> tuple[str, str]:
        """Prefix and suffix of a prompt, which has its control tokens and no other added one."""
        cut = ids.index(self.suf)
        assert (ids[0], ids[-1]) == (self.pre, self.mid)
        added = self.whole.get_added_tokens_decoder().keys()
        assert [id_ for id_ in ids if id_ in added] == [self.pre, self.suf, self.mid]
        return self.bare.decode(ids[1:cut]), self.bare.decode(ids[cut + 1 : -1])


@pytest.fixture(scope="module")
def truth(tiny_model: Path) -> Truth:
    return Truth(tiny_model)


def prompts(url: str, **body: Any) -> list[list[int]]:
    """The token ids that reach the model, one list for each prompt."""
    body = {"max_tokens": 1, "return_token_ids": True, **body}
    answer = httpx.post(f"{url}/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return [choice["prompt_token_ids"] for choice in answer.json()["choices"]]


def events(url: str, body: dict[str, Any]) -> list[Any]:
    """The server-sent events of a streamed answer; the last one must be the end."""
    with httpx.stream("POST", url, json={**body, "stream": True}, timeout=60) as stream:
        lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def refused(url: str, **body: Any) -> str:
    answer = httpx.post(url, json=body, timeout=60)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return str(error["message"])


def test_model_tells_its_format(client: openai.OpenAI) -> None:
    ours = client.models.retrieve("tiny").model_extra["magicoder"]
    assert (ours["fim"], ours["context"], ours["adapters"]) == ("qwen", 512, [])
    assert (ours["repository"], ours["order"]) == (True, "psm")


def test_tokenizer_is_given_as_it_is(tiny: Server, tiny_model: Path) -> None:
    with Magicoder(base_url=tiny.base_url) as sdk:
        content, info = sdk.tokenizer(), sdk.model_info()
    assert hashlib.sha256(content).hexdigest() == info.tokenizer
    given, whole = (
        Tokenizer.from_str(content.decode()),
        Tokenizer.from_file(str(tiny_model / "tokenizer.json")),
    )
    assert given.encode(PREFIX + LITERAL).ids == whole.encode(PREFIX + LITERAL).ids
    assert given.get_vocab() == whole.get_vocab()
    answer = httpx.get(f"{tiny.base_url}/models/nothing/tokenizer")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")


async def test_tokens_are_counted_as_the_server_does(
    tiny: Server, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    async with AsyncMagicoder(base_url=tiny.base_url) as sdk:
        info = await sdk.model_info()
        counter = await tokens.load(sdk, info)
        assert counter.count("def add(a, b):") == len(truth.whole.encode("def add(a, b):").ids)
        [kept] = (tmp_path / "tokenizers").iterdir()
        assert kept.stem == info.tokenizer
    # The next time nothing is fetched: this client is closed.
    assert (await tokens.load(sdk, info)).largest == counter.largest


def test_other_files_reach_the_model(tiny: Server, truth: Truth) -> None:
    files = [{"filename": "a.py", "text": LITERAL}, {"filename": "b.py", "text": "B = 1"}]
    body = {"prompt": PREFIX, "suffix": SUFFIX, "extra": files, "filename": "c.py"}
    [ids] = prompts(tiny.base_url, **body)
    repo, sep = (truth.whole.token_to_id(f"<|{name}|>") for name in ("repo_name", "file_sep"))
    texts = ["workspace\n", f"a.py\n{LITERAL}\n", "b.py\nB = 1\n", "c.py\n"]
    name, first, second, own = (truth.bare.encode(text).ids for text in texts)
    start = [repo, *name, sep, *first, sep, *second, sep, *own]
    assert ids == [*start, *truth.prompt(PREFIX, SUFFIX)]


def test_cached_tokens_are_told(tiny: Server) -> None:
    with Magicoder(base_url=tiny.base_url) as sdk:
        for _ in range(2):
            stream = sdk.infill("z = 1\n" * 100, "", max_tokens=1, stream=True)
            list(stream)
        usage = stream.result.usage
        assert usage is not None
        assert 0 < usage.cached_tokens < usage.prompt_tokens
        extra: list[File] = [{"filename": "a.py", "text": "A = 1"}]
        assert sdk.infill("a", "b", extra=extra, max_tokens=1).usage.prompt_tokens > 8


@pytest.mark.parametrize("prefix", [PREFIX, ""])
@pytest.mark.parametrize("suffix", [SUFFIX, ""])
def test_prompt_and_suffix_reach_the_model(
    tiny: Server, truth: Truth, prefix: str, suffix: str
) -> None:
    assert prompts(tiny.base_url, prompt=prefix, suffix=suffix) == [truth.prompt(prefix, suffix)]


def test_prompt_may_be_left_out(tiny: Server, truth: Truth) -> None:
    assert prompts(tiny.base_url, suffix=SUFFIX) == [truth.prompt("", SUFFIX)]
    assert prompts(tiny.base_url, prompt=None, suffix=SUFFIX) == [truth.prompt("", SUFFIX)]


def test_many_prompts_share_a_suffix(tiny: Server, truth: Truth) -> None:
    found = prompts(tiny.base_url, prompt=[PREFIX, ""], suffix=SUFFIX)
    assert found == [truth.prompt(PREFIX, SUFFIX), truth.prompt("", SUFFIX)]


def test_control_tokens_in_the_text_stay_text(tiny: Server, truth: Truth) -> None:
    [ids] = prompts(tiny.base_url, prompt=LITERAL, suffix=LITERAL)
    assert truth.texts(ids) == (LITERAL, LITERAL)
    # Without a suffix the prompt is vLLM's to render, which does read them.
    [ids] = prompts(tiny.base_url, prompt=LITERAL)
    assert truth.mid in ids


def test_long_file_is_cut_far_from_the_cursor(tiny: Server, truth: Truth) -> None:
    prefix = "".join(f"b{i}\n" for i in range(1000))
    suffix = "".join(f"a{i}\n" for i in range(1000))
    [ids] = prompts(tiny.base_url, prompt=prefix, suffix=suffix, max_tokens=100)
    assert len(ids) == 512 - 100
    before, after = truth.texts(ids)
    assert prefix.endswith(before)
    assert suffix.startswith(after)
    assert len(before) > len(after) > 0


def test_answer_streams_with_n_and_usage(tiny: Server, truth: Truth) -> None:
    body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 5, "n": 2, "ignore_eos": True}
    body |= {
        "stop_token_ids": [],
        "seed": 1,
        "logprobs": 2,
        "stream_options": {"include_usage": True},
    }
    *chunks, last = events(f"{tiny.base_url}/completions", body)
    reasons = {c["index"]: c["finish_reason"] for chunk in chunks for c in chunk["choices"]}
    assert set(reasons) == {0, 1}
    assert set(reasons.values()) <= {"length", "stop"}
    assert last["usage"]["prompt_tokens"] == len(truth.prompt(PREFIX, SUFFIX))
    assert last["usage"]["completion_tokens"] >= 2
    logprobs = [c["logprobs"] for chunk in chunks for c in chunk["choices"] if c["logprobs"]]
    assert all(lp <= 0 for part in logprobs for lp in part["token_logprobs"])
    assert logprobs


@pytest.mark.parametrize("stop", ["<|file_sep|>", "<|fim_prefix|>", "<|endoftext|>"])
def test_answer_ends_at_the_familys_tokens(client: openai.OpenAI, truth: Truth, stop: str) -> None:
    asked = {"model": "tiny", "prompt": PREFIX, "max_tokens": 5}
    asked["logit_bias"] = {str(truth.whole.token_to_id(stop)): 100}  # so that it is chosen
    answer = client.completions.create(**asked, suffix=SUFFIX)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("stop", 1)
    assert answer.choices[0].text == ""
    plain = client.completions.create(**asked)
    assert plain.usage.completion_tokens == (1 if stop == "<|endoftext|>" else 5)


def test_own_stops_count_too(client: openai.OpenAI, truth: Truth) -> None:
    letter = truth.whole.token_to_id("a")
    answer = client.completions.create(
        model="tiny",
        prompt=PREFIX,
        suffix=SUFFIX,
        max_tokens=9,
        stop=["aaa"],
        logit_bias={str(letter): 100},
    )
    assert (answer.choices[0].finish_reason, answer.choices[0].text) == ("stop", "")
    answer = client.completions.create(
        model="tiny",
        prompt=PREFIX,
        suffix=SUFFIX,
        max_tokens=9,
        logit_bias={str(letter): 100},
        extra_body={"stop_token_ids": [letter]},
    )
    assert answer.usage.completion_tokens == 1


def test_mistrals_route_answers_like_a_chat(tiny: Server, truth: Truth) -> None:
    url = f"{tiny.base_url}/fim/completions"
    body = {"model": "tiny", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 6, "min_tokens": 6}
    body |= {"random_seed": 7, "temperature": 1, "top_p": 0.9, "metadata": {"a": 1}, "stop": "zzz"}
    answer = httpx.post(url, json=body, timeout=60).json()
    assert answer["object"] == "chat.completion"
    [choice] = answer["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "length")
    assert choice["message"].keys() == {"role", "content"}
    assert choice["message"]["role"] == "assistant"
    sent = len(truth.prompt(PREFIX, SUFFIX))
    usage = {"prompt_tokens": sent, "completion_tokens": 6, "total_tokens": sent + 6}
    assert answer["usage"].pop("prompt_tokens_details").keys() == {"cached_tokens"}
    assert answer["usage"] == usage

    chunks = events(url, body)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    # The seed makes both the same; a chunk may end within a character.
    assert "".join(delta["content"] for delta in deltas) == choice["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"] == usage
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_mistrals_route_ends_at_the_familys_tokens_and_has_a_default(tiny: Server) -> None:
    answer = httpx.post(f"{tiny.base_url}/fim/completions", json={"prompt": ""}, timeout=60).json()
    assert 1 <= answer["usage"]["completion_tokens"] <= 128
    assert answer["usage"]["prompt_tokens"] == 3


def test_what_cannot_be_infilled_is_refused(tiny: Server) -> None:
    url = f"{tiny.base_url}/completions"
    assert "'echo'" in refused(url, prompt="a", suffix="b", echo=True)
    assert "'truncate_prompt_tokens'" in refused(
        url, prompt="a", suffix="b", truncate_prompt_tokens=3
    )
    assert "needs a text" in refused(url, prompt=[1, 2], suffix="b")
    assert "no room for the prompt" in refused(url, prompt="a", suffix="b", max_tokens=510)
    files = [{"filename": "a.py", "text": "A = 1"}]
    assert "'extra' needs a 'suffix'" in refused(url, prompt="a", extra=files)
    assert "filename" in refused(url, prompt="a", suffix="b", extra=[{"text": "A = 1"}])
    assert "extra" in refused(url, prompt="a", suffix="b", extra="A = 1")
    fim = f"{tiny.base_url}/fim/completions"
    assert "no room for the prompt" in refused(fim, prompt="a", max_tokens=510)
    assert "prompt" in refused(fim, suffix="b")
    assert httpx.post(fim, json={"prompt": "a", "model": "nothing"}).status_code == 404


def test_suffix_works_under_plain_vllm(tiny_model: Path, truth: Truth, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    command += [str(tiny_model), "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--kv-cache-memory-bytes", "64M"]
    log = (tmp_path / "log").open("w")
    env = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=env, preexec_fn=lambda: die_with_parent(signal.SIGTERM)
    )
    try:
        base = f"http://127.0.0.1:{port}"
        while True:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                httpx.get(f"{base}/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        assert httpx.get(f"{base}/v1/models/tiny").status_code == 404  # no routes of ours
        assert prompts(f"{base}/v1", prompt=PREFIX, suffix=SUFFIX) == [truth.prompt(PREFIX, SUFFIX)]
        [ids] = prompts(f"{base}/v1", prompt=LITERAL, suffix=LITERAL)
        assert truth.texts(ids) == (LITERAL, LITERAL)
        [ids] = prompts(f"{base}/v1", prompt=PREFIX * 200, suffix=SUFFIX * 200)
        assert len(ids) == 384
    finally:
        process.terminate()
        assert process.wait(60) == 0
