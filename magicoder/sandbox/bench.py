"""Compiles and runs code, and holds it against tests, in the sandbox; keeps the verdicts."""

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from magicoder.languages import Language
from magicoder.sandbox import PATH, Limits, Sandbox
from magicoder.sandbox.toolchains import PASSED, TOOLCHAINS, Toolchain


class Verdict(BaseModel):
    """What came of a list of commands.

    built: all but the last succeeded. passed: the last one did, too, and it printed what it had to.
    limit: the sandbox's limit that ended it. why: a line that says what went wrong.
    """

    model_config = ConfigDict(frozen=True)

    built: bool
    passed: bool
    limit: str | None = None
    why: str = ""


class Verdicts(Protocol):
    """Where verdicts are kept: the store."""

    def verdict(self, key: str) -> str | None: ...
    def keep_verdict(self, key: str, json: str) -> None: ...


class Bench:
    """Runs what a toolchain says in a sandbox. A verdict in `kept` is not come to again.

    Safe to use from many threads.
    """

    def __init__(self, sandbox: Sandbox, limits: Limits, kept: Verdicts | None = None) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._kept = kept
        self._versions: dict[str, str | None] = {}
        self._closed = False
        self._lock = Lock()
        # One for each key, or nearly: no two threads come to the same verdict at once
        self._turns = [Lock() for _ in range(1024)]

    def close(self) -> None:
        """Run nothing more: whoever waits for a verdict that is not kept gets `CancelledError`."""
        self._closed = True

    def missing(self, language: Language) -> str | None:
        """The tool that is wanting to run `language`, or None where it is there."""
        toolchain = TOOLCHAINS.get(language.name)
        if toolchain is None:
            return language.name
        return None if self._version(toolchain) else toolchain.tool

    def compiles(self, language: Language, code: str) -> Verdict:
        """Whether `code` compiles, or passes the type checker."""
        toolchain = TOOLCHAINS[language.name]
        return self._verdict(toolchain, toolchain.files(code), toolchain.compile, "")

    def passes(self, language: Language, code: str, tests: str) -> Verdict:
        """Whether `code` passes `tests`."""
        toolchain = TOOLCHAINS[language.name]
        return self._verdict(toolchain, toolchain.files(code, tests), toolchain.run, PASSED)

    def _version(self, toolchain: Toolchain) -> str | None:
        with self._lock:
            if toolchain.tool not in self._versions:
                commands, env = [toolchain.version], environment(toolchain)
                result = self._sandbox.run(commands, files={}, env=env)[0]
                said = (result.stdout + result.stderr).strip()
                self._versions[toolchain.tool] = said if result.exit_code == 0 else None
            return self._versions[toolchain.tool]

    def _verdict(
        self,
        toolchain: Toolchain,
        files: dict[str, str],
        commands: Sequence[Sequence[str]],
        say: str,
    ) -> Verdict:
        limits = [self._limits.seconds, self._limits.memory, self._limits.disk]
        asked = [self._sandbox.kind, self._version(toolchain), files, commands, limits]
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        with self._turns[int(key, 16) % len(self._turns)]:
            if self._kept and (kept := self._kept.verdict(key)) is not None:
                return Verdict.model_validate_json(kept)
            if self._closed:
                raise CancelledError
            env = environment(toolchain)
            results = self._sandbox.run(commands, files=files, env=env, limits=self._limits)
            last = results[-1]
            built = len(results) == len(commands)
            said = not say or say in last.stdout.splitlines()
            passed = built and last.exit_code == 0 and said
            why = "" if passed else last.limit or _line(last.stderr + last.stdout)
            verdict = Verdict(built=built, passed=passed, limit=last.limit, why=why)
            if self._kept:
                self._kept.keep_verdict(key, verdict.model_dump_json())
            return verdict


def open_sandbox(kind: Literal["bubblewrap", "none"] = "bubblewrap") -> Sandbox:
    """A sandbox that also sees the toolchains that lie outside /usr, such as rustup's.

    Raises:
        MagicoderError: bubblewrap is missing or does not work.
    """
    homes = {_home(toolchain.home) for toolchain in TOOLCHAINS.values()}
    return Sandbox(kind, read_only=sorted(Path(home) for home in homes if home))


def environment(toolchain: Toolchain) -> dict[str, str]:
    """The variables that its commands want in the sandbox."""
    env = {"PYTHONHASHSEED": "0"}
    if home := _home(toolchain.home):
        env["PATH"] = f"{home}/bin:{PATH}"
    return env


@cache
def _home(command: tuple[str, ...]) -> str | None:
    """The folder that `command` prints, on this machine and not in the sandbox."""
    if not command:
        return None
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    home = os.path.realpath(printed.stdout.strip())
    return home if os.path.isdir(home) else None


def _line(output: str) -> str:
    """The line of a tool's output that says most: the first with an error, or the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors[0] if errors else lines[-1] if lines else "")[:200]
