"""Where a kernel cannot be used PyTorch does the work, and the log says so once."""

import functools
import logging

import torch

logger = logging.getLogger("magicoder.custom_kernels")


def say_once(what: str, reason: str) -> None:
    """Log that PyTorch computes `what`, and why; one line for each pair in a process."""
    if not torch.compiler.is_compiling():  # a log call would break the graph
        _say(what, reason)


@functools.cache
def _say(what: str, reason: str) -> None:
    logger.warning("%s runs in PyTorch: %s", what, reason)
