"""One finding of `doctor`, as data: what was looked at, how it stands, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    PASS = "PASS"
    CAUTION = "CAUTION"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """CAUTION: a run works but slower, or without a part; FAIL: a run would not work. remedy is empty for PASS."""

    name: str
    status: Status
    found: str
    remedy: str = ""

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
    return (
        Status.FAIL
        if Status.FAIL in found
        else Status.CAUTION
        if Status.CAUTION in found
        else Status.PASS
    )
