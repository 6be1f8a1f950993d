"""Asks a teacher, any OpenAI-compatible endpoint, for a problem inspired by each seed."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from magicoder import oss_instruct
from magicoder.errors import ServerError
from magicoder.training.data.records import Answer, Rejected, Sample, Seed
from magicoder.training.data.store import Store


class Teacher(BaseModel):
    """Who is asked, and how. The sampling defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    api_key: SecretStr | None = None
    model: str | None = None  # none takes the first that the endpoint lists
    structured: bool = False  # make it keep to the two sections (vLLM's structured output)
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(2500, gt=0)
    seed: int | None = 976  # none lets the endpoint draw: one seed makes unlike prompts draw alike
    in_flight: int = Field(16, gt=0)
    timeout: float = Field(600.0, gt=0)
    retries: int = Field(4, ge=0)


def generate(
    seeds: Iterator[Seed], *, teacher: Teacher, store: Store
) -> Iterator[Answer | Rejected]:
    """The teacher's answers, in the order of the seeds.

    Failures worth another try (429, 5xx, a cut or silent connection) are retried with back-off.
    Nothing that failed is kept in `store`, so that the next run asks again.

    Raises:
        ServerError: the endpoint is not there, or refuses us; what had arrived is kept.
    """
    with asyncio.Runner() as runner:
        answers = _answers(seeds, teacher, store)

        async def following() -> Answer | Rejected | None:
            return await anext(answers, None)

        while answer := runner.run(following()):
            yield answer


def parse(answers: Iterator[Answer]) -> Iterator[Sample | Rejected]:
    """Read the two sections; as in the paper, an answer must have ended by itself."""
    for answer in answers:
        if answer.finish_reason != "stop":
            cut = answer.finish_reason == "length"
            reason = "cut at the token limit" if cut else f"ended by {answer.finish_reason}"
            yield Rejected(reason=reason, record=answer)
            continue
        try:
            found = oss_instruct.parse(answer.text)
        except oss_instruct.ParseError as error:
            yield Rejected(reason=str(error), record=answer)
            continue
        yield Sample(seed=answer.seed, teacher=answer.teacher, **found.model_dump())


async def _answers(
    seeds: Iterator[Seed], teacher: Teacher, store: Store
) -> AsyncIterator[Answer | Rejected]:
    """Keeps `in_flight` requests running; one slow answer holds back few that came after it."""
    key = teacher.api_key.get_secret_value() if teacher.api_key else "none"
    slots = asyncio.Semaphore(teacher.in_flight)
    waiting: deque[asyncio.Task[Answer | Rejected]] = deque()
    async with openai.AsyncOpenAI(
        base_url=teacher.base_url, api_key=key, timeout=teacher.timeout, max_retries=teacher.retries
    ) as client:
        model = teacher.model or await _first_model(client)

        async def answer(seed: Seed) -> Answer | Rejected:
            request = _request(seed, model, teacher)
            if (body := store.get(request)) is None:
                async with slots:
                    try:
                        body = (await client.chat.completions.create(**request)).model_dump_json()
                    except (openai.OpenAIError, ValueError) as error:
                        return Rejected(reason=_reason(error, client), record=seed)
            return _answer(seed, body, request, store)

        try:
            for seed in seeds:
                waiting.append(asyncio.create_task(answer(seed)))
                if len(waiting) == 4 * teacher.in_flight:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


def _request(seed: Seed, model: str, teacher: Teacher) -> dict[str, Any]:
    request: dict[str, Any] = {
        "model": model,
        "messages": oss_instruct.messages(seed.code),
        "temperature": teacher.temperature,
        "max_tokens": teacher.max_tokens,
    }
    if teacher.seed is not None:
        request["seed"] = teacher.seed
    if teacher.structured:
        request["extra_body"] = oss_instruct.structured(seed.language)
    return request


def _answer(seed: Seed, body: str, request: dict[str, Any], store: Store) -> Answer | Rejected:
    """Read an answer's JSON, and keep it if it holds one."""
    try:
        choice = ChatCompletion.model_validate_json(body).choices[0]
    except (ValidationError, IndexError):
        return Rejected(reason="teacher: not an OpenAI answer", record=seed)
    if not choice.message.content:
        return Rejected(reason="teacher: empty answer", record=seed)
    store.put(request, body)
    return Answer(
        seed=seed,
        teacher=request["model"],
        text=choice.message.content,
        finish_reason=choice.finish_reason,
    )


async def _first_model(client: openai.AsyncOpenAI) -> str:
    try:
        models = (await client.models.list()).data
    except (openai.OpenAIError, ValueError) as error:
        raise ServerError(f"{client.base_url} lists no models ({_reason(error, client)})") from None
    if not models:
        raise ServerError(f"{client.base_url} lists no models: name one")
    return models[0].id


def _reason(error: Exception, client: openai.AsyncOpenAI) -> str:
    """Why a request failed, if others may fare better.

    Raises:
        ServerError: they won't.
    """
    # The cause is httpx's or httpx2's ConnectError, as the openai client has it
    if type(error.__cause__).__name__ == "ConnectError":
        raise ServerError(
            f"no server at {client.base_url}: start one with 'magicoder serve', then run this "
            "again; answers that arrived are kept"
        ) from None
    if isinstance(error, openai.APIStatusError):
        if error.status_code in (401, 403, 404):
            message = f"{client.base_url} refuses: {error.message}: check the key and the model"
            raise ServerError(message, error.status_code) from None
        return f"teacher: HTTP {error.status_code}"
    if isinstance(error, openai.APITimeoutError):
        return "teacher: no answer in time"
    if isinstance(error, openai.APIConnectionError):
        return "teacher: the connection broke"
    return "teacher: not an OpenAI answer"
