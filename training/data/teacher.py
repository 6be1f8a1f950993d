"""Asks a teacher, any OpenAI-compatible endpoint, many questions at once and none of them twice.

Requests run in a thread of their own, so that they stay in flight while later stages work. What
failed and is worth another try waits outside the slots; what is not costs its own record alone.
"""

import asyncio
import hashlib
import json
import random
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Thread
from time import monotonic, time
from typing import Any, Literal

import openai
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from magicoder.errors import ServerError
from magicoder.training.data.records import Answer, Question, Record, Rejected
from magicoder.training.data.store import Store

_FOR_ALL = {401, 402, 403, 404}  # HTTP statuses that every other request would get as well
_AGAIN = {408, 409, 429}  # and from 500 on: worth another try
_LONGEST_WAIT = 30.0  # seconds between two tries, unless the server asks for more


class Teacher(BaseModel):
    """Who is asked, and how. The sampling defaults are the paper's.

    model: none takes the first that the endpoint lists. structured: whether questions that bring a
    form are held to it by vLLM's structured output; auto does so where the endpoint says that it is
    vLLM. seed: none lets the endpoint draw; sample n of a question is asked with seed + n.
    in_flight: the most requests at once. timeout: seconds for one whole answer. retries: how often
    a failed request is asked again. requests_per_minute, tokens_per_minute: the endpoint's limits
    for this model, held by spacing the requests evenly; a request counts as its `max_tokens` and a
    token for every four characters asked. price_in, price_out: of a million tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    api_key: SecretStr | None = None
    model: str | None = None
    structured: Literal["auto", "always", "never"] = "auto"
    temperature: float = Field(0.0, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int = Field(2500, gt=0)
    seed: int | None = 976
    in_flight: int = Field(16, gt=0, le=1000)
    timeout: float = Field(600.0, gt=0)
    retries: int = Field(5, ge=0)
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    price_in: float = Field(0.0, ge=0)
    price_out: float = Field(0.0, ge=0)


class Account:
    """The books of one step's requests. All that ask one teacher with it share its slots."""

    def __init__(self) -> None:
        self._sent = self._answers = self._from_store = self._coalesced = 0
        self._structured = self._two_sections = 0
        self._tokens: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._bound = 0
        self._cost = 0.0
        self._now = 0  # requests in flight
        self._first = self._changed = self._last_send = 0.0  # moments
        self._area = self._area_at_send = 0.0  # requests in flight times seconds
        self._asking = 0
        self._pool: _Pool | None = None

    def summary(self) -> dict[str, Any]:
        """What was asked, answered and paid, as JSON.

        Every figure of a shard can be added to another's. `in_flight_seconds` and `slot_seconds`
        cover the time while there was work left, from the first request sent to the last one: their
        quotient is the part of the slots that was in use on average. `structured` and
        `two_sections` count the answers handed out, those from the store included.
        """
        return {
            "requests": self._sent,
            "answers": self._answers,
            "from_store": self._from_store,
            "coalesced": self._coalesced,
            "retries": dict(sorted(self._retries.items())),
            "failures": dict(sorted(self._failures.items())),
            "structured": self._structured,
            "two_sections": self._two_sections,
            "prompt_tokens": self._tokens["prompt"],
            "completion_tokens": self._tokens["completion"],
            "cost": round(self._cost, 6),
            "seconds": round(self._changed - self._first, 3),
            "in_flight_seconds": round(self._area_at_send, 3),
            "slot_seconds": round(self._bound * (self._last_send - self._first), 3),
        }

    @contextmanager
    def _shared(self, teacher: Teacher, store: Store) -> "Iterator[_Pool]":
        """The slots, opened by the first who asks and closed by the last."""
        if self._pool is None:
            self._bound = teacher.in_flight
            self._pool = _Pool(teacher, store, self)
        pool = self._pool
        self._asking += 1
        try:
            yield pool
        finally:
            self._asking -= 1
            if not self._asking:
                self._pool = None
                pool.close()

    def _send(self) -> None:
        now = self._pass_time()
        self._first = self._first or now
        self._last_send, self._area_at_send = now, self._area
        self._sent += 1
        self._now += 1

    def _ended(self) -> None:
        self._pass_time()
        self._now -= 1

    def _pass_time(self) -> float:
        now = monotonic()
        self._area += self._now * (now - self._changed)
        self._changed = now
        return now

    def _paid(self, reply: "Reply", teacher: Teacher) -> None:
        usage = reply.usage or Usage()
        self._answers += 1
        self._tokens["prompt"] += usage.prompt_tokens
        self._tokens["completion"] += usage.completion_tokens
        cost = usage.prompt_tokens * teacher.price_in + usage.completion_tokens * teacher.price_out
        self._cost += cost / 1e6


class Message(BaseModel):
    """The message of a choice."""

    content: str | None = None


class Choice(BaseModel):
    """One of the answers to a request."""

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens of a request and its answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Reply(BaseModel):
    """What we read of a chat completion's JSON."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The answer, possibly empty."""
        return self.choices[0].message.content or ""

    @property
    def cut(self) -> bool:
        """Whether `max_tokens` ended it."""
        return self.choices[0].finish_reason == "length"


class Model(BaseModel):
    """A model that the endpoint lists."""

    id: str
    owned_by: str | None = None


class Models(BaseModel):
    """What we read of a list of models."""

    data: list[Model]


def ask(
    questions: Iterator[Record], *, teacher: Teacher, store: Store, account: Account
) -> Iterator[Record]:
    """The answers in the order of the questions; any other record passes through in its place.

    A question that fails becomes a `Rejected` with its record. What arrives is kept in `store`
    before it is handed on; a failure is not, so that the next run asks again. Questions are pulled
    as slots need them: at most `max(1024, 16 * in_flight)` wait to be handed out.

    Raises:
        ServerError: the endpoint is not there, or refuses us; what had arrived is kept.
    """
    window = max(1024, 16 * teacher.in_flight)
    waiting: deque[Record | _Asked] = deque()
    serial = 0
    with account._shared(teacher, store) as pool:
        while True:
            while len(waiting) < window and not (_ready(waiting) and pool.full):
                record = next(questions, None)
                if record is None:
                    break
                if isinstance(record, Question):
                    waiting.append(pool.submit(record, serial))
                else:
                    waiting.append(record)
                serial += 1
            if not waiting:
                return
            first = waiting.popleft()
            yield first.answer(account) if isinstance(first, _Asked) else first


def key(body: dict[str, Any], sample: int = 0) -> str:
    """The name of a request's answer in the store: of all that shapes it but `max_tokens`."""
    named = {name: value for name, value in body.items() if name != "max_tokens"}
    text = json.dumps([named, sample], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def body(question: Question, teacher: Teacher, model: str, *, held: bool) -> dict[str, Any]:
    """The request's JSON; `held`: with the form that the question brings."""
    request: dict[str, Any] = {
        "model": model,
        "messages": list(question.messages),
        "temperature": teacher.temperature,
        "max_tokens": teacher.max_tokens,
    }
    if teacher.top_p is not None:
        request["top_p"] = teacher.top_p
    if teacher.seed is not None:
        request["seed"] = teacher.seed + question.sample
    return request | (question.extra if held else {})


class _TooLongError(ValueError):
    """An endpoint that ignores `max_tokens`."""


@dataclass(frozen=True)
class _Failure:
    reason: str
    detail: str = ""


Outcome = Reply | _Failure


@dataclass(order=True)
class _Job:
    """A request in line; the lowest place comes first, so that a retried one holds none back."""

    place: int
    key: str
    body: dict[str, Any] = field(compare=False)
    future: Future[Outcome] = field(compare=False, default_factory=Future)
    tries: int = field(compare=False, default=0)


@dataclass(frozen=True)
class _Asked:
    """A question whose answer is on its way, or there."""

    question: Question
    model: str
    held: bool
    future: Future[Outcome]

    def answer(self, account: Account) -> Answer | Rejected:
        outcome = self.future.result()
        if isinstance(outcome, _Failure):
            reason = f"teacher: {outcome.reason}"
            return Rejected(reason=reason, record=self.question.record, detail=outcome.detail)
        account._structured += self.held
        account._two_sections += not self.held
        return Answer(
            record=self.question.record,
            teacher=self.model,
            text=outcome.text,
            finish_reason=outcome.choices[0].finish_reason or "",
            sample=self.question.sample,
            structured=self.held,
        )


def _ready(waiting: "deque[Record | _Asked]") -> bool:
    first = waiting[0] if waiting else None
    return first is not None and (not isinstance(first, _Asked) or first.future.done())


class _Pool:
    """`in_flight` workers in a thread of their own, that take the requests in line."""

    def __init__(self, teacher: Teacher, store: Store, account: Account) -> None:
        self._teacher, self._store, self._account = teacher, store, account
        self._unfinished: dict[str, _Job] = {}
        self._error: Exception | None = None
        self._free = self._pause = 0.0  # moments: of the next send, and of the server's patience
        self._most = 65536 + 64 * teacher.max_tokens  # bytes of an answer
        self._model = teacher.model
        self._holds = {"always": True, "never": False}.get(teacher.structured)
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._line: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        key = teacher.api_key.get_secret_value() if teacher.api_key else "none"
        self._client = openai.AsyncOpenAI(
            base_url=teacher.base_url, api_key=key, timeout=teacher.timeout, max_retries=0
        )
        self._thread = Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Give up what is in flight."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    @property
    def full(self) -> bool:
        """Enough is in line to keep the slots busy for a while."""
        return len(self._unfinished) >= 8 * self._teacher.in_flight

    def submit(self, question: Question, place: int) -> _Asked:
        """Put a question in line, unless its answer is there or on its way already."""
        held = bool(question.extra) and self._holds_to_forms()
        request = body(question, self._teacher, self._name(), held=held)
        name = key(request, question.sample)
        # In this order: a job leaves `_unfinished` only after its answer is in the store.
        job = self._unfinished.get(name)
        if job is not None:
            self._account._coalesced += 1
            return _Asked(question, self._name(), held, job.future)
        job = _Job(place, name, request)
        if (kept := self._store.get(name, self._teacher.max_tokens)) is not None:
            self._account._from_store += 1
            job.future.set_result(Reply.model_validate_json(kept))
        elif self._error:
            raise self._error
        else:
            self._unfinished[name] = job
            self._loop.call_soon_threadsafe(self._line.put_nowait, job)
        return _Asked(question, self._name(), held, job.future)

    def _name(self) -> str:
        if self._model is None:
            models = self._list()
            if not models:
                raise ServerError(f"{self._client.base_url} lists no models: name one")
            self._model = models[0].id
        return self._model

    def _holds_to_forms(self) -> bool:
        """Whether the endpoint understands vLLM's structured output: found out once and kept."""
        if self._holds is None:
            place = key({"endpoint": self._teacher.base_url, "model": self._name()})
            if (kept := self._store.verdict(place)) is None:
                owners = {model.id: model.owned_by for model in self._list()}
                kept = json.dumps(owners.get(self._name()) == "vllm")
                self._store.keep_verdict(place, kept)
            self._holds = json.loads(kept) is True
        return self._holds

    def _list(self) -> list[Model]:
        async def listed() -> bytes:
            client = self._client.with_options(max_retries=1)
            return (await client.models.with_raw_response.list()).content

        try:
            found = asyncio.run_coroutine_threadsafe(listed(), self._loop).result()
            return Models.model_validate_json(found).data
        except (openai.OpenAIError, ValueError) as error:
            if problem := self._for_all(error):
                raise problem from None
            why = self._why(error)[0].reason
            raise ServerError(f"{self._client.base_url} lists no models ({why})") from None

    async def _serve(self) -> None:
        workers = [asyncio.create_task(self._work()) for _ in range(self._teacher.in_flight)]
        async with self._client:
            await self._over.wait()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        await self._loop.shutdown_default_executor()  # answers on their way into the store

    async def _work(self) -> None:
        while self._error is None:
            job = await self._line.get()
            try:
                await self._try(job)
            except Exception as error:  # for the thread that waits for the answers
                self._error = error
                for unfinished in tuple(self._unfinished.values()):
                    if not unfinished.future.done():
                        unfinished.future.set_exception(error)

    async def _try(self, job: _Job) -> None:
        """Ask once; a failure worth another try goes back in line when its time has come."""
        await self._turn(job)
        self._account._send()
        try:
            text = await self._send(job.body)
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            failure, again = self._why(error)
            problem = self._for_all(error)
            # A server that was there may come back; one that never answered is told at once
            patient = problem is None or self._account._answers > 0
            if again and patient and job.tries < self._teacher.retries:
                self._account._retries[failure.reason] += 1
                job.tries += 1
                self._loop.call_later(self._wait(error, job.tries), self._line.put_nowait, job)
                return
            if problem:
                raise problem from None
            outcome: Outcome = failure
        else:
            outcome = self._read(text)
        finally:
            self._account._ended()
        if isinstance(outcome, Reply):
            self._account._paid(outcome, self._teacher)
            await asyncio.to_thread(
                self._store.put,
                job.key,
                text,
                max_tokens=self._teacher.max_tokens,
                cut=outcome.cut,
            )
        else:
            self._account._failures[outcome.reason] += 1
        if not job.future.done():
            job.future.set_result(outcome)
        self._unfinished.pop(job.key, None)

    async def _turn(self, job: _Job) -> None:
        """Wait for the rate limits, and for as long as the server asked us to."""
        teacher, gap = self._teacher, 0.0
        if teacher.requests_per_minute:
            gap = 60 / teacher.requests_per_minute
        if teacher.tokens_per_minute:
            asked = sum(len(message["content"]) for message in job.body["messages"]) // 4
            gap = max(gap, 60 * (asked + teacher.max_tokens) / teacher.tokens_per_minute)
        turn = max(self._loop.time(), self._free)
        self._free = turn + gap
        while (wait := max(turn, self._pause) - self._loop.time()) > 0:  # noqa: ASYNC110, it can grow
            await asyncio.sleep(wait)

    async def _send(self, request: dict[str, Any]) -> str:
        read = bytearray()
        create = self._client.chat.completions.with_streaming_response.create
        async with (
            asyncio.timeout(self._teacher.timeout),
            create(
                model=request["model"], messages=request["messages"], extra_body=request
            ) as response,
        ):
            try:
                async for chunk in response.iter_bytes():
                    read += chunk
                    if len(read) > self._most:
                        raise _TooLongError
            except _TooLongError:
                raise
            except Exception as error:  # the HTTP library's own: the client no longer wraps it
                raise openai.APIConnectionError(request=response.http_request) from error
        return read.decode()

    def _read(self, text: str) -> Outcome:
        try:
            reply = Reply.model_validate_json(text)
        except ValueError:
            return _Failure("not an OpenAI answer", text[:200])
        return reply if reply.text else _Failure("empty answer")

    def _wait(self, error: Exception, tries: int) -> float:
        """Seconds until the next try. A server that names them is left alone by all."""
        if isinstance(error, openai.APIStatusError):
            named = _seconds(error.response.headers.get("Retry-After", ""))
            if named is not None:
                named = min(named, self._teacher.timeout)
                self._pause = max(self._pause, self._loop.time() + named)
                return named
        # Jitter, so that those that failed together don't come back together
        return min(0.5 * 2.0 ** (tries - 1), _LONGEST_WAIT) * random.uniform(0.5, 1)  # noqa: S311

    def _why(self, error: Exception) -> tuple[_Failure, bool]:
        """Why a request failed, and whether another try may fare better."""
        if isinstance(error, openai.APIStatusError):
            status = error.status_code
            again = status in _AGAIN or status >= 500
            return _Failure(f"HTTP {status}", error.message[:200]), again
        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return _Failure("no answer in time"), True
        if isinstance(error, openai.APIConnectionError):
            return _Failure("the connection broke"), True
        if isinstance(error, _TooLongError):
            return _Failure("far longer than asked for"), False
        return _Failure("not an OpenAI answer"), False

    def _for_all(self, error: Exception) -> ServerError | None:
        """What every other request would meet as well."""
        where = self._client.base_url
        # The cause is httpx's or httpx2's ConnectError, as the openai client has it
        if type(error.__cause__).__name__ == "ConnectError":
            return ServerError(
                f"no server at {where}: start one with 'magicoder serve', then run this again; "
                "answers that arrived are kept"
            )
        if isinstance(error, openai.APIStatusError) and error.status_code in _FOR_ALL:
            message = f"{where} refuses: {error.message}: check the key and the model"
            return ServerError(message, error.status_code)
        return None


def _seconds(header: str) -> float | None:
    """A Retry-After: seconds, or a date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except ValueError:
        return None
