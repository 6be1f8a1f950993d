"""What an editor can set: initializationOptions, on top of MAGICODER_* and magicoder.toml."""

from dataclasses import dataclass
from typing import Any

from magicoder import settings
from magicoder.errors import UsageError

SHARED = ("base_url", "api_key", "model", "timeout")
"""Keys of the one settings object that an editor may set."""


@dataclass(frozen=True)
class Options:
    """How to reach the server, and how many tokens a completion may have."""

    settings: settings.Settings
    max_tokens: int = 64


def read(given: Any) -> Options:
    """The options in what the editor sent: an object, or nothing.

    Raises:
        UsageError: a key is unknown, or its value cannot be used; names the key.
    """
    given = given or {}  # Lua sends an empty table as an empty list
    if not isinstance(given, dict):
        raise UsageError("initializationOptions: expected an object of settings")
    known = [*SHARED, "max_tokens"]
    if unknown := given.keys() - set(known):
        raise UsageError(f"unknown setting '{min(unknown)}': use one of {', '.join(known)}")
    max_tokens = given.get("max_tokens", Options.max_tokens)
    if type(max_tokens) is not int or not 1 <= max_tokens <= 4096:
        raise UsageError("setting 'max_tokens': expected a whole number from 1 to 4096")
    shared = settings.load(**{key: value for key, value in given.items() if key in SHARED})
    return Options(shared, max_tokens)
