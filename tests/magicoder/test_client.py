"""The SDK against a server that misbehaves; tests/e2e holds it against the real one."""

import json
import time

import pytest

from magicoder import AsyncMagicoder, Magicoder, MagicoderError
from magicoder.client import ModelInfo
from magicoder.errors import ServerError, UsageError
from magicoder.oss_instruct import ParseError


def reply(handler, status, body, **headers):
    text = body if isinstance(body, str) else json.dumps(body)
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(text.encode())))
    handler.end_headers()
    handler.wfile.write(text.encode())


def completion(text, finish="stop"):
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    return {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


def chat(text, finish="stop"):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def stream(*texts, end=True):
    """Answer with a stream of `texts`; without `end` the connection breaks off after them."""

    def answer(handler, body):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for text in texts:
            event = f"data: {json.dumps(completion(text, None))}\n\n".encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        if end:
            event = b"data: [DONE]\n\n"
            handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
        else:
            handler.close_connection = True

    return answer


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"error": {"message": "no"}}, "set api_key (MAGICODER_API_KEY)"),
        (403, {"error": {"message": "no"}}, "set api_key (MAGICODER_API_KEY)"),
        (404, {"error": {"message": "The model `x` does not exist."}}, "magicoder doctor"),
        (400, {"error": {"message": "too\nlong"}}, "the server answered 400: too long"),
        (500, "<html>oops</html>", "the server answered 500"),
        (200, "<html>not the API</html>", "does not speak OpenAI's API"),
        (200, "null", "does not speak OpenAI's API"),
        (200, "[]", "does not speak OpenAI's API"),
        (200, "{}", "does not speak OpenAI's API"),
    ],
)
def test_a_refusal_is_one_line_that_names_the_mend(faulty_server, status, body, says):
    server = faulty_server(lambda handler, _: reply(handler, status, body))
    with (
        Magicoder(base_url=server.base_url, max_retries=0) as client,
        pytest.raises(ServerError) as error,
    ):
        client.complete("x")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.status == (status if status != 200 else None)


def test_no_server_and_a_bad_address():
    with pytest.raises(ServerError, match="start one with `magicoder serve`"):
        Magicoder(base_url="http://127.0.0.1:9/v1", max_retries=0).chat("x")
    with pytest.raises(UsageError, match=r"base_url.*expected an http"):
        Magicoder(base_url="localhost:8000")


@pytest.mark.parametrize(
    ("path", "mend"),
    [
        ("", "add /v1 to base_url (MAGICODER_BASE_URL), http://"),
        ("/api", "add /v1 to base_url (MAGICODER_BASE_URL), http://"),
        ("/openai/v3", "`magicoder doctor` lists what is served at http://"),
    ],
)
def test_an_address_without_a_version_lacks_one(faulty_server, path, mend):
    server = faulty_server(lambda handler, _: None)
    address = server.base_url.removesuffix("/v1") + path
    with pytest.raises(ServerError) as error:
        Magicoder(base_url=address).models()
    assert str(error.value).startswith(f"the server answered 404: Not Found: {mend}")


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_prompt_follows_no_redirect(faulty_server, status):
    other = faulty_server(lambda handler, _: reply(handler, 200, completion("no")))
    target = f"{other.base_url}/completions"
    server = faulty_server(lambda handler, _: reply(handler, status, {}, Location=target))
    told = f"{server.base_url} sends to {other.base_url}: set base_url (MAGICODER_BASE_URL) to that"
    with Magicoder(base_url=server.base_url) as client, pytest.raises(ServerError) as error:
        client.complete("secret")
    assert str(error.value).startswith(told)
    async with AsyncMagicoder(base_url=server.base_url) as client:
        with pytest.raises(ServerError) as error:
            await client.complete("secret", stream=True)
    assert str(error.value).startswith(told)
    assert other.requests == []


def test_a_server_that_hangs_is_given_up_on(faulty_server):
    server = faulty_server(lambda handler, _: time.sleep(1))
    client = Magicoder(base_url=server.base_url, timeout=0.2, max_retries=0)
    with pytest.raises(ServerError, match=r"within 0\.2 s: raise MAGICODER_TIMEOUT"):
        client.complete("x")


def test_a_stream_gives_deltas_and_then_the_typed_answer(faulty_server):
    server = faulty_server(stream("a", "", "b"))
    with Magicoder(base_url=server.base_url).complete("x", stream=True) as answer:
        with pytest.raises(MagicoderError, match="has not ended"):
            _ = answer.result
        assert list(answer) == ["a", "b"]
        assert answer.result.text == "ab"


@pytest.mark.parametrize("body", ["<html>", "null", "[]", "{}", '{"data": [1]}'])
async def test_what_is_not_a_list_of_models_is_told(faulty_server, body):
    server = faulty_server(lambda handler, _: None, models=body)
    with pytest.raises(ServerError, match="does not speak OpenAI's API"):
        Magicoder(base_url=server.base_url).models()
    with pytest.raises(ServerError, match="does not speak OpenAI's API"):
        await AsyncMagicoder(base_url=server.base_url).models()


def test_a_page_in_place_of_a_stream_is_not_an_empty_answer(faulty_server):
    server = faulty_server(lambda handler, _: reply(handler, 200, "<html>hello</html>"))
    with pytest.raises(ServerError, match="does not speak OpenAI's API"):
        list(Magicoder(base_url=server.base_url).complete("x", stream=True))


def test_a_cut_stream_is_an_error_not_a_short_answer(faulty_server):
    server = faulty_server(stream("a", end=False))
    seen = []
    answer = Magicoder(base_url=server.base_url).complete("x", stream=True)
    with pytest.raises(ServerError, match="broke off"):
        seen.extend(answer)
    with pytest.raises(MagicoderError):
        _ = answer.result


async def test_the_async_client_streams_and_fails_alike(faulty_server):
    server = faulty_server(stream("a", "b"))
    async with AsyncMagicoder(base_url=server.base_url) as client:
        answer = await client.complete("x", stream=True)
        assert [delta async for delta in answer] == ["a", "b"]
        assert answer.result.text == "ab"
        server.answer = stream("a", end=False)
        with pytest.raises(ServerError, match="broke off"):
            async for _ in await client.complete("x", stream=True):
                pass
        server.answer = lambda handler, _: reply(handler, 200, completion("c"))
        assert (await client.infill("x", "y")).text == "c"
        assert server.requests[-1][1]["suffix"] == "y"


def test_the_first_model_is_asked_once_and_a_plain_server_has_no_infilling(faulty_server):
    server = faulty_server(lambda handler, _: reply(handler, 200, chat("hi")))
    client = Magicoder(base_url=server.base_url)
    assert client.model_info() == ModelInfo("m")
    assert client.chat("x", system="s", max_tokens=3).text == "hi"
    path, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body["model"] == "m"
    assert body["max_tokens"] == 3
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_problems_are_read_and_a_cut_one_says_so(faulty_server):
    answers = iter(
        [
            chat("[Problem Description]\nAdd two numbers.\n[Solution]\nUse +."),
            chat("[Problem Description]\nAdd", finish="length"),
        ]
    )
    server = faulty_server(lambda handler, _: reply(handler, 200, next(answers)))
    client = Magicoder(base_url=server.base_url)
    first = client.problem_from_code("a + b", structured=True, language="python")
    assert (first.problem, first.solution) == ("Add two numbers.", "Use +.")
    assert "structured_outputs" in server.requests[0][1]
    with pytest.raises(ParseError, match="raise max_tokens"):
        client.problem_from_code("a + b")
    assert "structured_outputs" not in server.requests[1][1]


async def test_other_files_go_along_only_where_there_are_some(faulty_server):
    server = faulty_server(lambda handler, _: reply(handler, 200, completion("c")))
    files = [{"filename": "a.py", "text": "A = 1"}]
    client = Magicoder(base_url=server.base_url)
    client.infill("x", "y", filename="b.py")
    client.infill("x", "y", extra=files, filename="b.py")
    await AsyncMagicoder(base_url=server.base_url).infill("x", "y", extra=files)
    plain, both, nameless = (body for _, body in server.requests)
    assert not {"extra", "filename"} & plain.keys()
    assert (both["extra"], both["filename"]) == (files, "b.py")
    assert (nameless["extra"], nameless["filename"]) == (files, None)


@pytest.mark.parametrize(
    ("details", "cached"), [({"cached_tokens": 7}, 7), ({}, None), (None, None), ("?", None)]
)
def test_cached_tokens_are_none_where_the_server_does_not_tell(faulty_server, details, cached):
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    if details != "?":
        usage["prompt_tokens_details"] = details
    server = faulty_server(lambda h, _: reply(h, 200, {**completion("c"), "usage": usage}))
    answer = Magicoder(base_url=server.base_url).complete("x")
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (9, cached)


async def test_a_server_without_a_tokenizer_says_404(faulty_server):
    server = faulty_server(lambda handler, _: None)
    with pytest.raises(ServerError) as error:
        Magicoder(base_url=server.base_url, max_retries=0).tokenizer()
    assert error.value.status == 404
    with pytest.raises(ServerError):
        await AsyncMagicoder(base_url=server.base_url, max_retries=0).tokenizer()


@pytest.mark.parametrize(
    "card",
    [
        {"id": 5},
        {"id": "m", "max_model_len": "many"},
        {"id": "m", "magicoder": 5},
        {"id": "m", "magicoder": {"tokenizer": 5}},
        {"id": "m", "magicoder": {"fim": ["x"]}},
        {"id": "m", "magicoder": {"adapters": 5}},
        "[" * 200_000,
    ],
    ids=lambda card: str(card)[:40],
)
def test_a_model_that_is_told_in_another_shape(faulty_server, card):
    models = card if isinstance(card, str) else json.dumps({"data": [card]})
    server = faulty_server(None, models)
    client = Magicoder(base_url=server.base_url, max_retries=0)
    with client, pytest.raises(ServerError, match="does not speak OpenAI's API"):
        client.model_info()


def test_a_server_started_again_may_serve_another_model(faulty_server):
    old, new = (faulty_server(None, json.dumps({"data": [{"id": name}]})) for name in "ab")
    with Magicoder(base_url=old.base_url, max_retries=0) as client:
        assert client.model_info().id == "a"
        client._openai.base_url = new.base_url  # as if it had been started there
        assert client.model_info().id == "b"
