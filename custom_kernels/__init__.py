"""Triton kernels for packed-sequence training, each beside its PyTorch reference.

    from magicoder.custom_kernels import kernelize

    model = kernelize(model.to("cuda"))

Importing this package needs no Triton; docs/kernels.md tells how each kernel works.
"""

from magicoder.custom_kernels.registration import kernelize

__all__ = ["kernelize"]
