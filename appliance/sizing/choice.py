"""A value and why it was taken: the unit of every plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Choice(Generic[T_co]):
    """One decision of a plan.

    >>> Choice("float16", "compute capability 7.5 has no bfloat16").value
    'float16'
    """

    value: T_co
    reason: str

    def to_json(self) -> dict[str, object]:
        return {"value": self.value, "reason": self.reason}
