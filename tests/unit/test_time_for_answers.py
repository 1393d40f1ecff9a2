"""Training leaves time for answers, and no run ends idle while a task waits."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.record.journal import Journal
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS
from appliance.run.rehearsal.rehearsal import Crew, rehearse
from appliance.run.schedule.schedule import DRAIN_S, VIEWS_SLACK, Schedule
from appliance.run.schedule.time_shares import LEAST_VIEWS
from appliance.sizing.steps_and_views import reserve_s
from tests.support.run_world import costs, settings, tasks

NUM_VIEWS = 8


@given(
    st.floats(5, 300),
    st.floats(0.01, 5),
    st.floats(0.01, 3),
    st.booleans(),
)
def test_whoever_is_trained_has_time_for_its_first_answers(
    end_s: float, step_s: float, view_s: float, is_counted: bool
) -> None:
    task_set = tasks(3)
    planned = costs(task_set, step_s=step_s, view_s=view_s)
    values: dict[str, object] = {"sample__predictions": NUM_VIEWS} if is_counted else {}
    schedule = Schedule(
        task_set, settings(end_s, **values), end_s=end_s, num_workers=1, costs=planned
    )
    for task_id in schedule.states:
        schedule.mark_done(task_id, "quick")

    while (job := schedule.next(0.0)) is not None:
        task_id = job.tasks[0].task_id
        if job.train_s > 0:
            answers_s = job.until_s - job.train_s
            asked = min(NUM_VIEWS, VIEWS_SLACK * job.num_views) if not is_counted else LEAST_VIEWS
            assert answers_s >= asked * planned[task_id].view - 1e-6
        assert job.num_views >= 1
        schedule.finished(job, [task_id], seconds=1.0)
        if job.round > 1:
            break


def world_of(seed: int, num_tasks: int, budget_s: float, step_s: float, view_s: float) -> Crew:
    """A machine that is as fast as the plan says."""
    task_set = tasks(num_tasks, seed)
    chosen = settings(budget_s, strategy="transduction", sample__views=NUM_VIEWS)
    true = costs(task_set, step_s=step_s, view_s=view_s)
    imagined = ImaginedCosts(true, chosen, load_s=3.0, sample_spread=0.0, train_spread=0.0)
    return Crew(chosen, imagined, num_workers=1, costs=true)


@pytest.mark.parametrize(
    ("num_tasks", "budget_s", "step_s", "view_s"),
    list(itertools.product((2, 3, 5), (20.0, 30.0, 60.0), (0.1, 1.5), (0.1, 1.2))),
)
def test_no_task_is_trained_in_vain_and_none_waits_at_an_early_end(
    num_tasks: int, budget_s: float, step_s: float, view_s: float, tmp_path: Path
) -> None:
    crew = world_of(num_tasks, num_tasks, budget_s, step_s, view_s)
    path = tmp_path / "journal.sqlite"
    task_set = tasks(num_tasks, num_tasks)
    done = rehearse(task_set, crew, budget_s=budget_s, faults=NO_FAULTS, journal_path=path)

    journal = Journal(path)
    rows = journal.stages()
    journal.close()
    answered = {r.task_id for r in rows if r.stage == "deep" and r.status != "failed"}
    trained = {r.task_id for r in rows if r.stage == "train" and r.status == "done"}
    assert trained <= answered

    ended_early_s = budget_s - reserve_s(crew.settings, budget_s) - DRAIN_S - done.seconds
    # A task is not begun without time for so many views.
    least_s = max(1.0, LEAST_VIEWS * view_s)
    assert ended_early_s < least_s or answered == set(task_set.ids())
