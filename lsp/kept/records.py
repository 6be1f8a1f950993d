"""The log's lines: what became of one suggestion. No code is in them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from platformdirs import user_state_path
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, ValidationError

Share = float | None
MARKS = {"s30": 30.0, "min2": 120.0, "min10": 600.0}
"""Seconds after the acceptance at which it is looked what still stands; fields of `Survival`."""


class Survival(BaseModel):
    """Of the accepted characters, the share that still stood; None: not known."""

    model_config = ConfigDict(frozen=True)

    s30: Share = Field(None, ge=0, le=1)
    min2: Share = Field(None, ge=0, le=1)
    min10: Share = Field(None, ge=0, le=1)


class Record(BaseModel):
    """One suggestion that was shown.

    `time` in seconds since 1970; `shown_ms` how long it stood until it was accepted or gone;
    `accepted` "whole" when nothing of it was left over and some of it was accepted; `typed` counts
    its characters that the user typed all the same. `survival` only of what was accepted.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    time: float
    language: str
    model: str
    source: str
    lines: NonNegativeInt
    characters: NonNegativeInt
    latency_ms: NonNegativeFloat
    shown_ms: NonNegativeFloat
    accepted: Literal["whole", "part", "no"]
    accepted_characters: NonNegativeInt = 0
    typed_characters: NonNegativeInt = 0
    survival: Survival | None = None


def path() -> Path:
    """The log's file."""
    return user_state_path("magicoder") / "lsp" / "kept.jsonl"


def append(file: Path, lines: Iterable[str]) -> None:
    """Add lines to a file that several language servers may write, in one piece.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{line}\n" for line in lines).encode()
    kept = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(kept).st_size
        if size and os.pread(kept, 1, size - 1) != b"\n":  # a full disk cut the line before
            data = b"\n" + data
        os.write(kept, data)
    finally:
        os.close(kept)


def read(file: Path) -> tuple[list[Record], int]:
    """The records of a log, oldest first, and how many of its lines cannot be read.

    Raises:
        OSError: it cannot be read, or there is none.
    """
    found, unreadable = [], 0
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.strip():
                try:
                    found.append(Record.model_validate_json(line))
                except ValidationError:
                    unreadable += 1
    return found, unreadable
