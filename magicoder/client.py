"""The SDK: chat, completion, infilling and code-to-problem over any OpenAI-compatible server.

    from magicoder import Magicoder

    with Magicoder() as magicoder:
        print(magicoder.infill("def add(a, b):\\n    return ", "\\n").text)
        for delta in magicoder.chat("Reverse a list in Python", stream=True):
            print(delta, end="")

`AsyncMagicoder` is the same with `await`. Every failure is a `MagicoderError` of one line.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Generic, Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload
from urllib.parse import quote, urlsplit

import openai
from pydantic import TypeAdapter

from magicoder import oss_instruct, settings
from magicoder.errors import MagicoderError, ServerError
from magicoder.oss_instruct import Problem

_ADDRESS = "base_url (MAGICODER_BASE_URL)"

Messages = Sequence[dict[str, str]]
T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class Sampling(TypedDict, total=False):
    """How to sample. What is left out: temperature 0, and the method's own `max_tokens`.

    `extra_body` holds what a server takes beside OpenAI's own, such as `structured_outputs`.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: str | list[str]
    extra_body: dict[str, Any]


@dataclass(frozen=True)
class Usage:
    """Tokens of the request and of the answer.

    `cached_tokens` of the prompt were read before, for another request; None: the server does not
    tell.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


@dataclass(frozen=True)
class Completion:
    """An answer. `finish_reason` is "stop", or "length" where `max_tokens` cut it."""

    text: str
    finish_reason: str | None
    model: str
    usage: Usage | None


@dataclass(frozen=True)
class ModelInfo:
    """A served model. `fim` names its infilling format; None: it cannot infill.

    `context` is in tokens; None where the server does not tell it. `structured`: too weak to keep
    to a form unless the server holds it to one. `repository`: infilling takes other files as
    `extra`. `order` of an infilling prompt: "psm" (prefix, suffix, middle) or "spm". `tokenizer`:
    the SHA-256 of its file, in hexadecimal digits; None where the server gives none. `chat_only`:
    it answers chats and nothing else.
    """

    id: str
    context: int | None = None
    fim: str | None = None
    adapters: tuple[str, ...] = ()
    structured: bool = False
    repository: bool = False
    order: str | None = None
    tokenizer: str | None = None
    chat_only: bool = False


_MODEL = TypeAdapter(ModelInfo)


class File(TypedDict):
    """Another file of the repository, shown to a model that fills in a hole."""

    filename: str
    text: str


def _foreign(read: Callable[P, R]) -> Callable[P, R]:
    """Make what fails while reading an answer a ValueError: it is not of OpenAI's shape."""

    @wraps(read)
    def reading(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(str(error)) from error

    return reading


@dataclass(frozen=True)
class _Request(Generic[T]):
    """One request: which endpoint, its body, and how to read the finished answer."""

    chat: bool
    body: dict[str, Any]
    finish: Callable[[Completion], T]


@dataclass
class _Answer(Generic[T]):
    """An answer while it streams in."""

    request: _Request[T]
    text: str = ""
    finish_reason: str | None = None
    model: str = ""
    usage: Usage | None = None
    done: bool = False

    @_foreign
    def add(self, chunk: Any) -> str:
        """Take one chunk of the stream; the text that it adds."""
        self.model = chunk.model or self.model
        self.usage = _usage(chunk) or self.usage
        delta = ""
        for choice in chunk.choices:
            delta += (choice.delta.content if self.request.chat else choice.text) or ""
            self.finish_reason = choice.finish_reason or self.finish_reason
        self.text += delta
        return delta

    def end(self) -> None:
        """The stream has ended."""
        if not self.model:
            raise ValueError("no event in the stream")
        self.done = True

    def result(self) -> T:
        if not self.done:
            raise MagicoderError("the stream has not ended: iterate it to its end before .result")
        done = Completion(self.text, self.finish_reason, self.model, self.usage)
        return self.request.finish(done)


class TextStream(Generic[T]):
    """The text of an answer as it arrives; `result` is the typed answer after the end.

    A context manager: leaving it, or `close()`, ends the generation on the server.
    """

    def __init__(
        self, chunks: openai.Stream[Any], request: _Request[T], errors: Callable[[], Any]
    ) -> None:
        self._chunks, self._answer, self._errors = chunks, _Answer(request), errors

    def __iter__(self) -> Iterator[str]:
        with self._errors():
            for chunk in self._chunks:
                if delta := self._answer.add(chunk):
                    yield delta
            self._answer.end()

    @property
    def result(self) -> T:
        """The typed answer.

        Raises:
            MagicoderError: the stream has not ended, or the answer cannot be read.
        """
        return self._answer.result()

    def close(self) -> None:
        self._chunks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTextStream(Generic[T]):
    """`TextStream` for `async for` and `async with`."""

    def __init__(
        self, chunks: openai.AsyncStream[Any], request: _Request[T], errors: Callable[[], Any]
    ) -> None:
        self._chunks, self._answer, self._errors = chunks, _Answer(request), errors

    async def __aiter__(self) -> AsyncIterator[str]:
        with self._errors():
            async for chunk in self._chunks:
                if delta := self._answer.add(chunk):
                    yield delta
            self._answer.end()

    @property
    def result(self) -> T:
        """The typed answer; errors as `TextStream.result`."""
        return self._answer.result()

    async def close(self) -> None:
        await self._chunks.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _chat(prompt: str | Messages, system: str | None, sampling: Sampling) -> _Request[Completion]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    body = {"messages": messages, "max_tokens": 512, "temperature": 0.0, **sampling}
    return _Request(chat=True, body=body, finish=lambda answer: answer)


def _complete(prompt: str, sampling: Sampling) -> _Request[Completion]:
    body = {"prompt": prompt, "max_tokens": 128, "temperature": 0.0, **sampling}
    return _Request(chat=False, body=body, finish=lambda answer: answer)


def _infill(
    prefix: str, suffix: str, extra: Sequence[File], filename: str | None, sampling: Sampling
) -> _Request[Completion]:
    body = {"prompt": prefix, "suffix": suffix, "max_tokens": 128, "temperature": 0.0, **sampling}
    if extra:  # plain OpenAI servers know neither key
        body["extra_body"] = {"extra": list(extra), "filename": filename}
    return _Request(chat=False, body=body, finish=lambda answer: answer)


def _problem(
    code: str, language: str | None, structured: bool, sampling: Sampling
) -> _Request[Problem]:
    messages = oss_instruct.messages(code)
    body = {"messages": messages, "max_tokens": 1024, "temperature": 0.0, **sampling}
    if structured:
        body["extra_body"] = oss_instruct.structured(language)
    return _Request(chat=True, body=body, finish=_read_problem)


def _read_problem(answer: Completion) -> Problem:
    try:
        return oss_instruct.parse(answer.text)
    except oss_instruct.ParseError as error:
        if answer.finish_reason == "length":
            raise oss_instruct.ParseError(
                f"{error}: it was cut at the token limit; raise max_tokens"
            ) from None
        raise


def _usage(answer: Any) -> Usage | None:
    if answer.usage is None:
        return None
    details = getattr(answer.usage, "prompt_tokens_details", None)
    cached = getattr(details, "cached_tokens", None)
    return Usage(answer.usage.prompt_tokens, answer.usage.completion_tokens, cached)


@_foreign
def _infos(answer: Any) -> list[ModelInfo]:
    return [_card(card) for card in answer.http_response.json()["data"]]


@_foreign
def _info(answer: Any) -> ModelInfo:
    return _card(answer.http_response.json())


def _tokenizer(model: str) -> str:
    return f"/models/{quote(model)}/tokenizer"


def _card(card: dict[str, Any]) -> ModelInfo:
    ours = card.get("magicoder") or {}
    told = {
        "id": card["id"],
        "context": ours.get("context") or card.get("max_model_len"),
        "fim": ours.get("fim"),
        "adapters": tuple(ours.get("adapters", ())),
        "structured": bool(ours.get("structured")),
        "repository": bool(ours.get("repository")),
        "order": ours.get("order"),
        "tokenizer": ours.get("tokenizer"),
    }
    return _MODEL.validate_python(told)  # its errors are ValueErrors


@dataclass(frozen=True)
class _Base:
    """What the two clients share: the settings, and errors told in one line.

    No redirect is followed: code goes to the server that the user named, and to no other.
    """

    settings: settings.Settings
    options: dict[str, Any] = field(repr=False)

    @classmethod
    def build(cls, **flags: Any) -> "_Base":
        max_retries = flags.pop("max_retries")
        chosen = settings.load(**flags)
        key = chosen.api_key.get_secret_value() if chosen.api_key else "none"
        options = {
            "base_url": chosen.base_url,
            "api_key": key,
            "timeout": chosen.timeout,
            "max_retries": max_retries,
        }
        return cls(chosen, options)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Tell what openai and its transport raise as one line that names the mend."""
        url = self.settings.base_url
        try:
            yield
        except openai.APITimeoutError:
            seconds = f"{self.settings.timeout:g}"
            raise ServerError(
                f"{url} did not answer within {seconds} s: raise MAGICODER_TIMEOUT, or ask for less"
            ) from None
        except openai.APIConnectionError as error:
            if not type(error.__cause__).__name__.startswith("Connect"):
                raise ServerError(f"{url} broke off its answer: try again") from None
            raise ServerError(
                f"no server at {url}: start one with `magicoder serve`, or set {_ADDRESS}"
            ) from None
        except openai.APIStatusError as error:
            raise ServerError(self._refused(error), error.status_code) from None
        except (openai.APIError, openai.OpenAIError) as error:
            raise ServerError(f"{url} broke off its answer: {error}: try again") from None
        except (ValueError, RecursionError):
            mend = self._unversioned() or f"set {_ADDRESS} to a server that does"
            raise ServerError(f"{url} does not speak OpenAI's API: {mend}") from None

    def _refused(self, error: openai.APIStatusError) -> str:
        """A refusal in one line that names its mend, where one is known."""
        url, said, response = self.settings.base_url, _detail(error), error.response
        if response.has_redirect_location:
            target = str(response.url.join(response.headers["location"]))
            path = str(response.url).removeprefix(url)
            elsewhere = target.removesuffix(path).rstrip("/")
            return f"{url} sends to {elsewhere}: set {_ADDRESS} to that if you trust it"
        if error.status_code in (401, 403):
            return f"{said}: set api_key (MAGICODER_API_KEY) to one that {url} accepts"
        if error.status_code == 404:
            listed = f"`magicoder doctor` lists what is served at {url}"
            return f"{said}: {self._unversioned() or listed}"
        return said

    def _unversioned(self) -> str:
        """The likeliest mend of an address that names no version of the API; else empty."""
        url = self.settings.base_url
        return "" if re.search(r"/v\d", urlsplit(url).path) else f"add /v1 to {_ADDRESS}, {url}"

    def first(self, models: list[ModelInfo]) -> str:
        if not models:
            raise ServerError(f"{self.settings.base_url} serves no model: start it with one")
        return models[0].id


def _detail(error: openai.APIStatusError) -> str:
    """The server's own words for what went wrong, on one line."""
    body = error.body if isinstance(error.body, dict) else {}
    words = str(body.get("message") or error.response.reason_phrase or "no reason given")
    return f"the server answered {error.status_code}: {' '.join(words.split())}".rstrip(". ")


class Magicoder:
    """A client of one server. What is not given comes from MAGICODER_* or magicoder.toml.

    Args:
        base_url: the server's address, ending in /v1.
        api_key: its key, if it asks for one.
        model: a model or adapter that it serves; by default the first that it lists.
        timeout: seconds to wait for an answer.
        max_retries: how often a failed connection, a 429 or a 5xx is tried again.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
        max_retries: int = 2,
    ) -> None:
        self._base = _Base.build(
            base_url=base_url,
            api_key=api_key,
            model=model,
            timeout=timeout,
            max_retries=max_retries,
        )
        http = openai.DefaultHttpxClient(follow_redirects=False)
        self._openai = openai.OpenAI(http_client=http, **self._base.options)
        self._model = self._base.settings.model

    def models(self) -> list[ModelInfo]:
        """The models and adapters that the server lists."""
        with self._base.errors():
            return _infos(self._openai.models.with_raw_response.list())

    def model_info(self) -> ModelInfo:
        """What the server tells about the model in use."""
        try:
            with self._base.errors():
                return _info(self._openai.models.with_raw_response.retrieve(self._name()))
        except ServerError as error:
            if error.status != 404:
                raise
        # A plain vLLM lists its models but does not tell about one; or it serves others by now.
        models = self.models()
        name = self._model = self._base.settings.model or self._base.first(models)
        return next((m for m in models if m.id == name), ModelInfo(name))

    def tokenizer(self) -> bytes:
        """The `tokenizer.json` of the model in use, as the `tokenizers` library reads it.

        Raises:
            ServerError: status 404 where the server gives none; `model_info().tokenizer` tells.
        """
        with self._base.errors():
            return self._openai.get(
                _tokenizer(self._name()), cast_to=openai.HttpxBinaryResponseContent
            ).content

    def _name(self) -> str:
        if self._model is None:
            self._model = self._base.first(self.models())
        return self._model

    def _send(self, request: _Request[T], stream: bool) -> T | TextStream[T]:
        resource: Any = self._openai.chat.completions if request.chat else self._openai.completions
        body = {"model": self._name(), **request.body}
        with self._base.errors():
            if stream:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
                return TextStream(resource.create(**body), request, self._base.errors)
            return _finish(request, resource.create(**body))

    @overload
    def chat(
        self,
        prompt: str | Messages,
        *,
        system: str | None = None,
        stream: Literal[False] = False,
        **sampling: Unpack[Sampling],
    ) -> Completion: ...
    @overload
    def chat(
        self,
        prompt: str | Messages,
        *,
        system: str | None = None,
        stream: Literal[True],
        **sampling: Unpack[Sampling],
    ) -> TextStream[Completion]: ...
    def chat(
        self,
        prompt: str | Messages,
        *,
        system: str | None = None,
        stream: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Completion | TextStream[Completion]:
        """Answer a prompt, or a conversation of {"role", "content"} messages."""
        return self._send(_chat(prompt, system, sampling), stream)

    @overload
    def complete(
        self, prompt: str, *, stream: Literal[False] = False, **sampling: Unpack[Sampling]
    ) -> Completion: ...
    @overload
    def complete(
        self, prompt: str, *, stream: Literal[True], **sampling: Unpack[Sampling]
    ) -> TextStream[Completion]: ...
    def complete(
        self, prompt: str, *, stream: bool = False, **sampling: Unpack[Sampling]
    ) -> Completion | TextStream[Completion]:
        """Continue `prompt` as raw text."""
        return self._send(_complete(prompt, sampling), stream)

    @overload
    def infill(
        self,
        prefix: str,
        suffix: str,
        *,
        extra: Sequence[File] = (),
        filename: str | None = None,
        stream: Literal[False] = False,
        **sampling: Unpack[Sampling],
    ) -> Completion: ...
    @overload
    def infill(
        self,
        prefix: str,
        suffix: str,
        *,
        extra: Sequence[File] = (),
        filename: str | None = None,
        stream: Literal[True],
        **sampling: Unpack[Sampling],
    ) -> TextStream[Completion]: ...
    def infill(
        self,
        prefix: str,
        suffix: str,
        *,
        extra: Sequence[File] = (),
        filename: str | None = None,
        stream: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Completion | TextStream[Completion]:
        """Write what stands between `prefix` and `suffix`.

        Args:
            prefix: the text before the hole.
            suffix: the text after it.
            extra: other files of the repository, the most telling one last: what does not fit is
                left out from the first on. For models whose `model_info().repository` holds.
            filename: the name of the file with the hole; counts only together with `extra`.

        Raises:
            ServerError: status 400 where the model has no infilling tokens, or takes no other
                files; `model_info` tells.
        """
        return self._send(_infill(prefix, suffix, extra, filename, sampling), stream)

    @overload
    def problem_from_code(
        self,
        code: str,
        *,
        language: str | None = None,
        structured: bool | None = None,
        stream: Literal[False] = False,
        **sampling: Unpack[Sampling],
    ) -> Problem: ...
    @overload
    def problem_from_code(
        self,
        code: str,
        *,
        language: str | None = None,
        structured: bool | None = None,
        stream: Literal[True],
        **sampling: Unpack[Sampling],
    ) -> TextStream[Problem]: ...
    def problem_from_code(
        self,
        code: str,
        *,
        language: str | None = None,
        structured: bool | None = None,
        stream: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Problem | TextStream[Problem]:
        """Write a programming problem inspired by `code`, and its solution (OSS-Instruct).

        Args:
            code: the snippet.
            language: the name of its language, as `magicoder.languages` has it.
            structured: hold the model to the form of an answer; by default where it needs that.

        Raises:
            ParseError: the answer does not hold a problem and a solution.
        """
        if structured is None:
            structured = self.model_info().structured
        return self._send(_problem(code, language, structured, sampling), stream)

    def close(self) -> None:
        self._openai.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@_foreign
def _finish(request: _Request[T], answer: Any) -> T:
    choice = answer.choices[0]
    text = choice.message.content if request.chat else choice.text
    done = Completion(text or "", choice.finish_reason, answer.model, _usage(answer))
    return request.finish(done)


class AsyncMagicoder:
    """`Magicoder` with `await`; streams are read with `async for delta in await m.chat(...)`.

    The arguments and methods are those of `Magicoder`.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
        max_retries: int = 2,
    ) -> None:
        self._base = _Base.build(
            base_url=base_url,
            api_key=api_key,
            model=model,
            timeout=timeout,
            max_retries=max_retries,
        )
        http = openai.DefaultAsyncHttpxClient(follow_redirects=False)
        self._openai = openai.AsyncOpenAI(http_client=http, **self._base.options)
        self._model = self._base.settings.model

    async def models(self) -> list[ModelInfo]:
        """The models and adapters that the server lists."""
        with self._base.errors():
            return _infos(await self._openai.models.with_raw_response.list())

    async def model_info(self) -> ModelInfo:
        """What the server tells about the model in use."""
        try:
            with self._base.errors():
                return _info(
                    await self._openai.models.with_raw_response.retrieve(await self._name())
                )
        except ServerError as error:
            if error.status != 404:
                raise
        models = await self.models()
        name = self._model = self._base.settings.model or self._base.first(models)
        return next((m for m in models if m.id == name), ModelInfo(name))

    async def tokenizer(self) -> bytes:
        """As `Magicoder.tokenizer`."""
        path = _tokenizer(await self._name())
        with self._base.errors():
            return (await self._openai.get(path, cast_to=openai.HttpxBinaryResponseContent)).content

    async def _name(self) -> str:
        if self._model is None:
            self._model = self._base.first(await self.models())
        return self._model

    async def _send(self, request: _Request[T], stream: bool) -> T | AsyncTextStream[T]:
        resource: Any = self._openai.chat.completions if request.chat else self._openai.completions
        body = {"model": await self._name(), **request.body}
        with self._base.errors():
            if stream:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
                return AsyncTextStream(await resource.create(**body), request, self._base.errors)
            return _finish(request, await resource.create(**body))

    @overload
    async def chat(
        self,
        prompt: str | Messages,
        *,
        system: str | None = None,
        stream: Literal[False] = False,
        **sampling: Unpack[Sampling],
    ) -> Completion: ...
    @overload
    async def chat(
        self,
        prompt: str | Messages,
        *,
        system: str | None = None,
        stream: Literal[True],
        **sampling: Unpack[Sampling],
    ) -> AsyncTextStream[Completion]: ...
    async def chat(
        self,
        prompt: str | Messages,
        *,
        system: str | None = None,
        stream: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Completion | AsyncTextStream[Completion]:
        """As `Magicoder.chat`."""
        return await self._send(_chat(prompt, system, sampling), stream)

    @overload
    async def complete(
        self, prompt: str, *, stream: Literal[False] = False, **sampling: Unpack[Sampling]
    ) -> Completion: ...
    @overload
    async def complete(
        self, prompt: str, *, stream: Literal[True], **sampling: Unpack[Sampling]
    ) -> AsyncTextStream[Completion]: ...
    async def complete(
        self, prompt: str, *, stream: bool = False, **sampling: Unpack[Sampling]
    ) -> Completion | AsyncTextStream[Completion]:
        """As `Magicoder.complete`."""
        return await self._send(_complete(prompt, sampling), stream)

    @overload
    async def infill(
        self,
        prefix: str,
        suffix: str,
        *,
        extra: Sequence[File] = (),
        filename: str | None = None,
        stream: Literal[False] = False,
        **sampling: Unpack[Sampling],
    ) -> Completion: ...
    @overload
    async def infill(
        self,
        prefix: str,
        suffix: str,
        *,
        extra: Sequence[File] = (),
        filename: str | None = None,
        stream: Literal[True],
        **sampling: Unpack[Sampling],
    ) -> AsyncTextStream[Completion]: ...
    async def infill(
        self,
        prefix: str,
        suffix: str,
        *,
        extra: Sequence[File] = (),
        filename: str | None = None,
        stream: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Completion | AsyncTextStream[Completion]:
        """As `Magicoder.infill`."""
        return await self._send(_infill(prefix, suffix, extra, filename, sampling), stream)

    @overload
    async def problem_from_code(
        self,
        code: str,
        *,
        language: str | None = None,
        structured: bool | None = None,
        stream: Literal[False] = False,
        **sampling: Unpack[Sampling],
    ) -> Problem: ...
    @overload
    async def problem_from_code(
        self,
        code: str,
        *,
        language: str | None = None,
        structured: bool | None = None,
        stream: Literal[True],
        **sampling: Unpack[Sampling],
    ) -> AsyncTextStream[Problem]: ...
    async def problem_from_code(
        self,
        code: str,
        *,
        language: str | None = None,
        structured: bool | None = None,
        stream: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Problem | AsyncTextStream[Problem]:
        """As `Magicoder.problem_from_code`."""
        if structured is None:
            structured = (await self.model_info()).structured
        return await self._send(_problem(code, language, structured, sampling), stream)

    async def close(self) -> None:
        await self._openai.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
