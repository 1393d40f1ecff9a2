"""Faults that a rehearsal injects, each at a rate.

They are what has ended real runs elsewhere, and must not end one of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.errors import UsageError

KINDS: Mapping[str, tuple[float, str]] = {
    "oom": (0.1, "share of tasks that run out of memory, on one rung of the ladder or on several"),
    "crash": (0.05, "share of jobs under which the worker dies"),
    "hang": (0.02, "share of jobs that never come back"),
    "slow-start": (1.0, "share of worker starts that take ten times as long"),
    "no-start": (0.2, "share of worker starts that never get ready"),
    "device-death": (
        0.5,
        "one device dies for good when this share of the time is over; after the last card the run "
        "goes on with the CPU",
    ),
    "sigterm": (0.5, "the run is asked to end when this share of the time is over"),
    "fault": (1.0, "share of tasks whose training always fails with one and the same error"),
    "harm": (1.0, "share of tasks that training makes worse"),
    "slow-disk": (5.0, "seconds that every write of the submission takes"),
}
"""By name: the usual rate, and what the rate means."""


@dataclass(frozen=True)
class Faults:
    """What to inject."""

    rates: Mapping[str, float]  # by kind; a kind that is missing is not injected

    def rate(self, kind: str) -> float:
        return self.rates.get(kind, 0.0)


NO_FAULTS = Faults({})


def parse_faults(texts: Iterable[str]) -> Faults:
    """From "oom", "crash:0.2", ...

    Raises UsageError naming the text and the kinds.
    """
    rates = {}
    for text in texts:
        kind, sign, number = text.partition(":")

        try:
            rate = float(number) if sign else KINDS[kind][0]
            is_share = kind != "slow-disk"
            if kind not in KINDS or rate < 0 or (is_share and rate > 1):
                raise ValueError
        except (KeyError, ValueError):
            raise UsageError(
                f"--inject {text!r}",
                expected="KIND or KIND:RATE with a rate from 0 to 1 (slow-disk: seconds), KIND of "
                + ", ".join(KINDS),
                remedy="such as --inject crash:0.1",
            ) from None
        rates[kind] = rate
    return Faults(rates)
