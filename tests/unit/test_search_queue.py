"""A search in the schedule: who is searched when, and what it means for the model's work."""

from __future__ import annotations

import pytest

from appliance.config import Settings
from appliance.run.jobs import job_of
from appliance.run.schedule.certainty import Certainty
from appliance.run.schedule.schedule import DRAIN_S, ROUNDS_BEFORE_FOUND, Schedule
from appliance.run.schedule.search_queue import CHECK_S, MOST_SHARE, WALL_SLACK, SearchShare
from appliance.run.schedule.task_state import Assignment
from tests.support.run_world import settings, tasks

TASKS = tasks(5)
BY_CELLS = sorted(TASKS.ids(), key=lambda t: (TASKS[t].num_cells(), t))
END_S = 1000.0


def schedule(
    *,
    is_first: bool = True,
    num_workers: int = 2,
    cpu_s: float = 10.0,
    chosen: Settings | None = None,
) -> Schedule:
    return Schedule(
        TASKS,
        chosen or settings(END_S),
        end_s=END_S,
        num_workers=1,
        search=SearchShare(num_workers, cpu_s, is_first),
    )


def all_searches(plan: Schedule, now_s: float = 0.0) -> list[Assignment]:
    return list(iter(lambda: plan.next_search(now_s), None))


def test_every_task_is_searched_once_and_the_cheapest_first() -> None:
    plan = schedule(is_first=False)
    given = all_searches(plan)
    assert [a.tasks[0].task_id for a in given] == BY_CELLS
    until_s = WALL_SLACK * 10.0 + CHECK_S
    assert {(a.stage, a.until_s, a.cpu_s) for a in given} == {("search", until_s, 10.0)}

    for assignment in given:
        plan.finished(assignment, [assignment.tasks[0].task_id], seconds=1.0)
    assert plan.next_search(1.0) is None
    assert plan.search and plan.search.is_over(1.0)


def test_a_task_whose_worker_died_is_searched_once_more_after_the_others() -> None:
    plan = schedule()
    first = plan.next_search(0.0)
    assert first
    assert plan.crashed(first) == []

    given = all_searches(plan)
    assert [a.tasks[0].task_id for a in given] == [*BY_CELLS[1:], BY_CELLS[0]]
    assert plan.crashed(given[-1]) == [BY_CELLS[0]]
    assert plan.next_search(0.0) is None


def test_memory_that_ran_out_costs_a_try_as_well() -> None:
    plan = schedule()
    first = plan.next_search(0.0)
    assert first
    assert plan.out_of_memory(first) == []
    assert plan.states[BY_CELLS[0]].search.status == "waiting"


def test_tasks_that_were_searched_before_a_resume_are_left_out() -> None:
    plan = schedule()
    assert plan.search
    plan.search.mark_done(BY_CELLS[:4])
    assert [a.tasks[0].task_id for a in all_searches(plan)] == BY_CELLS[4:]


@pytest.mark.parametrize(
    ("cpu_s", "window_s"), [(10.0, 5 * 10 / 2 + CHECK_S), (1e3, MOST_SHARE * (END_S - DRAIN_S))]
)
def test_a_search_that_goes_first_ends_when_its_time_is_over(cpu_s: float, window_s: float) -> None:
    plan = schedule(cpu_s=cpu_s)
    first = plan.next_search(0.0)
    assert first and plan.search
    assert first.until_s <= window_s
    assert plan.search.has_work(window_s - 0.1)
    assert plan.next_search(window_s) is None

    # The others are not searched, but the last one may still come to its end.
    assert not plan.search.is_over(window_s)
    plan.finished(first, [], seconds=1.0)
    assert plan.search.is_over(window_s)


@pytest.mark.parametrize("without_model", [True, False])
def test_beside_devices_or_alone_a_search_has_all_the_time(without_model: bool) -> None:
    chosen = settings(END_S, strategy="search") if without_model else settings(END_S)
    plan = schedule(is_first=without_model, chosen=chosen)
    assert plan.next_search(0.0)
    late = plan.next_search(END_S - 5.0)
    assert late and late.until_s == END_S - DRAIN_S


def test_a_search_whose_workers_are_gone_is_over() -> None:
    plan = schedule()
    assert plan.search
    plan.search.end()
    assert plan.next_search(0.0) is None
    assert plan.search.is_over(0.0)


def deep_order(found: set[str]) -> list[str]:
    """The deep jobs that one worker gets, a second each, after a whole quick pass."""
    plan = schedule(chosen=settings(END_S, run__rounds=1))
    for task_id in BY_CELLS:
        plan.mark_done(task_id, "quick")
    for task_id in found:
        plan.set_found(task_id)

    order, now_s = [], 0.0
    while assignment := plan.next(now_s):
        assert assignment.stage == "deep"
        order.append(assignment.tasks[0].task_id)
        now_s += 1.0
        plan.finished(assignment, order[-1:], seconds=1.0)
    return order


def test_what_a_search_is_sure_of_is_trained_last() -> None:
    found = {BY_CELLS[0], BY_CELLS[2]}
    order = deep_order(found)
    assert set(order[-2:]) == found
    assert sorted(order) == sorted(BY_CELLS)
    assert set(deep_order(set())[-2:]) != found


def test_what_a_search_is_sure_of_is_trained_although_further_rounds_have_no_end() -> None:
    plan = schedule(chosen=settings(END_S, run__rounds=None))
    for task_id in BY_CELLS:
        plan.mark_done(task_id, "quick")
    for task_id in BY_CELLS[1:]:
        plan.mark_done(task_id, "deep", seconds=1.0)
    plan.set_found(BY_CELLS[0])

    order: list[tuple[str, int]] = []
    while (BY_CELLS[0], 1) not in order:
        assignment = plan.next(0.0)
        assert assignment
        task_id = assignment.tasks[0].task_id
        order.append((task_id, assignment.round))
        plan.set_certainty(task_id, Certainty(0.1 + 0.01 * (len(order) % 3)))
        plan.finished(assignment, [task_id], seconds=1.0)
    assert order[-1] == (BY_CELLS[0], 1)
    assert {number for _, number in order[:-1]} == set(range(2, ROUNDS_BEFORE_FOUND + 1))


def test_what_a_search_is_sure_of_gets_no_further_round() -> None:
    plan = schedule(chosen=settings(END_S, run__rounds=8))
    for task_id in BY_CELLS:
        plan.mark_done(task_id, "quick")
        plan.mark_done(task_id, "deep", seconds=1.0)
    for task_id in BY_CELLS[1:]:
        plan.set_found(task_id)
    again = plan.next(0.0)
    assert again and (again.tasks[0].task_id, again.round) == (BY_CELLS[0], 2)
    assert plan.next(0.0) is None


def test_a_search_job_says_how_far_to_go() -> None:
    plan = schedule(chosen=settings(END_S, search__expansions=77, run__seed=3))
    assignment = plan.next_search(0.0)
    assert assignment
    job = job_of(assignment, plan.settings, job_id=1, now_s=0.0, known=[])
    assert (job.stage, job.expansions, job.cpu_s, job.seed) == ("search", 77, 10.0, 3)
    assert job.deadline_s == assignment.until_s
    assert [t.task_id for t in job.tasks] == [BY_CELLS[0]]
