"""The first process in the sandbox: runs the commands, holds them to their limits, ends the rest.

Not imported but run, by a bare interpreter: `job` comes as a line of JSON on standard input, one
line of JSON goes out for each command. In a sandbox of kind "none" it is an ordinary process.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

TICK = 0.02
THREADS = 8  # for each process that the limits allow
PAGE = os.sysconf("SC_PAGESIZE")
ISOLATED = os.getpid() == 1
SET_DUMPABLE, SET_CHILD_SUBREAPER = 4, 36


def main() -> None:
    # What the first process of a PID namespace does not handle, the others cannot send it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    libc = ctypes.CDLL(None)
    # No command may look into this process: its pipes carry the results.
    libc.prctl(SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    job = json.loads(read_line())
    if ISOLATED:
        with open("/tmp/.zero", "wb") as zero:  # noqa: S108 # where /dev/zero leads
            zero.truncate(1 << 50)
        os.chmod("/tmp/.zero", 0o444)  # noqa: S108
        run(job, "/tmp")  # noqa: S108
    else:
        import shutil
        import tempfile

        root = tempfile.mkdtemp(prefix="magicoder-")
        try:
            run(job, root)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    say("done")


def read_line() -> bytes:
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        parts.append(os.read(0, 1 << 20))
        if not parts[-1]:
            sys.exit("no job came")
    return b"".join(parts)


def say(line: str) -> None:
    data = line.encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def run(job: dict[str, Any], root: str) -> None:
    work, home = root + "/work", root + "/home"
    env = {"HOME": home, "TMPDIR": root, **job["env"]}
    try:
        os.mkdir(home)
        os.mkdir(work)
        for name, text in job["files"].items():
            path = os.path.join(work, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(text.encode(errors="replace"))
        with open(root + "/.stdin", "wb") as file:
            file.write(job["stdin"].encode(errors="replace"))
        stdin = os.open(root + "/.stdin", os.O_RDONLY)
        os.unlink(root + "/.stdin")
    except OSError as error:
        if not ISOLATED:
            raise
        lost = {"exit_code": None, "stdout": "", "stderr": str(error), "seconds": 0.0}
        say(json.dumps({**lost, "limit": "disk"}))
        return
    for argv in job["commands"]:
        result = Command(argv, work, env, stdin, job["limits"]).result()
        say(json.dumps(result))
        if result["exit_code"] != 0:
            return


class Command:
    """One command, from its start to the end of every process that it leaves."""

    def __init__(
        self, argv: list[str], work: str, env: dict[str, str], stdin: int, limits: dict[str, Any]
    ) -> None:
        self.limits = limits
        self.started = time.monotonic()
        self.limit: str | None = None
        self.output: dict[int, bytearray] = {}
        os.lseek(stdin, 0, os.SEEK_SET)
        (out, out_w), (err, err_w) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            start(argv, work, env, (stdin, out_w, err_w), limits)
        os.close(out_w)
        os.close(err_w)
        self.out, self.err = out, err
        for fd in (out, err):
            os.set_blocking(fd, False)
            self.output[fd] = bytearray()

    def result(self) -> dict[str, Any]:
        status = self.wait()
        seconds = time.monotonic() - self.started
        if self.limit is None and status != 0 and disk_used(self.limits["disk"]):
            self.limit = "disk"
        kill_rest()
        for fd in list(self.output):
            while self.limit is None and self.read(fd):
                pass
            os.close(fd)
        code = os.waitstatus_to_exitcode(status) if self.limit is None else None
        text = {fd: bytes(data).decode(errors="replace") for fd, data in self.output.items()}
        return {
            "exit_code": code,
            "stdout": text[self.out],
            "stderr": text[self.err],
            "seconds": seconds,
            "limit": self.limit,
        }

    def wait(self) -> int:
        """The command's status, or -1 where a limit ends it first."""
        ended = os.pidfd_open(self.pid)
        poll = select.poll()
        # Standard input says nothing more: that it is readable means that the parent is gone.
        for fd in (0, ended, *self.output):
            poll.register(fd, select.POLLIN)
        end, tick = self.started + self.limits["seconds"], self.started
        try:
            while True:
                now = time.monotonic()
                if now >= end:
                    self.limit = "time"
                elif now >= tick:
                    self.limit = self.limit or over(self.limits)
                    # The watch itself takes at most a fifth of a core.
                    tick = now + max(TICK, 4 * (time.monotonic() - now))
                if self.limit:
                    return -1
                for fd, _ in poll.poll(max(0, min(end, tick) - time.monotonic()) * 1000):
                    if fd == 0:
                        kill_rest()
                        sys.exit("the parent is gone")
                    if fd == ended:
                        return reap(self.pid)
                    if not self.read(fd):
                        poll.unregister(fd)
        finally:
            os.close(ended)

    def read(self, fd: int) -> bool:
        """Take what `fd` has; False where nothing is left or the output is too much."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        room = self.limits["output"] - sum(map(len, self.output.values()))
        self.output[fd] += data[:room]
        if len(data) > room:
            self.limit = "output"
        return bool(data) and self.limit is None


def start(
    argv: list[str],
    work: str,
    env: dict[str, str],
    fds: tuple[int, int, int],
    limits: dict[str, Any],
) -> None:
    """Become the command: the child's half of the fork."""
    try:
        os.setsid()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        os.chdir(work)
        # Python ignores these two, and what is ignored stays so in the command.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        # What happens before the watch looks again stays below twice the limit.
        bounds = {resource.RLIMIT_DATA: 2 * limits["memory"], resource.RLIMIT_FSIZE: limits["disk"]}
        bounds |= {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 1024}
        if ISOLATED:  # elsewhere it counts all that the user runs
            bounds[resource.RLIMIT_NPROC] = 2 * THREADS * limits["processes"]
        for which, bound in bounds.items():
            hard = resource.getrlimit(which)[1]
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(which, (bound, bound))
        os.execvpe(argv[0], argv, env)  # noqa: S606
    except BaseException as error:
        why = getattr(error, "strerror", None) or error
        os.write(2, f"{argv[0]}: {why}\n".encode(errors="replace"))
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def others() -> dict[int, tuple[int, int, int]]:
    """Every other process of the sandbox: its parent, its threads, its resident memory in bytes."""
    me, found = os.getpid(), {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != me:
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it has just ended
                continue
            found[int(name)] = int(fields[1]), int(fields[17]), int(fields[21]) * PAGE
    if not ISOLATED:
        family = {me}
        while grown := {pid for pid, of in found.items() if of[0] in family} - family:
            family |= grown
        found = {pid: of for pid, of in found.items() if pid in family}
    return found


def over(limits: dict[str, Any]) -> str | None:
    """The limit that the processes have passed together, if any."""
    if ISOLATED and sum(map(str.isdigit, os.listdir("/proc"))) > limits["processes"] + 1:
        return "processes"
    found = others()
    threads = sum(of[1] for of in found.values())
    if len(found) > limits["processes"] or threads > THREADS * limits["processes"]:
        return "processes"
    if sum(of[2] for of in found.values()) > limits["memory"]:
        # What processes share was counted for each of them. Shares grow where some end in between,
        # so that only a second look is sure.
        exact = (sum(proportional(pid, of[2]) for pid, of in found.items()) for _ in range(2))
        if all(total > limits["memory"] for total in exact):
            return "memory"
    return "disk" if disk_used(limits["disk"]) else None


def proportional(pid: int, resident: int) -> int:
    """The memory of one process in bytes, of what it shares its share only."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
    except PermissionError:  # it forbids a look into it, as it may
        return resident
    except (OSError, StopIteration):  # it has just ended
        return 0


def disk_used(disk: int) -> bool:
    """Whether nothing is left of the disk, or it holds more files than pages."""
    if not ISOLATED:
        return False
    found = os.statvfs("/tmp")  # noqa: S108
    return found.f_bfree == 0 or found.f_files - found.f_ffree > disk // PAGE


def reap(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


def kill_rest() -> None:
    """End every other process of the sandbox, and wait until none is left."""
    if ISOLATED:
        # From the first process of a PID namespace this reaches all at once, forks in progress too.
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    while True:
        if not ISOLATED:
            for pid in others():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, 0 if ISOLATED else os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
