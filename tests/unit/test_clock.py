"""Durations, instants and deadlines."""

from __future__ import annotations

import pytest

from appliance.clock import (
    Deadline,
    VirtualClock,
    format_duration,
    format_instant,
    parse_duration,
    parse_instant,
)
from appliance.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("11h30m", 41400),
        ("1d2h", 93600),
        ("1.5h", 5400),
        ("2 h 5 m", 7500),
    ],
)
def test_durations_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-5m", "5x", "h", "ten minutes", "5m3", "1e3"])
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="5m"):
        parse_duration(text)


def test_an_instant_survives_formatting() -> None:
    assert format_instant(parse_instant("2026-11-21T18:30:00+00:00")) == "2026-11-21T18:30:00Z"


def test_an_instant_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="ISO 8601"):
        parse_instant("tomorrow")


def test_a_deadline_counts_down_and_never_below_zero() -> None:
    clock = VirtualClock(100.0)
    deadline = Deadline(110.0, clock)
    clock.sleep(4.0)
    assert deadline.remaining_s() == 6.0
    assert deadline.within(2.0).at_s == 106.0
    assert deadline.within(60.0).at_s == 110.0
    assert deadline.before(3.0).at_s == 107.0

    clock.sleep(60.0)
    assert deadline.remaining_s() == 0.0
    assert deadline.is_past()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.2, "3.2 s"), (42.0, "42 s"), (245.0, "4 min 05 s"), (12000.0, "3 h 20 min")],
)
def test_durations_print_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
