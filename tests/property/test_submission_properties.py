"""Whatever was voted, the submission is valid; whatever is damaged, the validator says so."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.fallback import fallback_attempts
from appliance.arc.grid import Grid, grid_key
from appliance.arc.submission import build, score, validate
from appliance.arc.task import Pair, Task, TaskSet
from tests.support.strategies import grids

GRIDS = grids()
VotedGrids = dict[tuple[str, int], list[Grid]]
TASKS = st.lists(
    st.tuples(
        st.lists(st.builds(Pair, GRIDS, GRIDS), max_size=3), st.lists(GRIDS, min_size=1, max_size=2)
    ),
    min_size=1,
    max_size=3,
).map(
    lambda tasks: TaskSet(
        "t", tuple(Task(f"t{i}", tuple(p), tuple(t)) for i, (p, t) in enumerate(tasks))
    )
)
VOTES = st.dictionaries(
    st.tuples(st.sampled_from(["t0", "t1", "elsewhere"]), st.integers(0, 2)),
    st.lists(GRIDS, max_size=3),
)


@settings(deadline=None)
@given(TASKS, VOTES)
def test_what_is_built_is_valid_and_survives_json(tasks: TaskSet, votes: VotedGrids) -> None:
    submission = build(tasks, votes)
    assert validate(submission, tasks) == []
    assert json.loads(json.dumps(submission)) == submission


@settings(deadline=None)
@given(TASKS, VOTES, st.data())
def test_a_damaged_cell_is_found_where_it_stands(
    tasks: TaskSet, votes: VotedGrids, data: st.DataObject
) -> None:
    submission: Any = copy.deepcopy(build(tasks, votes))
    task_id = data.draw(st.sampled_from(sorted(submission)))
    i = data.draw(st.integers(0, len(submission[task_id]) - 1))
    name = data.draw(st.sampled_from(["attempt_1", "attempt_2"]))
    grid = submission[task_id][i][name]
    r, c = data.draw(st.integers(0, len(grid) - 1)), data.draw(st.integers(0, len(grid[0]) - 1))
    grid[r][c] = data.draw(st.sampled_from([True, 1.0, None, "1", 10, -1, np.int64(1), [1]]))
    faults = validate(submission, tasks)

    assert len(faults) == 1
    assert faults[0].startswith(f"$.{task_id}[{i}].{name}[{r}][{c}]: ")


@settings(deadline=None)
@given(TASKS)
def test_fallbacks_are_two_that_differ_and_never_the_zero_cell(tasks: TaskSet) -> None:
    for task in tasks:
        for i in range(len(task.test)):
            keys = {grid_key(g) for g in fallback_attempts(task, i)}
            assert len(keys) == 2
            assert (1, 1, b"\0") not in keys


@settings(deadline=None)
@given(TASKS)
def test_the_voted_answer_always_scores(tasks: TaskSet) -> None:
    solutions = {t.task_id: t.test for t in tasks}
    exact = {(t.task_id, i): [g] for t in tasks for i, g in enumerate(t.test)}
    assert score(build(tasks, exact), solutions) == {"by_output": 1.0, "by_task": 1.0}
