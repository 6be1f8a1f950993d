"""OpenAI Batch files: the questions of `generate` out, a batch's answers into the store.

`vllm run-batch` reads and writes the same files. A line's `custom_id` is the request's key in the
store, so that `generate` afterwards finds every answer there and asks for none.
"""

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from magicoder.errors import UsageError
from magicoder.training.data import runner
from magicoder.training.data.generate import Generate
from magicoder.training.data.records import Question, Record, Rejected
from magicoder.training.data.runner import Step
from magicoder.training.data.store import Store
from magicoder.training.data.styles import STYLES
from magicoder.training.data.teacher import Reply, Teacher, body, key


class Request(Record):
    """A line of a Batch file that goes out."""

    custom_id: str
    method: Literal["POST"] = "POST"
    url: Literal["/v1/chat/completions"] = "/v1/chat/completions"
    body: dict[str, Any]


class Response(BaseModel):
    """The part of a result that holds the answer."""

    status_code: int = 200
    body: dict[str, Any] | None = None


class Result(Record):
    """A line of a Batch file that came back."""

    custom_id: str
    response: Response | None = None
    error: Any = None


def step(config: Generate, *, source: Path, teacher: Teacher, store: Store) -> Step:
    """The step from what the style reads to the requests whose answers `store` lacks.

    Holds the keys of all requests in memory, about 150 bytes each.

    Raises:
        UsageError: the style asks no teacher, or the teacher leaves open what only a running
            endpoint could tell: its model, and whether it understands structured output.
    """
    if teacher.model is None:
        raise UsageError("a batch needs the model's name: give --model")
    if teacher.structured == "auto":
        raise UsageError(
            "a batch can't find out about structured output: give --structured always "
            "(vllm run-batch) or never (others), the same as with 'magicoder data generate'"
        )
    write = partial(requests, teacher=teacher, model=teacher.model, store=store)
    stages = STYLES[config.style](source, write)
    if "answers" not in stages:
        raise UsageError(f"the style {config.style} asks no teacher: run 'magicoder data generate'")
    names = list(stages)
    asked = names[: names.index("answers")]
    return Step({name: stages[name] for name in asked} | {"requests": stages["answers"]})


def requests(
    questions: Iterator[Question], *, teacher: Teacher, model: str, store: Store
) -> Iterator[Request | Rejected]:
    """Each question as a request, but for those asked before or answered already."""
    seen: set[str] = set()
    for question in questions:
        held = bool(question.extra) and teacher.structured == "always"
        request = body(question, teacher, model, held=held)
        name = key(request, question.sample)
        if name in seen:
            yield Rejected(reason="same as an earlier request", record=question)
        elif store.get(name, teacher.max_tokens) is not None:
            yield Rejected(reason="its answer is in the store", record=question)
        else:
            seen.add(name)
            yield Request(custom_id=name, body=request)


def read(results: Path, asked: Path, store: Store) -> Counter[str]:
    """Keep the answers in `results` to the requests in `asked`; what became of them, counted.

    "kept" is the count of those kept; the other keys say why an answer was not. Holds the keys of
    all requests in memory, about 200 bytes each.

    Raises:
        UsageError: a file cannot be read; names the line.
    """
    limits = {
        request.custom_id: int(request.body["max_tokens"])
        for request in runner.read(iter(()), path=asked, type=Request)
    }
    counts: Counter[str] = Counter()
    for result in runner.read(iter(()), path=results, type=Result):
        counts[_keep(result, limits, store)] += 1
    return counts


def _keep(result: Result, limits: dict[str, int], store: Store) -> str:
    if result.custom_id not in limits:
        return "not among the requests"
    if result.error or result.response is None:
        return "failed"
    if result.response.status_code != 200:
        return f"HTTP {result.response.status_code}"
    try:
        reply = Reply.model_validate(result.response.body)
    except ValidationError:
        return "not an OpenAI answer"
    if not reply.text:
        return "empty answer"
    store.put(
        result.custom_id,
        json.dumps(result.response.body, ensure_ascii=False),
        max_tokens=limits[result.custom_id],
        cut=reply.cut,
    )
    return "kept"
