"""A search's programs count only if they do in the sandbox what the search says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.arc.grid import Grid, as_grid
from appliance.arc.task import Pair, Task
from appliance.clock import Deadline, SystemClock
from appliance.program.sandbox import Limits, Sandbox
from appliance.search.answers import Answer
from appliance.solve.check_answers import MOST_ALIKE, MOST_PROGRAMS, Checked, check_answers

LEFT, RIGHT = as_grid([[1, 2, 3]]), as_grid([[3, 2, 1]])
TASK = Task("t", (Pair(LEFT, RIGHT),), (RIGHT,))
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(cpu_s=0.2), workers=1) as opened:
        yield opened


def answer(body: str, *, says: Grid = LEFT, weight: float = 0.5) -> Answer:
    """One that says it gives that grid; without a body, by trees."""
    text = f"from dsl import *\n\n\ndef transform(grid):\n    return {body}\n" if body else ""
    return Answer((says,), weight, "exact" if body else "cells", text)


def checked(sandbox: Sandbox, answers: list[Answer], *, seconds: float = 60.0) -> Checked:
    deadline = Deadline(CLOCK.now() + seconds, CLOCK)
    return check_answers(TASK, answers, sandbox, deadline=deadline)


def test_what_a_program_does_decides(sandbox: Sandbox) -> None:
    right, trees = answer("grid[:, ::-1]"), answer("", weight=0.1)
    others = [
        answer("grid[:, ::-1]", says=RIGHT),  # gives another grid than the search said
        answer("grid"),  # right on the test input, wrong on the demonstration
        answer("grid.nothing"),
        answer("[grid for _ in iter(int, 1)]"),  # never ends
    ]
    found = checked(sandbox, [others[0], right, *others[1:], trees])
    assert found.answers == (right, trees)
    assert (found.num_refused, found.num_left) == (4, 0)


def test_so_many_programs_are_run_for_the_same_grids_and_in_all(sandbox: Sandbox) -> None:
    alike = [answer(f"grid[:, ::-1] + {n} * 0") for n in range(MOST_ALIKE + 3)]
    found = checked(sandbox, alike)
    assert found.answers == tuple(alike[:MOST_ALIKE])
    assert found.num_left == 3

    different = [
        answer("grid", says=as_grid([[n // 10, n % 10]])) for n in range(MOST_PROGRAMS + 2)
    ]
    found = checked(sandbox, [*different, answer("")])
    assert (found.num_refused, found.num_left) == (MOST_PROGRAMS, 2)
    assert [a.kind for a in found.answers] == ["cells"]


def test_after_the_deadline_no_program_is_run(sandbox: Sandbox) -> None:
    trees = answer("")
    found = checked(sandbox, [answer("grid[:, ::-1]"), trees], seconds=-1.0)
    assert found.answers == (trees,)
    assert (found.num_refused, found.num_left) == (0, 1)


def test_a_task_without_answers_is_no_fault(sandbox: Sandbox) -> None:
    assert checked(sandbox, []) == Checked((), 0, 0)
