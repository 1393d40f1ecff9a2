"""Further submit commands (--line): what they ask of a slot, and which jobs they are for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from appliance.errors import UsageError, shorten
from appliance.machine.profile_check import Expectation
from appliance.pack.slot import Slot
from appliance.sizing.choice import Choice

_COMMAND = re.compile(r"\+?[A-Za-z_][\w.]*\s*=[^\x00-\x1f]*")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])B?)?", re.IGNORECASE)
_KIB = {"K": 1, "M": 2**10, "G": 2**20, "T": 2**30}
"""KiB of HTCondor's units."""


def _mib(value: str) -> float | None:
    return _kib(value, unit="M", of="M")


def _disk_gib(value: str) -> float | None:
    return _kib(value, unit="K", of="G")


def _plain(value: str) -> float | None:
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None


def _kib(value: str, *, unit: str, of: str) -> float | None:
    """In units of `of`. unit: of a number without one. None for an expression, which only HTCondor
    can evaluate."""
    found = _QUANTITY.fullmatch(value)
    if found is None:
        return None
    return float(found[1]) * _KIB[(found[2] or unit).upper()] / _KIB[of]


# By the name without case, underscores and prefixes: the field of Slot, how its value is read, and
# the floor of the profile, below which a run refuses the slot. A run makes do with fewer cores.
_RESOURCES: Mapping[str, tuple[str, Callable[[str], float | None], Callable[[Expectation], float]]]
_RESOURCES = {
    "requestcpus": ("cpus", _plain, lambda _: 1),
    "requestmemory": ("memory_mib", _mib, lambda e: e.min_memory_gib * 1024),
    "memorymib": ("memory_mib", _mib, lambda e: e.min_memory_gib * 1024),
    "requestdisk": ("disk_gib", _disk_gib, lambda e: e.min_disk_gib),
    "requestgpus": ("num_gpus", _plain, lambda e: e.num_gpus),
    "gpusminimummemory": ("gpu_memory_mib", _mib, lambda e: e.min_gpu_memory_gib * 1024),
    "gpusminimumcapability": ("capability", _plain, lambda e: e.min_capability),
}
_UNITS = {"memory_mib": " MiB", "gpu_memory_mib": " MiB", "disk_gib": " GB"}


def check_lines(lines: Sequence[str]) -> None:
    """Raises UsageError for what is no submit command."""
    for line in lines:
        if not _COMMAND.fullmatch(line):
            raise UsageError(
                f"--line {shorten(line)!r}",
                expected="one submit command: NAME = VALUE, in one line",
            )


def with_lines(
    slot: Slot, expectation: Expectation, lines: Sequence[str]
) -> tuple[Slot, tuple[str, ...]]:
    """The slot as those lines want it, and the lines that say something else.

    A resource that is an expression stays a line: nobody here can evaluate it.

    Raises UsageError for less than the profile asks for: every shard would refuse its slot.
    """
    left = []
    for line in lines:
        name, value = _parts(line)
        field, read, floor_of = _RESOURCES.get(_bare(name), ("", _plain, lambda _: 0.0))
        amount = read(value) if field else None
        if amount is None:
            left.append(line)
            continue

        floor = floor_of(expectation)
        if amount < floor:
            raise UsageError(
                f"--line {shorten(line)!r} is below what the profile asks for",
                expected=f"at least {floor:g}{_UNITS.get(field, '')}, or every shard refuses its "
                "slot",
                remedy="ask for more, or pass another --profile",
            )
        number: Any = amount if field == "capability" else math.ceil(amount)
        slot = replace(slot, **{field: Choice(number, "--line")})
    return slot, tuple(left)


def is_resource(line: str) -> bool:
    """Whether it is about what a shard needs; the vote over all of them needs little."""
    bare = _bare(_parts(line)[0])
    return bare in _RESOURCES or bare.startswith(("request", "gpus", "requiregpus"))


def submit_lines(site: Mapping[str, str], lines: Sequence[str]) -> str:
    """What the site wants and then --line, as the end of a submit file. A later line replaces an
    earlier one of the same name, but what machines both want holds together."""
    wanted = {name.lower(): value for name, value in site.items()}.get("requirements")
    told = [f"{name:<18} = {value}" for name, value in site.items()]
    for line in lines:
        name, value = _parts(line)
        both = name.lower() == "requirements" and wanted
        told.append(f"{name} = ({wanted}) && ({value})" if both else line)
    return "".join(f"\n{line}" for line in told)


def _parts(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name.strip(), value.strip()


def _bare(name: str) -> str:
    """As HTCondor takes names: RequestDisk, request_disk and My.RequestDisk are one."""
    return re.sub(r"^(\+|my\.)|_", "", name.lower())
