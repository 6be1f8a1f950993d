"""A server as a child process, for tests and the demo: `with Server("smollm2-135m") as server:`."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from magicoder.errors import MagicoderError
from magicoder.server.supervisor import die_with_parent

_READY = " is served at http"  # what `magicoder serve` prints
_START_SECONDS = 600
_STOP_SECONDS = 30


class Server:
    """Runs `magicoder serve` and waits until it answers; it ends with this process.

    model, adapters, args: as for `magicoder serve`; args stand before its `--` and after.
    port: None takes a free one.
    log: a file that takes all the output of the server and of vLLM.
    report: gets one line a step.

    base_url: the API's address, ending in /v1, once it is entered.
    """

    def __init__(
        self,
        model: str,
        *,
        port: int | None = None,
        adapters: Mapping[str, Path] | None = None,
        args: Sequence[str] = (),
        log: Path,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._port = port or _free_port()
        self._log = log
        self._report = report or (lambda line: None)
        named = [f"--adapter={name}={path}" for name, path in (adapters or {}).items()]
        self._command = [sys.executable, "-m", "magicoder", "serve", model, *named]
        self._command += ["--port", str(self._port), "--log", str(log), *args]
        self._process: subprocess.Popen[bytes] | None = None
        self.base_url = f"http://127.0.0.1:{self._port}/v1"

    @property
    def pid(self) -> int:
        """Of the running `magicoder serve`."""
        assert self._process is not None  # noqa: S101
        return self._process.pid

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_bytes(b"")
        self._report("starting the server")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C stops it through `stop` alone
                preexec_fn=lambda: die_with_parent(signal.SIGTERM),
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait(self) -> None:
        assert self._process is not None  # noqa: S101
        started = time.monotonic()
        while time.monotonic() - started < _START_SECONDS:
            if self._process.poll() is not None:
                raise MagicoderError(self._error() or f"the server ended (log: {self._log})")
            if _READY in self._log.read_text(errors="replace"):
                self._report(f"server ready in {time.monotonic() - started:.0f} s")
                return
            time.sleep(0.2)
        raise MagicoderError(f"no answer in {_START_SECONDS} s: see {self._log}")

    def _error(self) -> str | None:
        """The last line in which the server said why it ended."""
        errors = re.findall(r"^[Ee]rror: (.+)$", self._log.read_text(errors="replace"), re.M)
        if not errors:
            return None
        return errors[-1] if str(self._log) in errors[-1] else f"{errors[-1]} (log: {self._log})"

    def stop(self) -> int:
        """End it as Ctrl-C does, by force if it does not; the exit code of `magicoder serve`."""
        assert self._process is not None  # noqa: S101
        self._process.terminate()
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.terminate()  # the second signal: at once
            return self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
