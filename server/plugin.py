"""What vLLM loads from this package, under plain `vllm serve` too; named in pyproject.toml.

vLLM runs `register` in each of its processes, more than once; `endpoints` only in the one that
speaks HTTP, and only if VLLM_PLUGINS names `magicoder`.
"""

from argparse import Namespace
from typing import Any

_RENDERER = ("magicoder.server.renderer", "FimRenderer")


def register() -> None:
    """Let `suffix` work for every model whose tokenizer has infilling tokens."""
    from vllm.renderers.registry import RENDERER_REGISTRY

    if RENDERER_REGISTRY.renderers.get("hf") != _RENDERER:
        RENDERER_REGISTRY.register("hf", *_RENDERER)


class Endpoints:
    """The routes of `magicoder.server.router`, as vLLM's EndpointPlugin protocol asks for them."""

    name = "magicoder"
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        from magicoder.server.router import router

        app.include_router(router)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        from magicoder.server.serving import Serving

        state.magicoder = Serving(state)


def endpoints() -> Endpoints:
    """The factory that the entry point names."""
    return Endpoints()
