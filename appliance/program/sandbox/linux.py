"""The few kernel calls that Python's `os` lacks, by ctypes.

Every function raises OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import time
from pathlib import Path

MACHINE = platform.machine()

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_libc_keeping_gil = ctypes.PyDLL(None)

# <linux/prctl.h>
_PDEATHSIG, _DUMPABLE, _SECCOMP, _CAPBSET_DROP = 1, 4, 22, 24
_SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS, _CAP_AMBIENT = 38, 39, 47
# <linux/sched.h>
NEW_MOUNT, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
# <linux/mount.h>
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT, _REC, _PRIVATE = 1, 2, 4, 8, 32, 0x4000, 1 << 18
_DETACH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9


def _check(result: int, call: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
    return result


def _prctl(option: int, first: int = 0, second: int = 0) -> int:
    return _check(_libc.prctl(option, first, second, 0, 0), "prctl")


def fork() -> int:
    """fork(2) without the fork hooks of Python and other libraries, at half the cost.

    Only for a process of one thread.
    """
    raw = getattr(_libc_keeping_gil, "_Fork", _libc_keeping_gil.fork)  # _Fork: glibc 2.34
    return int(raw())


def cpu_time_s(pid: int) -> float:
    """CPU seconds that a living process has used; 0 where the kernel does not tell."""
    clock = ~pid << 3 | 2  # clock_getcpuclockid(3)
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def die_with_parent() -> None:
    """This process is killed when its parent ends."""
    _prctl(_PDEATHSIG, _SIGKILL)


def forbid_tracing() -> None:
    """No process of the same user can trace this one or read its memory."""
    _prctl(_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Nothing executed from here on gains rights; the kernel wants it before a filter is loaded."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def has_no_new_privileges() -> bool:
    return _prctl(_GET_NO_NEW_PRIVS) == 1


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def map_ids(uid: int, gid: int, *, inside: int) -> None:
    """Gives the one user and the one group of a fresh user namespace their number inside."""
    # The kernel wants `setgroups` given up first.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{inside} {gid} 1")


def _mount(
    source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None
) -> None:
    _check(
        _libc.mount(source, target, kind, ctypes.c_ulong(flags), data), f"mount {target.decode()}"
    )


def enter_empty_root() -> None:
    """Makes an empty, read-only tmpfs the root directory. Needs a mount namespace of its own."""
    # The old root is put on top of the new one (pivot_root with both at "."), then taken off.
    place = b"/dev"  # exists everywhere; only this namespace sees it covered
    _mount(None, b"/", None, _REC | _PRIVATE)
    _mount(b"none", place, b"tmpfs", _NO_SUID | _NO_DEV | _NO_EXEC, b"size=4k,nr_inodes=4,mode=555")
    os.chdir(place)
    _check(_libc.syscall({"x86_64": 155, "aarch64": 41}[MACHINE], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "umount2")
    os.chdir("/")
    _mount(None, b"/", None, _REMOUNT | _READ_ONLY | _NO_SUID | _NO_DEV | _NO_EXEC)


def drop_bounding_capabilities() -> None:
    """Nothing that is executed later can gain a capability. Needs CAP_SETPCAP."""
    for capability in range(64):
        try:
            _prctl(_CAPBSET_DROP, capability)
        except OSError:
            if capability == 0:
                raise
            return  # past the last capability of this kernel


def drop_capabilities() -> None:
    _prctl(_CAP_AMBIENT, 4)  # clear all
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def landlock_nothing() -> int:
    """Forbids files and TCP to this process tree, and what newer kernels can forbid besides.

    Those also forbid signals and abstract sockets that leave the tree. Returns the kernel's ABI
    version. Source of the bit counts: Documentation/userspace-api/landlock.rst.
    """
    create, restrict = 444, 446
    abi = _check(
        _libc.syscall(create, None, ctypes.c_size_t(0), ctypes.c_uint(1)), "landlock_create_ruleset"
    )
    num_fs = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    sizes = (8, 16, 24)[(abi >= 4) + (abi >= 6)]
    attributes = struct.pack("QQQ", (1 << num_fs) - 1, 0b11, 0b11)[:sizes]
    ruleset = _check(
        _libc.syscall(create, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)),
        "landlock_create_ruleset",
    )
    _check(_libc.syscall(restrict, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)

    return abi


class Filter:
    """A seccomp program, laid out once so that a child loads it with a single call."""

    def __init__(self, code: bytes) -> None:
        self._code = ctypes.create_string_buffer(code, len(code))
        self._program = ctypes.create_string_buffer(
            struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(self._code))
        )
        self._address = ctypes.addressof(self._program)

    def load(self) -> None:
        """Puts the filter in force for this process; it cannot be taken back."""
        mode_filter = 2
        _prctl(_SECCOMP, mode_filter, self._address)


class CpuTimer:
    """Sends SIGXCPU when this process has used its CPU time, at most one kernel tick late.

    ITIMER_PROF will not do: it counts ticks, and on a busy machine it went off at two thirds of its
    time.
    """

    _CLOCK_PROCESS_CPUTIME_ID = 2

    def __init__(self) -> None:
        # struct sigevent of 64 bytes: value, signal, SIGEV_SIGNAL.
        self._event = ctypes.create_string_buffer(struct.pack("Qii48x", 0, signal.SIGXCPU, 0))
        self._timer = ctypes.c_void_p()
        self._time = ctypes.create_string_buffer(32)

    def arm(self, cpu_ns: int) -> None:
        struct.pack_into("qqqq", self._time, 0, 0, 0, *divmod(cpu_ns, 1_000_000_000))
        _check(
            _libc.timer_create(
                self._CLOCK_PROCESS_CPUTIME_ID, self._event, ctypes.byref(self._timer)
            ),
            "timer_create",
        )
        _check(_libc.timer_settime(self._timer, 0, self._time, None), "timer_settime")
