"""The schedule by itself: order, shares, what is learnt, what is done with failures."""

from __future__ import annotations

import math

import pytest

from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate
from appliance.run.schedule.certainty import Certainty, TaskVotes
from appliance.run.schedule.measured_costs import Meter, TaskCost
from appliance.run.schedule.quick_pass import QUICK_TASKS_PER_JOB
from appliance.run.schedule.schedule import DRAIN_S, Schedule
from appliance.run.schedule.task_state import Assignment
from appliance.seeds import generator
from appliance.sizing.memory_ladder import LAST_RUNG
from tests.support.run_world import costs, grid, settings, tasks


def schedule_of(
    task_set: TaskSet,
    *,
    end_s: float,
    num_workers: int = 1,
    planned: dict[str, TaskCost] | None = None,
    **values: object,
) -> Schedule:
    return Schedule(
        task_set, settings(end_s, **values), end_s=end_s, num_workers=num_workers, costs=planned
    )


def take(schedule: Schedule, now_s: float = 0.0) -> Assignment:
    assignment = schedule.next(now_s)
    assert assignment is not None
    return assignment


def past_quick(schedule: Schedule) -> None:
    """The whole quick pass was answered at once."""
    for task_id in schedule.states:
        schedule.mark_done(task_id, "quick")


def test_the_quick_pass_goes_from_cheap_to_dear_over_all_tasks() -> None:
    task_set = tasks(50)
    schedule = schedule_of(task_set, end_s=1000)
    seen = []
    while (job := take(schedule)).stage == "quick":
        assert len(job.tasks) <= QUICK_TASKS_PER_JOB
        seen += [t.task_id for t in job.tasks]
    sizes = [schedule.forecast.size(t) for t in seen]
    assert sorted(seen) == sorted(task_set.ids())
    assert sizes == sorted(sizes)


def test_a_budget_of_seconds_a_task_goes_to_the_quick_pass_first() -> None:
    schedule = schedule_of(tasks(100), end_s=120)
    while (job := take(schedule, 60.0)).stage == "quick":
        schedule.finished(job, [t.task_id for t in job.tasks], seconds=1.0)
    assert all(s.quick.status == "done" for s in schedule.states.values())


def test_quick_asks_fewer_views_when_the_measured_time_is_too_short_for_all() -> None:
    task_set = tasks(100)
    schedule = schedule_of(task_set, end_s=200)
    job = take(schedule)
    assert job.num_views == 2
    schedule.forecast.note_sampling("quick", {t.task_id: 2.0 for t in job.tasks}, 100.0)
    schedule.finished(job, [t.task_id for t in job.tasks], seconds=100.0)
    assert take(schedule, 100.0).num_views == 1


def test_what_was_not_used_is_shared_out_again() -> None:
    task_set = tasks(4, most_side=1)
    schedule = schedule_of(task_set, end_s=100 + DRAIN_S)
    past_quick(schedule)
    first = take(schedule)
    schedule.finished(first, [first.tasks[0].task_id], seconds=1.0)
    second = take(schedule, 1.0)
    assert second.until_s - 1.0 > first.until_s


def test_training_gets_what_sampling_leaves_but_never_more_than_its_part() -> None:
    task_set = tasks(10, most_side=1)
    dear = schedule_of(task_set, end_s=300, planned=costs(task_set, step_s=0.05, view_s=2.5))
    cheap = schedule_of(task_set, end_s=300, planned=costs(task_set, step_s=0.05, view_s=0.001))
    for schedule in (dear, cheap):
        past_quick(schedule)
    slow, fast = take(dear), take(cheap)
    share_s = 300 / 10
    assert slow.train_s < 0.65 * share_s - 5
    assert fast.train_s <= 0.65 * fast.until_s
    assert slow.train_s > 5


def test_a_task_is_not_begun_when_its_least_does_not_fit() -> None:
    task_set = tasks(2, most_side=1)
    planned = {i: TaskCost(step, 0.1) for i, step in zip(task_set.ids(), (0.1, 50.0), strict=True)}
    schedule = schedule_of(task_set, end_s=60, planned=planned)
    past_quick(schedule)
    job = take(schedule)
    assert [t.task_id for t in job.tasks] == [task_set.ids()[0]]
    assert all(a.tasks[0].task_id == task_set.ids()[0] for a in [schedule.next(30.0)] if a)


def test_every_task_has_all_it_needs_where_time_is_plenty() -> None:
    task_set = tasks(20)
    planned = costs(task_set, step_s=0.05, view_s=0.2)
    schedule = schedule_of(task_set, end_s=36_000, planned=planned)
    past_quick(schedule)
    for _ in task_set:
        job = take(schedule)
        assert job.train_s >= 400 * planned[job.tasks[0].task_id].step
        schedule.finished(job, [job.tasks[0].task_id], seconds=30.0)


def test_a_job_of_several_tasks_that_fails_is_asked_again_task_by_task() -> None:
    schedule = schedule_of(tasks(10), end_s=1000)
    first = take(schedule)
    schedule.finished(first, [task.task_id for task in first.tasks], seconds=1.0)
    job = take(schedule)
    num = len(job.tasks)
    assert num == 10 - len(first.tasks) > 1
    assert schedule.crashed(job) == []
    for _ in range(num):
        alone = take(schedule)
        assert (len(alone.tasks), alone.rung) == (1, 0)


def test_out_of_memory_goes_down_every_rung_and_then_gives_up() -> None:
    schedule = schedule_of(tasks(1), end_s=1000)
    past_quick(schedule)
    for rung in range(LAST_RUNG):
        job = take(schedule)
        assert (job.rung, job.train_s > 0) == (rung, True)
        assert schedule.out_of_memory(job) == []
    last = take(schedule)
    assert (last.rung, last.train_s) == (LAST_RUNG, 0.0)
    assert schedule.out_of_memory(last) == [last.tasks[0].task_id]
    assert schedule.next(0.0) is None


def test_a_task_that_crashes_twice_is_given_up_and_no_other() -> None:
    schedule = schedule_of(tasks(2), end_s=1000)
    past_quick(schedule)
    first = take(schedule)
    assert schedule.crashed(first) == []
    other = take(schedule)
    assert other.tasks != first.tasks, "the others come first"
    again = take(schedule)
    assert (again.tasks, again.rung) == (first.tasks, 0), "nothing says that memory was short"
    assert schedule.crashed(again) == [first.tasks[0].task_id]


def test_a_worker_that_the_system_killed_may_have_lacked_memory() -> None:
    schedule = schedule_of(tasks(1), end_s=1000)
    past_quick(schedule)
    first = take(schedule)
    assert schedule.killed(first) == []
    again = take(schedule)
    assert again.rung == 1
    assert schedule.killed(again) == [first.tasks[0].task_id]


def test_a_crash_in_a_further_round_leaves_the_earlier_answers_standing() -> None:
    schedule = schedule_of(tasks(1), end_s=1000)
    task_id = next(iter(schedule.states))
    schedule.mark_done(task_id, "quick")
    schedule.mark_done(task_id, "deep")
    schedule.set_certainty(task_id, Certainty(0.0))
    for _ in range(2):
        assert schedule.crashed(take(schedule)) == []
    assert schedule.next(0.0) is None
    assert schedule.states[task_id].deep.status == "done"


def test_capacity_counts_what_running_jobs_will_take() -> None:
    task_set = tasks(2, most_side=1)
    schedule = schedule_of(task_set, end_s=100 + DRAIN_S, num_workers=2)
    past_quick(schedule)
    first, second = take(schedule), take(schedule)
    assert (
        min(first.until_s, second.until_s) > 90
    )  # each has a worker of its own, and nearly all of its time


def test_a_meter_follows_the_latest_work() -> None:
    meter = Meter(None)
    assert meter.rate is None
    for seconds in [1.0] * 50 + [3.0] * 50:
        meter.note(1.0, seconds)
    assert meter.rate == pytest.approx(3.0)


def test_a_plan_is_believed_less_with_every_measurement() -> None:
    meter = Meter(1.0)
    rates = []
    for _ in range(10):
        meter.note(5.0, 50.0)
        assert meter.rate is not None
        rates.append(meter.rate)
    assert rates == sorted(rates)
    assert 2.0 < rates[0] < 5.0 < rates[-1] < 10.0


def test_slowness_is_the_ninth_of_ten_over_the_mean() -> None:
    meter = Meter(None)
    for seconds in [1.0] * 17 + [4.0] * 3:
        meter.note(1.0, seconds)
    assert meter.slowness() == pytest.approx(4.0 / 1.45)


def test_certainty_is_that_of_the_least_certain_output() -> None:
    rng = generator("certainty")
    task = next(t for t in tasks(100) if len(t.test) == 2)
    one, two = grid(rng, 3), grid(rng, 4)

    def candidate(test_index: int, said: object) -> Candidate:
        return Candidate(task.task_id, test_index, said, -1.0, 10)  # type: ignore[arg-type]

    sure = [candidate(0, one) for _ in range(9)]
    split = [candidate(1, one), candidate(1, two)]
    assert TaskVotes(task, sure + split).certainty().margin == 0.0
    assert TaskVotes(task, sure).certainty().margin == 0.0
    assert TaskVotes(task, sure + [candidate(1, two)] * 9).certainty().is_settled


def test_log_probabilities_that_are_no_numbers_do_not_break_the_order() -> None:
    task = tasks(1).tasks[0]
    rng = generator("order")
    found = [Candidate(task.task_id, 0, grid(rng, n), math.nan, 10) for n in (2, 3)]
    assert TaskVotes(task, found).certainty() == Certainty(0.0, 0.0)


def test_an_adapter_that_was_lost_is_trained_anew_in_the_same_round() -> None:
    task_set = tasks(1, most_side=1)
    only = task_set.ids()[0]
    schedule = schedule_of(task_set, end_s=1000, planned=costs(task_set, step_s=0.05, view_s=0.2))
    past_quick(schedule)
    schedule.finished(take(schedule), [only], seconds=10.0)
    schedule.set_adapter(only, "sha")
    schedule.set_certainty(only, Certainty(0.1, 0.0))
    asked = take(schedule, 10.0)
    assert (asked.round, asked.adapter_sha) == (2, "sha")

    assert schedule.adapter_lost(asked) == []
    again = take(schedule, 20.0)
    assert (again.round, again.adapter_sha, again.rung) == (2, "", asked.rung)
    assert again.train_s > 0


def test_where_training_does_not_fit_any_more_the_plain_model_is_asked() -> None:
    task_set = tasks(3, most_side=1)
    schedule = schedule_of(
        task_set, end_s=20 + DRAIN_S, planned=costs(task_set, step_s=10.0, view_s=0.1)
    )
    past_quick(schedule)
    job = take(schedule)
    assert (job.stage, job.train_s, job.is_late) == ("deep", 0.0, True)
    assert job.num_views >= 8


def test_without_time_to_train_an_adapter_that_there_is_answers() -> None:
    task_set = tasks(1, most_side=1)
    only = task_set.ids()[0]
    schedule = schedule_of(
        task_set, end_s=20 + DRAIN_S, planned=costs(task_set, step_s=10.0, view_s=0.1)
    )
    past_quick(schedule)
    schedule.mark_done(only, "deep", seconds=400.0)
    schedule.mark_done(only, "deep", number=2)
    schedule.set_adapter(only, "sha")
    schedule.set_certainty(only, Certainty(0.1, 0.0))
    job = take(schedule)
    assert (job.round, job.train_s, job.adapter_sha) == (3, 0.0, "sha")


def test_a_task_begins_on_the_rung_that_fits_and_keeps_it_once_it_fell() -> None:
    task_set = tasks(2, most_side=1)
    schedule = schedule_of(task_set, end_s=1000)
    past_quick(schedule)
    schedule.begin_on(dict.fromkeys(task_set.ids(), 1))
    job = take(schedule)
    assert job.rung == 1
    schedule.out_of_memory(job)
    schedule.begin_on(dict.fromkeys(task_set.ids(), 0))
    assert sorted(s.deep.rung for s in schedule.states.values()) == [0, 2]


def test_a_task_that_was_cut_off_without_an_answer_gets_a_longer_second_turn_and_no_third() -> None:
    task_set = tasks(1, most_side=1)
    schedule = schedule_of(
        task_set, end_s=10_000, planned=costs(task_set, step_s=0.01, view_s=0.05)
    )
    past_quick(schedule)
    first = take(schedule)
    schedule.finished(first, [], seconds=10.0, is_empty=True)
    second = take(schedule, 20.0)
    assert (second.stage, second.round) == ("deep", 1)
    assert second.until_s - 20.0 > 4 * first.until_s
    schedule.finished(second, [], seconds=10.0, is_empty=True)
    assert schedule.states[task_set.ids()[0]].deep.status == "done"


@pytest.mark.parametrize(
    ("num_workers", "end_s", "is_largest_first"),
    [(2, 100_000, True), (2, 60, False), (1, 100_000, False)],
)
def test_several_workers_begin_with_the_largest_task_where_there_is_time_for_all(
    num_workers: int, end_s: float, is_largest_first: bool
) -> None:
    task_set = tasks(12)
    planned = costs(task_set, step_s=0.05, view_s=0.01)
    schedule = schedule_of(task_set, end_s=end_s, num_workers=num_workers, planned=planned)
    past_quick(schedule)
    first = take(schedule)
    assert first.stage == "deep"
    by_size = sorted(task_set.ids(), key=lambda t: (schedule.forecast.size(t), t))
    assert first.tasks[0].task_id == (by_size[-1] if is_largest_first else by_size[0])
