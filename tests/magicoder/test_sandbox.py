"""Attacks on the sandbox. Each shows that it failed, and, where it can, that it works outside."""

import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from magicoder.errors import MagicoderError
from magicoder.sandbox import PATH, Limits, Result, Sandbox

MIB = 1 << 20
PYTHON = os.path.realpath(sys.executable)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def isolated(needs: Callable[..., None]) -> Sandbox:
    needs("bwrap")
    return Sandbox()


@pytest.fixture(params=["bubblewrap", "none"])
def sandbox(request: pytest.FixtureRequest, needs: Callable[..., None]) -> Sandbox:
    if request.param == "bubblewrap":
        needs("bwrap")
    return Sandbox(request.param)


def python(sandbox: Sandbox, code: str, *args: str, **limits: float) -> Result:
    """Run Python in the sandbox; `limits` are fields of `Limits`."""
    command = [PYTHON, "-I", "-S", "main.py", *args]
    files = {"main.py": textwrap.dedent(code)}
    bounds = Limits(**{"seconds": 20.0, **limits})  # type: ignore[arg-type]
    return sandbox.run([command], files=files, limits=bounds)[0]


def running(mark: str) -> list[psutil.Process]:
    """The host's processes whose command line holds `mark`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_commands_share_a_directory_and_the_first_failure_ends_them(sandbox: Sandbox) -> None:
    commands = [
        ["sh", "-c", "cat deep/er/a.txt > b.txt; ls -A"],
        ["sh", "-c", "cat b.txt; cat; echo bad >&2; exit 3"],
        ["sh", "-c", "echo never"],
    ]
    first, second = sandbox.run(commands, files={"deep/er/a.txt": "é\n"}, stdin="in\n")
    assert (first.exit_code, first.stdout, first.stderr) == (0, "b.txt\ndeep\n", "")
    assert (second.exit_code, second.stdout, second.stderr) == (3, "é\nin\n", "bad\n")
    assert second.limit is None


def test_two_runs_share_nothing(sandbox: Sandbox) -> None:
    sandbox.run([["sh", "-c", "echo a > a; echo b > $HOME/b; echo c > $TMPDIR/c"]], files={})
    result = sandbox.run([["sh", "-c", "ls -A . $HOME; cat $TMPDIR/c"]], files={})[0]
    assert result.stdout.split() == [".:", *result.stdout.split()[1:]]
    assert "a\n" not in result.stdout
    assert "b\n" not in result.stdout
    assert result.exit_code == 1


def test_each_command_reads_all_of_standard_input(sandbox: Sandbox) -> None:
    results = sandbox.run([["wc", "-c"]] * 2, files={}, stdin="x" * MIB)
    assert [result.stdout.strip() for result in results] == [str(MIB)] * 2


def test_how_a_command_ends(sandbox: Sandbox) -> None:
    assert sandbox.run([["sh", "-c", "kill -9 $$"]], files={})[0].exit_code == -9
    missing = sandbox.run([["no-such-program"]], files={})[0]
    assert (missing.exit_code, missing.limit) == (127, None)
    assert "no-such-program" in missing.stderr
    assert sandbox.run([["./data"]], files={"data": "x"})[0].exit_code == 126
    # Python ignores SIGPIPE; commands must not.
    assert sandbox.run([["bash", "-c", "yes | head -1"]], files={})[0].stdout == "y\n"


def test_bytes_that_are_no_text_are_replaced(sandbox: Sandbox) -> None:
    result = sandbox.run([["sh", "-c", r"printf '\377'; cat a"]], files={"a": "\ud800"})[0]
    assert result.stdout == "\ufffd?"


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", "a/.."])
def test_files_lie_in_the_working_directory(isolated: Sandbox, name: str) -> None:
    with pytest.raises(ValueError, match="working directory"):
        isolated.run([["true"]], files={name: "x"})


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MagicoderError, match="bubblewrap is not installed"):
        Sandbox()
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: no namespaces here' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(MagicoderError, match="no namespaces here"):
        Sandbox()


def test_paths_to_read_are_there_and_read_only(tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("bwrap")
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool/a").write_text("a")
    (tmp_path / "secret").write_text("b")
    sandbox = Sandbox(read_only=[tmp_path / "tool"])
    script = f"cat {tmp_path}/tool/a; cat {tmp_path}/secret; echo x > {tmp_path}/tool/a; echo $?"
    result = sandbox.run([["bash", "-c", script]], files={})[0]
    assert result.stdout == "a1\n"
    assert "Read-only file system" in result.stderr
    assert (tmp_path / "tool/a").read_text() == "a"
    with pytest.raises(MagicoderError, match="does not exist"):
        Sandbox(read_only=[tmp_path / "missing"])


# What it must not see ---------------------------------------------------------------------------


def test_the_environment_is_clean(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    result = sandbox.run([["env"]], files={}, env={"OWN": "1"})[0]
    found = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert set(found) <= {"PATH", "HOME", "TMPDIR", "LANG", "OWN", "PWD"}
    assert (found["PATH"], found["OWN"]) == (PATH, "1")
    assert found["HOME"].startswith(found["TMPDIR"])


LOOK = """
    import os, sys
    for pid in sys.argv[1:] or filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline", "mem", "maps", "root/etc/passwd", "fd/0"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    print(pid, name, file.read(1000))
            except OSError as error:
                print(pid, name, error.errno)
"""


def test_other_processes_are_out_of_sight(isolated: Sandbox) -> None:
    secret = f"secret-{uuid4().hex}"
    command, quiet = ["sleep", "60"], subprocess.DEVNULL
    holder = subprocess.Popen(command, env={"SECRET": secret}, stdin=quiet)
    try:
        # Outside, this one process is all that the attack looks into.
        assert secret in python(Sandbox("none"), LOOK, str(holder.pid)).stdout
        named = python(isolated, LOOK, str(holder.pid))
        result = python(isolated, LOOK)
    finally:
        holder.kill()
        holder.wait()
    assert {line.split()[-1] for line in named.stdout.splitlines()} == {"2"}  # no such file
    assert secret not in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {line[0] for line in lines} == {"1", "2"}
    # Nor may it look into the process that watches it: its pipes carry the results.
    refused = {line[1] for line in lines if line[0] == "1" and line[2:] == ["13"]}
    assert refused == {"environ", "mem", "maps", "root/etc/passwd", "fd/0"}


def test_the_home_and_other_files_are_not_there(isolated: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    code = """
        import os, sys
        for path in sys.argv[1:]:
            try:
                print(path, open(path).read() if os.path.isfile(path) else os.listdir(path))
            except OSError as error:
                print(path, type(error).__name__)
    """
    hidden = ["/etc/shadow", "/etc/hostname", "/sys", "/boot", "/mnt", "/srv", "/opt"]
    hidden += [str(tmp_path / "secret"), str(tmp_path), str(REPOSITORY), "/var/log", "/run/lock"]
    result = python(isolated, code, *hidden)
    assert result.stdout.splitlines() == [f"{path} FileNotFoundError" for path in hidden]
    # Of a home only what leads to this interpreter may be there.
    home = python(isolated, code, str(Path.home()), "/root", "/home")
    for line in home.stdout.splitlines():
        path, _, what = line.partition(" ")
        leads = {part.name for part in Path(PYTHON).parents if str(part.parent) == path}
        assert what == "FileNotFoundError" or what == str(sorted(leads)), line


CONNECT = """
    import json, socket, sys
    for family, address in json.loads(sys.argv[1]):
        address = tuple(address) if isinstance(address, list) else address.replace("@", chr(0))
        with socket.socket(family) as client:
            client.settimeout(3)
            try:
                client.connect(address)
                print("connected")
            except OSError as error:
                print(type(error).__name__)
"""


def test_no_network(isolated: Sandbox, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    listeners = [socket.create_server(("127.0.0.1", 0))]
    addresses: list[tuple[int, object]] = [(socket.AF_INET, listeners[0].getsockname())]
    for path in (f"@magicoder-{uuid4().hex}", str(tmp_path / "s")):
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(path.replace("@", "\0"))
        listeners[-1].listen()
        addresses.append((socket.AF_UNIX, path))
    assert python(Sandbox("none"), CONNECT, json.dumps(addresses)).stdout == "connected\n" * 3
    for listener in listeners:
        listener.accept()[0].close()
        listener.setblocking(False)
    addresses.append((socket.AF_INET, ("192.0.2.1", 80)))
    assert "connected" not in (tried := python(isolated, CONNECT, json.dumps(addresses)).stdout)
    assert len(tried.split()) == 4
    for listener in listeners:
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()


def test_inherited_files_are_closed(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    code = """
        import os
        for fd in range(3, 4096):
            try:
                print(fd, os.readlink(f"/proc/self/fd/{fd}"), os.pread(fd, 100, 0))
            except OSError:
                pass
    """
    with open(tmp_path / "secret") as file:
        os.set_inheritable(file.fileno(), True)
        assert subprocess.run(["cat", f"/dev/fd/{file.fileno()}"], close_fds=False).returncode == 0
        result = python(sandbox, code)
    assert "hunter2" not in result.stdout
    assert str(tmp_path) not in result.stdout


# What it must not change ------------------------------------------------------------------------


def test_nothing_outside_can_be_written(isolated: Sandbox, tmp_path: Path) -> None:
    code = """
        import os, sys
        wrote = []
        for folder in sys.argv[1:]:
            try:
                os.makedirs(folder, exist_ok=True)
                open(folder + "/magicoder-was-here", "w").close()
                wrote.append(folder)
            except OSError:
                pass
        tried = 0
        for top, folders, names in os.walk("/proc"):
            # Its own processes' entries are the kernel's to guard.
            folders[:] = [name for name in folders if not name.isdigit() and "self" not in name]
            for name in names:
                tried += 1
                try:
                    os.close(os.open(top + "/" + name, os.O_WRONLY))
                    wrote.append(top + "/" + name)
                except OSError:
                    pass
        print(tried, wrote)
    """
    places = ["/", "/usr", "/usr/bin", "/etc", "/dev", "/run", "/var", "/root", "/home/x", "/sys"]
    places += [str(tmp_path), sys.base_prefix, str(Path.home()), "/proc/1/root/etc", "/proc/1/cwd"]
    tried, _, wrote = python(isolated, code, *places).stdout.partition(" ")
    assert int(tried) > 500
    own = [place for place in places if place.startswith("/tmp/")]
    assert wrote == f"{own}\n"  # in its own /tmp, and so not on the host
    assert not any(os.path.exists(f"{place}/magicoder-was-here") for place in places)
    assert not any(os.path.exists(f"{place}/magicoder-was-here") for place in places)


def test_a_symlink_leads_nowhere(isolated: Sandbox, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    plant = f"ln -s {victim} link && ln -s {tmp_path} folder && ln -s /proc/1/root/{victim} proc"
    strike = [
        "sh",
        "-c",
        "for f in link folder/new proc; do echo struck > $f; done",
    ]
    for kind, expected in ((isolated, "whole"), (Sandbox("none"), "struck\n")):
        kind.run([["sh", "-c", plant], strike], files={})
        assert victim.read_text() == expected
    assert (tmp_path / "new").exists()  # by the kind "none" alone: the attack itself works


SYSTEM_CALLS = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    user, mount, pid, net = 0x10000000, 0x20000, 0x20000000, 0x40000000
    def fd(name):
        return os.open(name, os.O_RDONLY)
    calls = {
        "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "remount": lambda: libc.mount(b"none", b"/", None, 32 | 4096, None),
        "umount": lambda: libc.umount2(b"/proc", 2),
        "unshare": lambda: libc.unshare(mount),
        "unshare user": lambda: libc.unshare(user),
        "unshare user, pid": lambda: libc.unshare(user | pid | net),
        "chroot": lambda: libc.chroot(b"/tmp"),
        "setns": lambda: libc.setns(fd("/proc/1/ns/mnt"), 0),
        "setns own": lambda: libc.setns(fd("/proc/self/ns/user"), 0),
        "ptrace": lambda: libc.ptrace(16, 1, 0, 0),
        "setuid": lambda: libc.setuid(0),
        "setgroups": lambda: libc.setgroups(0, None),
        "mknod": lambda: libc.mknod(b"/tmp/disk", 0o060666, os.makedev(8, 0)),
        "hostname": lambda: libc.sethostname(b"x", 1),
        "keyring": lambda: libc.syscall(250, 0, -3, 1),
        "io_uring": lambda: libc.syscall(425, 1, ctypes.create_string_buffer(512)),
        "bpf": lambda: libc.syscall(321, 0, ctypes.create_string_buffer(128), 128),
        "userfaultfd": lambda: libc.syscall(323, 1),
        "clock": lambda: libc.settimeofday(ctypes.create_string_buffer(16), None),
    }
    for name, call in calls.items():
        try:
            print(name, call())
        except OSError as error:
            print(name, -1)
    print(open("/proc/self/status").read())
"""


def test_the_kernel_refuses(isolated: Sandbox) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the system calls are those of x86_64")
    lines = python(isolated, SYSTEM_CALLS).stdout.splitlines()
    assert [line for line in lines[:19] if not line.endswith(" -1")] == []
    status = dict(line.split(":\t", 1) for line in lines[19:] if ":\t" in line)
    assert {status[f"Cap{kind}"].strip("0") for kind in ("Eff", "Prm", "Inh", "Bnd", "Amb")} == {""}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "0" not in status["Uid"].split()


def test_tools_do_not_get_out(isolated: Sandbox) -> None:
    for command in (
        ["unshare", "-r", "id", "-u"],
        ["unshare", "-rmpf", "id", "-u"],
        ["nsenter", "-t", "1", "-m", "id", "-u"],
        ["bwrap", "--bind", "/", "/", "id", "-u"],
        ["setpriv", "--reuid", "0", "id", "-u"],
        ["mount", "-t", "tmpfs", "none", "/tmp"],
    ):
        result = isolated.run([command], files={})[0]
        assert result.exit_code not in (0, None), (command, result)
        assert result.stdout == ""


def test_setuid_programs_give_nothing(isolated: Sandbox) -> None:
    found = [path for path in Path("/usr/bin").iterdir() if path.stat().st_mode & stat.S_ISUID]
    if not found:
        pytest.skip("no program here is setuid")
    code = """
        import os, subprocess, sys
        for path in sys.argv[1:]:
            child = subprocess.Popen([path], stdin=-3, stdout=-3, stderr=-3)
            uids = [l for l in open(f"/proc/{child.pid}/status") if l.startswith("Uid")]
            child.kill()
            print(path, uids[0].split()[1:] if uids else [])
    """
    shown = python(isolated, code, *map(str, found)).stdout.splitlines()
    assert len(shown) == len(found)
    assert not any("'0'" in line for line in shown)


def test_the_parent_cannot_be_killed(isolated: Sandbox) -> None:
    code = """
        import os, signal, sys
        for pid in (*map(int, sys.argv[1:]), 1, os.getppid()):
            for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT):
                try:
                    os.kill(pid, number)
                except OSError as error:
                    print(pid, error.errno)
        print("still here", flush=True)
        try:
            os.kill(-1, signal.SIGKILL)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    """
    victim = subprocess.Popen(["sleep", "60"])
    try:
        result = python(isolated, code, str(victim.pid), str(os.getpid()), str(os.getppid()))
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    # The watcher is out of its reach as well, and tells how the command ended.
    assert result.exit_code == -signal.SIGKILL
    assert result.stdout.endswith("still here\n")
    assert result.stdout.count(" 3\n") == 12


def test_results_cannot_be_forged(isolated: Sandbox) -> None:
    code = """
        import os
        forged = b'{"exit_code": 0, "stdout": "forged", "stderr": "", "seconds": 0, "limit": null}'
        for pid in ("1", "self"):
            for fd in range(64):
                try:
                    with open(f"/proc/{pid}/fd/{fd}", "wb") as file:
                        file.write(forged + b"\\ndone\\n")
                except OSError:
                    pass
        raise SystemExit(7)
    """
    result = python(isolated, code)
    assert (result.exit_code, result.limit) == (7, None)
    assert "forged" not in result.stdout[:2]


def test_nothing_is_typed_into_the_terminal(isolated: Sandbox, tmp_path: Path) -> None:
    """In a process that has a terminal, as a user's shell has one."""
    code = """
        import fcntl, os, sys, termios
        pushed = []
        for name in ("/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"):
            try:
                fcntl.ioctl(os.open(name, os.O_RDWR | os.O_NOCTTY), termios.TIOCSTI, b"x")
                pushed.append(name)
            except OSError:
                pass
        print(pushed)
    """
    controller, terminal = os.openpty()
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    host = (
        "import fcntl, sys, termios\n"
        "from magicoder.sandbox import Sandbox\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "open('/dev/tty').close()\n"
        "command = [sys.argv[1], '-I', '-S', '-c', sys.argv[2]]\n"
        "print(Sandbox().run([command], files={})[0].stdout, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", host, PYTHON, textwrap.dedent(code)],
        stdin=terminal,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )
    assert done.stderr.strip() == "[]"
    assert select.select([terminal], [], [], 0)[0] == []
    os.close(controller)
    os.close(terminal)


# What it may use --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(100)",
        "import os, signal, time\n"
        "for n in (*range(1, 9), *range(10, 18), 20, 21, 22): signal.signal(n, signal.SIG_IGN)\n"
        "os.close(1); os.close(2)\nwhile True: time.sleep(100)",
    ],
    ids=["busy", "sleep", "ignores signals"],
)
def test_time(sandbox: Sandbox, code: str) -> None:
    mark = uuid4().hex
    result = python(sandbox, code, mark, seconds=0.5)
    assert (result.exit_code, result.limit) == (None, "time")
    assert result.seconds >= 0.5
    assert running(mark) == []


DAEMON = """
    import os, sys, time
    if os.fork():
        time.sleep(0.3)
        print("left")
        sys.exit()
    os.setsid()
    if os.fork():
        os._exit(0)
    if sys.argv[2] == "silent":
        for fd in range(3):
            os.close(fd)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("how", ["silent", "holding the output"])
def test_what_a_command_leaves_running_is_ended(sandbox: Sandbox, how: str) -> None:
    mark = uuid4().hex
    command = [PYTHON, "-I", "-S", "main.py", mark, how]
    look = ["sh", "-c", f"grep -al {mark[:-1]}[{mark[-1]}] /proc/[0-9]*/cmdline"]
    files = {"main.py": textwrap.dedent(DAEMON)}
    first, second = sandbox.run([command, look], files=files)
    assert (first.exit_code, first.stdout, first.limit) == (0, "left\n", None)
    assert second.stdout == ""
    assert running(mark) == []


HOST = """
import sys
from magicoder.sandbox import Limits, Sandbox
code = sys.stdin.read()
Sandbox(sys.argv[1]).run(
    [[sys.argv[2], "-I", "-S", "main.py", sys.argv[3], "silent"]],
    files={"main.py": code}, limits=Limits(seconds=100),
)
"""


def test_nothing_outlives_a_parent_that_is_killed(sandbox: Sandbox) -> None:
    mark = uuid4().hex
    command = [sys.executable, "-c", HOST, sandbox.kind, PYTHON, mark]
    host = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=REPOSITORY)
    assert host.stdin
    host.stdin.write(textwrap.dedent(DAEMON).replace("0.3", "100").encode())
    host.stdin.close()
    until(lambda: len(running(mark)) > 2)
    host.kill()
    host.wait()
    until(lambda: running(mark) == [])
    assert running(mark) == []


def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, at most half a minute: whoever calls then asserts."""
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.parametrize(
    "script",
    [
        "yes",
        "yes >&2",
        "while :; do echo a; echo b >&2; done",
        "yes | tee /dev/stderr",
        "head -c 70000 /dev/urandom",
    ],
)
def test_output(sandbox: Sandbox, script: str) -> None:
    # bash, whose pipes end with it: without isolation a pipe's other end may be left for a moment.
    result = sandbox.run([["bash", "-c", script]], files={}, limits=Limits(output=65536))[0]
    assert (result.exit_code, result.limit) == (None, "output")
    if "random" not in script:
        assert len(result.stdout) + len(result.stderr) == 65536


def test_output_up_to_the_limit_is_whole(sandbox: Sandbox) -> None:
    command = ["bash", "-c", "printf %0300d 1 >&2; exec head -c 65236 /dev/zero"]
    result = sandbox.run([command], files={}, limits=Limits(output=65536))[0]
    assert (result.exit_code, len(result.stdout), len(result.stderr)) == (0, 65236, 300)


EAT = """
    import mmap, os, sys
    kind, mib = sys.argv[1], 1 << 20
    if kind == "children":
        for _ in range(12):
            if os.fork() == 0:
                break
        eaten = bytearray(os.urandom(mib)) * 20
        os.read(os.pipe()[0], 1)
    eaten = []
    for step in range(4096):
        if kind == "private":
            eaten.append(os.urandom(mib))
        if kind == "fast":
            eaten.append(bytes([1]) * (64 * mib))
        if kind == "tmpfs":
            with open("/dev/zero", "r+b" if os.access("/dev/zero", 2) else "rb") as file:
                eaten.append(mmap.mmap(file.fileno(), mib, mmap.MAP_PRIVATE))
                eaten[-1].write(os.urandom(mib))
        os.write(1, b"%d\\n" % step)
"""


@pytest.mark.parametrize("kind", ["private", "fast", "tmpfs", "children"])
def test_memory(sandbox: Sandbox, kind: str) -> None:
    mark = uuid4().hex
    result = python(sandbox, EAT, kind, mark, memory=128 * MIB)
    steps = len(result.stdout.splitlines())
    assert steps * (64 if kind == "fast" else 1) <= 256
    # The kernel's bound for one process may come before the watch.
    assert result.limit == "memory" or (kind != "children" and "MemoryError" in result.stderr)
    assert running(mark) == []


def test_one_process_allocates_at_most_twice_the_limit(sandbox: Sandbox) -> None:
    code = "import mmap, sys; mmap.mmap(-1, int(sys.argv[1]) << 20, mmap.MAP_PRIVATE)"
    assert python(sandbox, code, "150", memory=100 * MIB).exit_code == 0  # nothing of it is touched
    result = python(sandbox, code, "250", memory=100 * MIB)
    assert (result.exit_code, result.limit) == (1, None)
    assert "Cannot allocate memory" in result.stderr


def test_memory_out_of_sight_counts(isolated: Sandbox) -> None:
    code = """
        import ctypes, os, time
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        eaten = os.urandom(150 << 20)
        time.sleep(100)
    """
    assert python(isolated, code, memory=100 * MIB).limit == "memory"


HIDE = """
    import ctypes, mmap, os, sys
    libc = ctypes.CDLL(None, use_errno=True)
    def zero():
        fd = os.open("/dev/zero", os.O_RDWR)
        return mmap.mmap(fd, 1 << 20, mmap.MAP_SHARED)
    for name, call in {
        "memfd": lambda: os.memfd_create("x"),
        "shared": lambda: mmap.mmap(-1, 1 << 20),
        "shmget": lambda: os.close(-1) if libc.shmget(0, 1 << 20, 0o1600) < 0 else None,
        "zero": zero,
    }.items():
        try:
            call()
            print(name, "hidden")
        except OSError as error:
            print(name, "refused")
"""


def test_memory_that_belongs_to_no_process_is_refused(isolated: Sandbox) -> None:
    names = ("memfd", "shared", "shmget", "zero")
    for kind, word in ((Sandbox("none"), "hidden"), (isolated, "refused")):
        found = python(kind, HIDE).stdout.splitlines()
        assert found == [f"{name} {word}" for name in names]


def test_memory_that_is_shared_counts_once(isolated: Sandbox) -> None:
    code = """
        import os, sys, time
        eaten = os.urandom(60 << 20)
        children = [os.fork() for _ in range(5)]
        time.sleep(0.3)
    """
    assert python(isolated, code, memory=128 * MIB).exit_code == 0


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True: os.fork()",
        "import os\nwhile True:\n  os.fork()\n  os.setsid() if os.getpid() != os.getsid(0) else 0",
        "import os, time\nif os.fork(): time.sleep(100)\n"
        "while True:\n  if os.fork(): os._exit(0)\n  os.fork()",
        "import os, signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"
        "while True:\n  try: os.fork()\n  except OSError: pass",
    ],
    ids=["plain", "sessions", "parents leave", "stubborn"],
)
def test_fork_bomb(isolated: Sandbox, code: str) -> None:
    mark = uuid4().hex
    result = python(isolated, code, mark, processes=32)
    assert (result.exit_code, result.limit) == (None, "processes")
    assert running(mark) == []


def test_shell_fork_bomb(isolated: Sandbox) -> None:
    mark = uuid4().hex
    bomb = f": {mark}; b() {{ b | b & }}; b; sleep 100"
    result = isolated.run([["bash", "-c", bomb]], files={})[0]
    assert result.limit == "processes"
    assert running(mark) == []


def test_many_processes_without_isolation() -> None:
    mark = uuid4().hex
    code = "import os, time\nfor _ in range(40):\n  if os.fork() == 0: break\ntime.sleep(100)"
    result = python(Sandbox("none"), code, mark, processes=32)
    assert result.limit == "processes"
    assert running(mark) == []


def test_threads_count_too(isolated: Sandbox) -> None:
    code = """
        import threading, time
        threading.stack_size(65536)
        for _ in range(200):
            threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        time.sleep(100)
    """
    assert python(isolated, code, processes=16).limit == "processes"
    assert python(isolated, code.replace("100)", "0.1)"), processes=32).exit_code == 0


def test_the_kernel_bounds_processes_too(isolated: Sandbox) -> None:
    """The watch may come late on a busy machine; the kernel bounds every user but root."""
    mark, results = uuid4().hex, []
    code = "import resource, time; print(resource.getrlimit(resource.RLIMIT_NPROC)); time.sleep(1)"
    thread = threading.Thread(target=lambda: results.append(python(isolated, code, mark)))
    thread.start()
    until(lambda: running(mark) != [])
    users = [process.uids().real for process in running(mark)]
    thread.join()
    assert results[0].stdout == "(1024, 1024)\n"
    assert len(users) == 1
    assert users[0] != 0


@pytest.mark.parametrize(
    "fill",
    [
        "cat /dev/zero > a",
        "cat /dev/urandom > $HOME/a",
        "for i in 1 2 3 4 5 6 7 8 9; do head -c 1M /dev/urandom > /dev/shm/$i; done",
        "cd /var/tmp; for i in $(seq 9); do head -c 1M /dev/urandom > $i; done",
        "seq 1 100000 | xargs touch",
    ],
    ids=["work", "home", "shm", "tmp", "files"],
)
def test_disk(isolated: Sandbox, fill: str) -> None:
    script = f"({fill}); du -sk /tmp | cut -f1; exit 1"
    result = isolated.run([["bash", "-c", script]], files={}, limits=Limits(disk=8 * MIB))[0]
    assert (result.exit_code, result.limit) == (None, "disk")
    assert all(int(kib) <= 8 * 1024 for kib in result.stdout.split())


def test_a_disk_too_small_for_the_files(isolated: Sandbox) -> None:
    files = {"a": "x" * MIB}
    result = isolated.run([["cat", "a"]], files=files, limits=Limits(disk=MIB // 2))[0]
    assert (result.exit_code, result.limit) == (None, "disk")


def test_a_file_is_bounded_without_isolation() -> None:
    command = ["dd", "if=/dev/zero", "of=a", "bs=1M", "count=3"]
    result = Sandbox("none").run([command], files={}, limits=Limits(disk=2 * MIB))[0]
    assert result.exit_code == -signal.SIGXFSZ


def test_many_at_once(isolated: Sandbox) -> None:
    results: dict[int, Result] = {}

    def one(number: int) -> None:
        results[number] = isolated.run([["sh", "-c", f"sleep 0.1; echo {number}"]], files={})[0]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: result.stdout for number, result in results.items()} == {
        number: f"{number}\n" for number in range(16)
    }


def test_without_isolation_the_folder_is_removed(tmp_path: Path) -> None:
    folder = Sandbox("none").run([["pwd"]], files={"a": "1"})[0].stdout.strip()
    assert folder
    assert not Path(folder).parent.exists()


def test_an_ordinary_user_may_use_it(needs: Callable[..., None], tmp_path: Path) -> None:
    """What the other tests show for root, as a user without rights: isolation and the limits."""
    system = "/usr/bin/python3"
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    needs("bwrap", "setpriv", system)
    folder = Path("/tmp") / f"magicoder-{uuid4().hex}"
    shutil.copytree(REPOSITORY / "magicoder/sandbox", folder / "magicoder/sandbox")
    for name in ("__init__.py", "errors.py"):
        shutil.copy(REPOSITORY / "magicoder" / name, folder / "magicoder")
    host = """
import os, sys
from magicoder.sandbox import Limits, Sandbox
assert os.getuid() == 65534
sandbox = Sandbox()
show = lambda *command, **bounds: print(
    *[(r.exit_code, r.limit, r.stdout) for r in
      sandbox.run([command], files={}, limits=Limits(**bounds))])
show("id", "-u")
show("sh", "-c", "ls /root /home /etc/shadow 2>/dev/null")
show("python3", "-c", "import os\\nwhile True: os.fork()")
show("python3", "-c", "import time\\na = [bytes([1]) * (1 << 20) for _ in range(150)]\\n"
     "time.sleep(9)", memory=100 << 20)
show("bash", "-c", "cat /dev/zero > a; exit 1")
show("unshare", "-r", "true")
show("sh", "-c", "touch /x /etc/x /dev/x /run/x 2>/dev/null; ls -d /x /*/x")
"""
    try:
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        done = subprocess.run(
            [*command, system, "-c", host], cwd=folder, capture_output=True, text=True
        )
    finally:
        shutil.rmtree(folder)
    assert done.stdout.splitlines() == [
        "(0, None, '1000\\n')",
        "(2, None, '')",
        "(None, 'processes', '')",
        "(None, 'memory', '')",
        "(None, 'disk', '')",
        "(1, None, '')",
        "(2, None, '')",
    ], done.stderr


TOOLCHAINS = {
    "python3": ({"a.py": "print(1)"}, [["python3", "a.py"]]),
    "node": ({"a.js": "console.log(1)"}, [["node", "a.js"]]),
    "tsc": (
        {"a.ts": "const a: number = 1; console.log(a)"},
        [["tsc", "--strict", "a.ts"], ["node", "a.js"]],
    ),
    "gcc": (
        {"a.c": '#include <stdio.h>\nint main(void) { puts("1"); }'},
        [["gcc", "a.c", "-o", "a"], ["./a"]],
    ),
    "g++": (
        {"a.cpp": "#include <iostream>\nint main() { std::cout << 1 << std::endl; }"},
        [["g++", "a.cpp", "-o", "a"], ["./a"]],
    ),
    "javac": (
        {"A.java": "class A { public static void main(String[] a) { System.out.println(1); } }"},
        [["javac", "A.java"], ["java", "A"]],
    ),
    "php": ({"a.php": '<?php echo 1, "\\n";'}, [["php", "a.php"]]),
    "go": (
        {"a.go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(1) }'},
        [["go", "build", "a.go"], ["./a"]],
    ),
    "bash": ({"a.sh": "cat <<< $((2 - 1))"}, [["bash", "a.sh"]]),
    "rustc": ({"a.rs": 'fn main() { println!("1") }'}, [["rustc", "a.rs"], ["./a"]]),
}


@pytest.mark.slow
@pytest.mark.parametrize("program", TOOLCHAINS)
def test_toolchains_run_in_it(program: str, needs: Callable[..., None]) -> None:
    needs("bwrap", program)
    files, commands = TOOLCHAINS[program]
    paths, env = [], {}
    if program == "rustc" and (Path.home() / ".rustup").is_dir():
        paths = [Path.home() / ".rustup", Path.home() / ".cargo/bin"]
        env = {"PATH": f"{paths[1]}:{PATH}", "RUSTUP_HOME": str(paths[0])}
    results = Sandbox(read_only=paths).run(commands, files=files, env=env, limits=Limits(60))
    assert (results[-1].exit_code, results[-1].stdout) == (0, "1\n"), results
