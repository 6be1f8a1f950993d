"""How many tokens a text is, by the served model's own tokenizer."""

import asyncio
import ctypes
import hashlib
import os
import re
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from magicoder import settings
from magicoder.errors import MagicoderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from magicoder.client import AsyncMagicoder, ModelInfo


LONG = 2_000
"""Characters of a line at most that is remembered."""


class Counter:
    """Counts tokens line by line, and remembers each line: a keystroke costs one line.

    Without a tokenizer it counts UTF-8 bytes: a token is at least one in every tokenizer served
    here, so that bytes bound tokens from above.

    largest: tokens, or bytes, of a prompt at most: a longer one costs time at each keystroke.
    """

    def __init__(self, tokenizer: "Tokenizer | None" = None) -> None:
        self.largest = 8192 if tokenizer is None else 2048
        self._tokenizer = tokenizer
        self._line = lru_cache(maxsize=20_000)(self._count)

    def count(self, text: str) -> int:
        """Tokens of `text`, at most a few more than there are: none reaches over a line's end."""
        lines = text.splitlines(keepends=True)
        return sum((self._line if len(line) <= LONG else self._count)(line) for line in lines)

    def _count(self, line: str) -> int:
        encoded = line.encode(errors="replace")  # half a surrogate pair is a question mark
        if self._tokenizer is None:
            return len(encoded)
        return len(self._tokenizer.encode(encoded.decode(), add_special_tokens=False).ids)


async def load(client: "AsyncMagicoder", served: "ModelInfo") -> Counter:
    """A counter with the tokenizer that the server gives, kept in the cache folder by its hash."""
    if served.tokenizer is None or not re.fullmatch("[0-9a-f]{64}", served.tokenizer):
        return Counter()
    file = settings.load().cache_dir / "tokenizers" / f"{served.tokenizer}.json"
    if not await asyncio.to_thread(file.exists):
        try:
            content = await client.tokenizer()
        except MagicoderError:
            return Counter()
        if hashlib.sha256(content).hexdigest() != served.tokenizer:
            return Counter()
        await asyncio.to_thread(_keep, file, content)
    return await asyncio.to_thread(_counter, file)


def _counter(file: Path) -> Counter:
    from tokenizers import Tokenizer

    try:
        counter = Counter(Tokenizer.from_file(str(file)))
    except Exception:  # the library raises nothing narrower
        return Counter()
    with suppress(AttributeError, OSError):  # reading took twice what stays: glibc gives it back
        ctypes.CDLL(None).malloc_trim(0)
    return counter


def _keep(file: Path, content: bytes) -> None:
    with suppress(OSError):  # the next start fetches it again
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as part:
            part.write(content)
        Path(name).replace(file)
