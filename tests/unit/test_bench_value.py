"""The replay of recorded runs under three orders of work, on runs made by hand."""

from functools import partial

import numpy as np
import pytest

from appliance.arc.grid import freeze
from appliance.arc.task import Task, TaskSet
from appliance.arc.vote import Candidate
from bench.value import (
    Gains,
    Job,
    Recorded,
    Replay,
    Standing,
    by_passes,
    by_value,
    ends,
    standing_of,
    static_ends,
)

NOTHING, WRONG = Standing(0.0, 0.0, None, False), Standing(0.0, 0.0, 0.3, False)
RIGHT, SURE = Standing(1.0, 1.0, 0.3, False), Standing(1.0, 1.0, 0.0, True)

SECONDS = (2.0, 1.0, 10.0, 10.0)  # search, quick, two deep rounds


def recorded(searched: dict[str, Standing], by_model: dict[str, list[Standing]]) -> Recorded:
    """searched: what a task has after the search; by_model: after each job of the model alone."""
    jobs = {t: tuple(Job(t, n, s) for n, s in enumerate(SECONDS)) for t in by_model}
    standings = {}
    for task_id, found in by_model.items():
        for num, standing in enumerate([NOTHING, *found]):
            standings[task_id, False, num] = standing
            is_better = searched[task_id].solved > standing.solved
            standings[task_id, True, num] = searched[task_id] if is_better else standing
    return Recorded(jobs, standings)


RUN = recorded(
    {"searchable": SURE, "learnable": NOTHING},
    {"searchable": [WRONG, WRONG, WRONG], "learnable": [WRONG, RIGHT, RIGHT]},
)


def test_jobs_of_a_task_come_one_after_another() -> None:
    replay = Replay(RUN)
    assert {job.kind for job in replay.open_jobs()} == {"search", "quick"}

    quick = next(job for job in replay.open_jobs() if job.number == 1)
    replay.take(quick)
    of_task = [job.kind for job in replay.open_jobs() if job.task_id == quick.task_id]
    assert of_task == ["search", "deep"]
    assert replay.standing(quick.task_id) == WRONG


@pytest.mark.parametrize(
    ("budget_s", "solved"),
    [(0.5, 0.0), (3.0, 1.0), (12.0, 1.0), (14.0, 2.0)],
)
def test_passes_solve_what_fits_the_time(budget_s: float, solved: float) -> None:
    # Both workers: quick until 1 s, search until 3 s, then the learnable task until 13 s.
    assert sum(s.solved for s in ends(RUN, budget_s, by_passes).values()) == solved


def test_a_job_has_the_mean_gain_of_those_like_it() -> None:
    gains = Gains([RUN], ["learnable"])
    deep = RUN.jobs["learnable"][2]
    assert gains.expected(deep, WRONG) == pytest.approx(1.0)  # searched or not
    assert gains.expected(RUN.jobs["learnable"][0], WRONG) == 0.0


def test_value_takes_what_gives_most_for_a_second_once_all_are_answered() -> None:
    gains = Gains([RUN], ["searchable", "learnable"])
    order = partial(by_value, dict.fromkeys(RUN.jobs, gains))
    replay, taken = Replay(RUN), []
    while replay.open_jobs():
        job = order(replay, replay.open_jobs())
        replay.take(job)
        taken.append(job.kind)

    assert taken[:2] == ["quick", "quick"]
    assert taken[2] == "search"  # half a task in 2 s, against half a task in 10 s


def test_static_shares_lose_what_a_task_does_not_need() -> None:
    assert static_ends(RUN, 12.0) == {"searchable": SURE, "learnable": WRONG}
    assert static_ends(RUN, 13.0) == {"searchable": SURE, "learnable": RIGHT}


def test_a_right_grid_that_is_outvoted_covers_its_task_and_does_not_solve_it() -> None:
    wrong, other, right = (freeze(np.full((1, 1), colour)) for colour in (1, 2, 3))
    task = Task("t", (), (wrong,))
    tasks = TaskSet("made", (task,), {"t": (right,)})
    answers = [wrong, wrong, wrong, other, other, right]
    found = [Candidate("t", 0, grid, -1.0, 1, view=str(i)) for i, grid in enumerate(answers)]

    standing = standing_of(task, tasks, {"deep": found})
    assert (standing.solved, standing.covered) == (0.0, 1.0)
    assert standing_of(task, tasks, {"deep": found[3:]}).solved == 1.0
    assert standing_of(task, tasks, {}) == NOTHING
