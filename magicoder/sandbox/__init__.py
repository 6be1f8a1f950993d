"""The sandbox: runs code from models or strangers, with limits, and leaves nothing behind.

    sandbox = Sandbox()
    results = sandbox.run([["python3", "main.py"]], files={"main.py": "print(1)"})
    assert results[-1].stdout == "1\n"

bubblewrap gives the isolation, `inside.py`, the first process in the sandbox, the limits.
docs/data/sandbox.md says what holds and what does not.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from threading import Timer
from typing import IO, Literal, cast

from magicoder.errors import MagicoderError
from magicoder.sandbox import seccomp

INSIDE = Path(__file__).with_name("inside.py")
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Limits:
    """What each command may use.

    seconds: wall time. memory: bytes resident, of all its processes together. processes: how many
    at once; threads are limited to 8 times that. disk: bytes of the working directory, /tmp and
    the home together. output: bytes of standard output and error together.
    """

    seconds: float = 10.0
    memory: int = 1 << 30
    processes: int = 64
    disk: int = 64 << 20
    output: int = 64 << 10


@dataclass(frozen=True)
class Result:
    """How a command ended.

    exit_code: its status, -N after signal N, 127 where it was not found, None where a limit ended
    it. seconds: wall time. limit: the field of `Limits` that ended it.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    limit: str | None


class Sandbox:
    """Runs commands without network, home or anything to write to but a directory that vanishes.

    `read_only` are folders or files outside /usr that commands may read, such as ~/.cargo. The kind
    "none" isolates nothing: commands can read and write what the user can. The limits hold there
    too, for code that does not set out to break them, but `disk` only for each file.

    Raises:
        MagicoderError: bubblewrap is missing or does not work here, or a path does not exist.
    """

    def __init__(
        self, kind: Literal["bubblewrap", "none"] = "bubblewrap", read_only: Sequence[Path] = ()
    ) -> None:
        self.kind = kind
        self.read_only = tuple(path.absolute() for path in read_only)
        for path in self.read_only:
            if not path.exists():
                raise MagicoderError(f"{path} does not exist: leave it out of the sandbox's paths")
        if kind == "bubblewrap":
            self._bwrap = shutil.which("bwrap")
            if self._bwrap is None:
                raise MagicoderError(
                    "bubblewrap is not installed: install it (apt install bubblewrap), "
                    "or run code without isolation with --sandbox none"
                )
        self.run([["true"]], files={})

    def run(
        self,
        commands: Sequence[Sequence[str]],
        *,
        files: Mapping[str, str],
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> list[Result]:
        """Run `commands` one after the other, stopping after the first that fails.

        They share one fresh working directory, which holds `files` (relative path to text), and
        nothing else: what a command leaves running is ended before the next. Each gets `stdin` from
        its start, and `env` besides PATH, HOME, TMPDIR and LANG. Safe to call from many threads.

        Raises:
            ValueError: a path of `files` leads outside the working directory.
            MagicoderError: the sandbox itself failed.
        """
        limits = limits or Limits()
        for name in files:
            if not PurePosixPath(name).name or name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"not a path inside the working directory: {name!r}")
        job = {
            "commands": [list(command) for command in commands],
            "files": dict(files),
            "limits": asdict(limits),
            "env": {"PATH": PATH, "LANG": "C.UTF-8", **(env or {})},
            "stdin": stdin,
        }
        with ExitStack() as stack:
            argv, fds = self._argv(limits, stack)
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd="/",
                pass_fds=fds,
                start_new_session=True,
            )
            # Where even the first process inside hangs, no limit of its own ends it.
            timer = Timer(limits.seconds * len(commands) + 30, process.kill)
            timer.start()
            stack.callback(timer.cancel)
            stack.enter_context(process)
            return _talk(process, job)

    def _argv(self, limits: Limits, stack: ExitStack) -> tuple[list[str], list[int]]:
        # The interpreter without its virtual environment, which the sandbox does not see.
        python = [os.path.realpath(sys.executable), "-I", "-S"]
        if self.kind == "none":
            return [*python, str(INSIDE)], []
        fds = []
        for data in (b"user:x:1000:1000::/tmp/home:/bin/sh\n", seccomp.program()):
            file = stack.enter_context(TemporaryFile())  # noqa: SIM115
            file.write(data)
            file.seek(0)
            fds.append(file.fileno())
        passwd, program = fds
        view = [*_system(), "--perms", "0644", "--ro-bind-data", str(passwd), "/etc/passwd"]
        view += ["--size", str(limits.disk), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
        for path in (Path(sys.base_prefix).resolve(), *self.read_only):
            if not path.is_relative_to("/usr"):
                view += _bound(path)
        view += _bound(INSIDE, "/run/inside.py")
        own = [f"--unshare-{name}" for name in ("user", "pid", "ipc", "uts", "net", "cgroup-try")]
        own += ["--disable-userns", "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000"]
        own += ["--hostname", "sandbox", "--new-session", "--die-with-parent", "--as-pid-1"]
        own += ["--seccomp", str(program)]
        if os.geteuid() == 0:
            # The kernel bounds no process of root's, and lets it write below /proc: so a user that
            # nobody else is takes over, once root has mounted what perhaps only root may read.
            nobody = str((1 << 30) + secrets.randbelow(1 << 29))
            first = [str(self._bwrap), "--die-with-parent", *view, "--bind", "/proc", "/proc", "--"]
            first += ["setpriv", "--reuid", nobody, "--regid", nobody, "--clear-groups"]
            view = ["--dev-bind", "/", "/"]
        else:
            first = []
        own += [*view, "--proc", "/proc"]
        own += [word for name in ("/proc", "/dev", "/") for word in ("--remount-ro", name)]
        return [*first, str(self._bwrap), *own, "--", *python, "/run/inside.py"], fds


def _talk(process: subprocess.Popen[bytes], job: Mapping[str, object]) -> list[Result]:
    """Hand over the job, and gather its results: one line of JSON for each command."""
    stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    # Where bubblewrap fails, it says why on standard error.
    with suppress(BrokenPipeError):
        stdin.write(json.dumps(job).encode() + b"\n")
        stdin.flush()
    # The pipe stays open for as long as this process lives: at its end the sandbox ends too.
    lines = stdout.read().splitlines()
    with suppress(BrokenPipeError):
        stdin.close()
    if not lines or lines.pop() != b"done":
        why = cast("IO[bytes]", process.stderr).read(2000).decode(errors="replace").splitlines()
        raise MagicoderError(
            f"the sandbox failed ({why[-1] if why else 'it was killed'}): bubblewrap 0.8 or newer "
            "and user namespaces are needed; --sandbox none runs code without isolation"
        )
    return [Result(**json.loads(line)) for line in lines]


def _system() -> Iterator[str]:
    """The mounts of a system that is whole enough for compilers, and names nothing of this host."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(name):
            yield from ("--symlink", os.readlink(name), name)
        elif os.path.isdir(name):
            yield from ("--ro-bind", name, name)
    etc = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "java*", "php")
    for path in sorted(path for name in etc for path in Path("/etc").glob(name)):
        yield from _bound(path)
    yield from ("--perms", "0755", "--tmpfs", "/dev")
    for name in ("null", "full", "random", "urandom"):
        yield from ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        yield from ("--symlink", f"/proc/self/fd/{number}", f"/dev/{name}")
    yield from ("--symlink", "/proc/self/fd", "/dev/fd", "--symlink", "/tmp", "/dev/shm")  # noqa: S108
    # Mapped and shared, the real one is memory that belongs to no process: this one is on the disk.
    yield from ("--symlink", "/tmp/.zero", "/dev/zero")  # noqa: S108
    yield from ("--perms", "0755", "--dir", "/var", "--symlink", "/tmp", "/var/tmp")  # noqa: S108


def _bound(path: Path, name: str = "") -> list[str]:
    """The mount of `path`, read-only, where everyone can reach it."""
    name = name or str(path)
    folders = [str(folder) for folder in reversed(Path(name).parents)][1:]
    words = [word for folder in folders for word in ("--perms", "0755", "--dir", folder)]
    return [*words, "--ro-bind", str(path), name]
