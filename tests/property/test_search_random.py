"""A search of any task ends in time, without a fault, and the same way twice."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.arc.grid import freeze, grid_fault, same_grid
from appliance.arc.task import Pair, Task
from appliance.search.answers import Found, Limits
from appliance.search.solve import search_task
from tests.support.search_programs import random_task, run_program

NUM_TASKS = 40
"""Chance is seeded: more were tried by hand, see docs/results/search.md."""

LIMITS = Limits(expansions=2, cpu_s=30.0)


def same(first: Found, second: Found) -> bool:
    """The same answers, with the same weights and programs, in the same order."""
    return len(first.answers) == len(second.answers) and all(
        (a.weight, a.kind, a.program) == (b.weight, b.kind, b.program)
        and all(same_grid(x, y) for x, y in zip(a.grids, b.grids, strict=True))
        for a, b in zip(first.answers, second.answers, strict=True)
    )


@pytest.mark.parametrize("number", range(NUM_TASKS))
def test_a_random_task_is_searched_without_a_fault(number: int) -> None:
    task = random_task(np.random.default_rng(number), most_side=12, most_pairs=6)
    found = search_task(task, LIMITS, seed=number)

    for answer in found.answers:
        assert len(answer.grids) == len(task.test)
        assert all(grid_fault(grid) is None for grid in answer.grids)
        assert 0 < answer.weight <= 1
    if number % 4 == 0:
        assert same(found, search_task(task, LIMITS, seed=number))


def test_programs_of_random_tasks_give_what_the_search_says() -> None:
    rng = np.random.default_rng(7)
    for _ in range(10):
        task = random_task(rng, most_side=5, most_pairs=3)
        for answer in search_task(task, LIMITS).answers[:10]:
            if answer.program:
                wanted = [*(p.output for p in task.train), *answer.grids]
                inputs = [*(p.input for p in task.train), *task.test]
                for grid, output in zip(inputs, wanted, strict=True):
                    assert np.array_equal(run_program(answer.program, grid), output)


@pytest.mark.parametrize("num_pairs", [1, 50])
def test_one_demonstration_or_fifty(num_pairs: int) -> None:
    rng = np.random.default_rng(num_pairs)
    grids = [freeze(rng.integers(0, 4, (30, 30))) for _ in range(num_pairs + 1)]
    pairs = tuple(Pair(grid, freeze(grid[:, ::-1])) for grid in grids[:-1])
    found = search_task(Task("made", pairs, (grids[-1],)), Limits(expansions=1, cpu_s=6.0))

    assert same_grid(found.answers[0].grids[0], freeze(grids[-1][:, ::-1]))


def test_contradictory_demonstrations_have_no_program() -> None:
    grid = freeze(np.eye(4, dtype=np.int64))
    pairs = (Pair(grid, freeze(np.ones((2, 2)))), Pair(grid, freeze(np.zeros((2, 2)))))
    found = search_task(Task("made", pairs, (grid,)), LIMITS)

    assert not [answer for answer in found.answers if answer.program]
