"""The bodies of the routes that vLLM does not have."""

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator
from vllm.entrypoints.openai.completion.protocol import CompletionRequest


class File(BaseModel):
    """Another file of the repository."""

    filename: str
    text: str


class SuffixRequest(CompletionRequest):  # type: ignore[misc]
    """vLLM's body of `POST /v1/completions`, where a `suffix` allows an empty prompt.

    extra: other files of the repository, for models that know the format.
    filename: the name of the file with the hole.
    """

    extra: list[File] = Field(default_factory=list)
    filename: str | None = None

    @model_validator(mode="before")
    @classmethod
    def validate_prompt_and_prompt_embeds(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("suffix") is not None:
            return data if data.get("prompt") is not None else {**data, "prompt": ""}
        return CompletionRequest.validate_prompt_and_prompt_embeds(data)


class FimRequest(BaseModel):
    """Mistral's body of `POST /v1/fim/completions`: code is written between prompt and suffix."""

    model: str | None = None
    prompt: str
    suffix: str | None = None
    max_tokens: int | None = Field(None, ge=0)
    min_tokens: int | None = Field(None, ge=0)
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    random_seed: int | None = None
    stream: bool = False
    metadata: dict[str, Any] | None = None


class Message(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    index: int
    message: Message
    finish_reason: str | None


class FimResponse(BaseModel):
    """The answer, in the shape of a chat's."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, Any]


class Delta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str


class ChunkChoice(BaseModel):
    index: int
    delta: Delta
    finish_reason: str | None = None


class FimChunk(BaseModel):
    """A piece of a streamed answer; the last one carries the usage."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: dict[str, Any] | None = None
