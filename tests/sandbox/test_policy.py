"""The system call filter says what the tables say, on both machines.

It is run by an interpreter of classic BPF, so no kernel is needed.
"""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from appliance.program.sandbox import policy
from appliance.program.sandbox.policy import ALLOW, AUDIT_ARCH, KILL, refuse

MACHINES = sorted(AUDIT_ARCH)
TABLES = (policy.CHECKED, policy.ALLOWED, policy.WAITING, policy.OPENING, policy.KILLED)
X32_BIT = 0x40000000
"""Marks the calls of the 32-bit variant of x86-64, which no program needs."""
WAKING = (1, 10)
"""FUTEX_WAKE and FUTEX_WAKE_BITSET."""
words = st.integers(0, 2**32 - 1)


def verdict(code: bytes, machine: str, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do with this call."""
    values = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, AUDIT_ARCH.get(machine, 1), 0, *values)
    accumulator, at = 0, 0

    while True:
        instruction: tuple[int, int, int, int] = struct.unpack_from("<HBBI", code, 8 * at)
        operation, if_true, if_false, value = instruction
        at += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, value)[0]
            case 0x54:
                accumulator &= value
            case 0x05:
                at += value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"no such operation: {operation:#x}")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def numbers(table: policy.CallNumbers, machine: str) -> set[int]:
    """The call numbers of a table on that machine."""
    column = list(AUDIT_ARCH).index(machine)
    return {number for pair in table.values() if (number := pair[column]) is not None}


def number_of(call: str, machine: str) -> int:
    """The number of a call whose arguments are checked."""
    number = policy.CHECKED[call][list(AUDIT_ARCH).index(machine)]
    assert number is not None
    return number


@given(number=words, machine=st.sampled_from(MACHINES))
def test_a_call_in_no_table_is_refused_or_worse(number: int, machine: str) -> None:
    assume(number not in set().union(*(numbers(table, machine) for table in TABLES)))
    is_x32 = machine == "x86_64" and number >= X32_BIT
    answer = verdict(policy.program_policy(machine), machine, number)
    assert answer == (KILL if is_x32 else refuse(errno.EPERM))


def test_every_table_means_what_it_says(machine: str) -> None:
    code = policy.program_policy(machine)
    for table, answer in (
        (policy.ALLOWED, ALLOW),
        (policy.WAITING, refuse(errno.ENOSYS)),
        (policy.OPENING, refuse(errno.EACCES)),
        (policy.KILLED, KILL),
    ):
        assert {verdict(code, machine, n) for n in numbers(table, machine)} == {answer}, table


def test_no_number_stands_in_two_tables(machine: str) -> None:
    tables = [numbers(table, machine) for table in TABLES]
    assert sum(map(len, tables)) == len(set().union(*tables))


@given(fd=words, machine=st.sampled_from(MACHINES))
def test_writing_is_allowed_to_the_pipe_only(fd: int, machine: str) -> None:
    number = number_of("write", machine)
    answer = verdict(policy.program_policy(machine), machine, number, (fd,))
    assert (answer == ALLOW) == (fd in (1, 2, policy.RESULT_FD))


@given(protection=words, flags=words, machine=st.sampled_from(MACHINES))
def test_memory_is_never_executable_and_never_a_file(
    protection: int, flags: int, machine: str
) -> None:
    code = policy.program_policy(machine)
    mmap, mprotect = number_of("mmap", machine), number_of("mprotect", machine)
    executable, anonymous = protection & 4, flags & 0x20

    assert (verdict(code, machine, mmap, (0, 4096, protection, flags)) == ALLOW) == bool(
        anonymous and not executable
    )
    assert (verdict(code, machine, mprotect, (0, 4096, protection)) == ALLOW) == (not executable)


def test_waiting_on_a_futex_is_fatal_and_waking_is_not(machine: str) -> None:
    futex = number_of("futex", machine)
    code = policy.program_policy(machine)
    private = 128

    for command in range(16):
        for flag in (0, private):
            answer = verdict(code, machine, futex, (0, command | flag))
            assert answer == (ALLOW if command in WAKING else KILL)


def test_another_instruction_set_is_fatal(machine: str) -> None:
    assert verdict(policy.program_policy(machine), "i386", 1) == KILL


@given(number=st.integers(X32_BIT, 2**32 - 1))
def test_the_x32_calls_are_fatal(number: int) -> None:
    assert verdict(policy.program_policy("x86_64"), "x86_64", number) == KILL


@given(
    rules=st.dictionaries(st.integers(0, 600), st.integers(0, 3), max_size=300),
    number=st.integers(0, 700),
    machine=st.sampled_from(MACHINES),
)
def test_the_binary_search_finds_every_rule(
    rules: dict[int, int], number: int, machine: str
) -> None:
    # Long answers, so that some jumps are farther than the 255 instructions of a near one.
    bodies = {n: policy.answer(refuse(value)) * (1 + 40 * value) for n, value in rules.items()}
    code = policy.assemble(bodies, policy.answer(KILL), machine)
    assert verdict(code, machine, number) == (refuse(rules[number]) if number in rules else KILL)
