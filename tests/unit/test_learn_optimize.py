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


@pytest.mark.parametrize("schedule", ["wsd", "linear", "cosine"])
def test_with_max_seconds_a_schedule_follows_what_is_further_on(schedule: str) -> None:
    def at(step: int, elapsed_s: float, max_seconds: float | None = 50.0) -> float:
        plan = Optimization(
            schedule=schedule,
            learning_rate=1.0,
            warmup_steps=10,
            max_steps=100,
            max_seconds=max_seconds,
        )
        return learning_rate_at(step, plan, elapsed_s=elapsed_s)

    by_steps = [at(step, 0.0, None) for step in range(100)]
    assert [at(step, step / 2) for step in range(100)] == pytest.approx(by_steps)
    assert [at(step, 0.0) for step in range(100)] == by_steps
    assert at(20, 40.0) == pytest.approx(by_steps[80])  # the time is further on
    assert at(80, 10.0) == by_steps[80]
    assert at(20, 50.0) == at(20, 60.0) == 0.0
    assert at(20, 1e9, None) == by_steps[20]  # no max_seconds: time does not count
    assert at(4, 20.0) == pytest.approx(min(0.5, by_steps[40]))  # the warm-up goes by steps


def test_a_constant_rate_does_not_follow_time() -> None:
    plan = Optimization(schedule="constant", learning_rate=1.0, warmup_steps=0, max_seconds=50)
    assert learning_rate_at(0, plan, elapsed_s=49.0) == 1.0


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
