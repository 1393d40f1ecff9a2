"""Learning rates by schedule, and the watch over a loss that goes astray."""

from __future__ import annotations

import pytest

from appliance.learn.optimize import Watch, learning_rate_at
from appliance.learn.recipe import Optimization


def rates(schedule: str, **more: float) -> list[float]:
    plan = Optimization(
        schedule=schedule, learning_rate=1.0, warmup_steps=10, max_steps=100, **more
    )
    return [learning_rate_at(step, plan) for step in range(100)]


@pytest.mark.parametrize("schedule", ["wsd", "linear", "cosine", "constant"])
def test_every_schedule_warms_up_and_never_rests(schedule: str) -> None:
    found = rates(schedule)
    assert found[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)], rel=0.02)
    assert max(found) == pytest.approx(1.0)
    assert min(found[10:]) > 0
    after = found[10:]
    assert after == sorted(after, reverse=True)


def test_schedules_fall_as_they_are_called() -> None:
    assert rates("constant")[99] == 1.0
    assert rates("linear")[55] == pytest.approx(0.5)
    assert rates("cosine")[55] == pytest.approx(0.5)
    assert rates("cosine")[90] < rates("linear")[90]
    wsd = rates("wsd", decay_fraction=0.2)
    assert [wsd[79], wsd[90], wsd[99]] == pytest.approx([1.0, 0.5, 0.05])


def test_a_loss_that_climbs_is_seen_before_it_is_lost() -> None:
    watch = Watch(max_rise=1.0)
    for _ in range(200):
        watch.see(1.0)
    assert watch.is_safe

    seen: list[bool] = []
    while not watch.has_diverged and len(seen) < 500:
        watch.see(4.0)
        seen.append(watch.is_safe)
    assert watch.has_diverged
    assert not seen[-2]  # no checkpoint of the last steps before: they are not worth going back to


def test_the_watch_forgives_single_steps_and_falling_losses() -> None:
    watch = Watch(max_rise=1.0)
    for step in range(300):
        watch.see(6.0 - 0.01 * step + (3.0 if step % 40 == 0 else 0.0))
        assert not watch.has_diverged
