"""A system call filter for bubblewrap, assembled by hand: a list of what to refuse.

Refused is memory that belongs to no process, which a watch over the processes cannot see, and what
reaches far into the kernel without being of use to the code that a sandbox runs. A filter is a
program of classic BPF over the kernel's `struct seccomp_data` (man 2 seccomp).
"""

import errno
import os
import struct

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _MMAP_FLAGS = 0, 4, 16 + 8 * 3
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_SHARED_ANONYMOUS = 0x21

# The kernel's name of the architecture (AUDIT_ARCH), mmap, and what is refused: memfd_create,
# memfd_secret, shmget, userfaultfd; io_uring_setup, bpf, perf_event_open, add_key, request_key,
# keyctl.
_MACHINES = {
    "x86_64": (0xC000003E, 9, (319, 447, 29, 323, 425, 321, 298, 248, 249, 250)),
    "aarch64": (0xC00000B7, 222, (279, 447, 194, 282, 425, 280, 241, 217, 218, 219)),
}


def program() -> bytes:
    """The filter for this machine; one that allows everything where its numbers are not known."""
    if os.uname().machine not in _MACHINES:
        return _step(_RETURN, _ALLOW)
    architecture, mmap, refused = _MACHINES[os.uname().machine]
    # Jumps count the steps to leave out: (if so, if not).
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        _step(_RETURN, _REFUSE),
        _step(_LOAD, _NUMBER),
        # x86_64 numbers its calls a second time from here on.
        _step(_AT_LEAST, 0x40000000, 0, 1),
        _step(_RETURN, _REFUSE),
    ]
    for number in refused:
        steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE)]
    steps += [
        _step(_EQUAL, mmap, 0, 4),
        _step(_LOAD, _MMAP_FLAGS),
        _step(_AND, _SHARED_ANONYMOUS),
        _step(_EQUAL, _SHARED_ANONYMOUS, 0, 1),
        _step(_RETURN, _REFUSE),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(steps)


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
