"""The search without a model: every kind of fit, the views, limits, and programs that say it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from appliance.arc.grid import freeze, same_grid
from appliance.arc.task import Pair, Task
from appliance.program import dsl
from appliance.search.answers import Limits
from appliance.search.solve import search_task
from appliance.search.views import colour_views
from tests.support.search_programs import run_program

LIMITS = Limits(expansions=12, cpu_s=60.0)
"""Few expansions: what these tasks ask for is cheap, and a test shall not take long."""


def scene(rng: np.random.Generator, *, height: int = 7, width: int = 8) -> np.ndarray:
    """Two or three boxes of two colours on an empty grid, that do not touch."""
    grid = np.zeros((height, width), np.int64)
    colours = rng.permutation([1, 2])
    for number, (row, col) in enumerate([(0, 0), (0, 4), (4, 2)][: rng.integers(2, 4)]):
        grid[row : row + rng.integers(1, 4), col : col + rng.integers(1, 4)] = colours[number % 2]
    return grid


def task_of(
    function: Callable[[np.ndarray], np.ndarray], seed: int = 0, num: int = 4
) -> tuple[Task, tuple[np.ndarray, ...]]:
    """A task that asks for the function, with the answer to its one test."""
    rng = np.random.default_rng(seed)
    inputs = [scene(rng) for _ in range(num + 1)]
    pairs = tuple(Pair(freeze(g), freeze(function(g))) for g in inputs[:num])
    return Task("made", pairs, (freeze(inputs[-1]),)), (function(inputs[-1]),)


TASKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda g: dsl.flip_h(dsl.trim(g)),
    "colours": lambda g: dsl.map_colours(dsl.flip_v(g), {0: 5, 1: 3}),
    "rules": lambda g: dsl.paint_mask(dsl.outline(g, 8), dsl.where_largest(g) == 2, 7),
}
"""By the kind of fit that each needs."""


@pytest.mark.parametrize("kind", TASKS)
def test_finds_a_program_of_each_kind(kind: str) -> None:
    task, right = task_of(TASKS[kind])
    answers = search_task(task, LIMITS).answers

    assert same_grid(answers[0].grids[0], freeze(right[0]))
    found = [a for a in answers if same_grid(a.grids[0], freeze(right[0]))]
    assert any(a.program and a.kind == kind for a in found)


def test_every_program_gives_what_the_search_says() -> None:
    for kind, function in TASKS.items():
        task, _ = task_of(function, seed=3)
        for answer in search_task(task, LIMITS).answers[:30]:
            if not answer.program:
                assert answer.kind == "cells"
                continue
            wanted = [*(p.output for p in task.train), *answer.grids]
            inputs = [*(p.input for p in task.train), *task.test]
            for grid, output in zip(inputs, wanted, strict=True):
                assert np.array_equal(run_program(answer.program, grid), output), (kind, answer)


def test_colours_by_rank_solve_what_differs_from_grid_to_grid_in_colour() -> None:
    """The most frequent colour is kept, whichever it is; the other becomes 9."""
    rng = np.random.default_rng(1)
    pairs = []
    for ours, other in [(1, 2), (3, 4), (6, 1), (5, 7), (8, 3)]:
        grid = np.where(rng.random((6, 6)) < 0.5, ours, 0)
        grid[2, 1:4] = other
        pairs.append((grid, np.where(grid == other, 9, grid)))
    task = Task(
        "made", tuple(Pair(freeze(a), freeze(b)) for a, b in pairs[:4]), (freeze(pairs[4][0]),)
    )
    answers = search_task(task, LIMITS).answers

    right = [a for a in answers if same_grid(a.grids[0], freeze(pairs[4][1]))]
    assert right
    assert any("to_ranks" in a.program for a in right)


def test_another_background_than_0_is_no_obstacle() -> None:
    rng = np.random.default_rng(2)
    inputs = [np.where((g := scene(rng)) == 0, 8, g) for _ in range(4)]
    pairs = tuple(Pair(freeze(g), freeze(dsl.trim(g, background=8))) for g in inputs[:3])
    found = search_task(Task("made", pairs, (freeze(inputs[3]),)), LIMITS)

    assert same_grid(found.answers[0].grids[0], freeze(dsl.trim(inputs[3], background=8)))


def test_where_no_cell_is_0_the_colours_are_also_shown_as_they_are() -> None:
    """1 becomes 5, whether it is the most frequent colour of a grid or not."""
    rng = np.random.default_rng(7)
    colours = [(1, 2), (2, 1), (3, 1), (1, 4), (2, 1)]
    inputs = [np.where(rng.random((5, 6)) < 0.3, rare, most) for most, rare in colours]
    outputs = [np.where(grid == 1, 5, grid) for grid in inputs]
    pairs = tuple(Pair(freeze(a), freeze(b)) for a, b in zip(inputs[:4], outputs, strict=False))
    task = Task("made", pairs, (freeze(inputs[4]),))

    assert [view.name for view in colour_views(task)] == ["background", "ranks", "plain"]
    answers = search_task(task, LIMITS).answers
    right = [a for a in answers if same_grid(a.grids[0], freeze(outputs[4]))]
    assert any(a.program and "original" not in a.program for a in right)


def test_the_same_limits_give_the_same_answers() -> None:
    task, _ = task_of(TASKS["rules"], seed=5)
    first, second = (search_task(task, LIMITS, seed=4) for _ in range(2))

    assert [(a.weight, a.kind, a.program) for a in first.answers] == [
        (a.weight, a.kind, a.program) for a in second.answers
    ]
    assert all(
        same_grid(x, y)
        for a, b in zip(first.answers, second.answers, strict=True)
        for x, y in zip(a.grids, b.grids, strict=True)
    )


def test_more_expansions_only_add_to_what_was_looked_at() -> None:
    task, _ = task_of(lambda g: np.rot90(scene(np.random.default_rng(int(g.sum())))), seed=6)
    few = search_task(task, Limits(2, 60.0))
    many = search_task(task, Limits(6, 60.0))

    assert few.expansions <= 2 < many.expansions <= 6
    assert few.applications < many.applications
    assert (few.bound, many.bound) == ("expansions", "expansions")


def test_it_says_when_time_ended_it() -> None:
    task, _ = task_of(TASKS["rules"])
    assert search_task(task, Limits(expansions=10_000, cpu_s=0.05)).bound == "time"
