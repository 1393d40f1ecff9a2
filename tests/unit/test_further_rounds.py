"""Further rounds: who gets the next one, how it differs, what it was worth, when there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from appliance.arc.task import TaskSet
from appliance.config import Settings
from appliance.run.jobs import job_of
from appliance.run.schedule.certainty import Certainty
from appliance.run.schedule.further_rounds import (
    LEAST_WORTH,
    LONG_TIME,
    ROUNDS_IN_VAIN,
    STEP_FOLDS,
    Gains,
    Worth,
    _standing,
)
from appliance.run.schedule.schedule import Schedule
from appliance.run.schedule.task_state import RANK_DIVISORS, Assignment
from tests.support.run_world import costs, settings, tasks

FIRST_S = 10.0


def schedule_of(
    task_set: TaskSet, margins: list[float] | None = None, *, end_s: float = 1e6, **values: object
) -> Schedule:
    """All first rounds are over and took FIRST_S, and these are the margins of their votes."""
    chosen = settings(end_s, **{"run__rounds": None, **values})
    planned = costs(task_set, step_s=0.02, view_s=0.2)
    schedule = Schedule(task_set, chosen, end_s=end_s, num_workers=1, costs=planned)
    for task_id, margin in zip(schedule.states, margins or [0.1] * len(task_set), strict=True):
        schedule.mark_done(task_id, "quick")
        schedule.mark_done(task_id, "deep", seconds=FIRST_S)
        schedule.set_certainty(task_id, Certainty(margin))
        schedule.set_adapter(task_id, "sha")
    return schedule


def again(
    schedule: Schedule, now_s: float = 0.0, *, to: float | None = None, seconds: float = FIRST_S
) -> Assignment | None:
    """One further round. to: the margin of the vote after it; None: as before."""
    job = schedule.next(now_s)
    if job is not None:
        task_id = job.tasks[0].task_id
        assert (job.stage, job.round > 1) == ("deep", True)
        if to is not None:
            schedule.set_certainty(task_id, Certainty(to))
        schedule.finished(job, [task_id], seconds=seconds)
    return job


def test_at_first_the_least_certain_comes_first_and_the_settled_never() -> None:
    margins = [0.9, 0.15, 0.0, 0.1, 0.95]
    schedule = schedule_of(tasks(5, most_side=1), margins)
    by_id = dict(zip(schedule.states, margins, strict=True))
    taken = [job and by_id[job.tasks[0].task_id] for job in (schedule.next(0.0) for _ in range(3))]
    assert taken == [0.0, 0.1, 0.15]
    assert schedule.next(0.0) is None


def test_without_a_limit_rounds_go_on_as_long_as_votes_move() -> None:
    schedule = schedule_of(tasks(2))
    numbers = [job.round for n in range(60) if (job := again(schedule, to=0.1 + 0.01 * (n % 3)))]
    assert max(numbers) > 25
    assert len(numbers) == 60


def test_a_number_of_rounds_is_the_users_limit() -> None:
    schedule = schedule_of(tasks(3), run__rounds=8)
    count = 0
    while again(schedule, to=0.1 + 0.01 * (count % 3)):
        count += 1
    assert count == 7 * 3
    text = schedule.further.why_over(schedule.states)
    assert text == "nothing can be gained: all rounds are done (run.rounds = 8)"


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_a_vote_that_no_round_moves_is_given_up_and_said(margin: float) -> None:
    schedule = schedule_of(tasks(2), [margin] * 2)
    count = 0
    while again(schedule, to=margin):
        count += 1
    assert count == ROUNDS_IN_VAIN * 2
    text = schedule.further.why_over(schedule.states)
    assert text == "nothing can be gained: further rounds changed nothing, 6 in a row"


def test_a_move_begins_the_count_anew() -> None:
    schedule = schedule_of(tasks(1))
    for number in range(4 * ROUNDS_IN_VAIN):
        is_move = number % (ROUNDS_IN_VAIN - 1) == 0
        assert again(schedule, to=0.1 + 0.01 * (number % 7) if is_move else None)


def test_a_model_that_never_answers_ends_the_run_and_it_is_said() -> None:
    task_set = tasks(2)
    schedule = Schedule(task_set, settings(1e6, run__rounds=None), end_s=1e6, num_workers=1)
    for task_id in schedule.states:
        schedule.mark_done(task_id, "quick")
    count = 0
    while (job := schedule.next(0.0)) is not None:
        schedule.finished(job, [], seconds=1.0, is_empty=True)
        count += 1
    assert count <= (ROUNDS_IN_VAIN + 1) * len(task_set)
    text = schedule.further.why_over(schedule.states)
    assert text == "nothing can be gained: further rounds gave no answer, 6 in a row"


def test_different_reasons_are_counted_and_time_that_is_too_short_is_said() -> None:
    schedule = schedule_of(tasks(4), [0.9, 0.9, 0.9, 0.1])
    schedule.set_found(list(schedule.states)[-1])
    assert schedule.further.why_over(schedule.states) == (
        "nothing can be gained: 3 of 4: the vote is settled; 1 of 4: a search is sure of the answer"
    )
    short = schedule_of(tasks(1), end_s=1.6)
    assert short.next(0.0) is None
    assert short.further.why_over(short.states) == "no further round fits that time"


def test_counted_predictions_get_no_further_round() -> None:
    schedule = schedule_of(tasks(2), sample__predictions=8)
    assert schedule.next(0.0) is None
    text = schedule.further.why_over(schedule.states)
    assert text == "nothing can be gained: all predictions are there"


def test_a_round_that_fails_twice_is_the_last_one_of_its_task() -> None:
    schedule = schedule_of(tasks(1))
    for _ in range(2):
        job = schedule.next(0.0)
        assert job and schedule.crashed(job) == []
    assert schedule.next(0.0) is None
    (state,) = schedule.states.values()
    assert (state.deep.status, state.rounds) == ("done", 1), "earlier answers stand"
    text = schedule.further.why_over(schedule.states)
    assert text == "nothing can be gained: the work on the task failed again and again"


def test_a_failure_now_and_then_does_not_end_the_rounds_of_a_task() -> None:
    schedule = schedule_of(tasks(1))
    for number in range(6):
        job = schedule.next(0.0)
        assert job and schedule.crashed(job) == []
        assert again(schedule, to=0.1 + 0.01 * (number % 3))


def test_every_second_round_trains_an_adapter_of_another_rank_and_never_a_larger_one() -> None:
    schedule = schedule_of(tasks(1, most_side=1))
    jobs = []
    for number in range(7):
        job = again(schedule, to=0.1 + 0.01 * (number % 3))
        assert job
        jobs.append(job)
    trained = [job for job in jobs if job.train_s > 0]
    assert [job.round for job in trained] == [3, 5, 7]
    assert [job.rank_divisor for job in trained] == [2, 4, 1]
    assert all(job.adapter_sha == "sha" for job in jobs if job not in trained)
    assert min(RANK_DIVISORS) == 1


@pytest.mark.parametrize(("rounds_left", "fold"), [(1.0, 1), (LONG_TIME * 2, 2), (1e4, 8)])
def test_training_is_longer_only_where_every_open_task_has_time_for_it(
    rounds_left: float, fold: int
) -> None:
    schedule = schedule_of(tasks(2), end_s=2 * rounds_left * FIRST_S + 10)
    for state in schedule.states.values():
        state.rounds = 2 * STEP_FOLDS.index(8)
    job = schedule.next(0.0)
    assert job and job.train_s > 0
    assert job.steps_fold == fold

    given: Settings = schedule.settings
    told = job_of(job, given, job_id=0, now_s=0.0, known=[])
    assert (told.steps_fold, told.rank_divisor) == (job.steps_fold, job.rank_divisor)


def test_the_next_round_goes_where_a_second_gains_most() -> None:
    """Votes that lean gain with each round, open ones lose: the first come more often."""
    schedule = schedule_of(tasks(20, most_side=1), [0.1] * 10 + [0.2] * 10)
    open_ids = set(list(schedule.states)[:10])
    num = {"open": 0, "leaning": 0}
    for number in range(200):
        job = schedule.next(0.0)
        assert job
        task_id = job.tasks[0].task_id
        is_open = task_id in open_ids
        num["open" if is_open else "leaning"] += 1
        before = schedule.states[task_id].certainty
        assert before
        gain = (-0.004 if number % 2 else 0.003) if is_open else 0.01
        schedule.set_certainty(task_id, Certainty(before.margin + gain))
        schedule.finished(job, [task_id], seconds=FIRST_S)
    assert num["leaning"] > 2 * num["open"]
    assert num["open"] > 20, "nobody starves"


def test_cheap_tasks_get_more_rounds_and_dear_ones_as_many_seconds() -> None:
    schedule = schedule_of(tasks(2, most_side=1))
    cheap, dear = schedule.states.values()
    cheap.first_s, dear.first_s = 2.0, 20.0
    seconds = {cheap.task.task_id: 0.0, dear.task.task_id: 0.0}
    for number in range(200):
        job = schedule.next(0.0)
        assert job
        task_id = job.tasks[0].task_id
        took_s = schedule.states[task_id].first_s
        seconds[task_id] += took_s
        schedule.set_certainty(task_id, Certainty(0.1 + 0.01 * (number % 3)))
        schedule.finished(job, [task_id], seconds=took_s)
    assert 0.5 < seconds[cheap.task.task_id] / seconds[dear.task.task_id] < 2.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["trained", "asked"]),
            st.floats(0, 0.79),
            st.floats(-1, 1),
            st.floats(0.01, 10),
        )
    )
)
def test_no_kind_of_round_is_ever_worth_nothing(
    seen: list[tuple[str, float, float, float]],
) -> None:
    worth = Worth()
    for kind, margin, gain, time in seen:
        worth.note(kind, margin, gain, time)  # type: ignore[arg-type]
    rates = worth.of_all()
    assert len(rates) == 6
    assert min(rates.values()) > 0
    of_seen = [rates[kind, _standing(margin)] for kind, margin, _, _ in seen]  # type: ignore[index]
    assert not seen or min(of_seen) >= LEAST_WORTH * max(of_seen)


def test_what_rounds_gave_is_counted_and_told() -> None:
    schedule = schedule_of(tasks(2, most_side=1), [0.1, 0.5])
    again(schedule, to=0.4, seconds=30.0)
    again(schedule, to=0.9, seconds=30.0)
    gains = schedule.further.gains
    assert (gains.num, gains.num_trained, gains.num_settled) == (2, 0, 1)
    assert gains.gain == pytest.approx(0.7)
    assert gains.text() == (
        "further rounds: 2 (0 with a new adapter) in 1 min 00 s of workers' time; they settled "
        "one vote, and a minute changed the margin of a vote by +0.700"
    )
    assert Gains().text() == ""


@given_settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 12),
    num_workers=st.integers(1, 4),
    end_s=st.floats(60, 2000),
    step_s=st.floats(0.005, 0.5),
    view_s=st.floats(0.05, 2.0),
)
def test_with_an_open_vote_and_no_limit_every_worker_has_work_until_the_end(
    count: int, num_workers: int, end_s: float, step_s: float, view_s: float
) -> None:
    """The last worker stops within the time of the smallest job: two views of some task."""
    task_set = tasks(count, most_side=3)
    planned = costs(task_set, step_s=step_s, view_s=view_s)
    chosen = settings(end_s, run__rounds=None)
    schedule = Schedule(task_set, chosen, end_s=end_s, num_workers=num_workers, costs=planned)
    for task_id in schedule.states:
        schedule.mark_done(task_id, "quick")

    running: list[tuple[float, int, Assignment]] = []
    now_s, number = 0.0, 0
    while True:
        while len(running) < num_workers and (job := schedule.next(now_s)):
            running.append((max(now_s + 0.1, job.expected_until_s), number, job))
            number += 1
        if not running:
            break
        running.sort()
        now_s, _, job = running.pop(0)
        task_id = job.tasks[0].task_id
        schedule.set_certainty(task_id, Certainty(0.1 + 0.01 * (number % 5)))
        schedule.set_adapter(task_id, f"sha{number}")
        schedule.finished(job, [task_id], seconds=FIRST_S)

    smallest_s = max(0.5, min(2 * cost.view for cost in planned.values()))
    assert now_s >= schedule.end_s - 1.5 - smallest_s - 0.1
