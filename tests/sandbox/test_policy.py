"""The system call filter, run by an interpreter of classic BPF: what it says is what the tables say, on both machines."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.program.sandbox import policy
from appliance.program.sandbox.policy import ALLOW, AUDIT_ARCH, KILL, refuse

MACHINES = sorted(AUDIT_ARCH)
words = st.integers(0, 2**32 - 1)


def verdict(code: bytes, machine: str, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do with this call."""
    values = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, AUDIT_ARCH.get(machine, 1), 0, *values)
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("<HBBI", code, 8 * at)
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


def numbers(table: str, machine: str) -> set[int]:
    column = list(AUDIT_ARCH).index(machine)
    return {n[column] for n in getattr(policy, table).values() if n[column] is not None}


@given(number=words, machine=st.sampled_from(MACHINES))
def test_a_call_in_no_table_is_refused_or_worse(number: int, machine: str) -> None:
    tables = set().union(
        *(numbers(t, machine) for t in ("_CHECKED", "_ALLOWED", "_WAITING", "_OPENING", "_KILLED"))
    )
    answer = verdict(policy.program_policy(machine), machine, number)
    if number not in tables:
        assert answer in (refuse(errno.EPERM), KILL)


def test_every_table_means_what_it_says(machine: str) -> None:
    code = policy.program_policy(machine)
    for table, answer in (
        ("_ALLOWED", ALLOW),
        ("_WAITING", refuse(errno.ENOSYS)),
        ("_OPENING", refuse(errno.EACCES)),
        ("_KILLED", KILL),
    ):
        assert {verdict(code, machine, n) for n in numbers(table, machine)} == {answer}, table


def test_no_number_stands_in_two_tables(machine: str) -> None:
    tables = [
        numbers(t, machine) for t in ("_CHECKED", "_ALLOWED", "_WAITING", "_OPENING", "_KILLED")
    ]
    assert sum(map(len, tables)) == len(set().union(*tables))


@given(fd=words, machine=st.sampled_from(MACHINES))
def test_writing_is_allowed_to_the_pipe_only(fd: int, machine: str) -> None:
    number = policy._CHECKED["write"][list(AUDIT_ARCH).index(machine)]
    assert number is not None
    answer = verdict(policy.program_policy(machine), machine, number, (fd,))
    assert (answer == ALLOW) == (fd in (1, 2, policy.RESULT_FD))


@given(protection=words, flags=words, machine=st.sampled_from(MACHINES))
def test_memory_is_never_executable_and_never_a_file(
    protection: int, flags: int, machine: str
) -> None:
    column = list(AUDIT_ARCH).index(machine)
    code = policy.program_policy(machine)
    mmap, mprotect = policy._CHECKED["mmap"][column], policy._CHECKED["mprotect"][column]
    assert mmap is not None and mprotect is not None
    executable, anonymous = protection & 4, flags & 0x20
    assert (verdict(code, machine, mmap, (0, 4096, protection, flags)) == ALLOW) == bool(
        anonymous and not executable
    )
    assert (verdict(code, machine, mprotect, (0, 4096, protection)) == ALLOW) == (not executable)


def test_waiting_on_a_futex_is_fatal_and_waking_is_not(machine: str) -> None:
    futex = policy._CHECKED["futex"][list(AUDIT_ARCH).index(machine)]
    assert futex is not None
    code = policy.program_policy(machine)
    private = 128
    for command in range(16):
        for flag in (0, private):
            answer = verdict(code, machine, futex, (0, command | flag))
            assert answer == (ALLOW if command in (1, 10) else KILL)


def test_another_instruction_set_is_fatal(machine: str) -> None:
    assert verdict(policy.program_policy(machine), "i386", 1) == KILL


@given(number=st.integers(0x40000000, 2**32 - 1))
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
    bodies = {
        n: policy.answer(refuse(value)) * (1 + 40 * value) for n, value in rules.items()
    }  # far jumps, too
    code = policy.assemble(bodies, policy.answer(KILL), machine)
    assert verdict(code, machine, number) == (refuse(rules[number]) if number in rules else KILL)
