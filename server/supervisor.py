"""Runs vLLM in a child process: shows how its start goes on, passes signals, explains its end.

vLLM could run in this process, but Ctrl-C in a terminal goes to every process of the group, and
vLLM's worker ends at once on it, in the middle of a request. The child has a group of its own: only
this process hears Ctrl-C. It lets running requests finish, and a second one stops everything.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import time
import traceback
from textwrap import shorten
from typing import Any, NoReturn

from rich.console import Console

from magicoder.errors import MagicoderError, UsageError
from magicoder.server.launcher import Plan

_LIBC = ctypes.CDLL(None)  # loaded here, since a forked child must not
_PR_SET_PDEATHSIG = 1
_PHASES = {  # what vLLM logs when a phase begins
    "non-default args": "reading the model's configuration",
    "Initializing a V1 LLM engine": "starting the engine",
    "Starting to load model": "loading the weights",
    "Loading weights took": "warming up",
    "Supported tasks": "opening the API",
}
_MENDS = {  # a word of the cause, and what to do
    "address already in use": "choose another --port",
    "max_model_len|max seq len": "take a smaller one, as with: -- --max-model-len 2048",
    "KV cache|kv_cache": "give it more, as with: -- --kv-cache-memory-bytes 2G",
    "safetensor": "the weights are damaged: fetch them again",
    r"out of memory|memory|'EngineCore': -9": "free memory, or serve a smaller model",
    "lora|adapter": "serve each adapter with the model that it was trained on",
    "trust_remote_code": "if you trust the model's own code, add: -- --trust-remote-code",
    "architecture": "this vLLM does not know such models: choose another",
}


def die_with_parent(signum: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signum)


def run(plan: Plan, display: "Display") -> int:
    """Serve until told to stop; the exit code.

    SIGTERM or SIGINT lets running requests finish, a second one stops at once.

    Raises:
        MagicoderError: vLLM did not start, or ended by itself; says why, in one line.
    """
    try:
        plan.log.parent.mkdir(parents=True, exist_ok=True)
        plan.log.write_bytes(b"")
    except OSError as error:
        raise UsageError(
            f"no log can be written to {plan.log} ({error.strerror}): name another with --log"
        ) from None
    if display.verbose and os.path.samestat(os.fstat(1), plan.log.stat()):
        raise UsageError("--verbose copies the log to the output, which is the log: leave it out")
    return _Supervisor(plan, display).run()


class _Supervisor:
    def __init__(self, plan: Plan, display: "Display") -> None:
        self.plan = plan
        self.display = display
        self.ready = False
        self.signals = 0
        self.pid = 0

    def run(self) -> int:
        started = time.monotonic()
        reader, writer = os.pipe()
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self.on_signal)
        parent = os.getpid()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _child(self.plan, parent, writer)
        os.close(writer)
        self.display.phase("importing vLLM")
        with self.plan.log.open(errors="replace") as log:
            while True:
                done, status = os.waitpid(self.pid, os.WNOHANG)
                for line in log:
                    self.display.line(line)
                if done:
                    break
                if not self.ready and not self.signals and self.answers():
                    self.ready = True
                    self.display.ready(self.plan, time.monotonic() - started)
                time.sleep(0.1)
        self.display.stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it may have left behind
        with os.fdopen(reader) as pipe:
            return self.end(os.waitstatus_to_exitcode(status), pipe.read())

    def on_signal(self, signum: int, frame: Any) -> None:
        self.signals += 1
        with contextlib.suppress(ProcessLookupError):
            if self.ready and self.signals == 1:
                self.display.say("finishing running requests (Ctrl-C stops at once)")
                os.kill(self.pid, signal.SIGTERM)
            else:
                os.killpg(self.pid, signal.SIGKILL)

    def answers(self) -> bool:
        """vLLM listens only when it is ready."""
        with contextlib.suppress(OSError), socket.create_connection(self.plan.address, 1):
            return True
        return False

    def end(self, code: int, message: str) -> int:
        if self.signals > 1 or (self.signals and not self.ready):
            return 130
        if self.signals and code == 0:
            return 0
        log = self.plan.log
        if message.startswith("usage: "):
            raise UsageError(f"vLLM refuses its arguments: {message.removeprefix('usage: ')}")
        text = cause(log.read_text(errors="replace")) or message
        if not text:
            text = "it was killed, perhaps for memory" if code == -9 else f"exit code {code}"
        what = "ended" if self.ready else "could not start"
        mends = (mend for word, mend in _MENDS.items() if re.search(word, text, re.IGNORECASE))
        raise MagicoderError(f"vLLM {what}: {text}: {next(mends, 'see its log')} (log: {log})")


def cause(log: str) -> str | None:
    """The first error of the process that failed first, from vLLM's log."""
    failed = re.search(r"(failed to start|encountered a fatal error|WorkerProc failed)\.", log)
    said = failed and re.compile(r"\] (\w[\w.]*(?:Error|Exception): .+)$", re.M).search(
        log, failed.end()
    )
    return said[1] if said else None


class Display:
    """A spinner with the phase on a terminal, plain lines elsewhere; vLLM's too if verbose."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        moving = self._console.is_terminal and not verbose
        self._status = self._console.status("") if moving else None

    def phase(self, text: str) -> None:
        """Say what goes on now."""
        if self._status is None:
            self.say(text)
        else:
            self._status.update(text)
            self._status.start()

    def line(self, line: str) -> None:
        """Take a line of vLLM's log."""
        if self.verbose:
            self.say(line.rstrip("\n"))
        for word, phase in _PHASES.items():
            if word in line:
                self.phase(phase)

    def say(self, text: str) -> None:
        self._console.print(text)

    def ready(self, plan: Plan, seconds: float) -> None:
        self.stop()
        key = ' -H "Authorization: Bearer $KEY"' if "VLLM_API_KEY" in plan.environment else ""
        self.say(f"{plan.name} is served at {plan.base_url} (ready in {seconds:.0f} s)")
        self.say(f"  curl {plan.base_url}/models{key}")
        self.say(f"  log: {plan.log}")
        self.say("  Ctrl-C stops it")

    def stop(self) -> None:
        if self._status is not None:
            self._status.stop()


def _child(plan: Plan, parent: int, writer: int) -> NoReturn:
    """vLLM, in a process group of its own; ends with its parent."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it ended before it could be watched
        sys.exit(1)
    log = os.open(plan.log, os.O_WRONLY | os.O_APPEND)
    for target in (1, 2):
        os.dup2(log, target)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(plan.environment)
    os.nice(plan.nice)  # before it starts threads: each inherits it
    try:
        _vllm(plan.arguments)
    except BaseException as error:
        traceback.print_exc()
        os.write(writer, _one_line(error).encode())
        sys.exit(1)
    sys.exit(0)


def _one_line(error: BaseException) -> str:
    if isinstance(error, UsageError):
        return f"usage: {error}"
    text = str(error).strip() or type(error).__name__
    if hasattr(error, "errors"):  # pydantic's
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        text = where + first["msg"].removeprefix("Value error, ")
    return shorten(text, 240, placeholder=" ...")


def _vllm(arguments: tuple[str, ...]) -> None:
    """What `vllm serve` does, whose own command needs the metadata that the CPU wheel lacks."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.logger import configure_logging_from_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            raise UsageError(message)

    cli_env_setup()
    command = ServeSubcommand()
    parser = Parser(prog="vllm")
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    args = parser.parse_args(["serve", *arguments])
    configure_logging_from_args(args)
    command.validate(args)
    command.cmd(args)
