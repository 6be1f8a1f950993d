"""Triton kernels for packed-sequence training, each beside its PyTorch reference.

    from magicoder.custom_kernels import ATTENTION, kernelize

    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation=ATTENTION)
    model = kernelize(model.to("cuda"))

Importing this package needs no Triton; docs/kernels.md tells how each kernel works.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magicoder.custom_kernels.registration import ATTENTION, kernelize

__all__ = ["ATTENTION", "kernelize"]


def __getattr__(name: str) -> Any:
    """Import transformers, which takes seconds, only for these: a kernel does without it."""
    if name in __all__:
        from magicoder.custom_kernels import registration

        return getattr(registration, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
