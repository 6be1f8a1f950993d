"""A trace for each completion: what each stage took, and why nothing was shown. It holds no code.

`Clock` times one completion while it is made; `write` keeps the trace as a line of JSON, and `read`
gives them back for `magicoder lsp --trace`.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from platformdirs import user_state_path

LARGEST = 1 << 20
"""Bytes of a file of traces; the one before it is kept beside it."""


@dataclass
class Trace:
    """One completion. `outcome` tells where it came from, or in a few words why there is none.

    `trigger` is automatic, invoked or ahead (prepared while another is shown); `stages` has the
    milliseconds of each stage in order, `total_ms` all of them. `server_ms` is from the request
    to its last byte, `first_ms` to its first; the tokens are the server's own count. None: nothing
    was asked, or the server does not tell.
    """

    time: float
    language: str
    trigger: str
    outcome: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    total_ms: float = 0.0
    first_ms: float | None = None
    server_ms: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    characters: int = 0


class Clock:
    """Times the stages of one completion; `trace` is what it has found."""

    def __init__(self, language: str, trigger: str) -> None:
        self._begun = time.perf_counter()
        self.trace = Trace(round(time.time(), 3), language, trigger)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside; a stage that comes twice is added up."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            stages = self.trace.stages
            stages[name] = round(stages.get(name, 0.0) + milliseconds(begun), 3)

    def end(self, outcome: str, characters: int = 0) -> Trace:
        """The finished trace."""
        self.trace.outcome, self.trace.characters = outcome, characters
        self.trace.total_ms = round(milliseconds(self._begun), 3)
        return self.trace


def milliseconds(begun: float) -> float:
    """Since `begun`, a reading of time.perf_counter."""
    return (time.perf_counter() - begun) * 1000


def path() -> Path:
    """The file of traces."""
    return user_state_path("magicoder") / "lsp" / "traces.jsonl"


def write(trace: Trace, file: Path | None = None) -> None:
    """Append a trace. One open, write and close: well under a millisecond, and safe to rotate.

    Where it cannot be written there is none: completing goes on.
    """
    file = file or path()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(asdict(trace), separators=(",", ":")) + "\n").encode()
        kept = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            full = os.fstat(kept).st_size + len(line) > LARGEST
            os.write(kept, line)  # one call: several editors share the file
        finally:
            os.close(kept)
        if full:
            os.replace(file, file.with_suffix(".old.jsonl"))


def read(file: Path | None = None) -> Iterator[Trace]:
    """The traces kept, oldest first; lines of another form are passed over."""
    file = file or path()
    names = {each.name for each in fields(Trace)}
    for part in (file.with_suffix(".old.jsonl"), file):
        with suppress(FileNotFoundError), part.open(encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError, TypeError, AttributeError):
                    found = json.loads(line)
                    yield Trace(**{key: found[key] for key in found.keys() & names})
