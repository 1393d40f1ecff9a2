"""The imagined pool of `bench.pool`: what it counts adds up, and it knows bad machines."""

from __future__ import annotations

from dataclasses import replace

from appliance.pack.render_condor import MERGE_S
from bench.pool import Policy, Pool, play, policies

QUIET = Pool(slots=10, evicted=0, slow=0, wrong=0, held=0, cycle_s=10)
HOUR = 3600.0


def test_with_nothing_in_the_way_the_work_is_what_is_counted() -> None:
    policy = Policy("x", every_s=1e9)
    tally = play(QUIET, policy, num=20, work_s=HOUR, seed=1)
    start_s = QUIET.fetch_s + QUIET.load_s
    assert abs(tally.undone) < 1e-9 and (tally.redone_s, tally.failed) == (0, 0)
    # Two rounds of ten, each shard with nine tenths of an hour to an hour of work.
    least_s = 2 * (0.9 * HOUR + start_s)
    assert least_s <= tally.makespan_s - QUIET.fetch_s - MERGE_S <= 2 * (HOUR + start_s) + 20
    assert 20 * (0.9 * HOUR + start_s) <= tally.busy_s <= 20 * (HOUR + start_s)


def test_each_save_costs_its_time_and_bounds_what_an_eviction_loses() -> None:
    rough = replace(QUIET, evicted=0.5, unsaved=1.0)
    often, never = Policy("x", every_s=600, save_s=1), Policy("x", every_s=1e9)
    lost = {p.every_s: play(rough, p, num=200, work_s=4 * HOUR, seed=1) for p in (often, never)}
    assert lost[600].redone_s < 0.2 * lost[1e9].redone_s
    assert abs(lost[600].undone) < 1e-9, "all of it is done in the end"

    saved = play(QUIET, replace(often, save_s=60), num=20, work_s=HOUR, seed=1)
    plain = play(QUIET, never, num=20, work_s=HOUR, seed=1)
    assert saved.busy_s > plain.busy_s + 20 * 5 * 60 - 1


def test_slow_machines_leave_work_undone() -> None:
    half = replace(QUIET, slow=0.5, slow_speed=0.5)
    tally = play(half, Policy("x", every_s=1e9), num=100, work_s=HOUR, seed=1)
    assert 0.1 < tally.undone < 0.3


def test_a_machine_that_fails_at_once_takes_all_shards_unless_it_is_kept() -> None:
    pool = replace(QUIET, slots=20, wrong=0.1)
    given_back = play(pool, Policy("x", wait_s=0), num=100, work_s=HOUR, seed=1)
    kept = play(pool, Policy("x"), num=100, work_s=HOUR, seed=1)
    assert given_back.failed > 20 and kept.failed == 0


def test_an_image_through_the_access_point_is_waited_for() -> None:
    policy = Policy("x", image_gb=4)
    sent = play(QUIET, policy, num=10, work_s=HOUR, seed=1)
    cached = play(QUIET, replace(policy, image_gb=0), num=10, work_s=HOUR, seed=1)
    assert sent.makespan_s > cached.makespan_s + 10 * 4 / policy.access_gb_s - 2


def test_held_shards_are_released_and_finish() -> None:
    tally = play(replace(QUIET, held=1.0), Policy("x"), num=20, work_s=HOUR, seed=1)
    assert tally.failed == 0 and abs(tally.undone) < 1e-9


def test_the_same_seed_plays_the_same_pool() -> None:
    for policy in policies():
        first, again = (play(Pool(), policy, num=50, work_s=HOUR, seed=3) for _ in range(2))
        assert first == again
