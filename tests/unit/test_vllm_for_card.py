"""What is kept of a library with machine code for several cards."""

from __future__ import annotations

import re
import struct
import sys
from importlib import import_module
from typing import Any

import pytest

from tests.support.cases import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "make"))
vllm_for_card: Any = import_module("vllm_for_card")

PTX = 1
HEAD_BYTES = 64


def entry(kind: int, architecture: int, code: bytes) -> bytes:
    head = struct.pack("<HHIQ", kind, 0x101, HEAD_BYTES, len(code)) + bytes(12)
    return (head + struct.pack("<I", architecture)).ljust(HEAD_BYTES, b"\0") + code


def container(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", vllm_for_card.FATBIN, 1, 16, len(body)) + body


def elf(fatbin: bytes) -> bytes:
    """A file with the section and nothing else."""
    names = b"\0.nv_fatbin\0.shstrtab\0"
    head = bytearray(64)
    struct.pack_into("<Q", head, 0x28, 64 + len(fatbin) + len(names))
    struct.pack_into("<HHH", head, 0x3A, 64, 2, 1)
    rows = [(1, 64, len(fatbin)), (12, 64 + len(fatbin), len(names))]
    table = b"".join(
        struct.pack("<IIQQQQ", name, 1, 0, 0, at, size).ljust(64, b"\0") for name, at, size in rows
    )
    return bytes(head) + fatbin + names + table


OURS = entry(vllm_for_card.CUBIN, 90, b"kernel_bf16 of Hopper")
SOFT = entry(vllm_for_card.CUBIN, 90, b"kernel_fp16 of Hopper")
OLDER = entry(vllm_for_card.CUBIN, 80, b"kernel_bf16 of Ampere")
TEXT = entry(PTX, 90, b"kernel_bf16 as text")


@pytest.mark.parametrize(
    ("wanted", "kept"), [(b"", [OURS, SOFT]), (b"bf16", [OURS]), (b"none of it", [])]
)
def test_only_the_wanted_kernels_of_one_card_stay(wanted: bytes, kept: list[bytes]) -> None:
    whole = elf(container(OLDER, OURS, TEXT, SOFT) + bytes(24) + container(OLDER))
    found = vllm_for_card.cut(whole, re.compile(wanted))

    assert len(found) == len(whole)
    at, size = vllm_for_card.section(found, ".nv_fatbin")
    first = container(*kept)
    assert found[at:].startswith(first)

    # The second container is where it was, and empty.
    second = whole.rindex(container(OLDER))
    assert found[second:].startswith(container())
    between = found[at + len(first) : second] + found[second + 16 : at + size]
    assert not any(between)


def test_a_file_without_machine_code_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no section \.other"):
        vllm_for_card.section(elf(b""), ".other")
