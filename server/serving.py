"""What happens between a request's body and vLLM's own completion handler."""

import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from vllm.exceptions import VLLMValidationError

from magicoder import models
from magicoder.errors import MagicoderError
from magicoder.server.protocol import (
    Choice,
    ChunkChoice,
    Delta,
    FimChunk,
    FimRequest,
    FimResponse,
    Message,
    SuffixRequest,
)

MAX_TOKENS = 128  # of an infilling answer whose request names no limit


class Serving:
    """The served model as the routes need it; `state` is vLLM's application state.

    infiller: None where the tokenizer has no infilling tokens.
    repository: whether prompts can show other files.
    context: the model's context in tokens.
    tokenizer: the content of its tokenizer.json; None where it comes in another form.
    """

    def __init__(self, state: Any) -> None:
        self.infiller = getattr(state.engine_client.renderer, "infiller", None)
        self.context: int = state.vllm_config.model_config.max_model_len
        self.repository = self.infiller is not None and self.infiller.repository is not None
        self.tokenizer = _tokenizer(state.engine_client.renderer)
        self._hash = self.tokenizer and hashlib.sha256(self.tokenizer).hexdigest()
        self._models = state.openai_serving_models
        self._one_at_a_time = CapacityLimiter(1)

    async def prepared(self, request: SuffixRequest) -> SuffixRequest:
        """The request for vLLM's handler: prompts with a suffix become token ids.

        Raises:
            VLLMValidationError: the request cannot be infilled (status 400).
        """
        if request.extra and (request.suffix is None or not self.repository):
            why = "needs a 'suffix'" if self.repository else "needs a model that knows other files"
            raise VLLMValidationError(f"'extra' {why}: leave it out", parameter="extra")
        # Without infilling tokens vLLM's handler refuses the suffix, once it has checked the model.
        if request.suffix is None or self.infiller is None:
            return request
        for name in ("echo", "prompt_embeds", "truncate_prompt_tokens"):
            if getattr(request, name):
                raise VLLMValidationError(f"'{name}' does not go with 'suffix'", parameter=name)
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise VLLMValidationError("'suffix' needs a text as prompt", parameter="prompt")
        rendered = [await self._rendered(prompt, request) for prompt in prompts]
        stops = dict.fromkeys([*(request.stop_token_ids or []), *self.infiller.stop_ids])
        prompt = rendered[0] if isinstance(request.prompt, str) else rendered
        update = {"prompt": prompt, "suffix": None, "stop_token_ids": list(stops)}
        return request.model_copy(update=update)  # type: ignore[no-any-return]

    async def _rendered(self, prompt: str, request: SuffixRequest) -> list[int]:
        """Token ids that leave room for the answer; in a thread, since a file may be long."""
        assert self.infiller is not None  # noqa: S101
        max_tokens = request.max_tokens or 0
        render = partial(
            self.infiller.render,
            prompt,
            request.suffix,
            self.context - max_tokens,
            extra=[(file.filename, file.text) for file in request.extra],
            filename=request.filename,
        )
        try:
            return await to_thread.run_sync(render, limiter=self._one_at_a_time)
        except MagicoderError:
            raise VLLMValidationError(
                f"max_tokens={max_tokens} leaves no room for the prompt in a context of "
                f"{self.context} tokens",
                parameter="max_tokens",
            ) from None

    async def card(self, model: str) -> dict[str, Any] | None:
        """OpenAI's card of a served model or adapter, and what Magicoder's clients ask; or None."""
        cards = (await self._models.show_available_models()).data
        base = models.find(self._models.base_model_paths[0].name)
        ours = {
            "fim": None if self.infiller is None else self.infiller.format.name,
            "context": self.context,
            "adapters": list(self._models.lora_requests),
            "structured": base is not None and base.structured,
            "repository": self.repository,
            "order": None if self.infiller is None else self.infiller.format.order,
            "tokenizer": self._hash,
        }
        found = (card.model_dump() for card in cards if card.id == model)
        return next(({**card, "magicoder": ours} for card in found), None)


def _tokenizer(renderer: Any) -> bytes | None:
    """The tokenizer as its library writes it, whatever form the model's folder has it in."""
    fast = getattr(getattr(renderer, "tokenizer", None), "backend_tokenizer", None)
    return None if fast is None else fast.to_str().encode()


def as_suffix_request(request: FimRequest) -> SuffixRequest:
    """Mistral's request as OpenAI's."""
    options = request.model_dump(
        include={"model", "prompt", "min_tokens", "temperature", "top_p", "stop"}, exclude_none=True
    )
    if request.stream:
        # Usage in each chunk, since the last one with text has to carry it.
        usage = {"include_usage": True, "continuous_usage_stats": True}
        options |= {"stream": True, "stream_options": usage}
    return SuffixRequest(
        suffix=request.suffix or "",
        max_tokens=MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        seed=request.random_seed,
        **options,
    )


def as_fim_response(answer: Any) -> FimResponse:
    """vLLM's completion in the shape of a chat's answer."""
    choices = [
        Choice(index=c.index, message=Message(content=c.text), finish_reason=c.finish_reason)
        for c in answer.choices
    ]
    return FimResponse(
        id=answer.id,
        created=answer.created,
        model=answer.model,
        choices=choices,
        usage=answer.usage.model_dump(exclude_none=True),
    )


async def as_fim_events(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """vLLM's server-sent events of a completion in the shape of a chat's chunks."""
    first = True
    async for event in events:
        body = event.removeprefix("data: ")
        chunk = {} if body.startswith("[DONE]") else json.loads(body)
        if "choices" not in chunk:  # the end, or an error
            yield event
            continue
        for choice in chunk["choices"]:
            delta = Delta(role="assistant" if first else None, content=choice["text"])
            reason = choice.get("finish_reason")
            piece = FimChunk(
                id=chunk["id"],
                created=chunk["created"],
                model=chunk["model"],
                choices=[ChunkChoice(index=choice["index"], delta=delta, finish_reason=reason)],
                usage=chunk.get("usage") if reason else None,
            )
            first = False
            yield f"data: {piece.model_dump_json(exclude_none=True)}\n\n"
