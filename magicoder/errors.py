"""Errors that a user can mend. Each prints as one line that names the mend; no traceback.

Anything that does not derive from `MagicoderError` is a bug and shows its traceback.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any


class MagicoderError(Exception):
    """Something failed that the user can mend; the message says how. Exit code 1."""

    exit_code = 1


class UsageError(MagicoderError):
    """What the user typed or wrote cannot be used: a flag, a key, a name. Exit code 2."""

    exit_code = 2


class ServerError(MagicoderError):
    """The server could not be reached, or refused the request.

    `status` is the HTTP status code, or None where no answer came.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def missing_extra(what: str, extra: str) -> MagicoderError:
    """The error for a feature whose packages are not installed."""
    return MagicoderError(f"{what} is not installed: install with pip install 'magicoder[{extra}]'")


def require(module: str, extra: str) -> Any:
    """Import `module`, or raise an error that names the extra which brings it."""
    if find_spec(module.partition(".")[0]) is None:
        raise missing_extra(module.partition(".")[0], extra)
    return import_module(module)
