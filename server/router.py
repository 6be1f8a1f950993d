"""The routes that Magicoder adds to vLLM's; docs/serving.md describes them."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from vllm.entrypoints.openai.completion import api_router as core
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import (
    load_aware_call,
    validate_json_request,
    with_cancellation,
)
from vllm.entrypoints.serve.utils.sse_keep_alive import with_sse_keep_alive

from magicoder.server import serving
from magicoder.server.protocol import FimChunk, FimRequest, FimResponse, SuffixRequest

router = APIRouter()
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse},
    404: {"model": ErrorResponse},
}


def _error(error: Any) -> JSONResponse:
    return JSONResponse(error.model_dump(), status_code=error.error.code)


@router.post(
    "/v1/completions",
    dependencies=[Depends(validate_json_request)],
    responses={200: {"content": {"text/event-stream": {}}}, **_ERRORS},
)
async def create_completion(request: SuffixRequest, raw_request: Request) -> Response:
    """OpenAI's completions; with a `suffix`, code is written between `prompt` and `suffix`."""
    prepared = await raw_request.app.state.magicoder.prepared(request)
    response: Response = await core.create_completion(prepared, raw_request)
    return response


@router.post(
    "/v1/fim/completions",
    dependencies=[Depends(validate_json_request)],
    response_model=FimResponse,
    responses={200: {"content": {"text/event-stream": {}}, "model": FimChunk}, **_ERRORS},
)
@with_cancellation  # type: ignore[untyped-decorator]
@load_aware_call  # type: ignore[untyped-decorator]
async def create_fim_completion(request: FimRequest, raw_request: Request) -> Response:
    """Mistral's fill in the middle: the answer has the shape of a chat's."""
    state = raw_request.app.state
    prepared = await state.magicoder.prepared(serving.as_suffix_request(request))
    answer = await state.openai_serving_completion.create_completion(prepared, raw_request)
    if isinstance(answer, ErrorResponse):
        return _error(answer)
    if not request.stream:
        return JSONResponse(serving.as_fim_response(answer).model_dump())
    events = with_sse_keep_alive(
        serving.as_fim_events(answer), float(state.args.sse_keep_alive_interval)
    )
    return StreamingResponse(events, media_type="text/event-stream")


@router.get("/v1/models/{model:path}/tokenizer", responses={404: _ERRORS[404]})
async def retrieve_tokenizer(model: str, raw_request: Request) -> Response:
    """The model's tokenizer.json, so that clients can count tokens as it does."""
    ours = raw_request.app.state.magicoder
    if await ours.card(model) is not None and ours.tokenizer is not None:
        return Response(ours.tokenizer, media_type="application/json")
    message = f"The model `{model}` does not exist, or has no tokenizer.json."
    return _error(create_error_response(message, "NotFoundError", HTTPStatus.NOT_FOUND, "model"))


@router.get("/v1/models/{model:path}", responses={404: _ERRORS[404]})
async def retrieve_model(model: str, raw_request: Request) -> Response:
    """OpenAI's card of one model, with its FIM format, context and adapters."""
    card = await raw_request.app.state.magicoder.card(model)
    if card is not None:
        return JSONResponse(card)
    message = f"The model `{model}` does not exist."
    return _error(create_error_response(message, "NotFoundError", HTTPStatus.NOT_FOUND, "model"))
