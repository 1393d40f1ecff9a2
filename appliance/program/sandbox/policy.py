"""The seccomp policy of a program: which system calls it may make.

Allowed: memory management, exit, its own identity and clocks, write() to its pipe. Everything else
is refused, in one of four ways: `kill` for calls that only an attack makes, ENOSYS for waiting (one
thread has nobody to wait for), EACCES for opening files, EPERM for the rest.

The filter is a binary search over call numbers: 8 comparisons instead of a hundred. That also saves
the kernel time when it loads the filter, which happens once per program.
"""

from __future__ import annotations

import errno
import struct

RESULT_FD = 3
"""The descriptor to which a program's answers are written."""

# What a filter returns, from <linux/seccomp.h>.
ALLOW = 0x7FFF0000
KILL = 0x80000000


def refuse(error: int) -> int:
    """The answer that makes a call fail with that errno."""
    return 0x00050000 | error


AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's number of each instruction set that has a table below."""
_X32_BIT = 0x40000000
"""Set in the numbers of x86-64's second set of calls, x32, which would slip past the table."""

# Call numbers: (x86-64, aarch64); None where the architecture has no such call.
# Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
CallNumbers = dict[str, tuple[int | None, int | None]]

# By argument, see `program_policy`.
CHECKED: CallNumbers = {
    "write": (1, 64), "mmap": (9, 222), "mprotect": (10, 226), "futex": (202, 98),
}  # fmt: skip
ALLOWED: CallNumbers = {
    "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216), "msync": (26, 227),
    "mincore": (27, 232), "madvise": (28, 233), "rt_sigreturn": (15, 139), "sched_yield": (24, 124),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "exit": (60, 93),
    "exit_group": (231, 94), "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169),
    "time": (201, None), "times": (100, 153), "getrusage": (98, 165), "sysinfo": (99, 179),
    "uname": (63, 160), "sched_getaffinity": (204, 123),
}  # fmt: skip
WAITING: CallNumbers = {
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "pause": (34, None),
    "select": (23, None), "pselect6": (270, 72), "poll": (7, None), "ppoll": (271, 73),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22),
}  # fmt: skip
OPENING: CallNumbers = {"open": (2, None), "openat": (257, 56), "openat2": (437, 437)}
KILLED: CallNumbers = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "execve": (59, 221), "execveat": (322, 281), "bpf": (321, 280),
    "userfaultfd": (323, 282), "perf_event_open": (298, 241), "unshare": (272, 97),
    "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "init_module": (175, 105), "finit_module": (313, 273),
    "kexec_load": (246, 104), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "open_by_handle_at": (304, 265), "seccomp": (317, 277),
}  # fmt: skip

# Instructions of classic BPF, from <linux/bpf_common.h>.
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45

# Offsets in struct seccomp_data, and bits of the arguments that are looked at.
_NUMBER_OFFSET, _ARCH_OFFSET = 0, 4
_PROT_EXEC, _MAP_ANONYMOUS = 0x4, 0x20
_FUTEX_COMMAND, _FUTEX_WAKE, _FUTEX_WAKE_BITSET = 0x7F, 1, 10


def _op(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _argument(i: int) -> bytes:
    """Loads the low half of argument i.

    The kernel looks at no more of a descriptor, a protection or a futex command.
    """
    return _op(_LOAD, 16 + 8 * i)


def answer(value: int) -> bytes:
    return _op(_RETURN, value)


def answer_if_argument(
    i: int, values: tuple[int, ...], other: int, *, mask: int = 0xFFFFFFFF, listed: int = ALLOW
) -> bytes:
    """The answer `listed` when the masked argument is one of the values, else the other answer."""
    tests = [_op(_IF_EQUAL, v, if_true=len(values) - k) for k, v in enumerate(values)]
    return b"".join((_argument(i), _op(_AND, mask), *tests, answer(other), answer(listed)))


def program_policy(machine: str) -> bytes:
    """The filter under which a program runs. Raises KeyError for a machine without a table."""
    column = list(AUDIT_ARCH).index(machine)
    refused = refuse(errno.EPERM)
    checked = {  # write to its pipe only; no executable memory; nobody waits on a futex
        "write": answer_if_argument(0, (1, 2, RESULT_FD), refused),
        "mprotect": answer_if_argument(2, (0,), refused, mask=_PROT_EXEC),
        "mmap": _argument(2) + _op(_IF_ANY_BIT, _PROT_EXEC, if_true=2) + _argument(3)
        + _op(_IF_ANY_BIT, _MAP_ANONYMOUS, if_true=1) + answer(refused) + answer(ALLOW),
        "futex": answer_if_argument(
            1, (_FUTEX_WAKE, _FUTEX_WAKE_BITSET), KILL, mask=_FUTEX_COMMAND
        ),
    }  # fmt: skip

    rules: dict[int, bytes] = {}
    for numbers, body in (
        (ALLOWED, answer(ALLOW)),
        (WAITING, answer(refuse(errno.ENOSYS))),
        (OPENING, answer(refuse(errno.EACCES))),
        (KILLED, answer(KILL)),
    ):
        for of_machines in numbers.values():
            number = of_machines[column]
            if number is not None:
                rules[number] = body
    rules |= {CHECKED[name][column]: body for name, body in checked.items()}  # type: ignore[misc]
    return assemble(rules, answer(refused), machine)


def assemble(rules: dict[int, bytes], default: bytes, machine: str) -> bytes:
    """A classic BPF program: rules by call number, the default for all other calls.

    A call in the way of another instruction set kills the process.
    """
    ranges: list[tuple[int, bytes]] = [(0, default)]  # (first number, what to do from there on)
    for number in sorted(rules):
        if ranges[-1][0] == number:
            ranges.pop()
        ranges += [(number, rules[number]), (number + 1, default)]

    ranges = [r for k, r in enumerate(ranges) if k == 0 or r[1] != ranges[k - 1][1]]
    if machine == "x86_64":
        ranges.append((_X32_BIT, answer(KILL)))

    head = _op(_LOAD, _ARCH_OFFSET) + _op(_IF_EQUAL, AUDIT_ARCH[machine], if_true=1) + answer(KILL)
    return head + _op(_LOAD, _NUMBER_OFFSET) + _search(ranges)


def _search(ranges: list[tuple[int, bytes]]) -> bytes:
    """The binary search for the last range that begins at or before the call's number."""
    if len(ranges) == 1:
        return ranges[0][1]

    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    num_low = len(low) // 8
    if num_low <= 255:
        return _op(_IF_AT_LEAST, ranges[middle][0], if_true=num_low) + low + high

    # A conditional jump reaches 255 instructions at most, the plain one any number.
    far = _op(_IF_AT_LEAST, ranges[middle][0], if_false=1) + _op(_JUMP, num_low)
    return far + low + high
