"""What a run promises, whatever it is given.

Whole runs on the virtual clock over random task sets, budgets and devices.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.submission import build, validate
from appliance.clock import VirtualClock
from appliance.errors import EngineError
from appliance.run.ledger import Attempts
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.rehearsal.faults import Faults
from tests.support.run_world import costs, memory_journal, orchestrator, run, tasks
from tests.support.run_world import settings as run_settings

DAY_S = 86_400.0
BUDGETS = st.floats(0.0, 1.0).map(lambda x: 60.0 * (DAY_S / 60.0) ** x)
"""One minute to 24 hours, as many short as long ones."""
LONG_S = 7_200.0
COUNTS = st.floats(0.0, 1.0).map(lambda x: round(1000**x))
DEVICES = st.integers(0, 8).map(lambda n: max(1, n))
"""Without a GPU the CPU is the one worker."""
RATES = st.fixed_dictionaries(
    {},
    optional={
        "oom": st.floats(0, 1),
        "crash": st.floats(0, 0.5),
        "hang": st.floats(0, 0.3),
        "slow-start": st.floats(0, 1),
        "no-start": st.floats(0, 0.5),
        "device-death": st.floats(0.01, 1),
        "sigterm": st.floats(0.01, 1),
        "slow-disk": st.floats(0, 5),
    },
)


@settings(max_examples=15, deadline=None)
@given(
    count=COUNTS,
    budget_s=BUDGETS,
    num_workers=DEVICES,
    step_s=st.floats(0.001, 20),
    view_s=st.floats(0.001, 60),
)
def test_no_run_ends_past_its_deadline_or_without_a_valid_submission(
    count: int, budget_s: float, num_workers: int, step_s: float, view_s: float
) -> None:
    count = min(count, 200)
    # A day of further rounds on eight devices would take minutes here.
    is_long = budget_s * num_workers > LONG_S
    done = run(
        tasks(count, most_side=3),
        budget_s=budget_s,
        num_workers=num_workers,
        step_s=step_s,
        view_s=view_s,
        sample__views=4,
        run__rounds=4 if is_long else None,
    )
    assert done.seconds <= budget_s
    assert done.submission_faults == ()


@settings(max_examples=10, deadline=None)
@given(count=COUNTS, stretch=st.floats(1.0, 5.0), num_workers=DEVICES)
def test_one_second_a_task_is_enough_for_an_answer_to_every_task(
    count: int, stretch: float, num_workers: int
) -> None:
    done = run(
        tasks(count, most_side=3),
        budget_s=max(60.0, count * stretch),
        num_workers=num_workers,
        view_s=0.2,
        sample__views=4,
    )
    assert done.coverage.quick == count


@settings(max_examples=15, deadline=None)
@given(
    budget_s=BUDGETS,
    num_workers=DEVICES,
    tasks_per_worker=st.integers(4, 30),
    sampling=st.floats(0.02, 0.25),
    is_planned=st.booleans(),
)
def test_with_work_left_devices_idle_less_than_three_percent_and_no_task_is_starved(
    budget_s: float, num_workers: int, tasks_per_worker: int, sampling: float, is_planned: bool
) -> None:
    """The work is twice what fits into the time, and how slow a task is shows only while it runs.

    A task is starved when it gets no turn of its own after the quick pass. None is: the least
    that each task needs is kept back from the start. Where slow tasks have used that up, the
    last ones are sampled without training.
    """
    count = min(200, num_workers * max(1, min(tasks_per_worker, math.floor(budget_s / 15))))
    need_s = 2 * budget_s * num_workers / count
    done = run(
        tasks(count, most_side=3),
        budget_s=budget_s,
        num_workers=num_workers,
        step_s=(1 - sampling) * need_s / 400,
        view_s=sampling * need_s / 4,
        sample__views=4,
        is_planned=is_planned,
    )
    assert max(done.idle_shares()) < 0.03, done.idle_shares()
    assert len(done.seconds_by_task("deep")) == count


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 25),
    budget_s=st.floats(60, 3600),
    num_workers=st.integers(1, 4),
    rates=RATES,
    seed=st.integers(0, 9),
)
def test_whatever_breaks_the_submission_is_valid_after_every_write(
    count: int, budget_s: float, num_workers: int, rates: dict[str, float], seed: int
) -> None:
    task_set, chosen = tasks(count, most_side=3), run_settings(budget_s, sample__views=4)
    clock, faults = VirtualClock(), Faults(rates)
    true_costs = ImaginedCosts(costs(task_set, step_s=0.05, view_s=0.2), chosen, load_s=2.0)
    death_s = faults.rate("device-death") * budget_s or math.inf
    pool = FakePool(
        true_costs, clock, num_workers=num_workers, faults=faults, seed=seed, dies_at_s=death_s
    )
    journal = memory_journal(task_set)
    stop_s = faults.rate("sigterm") * budget_s or math.inf
    num_writes = 0

    def write(attempts: Callable[[], Attempts]) -> None:
        nonlocal num_writes
        clock.sleep(faults.rate("slow-disk"))
        assert validate(build(task_set, attempts()), task_set) == []
        num_writes += 1

    made = orchestrator(
        task_set,
        chosen,
        pool,
        clock,
        journal=journal,
        is_stopped=lambda: clock.now() >= stop_s,
        write=write,
    )
    # An EngineError says that every device was given up, which is no fault here.
    with contextlib.suppress(EngineError), contextlib.closing(journal):
        made.run()

    assert num_writes > 0
    assert clock.now() <= budget_s
