"""Lessons of test-time training: each demonstration is answered, none is shown with itself."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.arc.grid import Grid, freeze
from appliance.arc.task import Pair, Task
from appliance.arc.view import D8
from appliance.solve.transduce import LessonPlan, lesson_tasks


def task_of(num_pairs: int) -> Task:
    """Pair i has grids of i + 1 columns, which tells it apart in every view."""
    pairs = tuple(
        Pair(freeze(np.full((40 - i, i + 1), 1)[:30]), freeze(np.full((1, i + 1), 2)))
        for i in range(num_pairs)
    )
    return Task("t", pairs, (freeze(np.full((2, 2), 3)),))


def number_of(output: Grid) -> int:
    """The pair that this output belongs to."""
    return int(max(output.shape)) - 1


@given(st.integers(2, 10), st.integers(0, 2**32), st.floats(0, 1), st.booleans())
def test_every_demonstration_is_a_target_once_a_round(
    num_pairs: int, seed: int, n2: float, keep_colours: bool
) -> None:
    plan = LessonPlan(keep_colours, False, n2)
    stream = lesson_tasks(task_of(num_pairs), np.random.default_rng(seed), plan)
    for _ in range(3):
        targets = [number_of(answer) for _, answer in itertools.islice(stream, num_pairs)]
        assert sorted(targets) == list(range(num_pairs))


@given(st.integers(2, 10), st.integers(0, 2**32))
def test_the_answered_demonstration_is_not_shown(num_pairs: int, seed: int) -> None:
    stream = lesson_tasks(task_of(num_pairs), np.random.default_rng(seed), LessonPlan())
    for question, answer in itertools.islice(stream, num_pairs):
        shown = {number_of(p.output) for p in question.train}
        assert number_of(answer) not in shown
        assert len(shown) == num_pairs - 1


@given(st.integers(3, 10), st.integers(0, 2**32))
def test_n_minus_two_shows_one_demonstration_less(num_pairs: int, seed: int) -> None:
    stream = lesson_tasks(
        task_of(num_pairs), np.random.default_rng(seed), LessonPlan(leave_two_out=1.0)
    )
    for question, _ in itertools.islice(stream, num_pairs):
        assert len(question.train) == num_pairs - 2


@given(st.integers(0, 2**32))
def test_colours_stay_when_asked(seed: int) -> None:
    stream = lesson_tasks(task_of(3), np.random.default_rng(seed), LessonPlan(keep_colours=True))
    for question, answer in itertools.islice(stream, 6):
        assert set(np.unique(answer)) == {2}
        assert set(np.unique(question.test[0])) == {1}


@given(st.integers(0, 2**32), st.booleans())
def test_nothing_is_turned_or_flipped_when_asked(seed: int, keeps_colours: bool) -> None:
    plan = LessonPlan(keep_colours=keeps_colours, keep_orientation=True)
    grid = freeze(np.array([[1, 2, 3], [4, 5, 6]]))
    task = Task("t", (Pair(grid, grid), Pair(grid, grid)), (grid,))
    for _, answer in itertools.islice(lesson_tasks(task, np.random.default_rng(seed), plan), 6):
        colour_of = dict(zip(grid.ravel().tolist(), answer.ravel().tolist(), strict=True))
        assert [[colour_of[c] for c in row] for row in grid.tolist()] == answer.tolist()
        assert not keeps_colours or (answer == grid).all()


def test_a_task_of_one_demonstration_teaches_nothing() -> None:
    assert list(lesson_tasks(task_of(1), np.random.default_rng(0), LessonPlan())) == []


def test_lessons_go_through_all_eight_geometries() -> None:
    seen = set()
    grid = freeze(np.arange(6).reshape(2, 3))
    task = Task("t", (Pair(grid, grid), Pair(grid, grid)), (grid,))
    stream = lesson_tasks(task, np.random.default_rng(0), LessonPlan(keep_colours=True))
    for _, answer in itertools.islice(stream, 200):
        seen.add(answer.tobytes() + bytes(answer.shape))
    assert seen == {v.apply(grid).tobytes() + bytes(v.apply(grid).shape) for v in D8}
