"""One finding of `appliance doctor`, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    PASS = "PASS"
    CAUTION = "CAUTION"  # a run works, but slower or without a part
    FAIL = "FAIL"  # a run would not work


@dataclass(frozen=True)
class Check:
    name: str  # what was looked at
    status: Status
    found: str
    remedy: str = ""  # what to do; empty for PASS

    def to_json(self) -> dict[str, str]:
        return {
            "name": self.name,
            "status": self.status.value,
            "found": self.found,
            "remedy": self.remedy,
        }


def passed(name: str, found: str) -> Check:
    return Check(name, Status.PASS, found)


def caution(name: str, found: str, remedy: str) -> Check:
    return Check(name, Status.CAUTION, found, remedy)


def failed(name: str, found: str, remedy: str) -> Check:
    return Check(name, Status.FAIL, found, remedy)


def worst(checks: Iterable[Check]) -> Status:
    found = {c.status for c in checks}
    for status in (Status.FAIL, Status.CAUTION):
        if status in found:
            return status
    return Status.PASS
