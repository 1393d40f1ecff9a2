"""The only place that reads time (a lint rule holds it), so that a virtual clock can drive a run.

Durations are seconds as float; instants are Unix seconds (UTC).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from appliance.errors import UsageError, shorten

LONGEST_S = 366 * 86400.0
"""No run takes longer than a year; timers of the system overflow after 292."""

_UNIT_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds. Never goes back while one process lives."""

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """Wall time at the start plus monotonic time since: a clock change moves nothing in a run."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()  # noqa: TID251

    def now(self) -> float:
        return time.monotonic() + self._offset_s  # noqa: TID251

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


def cpu_seconds() -> float:
    """CPU time of this process and all its threads, for work that is limited by what it costs."""
    return time.process_time()


@dataclass
class VirtualClock:
    """A clock that moves only when told to; `sleep` advances it at no cost."""

    time_s: float = 0.0

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += max(0.0, seconds)


@dataclass(frozen=True)
class Deadline:
    """An instant that work must not pass.

    >>> Deadline(at_s=10.0, clock=VirtualClock(4.0)).remaining_s()
    6.0
    """

    at_s: float
    clock: Clock = field(repr=False, compare=False)

    def remaining_s(self) -> float:
        return max(0.0, self.at_s - self.clock.now())

    def is_past(self) -> bool:
        return self.clock.now() >= self.at_s

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at_s, self.clock.now() + seconds), self.clock)

    def before(self, seconds: float) -> Deadline:
        """This deadline with a reserve of `seconds` kept free at its end."""
        return Deadline(self.at_s - seconds, self.clock)


def parse_duration(text: str) -> float:
    """Seconds in "11h30m", "5m", "90s", "1d2h" or a plain number of seconds.

    Raises UsageError when the text is not a duration, not above zero, or longer than LONGEST_S.
    """
    cleaned = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", cleaned):
        seconds = float(cleaned)
    elif re.fullmatch(r"([0-9]+(\.[0-9]+)?[dhms])+", cleaned):
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([dhms])", cleaned)
        seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    else:
        raise UsageError(
            f"budget {shorten(text)!r} is not a duration",
            expected="days, hours, minutes, seconds such as 11h30m, 5m, 90s",
            remedy="pass --budget 5m",
        )

    if not 0 < seconds <= LONGEST_S:
        what = "leaves no time" if seconds <= 0 else "is longer than a year"
        raise UsageError(
            f"budget {shorten(text)!r} {what}",
            expected="a duration above zero, and of 366 days at most",
            remedy="pass --budget 5m",
        )

    return seconds


def format_duration(seconds: float) -> str:
    """Shortest readable form: 12 s, 4 min 05 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"

    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"

    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def parse_instant(text: str) -> float:
    """Unix seconds of an ISO 8601 instant; without an offset it is local time.

    Raises UsageError when the text is not an instant.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):  # also a year that local time does not have
        raise UsageError(
            f"deadline {shorten(text)!r} is not an instant",
            expected="ISO 8601 such as 2026-11-21T18:30 or 2026-11-21T18:30+00:00",
            remedy="pass --deadline with a date and a time, or --budget with a duration",
        ) from None


def format_instant(at_s: float) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
