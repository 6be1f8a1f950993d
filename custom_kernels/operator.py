"""Operators of PyTorch that cost the host little where nothing traces them.

A call of a torch.library.custom_op goes through the dispatcher and back into Python for each of its
layers, which takes as long as the launch of a kernel. A training step of a small model makes
hundreds of such calls, and the device would wait for the host.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)


class Operator:
    """A function as `torch.library.custom_op`, which compilers see, and as itself for other calls.

    `function` mutates nothing and its results share no memory with its arguments. Register a fake
    and an autograd formula as with a custom op.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.custom_op = torch.library.custom_op(name, function, mutates_args=())
        namespace, _, self.short = name.partition("::")
        self.overload = getattr(getattr(torch.ops, namespace), self.short).default
        self.register_fake = self.custom_op.register_fake
        self.function = function
        self.defaults = tuple(x.default for x in signature(function).parameters.values())
        self.recorded: Callable[..., Any] | None = None

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[..., None]
    ) -> None:
        """As `CustomOpDef.register_autograd`."""
        self.custom_op.register_autograd(backward, setup_context=setup_context)

        def forward(ctx: Any, *arguments: Any) -> Any:
            output = self.function(*arguments)
            setup_context(ctx, arguments, output)
            return output

        functions = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        recorded: Any = type(self.short, (torch.autograd.Function,), functions)
        self.recorded = recorded.apply

    def __call__(self, *arguments: Any) -> Any:
        if torch.compiler.is_compiling() or _traced(arguments):
            return self.overload(*arguments)
        arguments += self.defaults[len(arguments) :]
        if not torch.is_grad_enabled():
            return self.function(*arguments)
        # without a formula, the custom op refuses to be differentiated
        return (self.recorded or self.overload)(*arguments)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Makes an `Operator` called `name` ("magicoder::rope") of the function below."""
    return lambda function: Operator(name, function)


def _traced(arguments: tuple[Any, ...]) -> bool:
    """Whether something wants to see the operator: a mode, a subclass of Tensor, a transform."""
    if (
        torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.maybe_current_level() is not None
    ):
        return True
    return any(isinstance(x, Tensor) and type(x) not in PLAIN for x in arguments)
