"""The submission: built, checked, scored, written and read.

Its form: {task id: [{"attempt_1": grid, "attempt_2": grid}, one per test input]}, with whole
numbers only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.fallback import fallback_attempts
from appliance.arc.grid import (
    MAX_SIDE,
    NUM_COLOURS,
    Grid,
    freeze,
    grid_fault,
    is_legal,
    same_grid,
    to_lists,
)
from appliance.arc.metrics import Figures, submission_scores
from appliance.arc.read import read_json
from appliance.arc.task import Solutions, Task, TaskSet
from appliance.arc.vote import Output
from appliance.atomic import write_atomic

ATTEMPTS = ("attempt_1", "attempt_2")
Submission = dict[str, list[dict[str, list[list[int]]]]]
Attempts = Mapping[Output, Sequence[Grid]]
"""(task id, test index) to voted grids, best first; what `vote` gives."""


def build(tasks: TaskSet, attempts: Attempts) -> Submission:
    """Two attempts for every test input of every task: voted ones first, then other fallbacks.

    Always valid: a voted grid that breaks the rules is passed over.
    """
    return {
        task.task_id: [
            _entry(task, i, attempts.get((task.task_id, i), ())) for i in range(len(task.test))
        ]
        for task in tasks
    }


def _entry(task: Task, test_index: int, voted: Sequence[Grid]) -> dict[str, list[list[int]]]:
    # One fallback more than attempts, because a voted grid may equal one of them.
    fallbacks = fallback_attempts(task, test_index, num_attempts=len(ATTEMPTS) + 1)
    grids: list[Grid] = []
    for grid in (*voted, *fallbacks):
        if is_legal(grid) and not any(same_grid(grid, g) for g in grids):
            grids.append(grid)

    return {name: to_lists(grid) for name, grid in zip(ATTEMPTS, grids, strict=False)}


def validate(submission: Any, tasks: TaskSet) -> list[str]:
    """Every fault with its place; empty when the submission is valid.

    A fault reads like `$.007bbfb7[0].attempt_1[2][3]: true is not a whole number`. The check is
    strict: the tasks of the challenges and no others, one entry per test input, both attempts and
    no other key, plain Python ints (a numpy int or a bool is a fault).
    """
    return list(_faults(submission, tasks))


def form_faults(submission: Any) -> list[str]:
    """As `validate`, where the tasks are not known: only the form of each grid and entry."""
    if not isinstance(submission, dict):
        return [f"$: {_named(submission)} is not an object of tasks"]
    return [f for task_id, entries in submission.items() for f in task_faults(task_id, entries)]


def task_faults(task_id: str, entries: Any, num_tests: int | None = None) -> Iterator[str]:
    """Faults of one task of a submission. num_tests: its test inputs, None where not known."""
    place = f"$.{task_id}"
    if not isinstance(entries, list):
        yield f"{place}: {_named(entries)} is not a list of test outputs"
        return

    if num_tests is None and not entries:
        yield f"{place}: no entries"
    if num_tests is not None and len(entries) != num_tests:
        yield f"{place}: {len(entries)} entries for {num_tests} test inputs"

    for i, entry in enumerate(entries):
        yield from _entry_faults(entry, f"{place}[{i}]")


def _faults(submission: Any, tasks: TaskSet) -> Iterator[str]:
    if not isinstance(submission, dict):
        yield f"$: {_named(submission)} is not an object of tasks"
        return

    ids = set(tasks.ids())
    for key in submission:
        if key not in ids:
            yield f"$.{key}: no task of {tasks.name} has this id"

    for task in tasks:
        if task.task_id in submission:
            yield from task_faults(task.task_id, submission[task.task_id], len(task.test))
        else:
            yield f"$.{task.task_id}: missing"


def _entry_faults(entry: Any, place: str) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"{place}: {_named(entry)} is not an object of attempts"
        return

    for key in entry:
        if key not in ATTEMPTS:
            yield f"{place}.{key}: not an attempt"

    for name in ATTEMPTS:
        if name in entry:
            yield from _grid_faults(entry[name], f"{place}.{name}")
        else:
            yield f"{place}.{name}: missing"


def _grid_faults(value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{place}: {_named(value)} is not a list of rows"
        return

    if not 1 <= len(value) <= MAX_SIDE:
        yield f"{place}: {len(value)} rows"

    width = next((len(row) for row in value if isinstance(row, list)), 0)
    for r, row in enumerate(value):
        if not isinstance(row, list):
            yield f"{place}[{r}]: {_named(row)} is not a row"
            continue

        if len(row) != width or not 1 <= len(row) <= MAX_SIDE:
            differs = f", the first row has {width}" if len(row) != width else ""
            yield f"{place}[{r}]: {len(row)} cells{differs}"

        for c, cell in enumerate(row):
            if type(cell) is not int:
                yield f"{place}[{r}][{c}]: {_named(cell)} is not a whole number"
            elif not 0 <= cell < NUM_COLOURS:
                yield f"{place}[{r}][{c}]: {_named(cell)} is not a colour"


def _named(value: Any) -> str:
    """The value as JSON shows it, or with its type where JSON has no form for it."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__module__}.{type(value).__name__}"

    return text if len(text) <= 40 else text[:37] + "..."


def score(submission: Any, solutions: Solutions) -> Figures:
    """`by_output` (Kaggle's) and `by_task`, over all tasks of the solutions.

    submission: as it was read. What is not legal in it counts as wrong.
    """
    held = submission if isinstance(submission, dict) else {}
    attempts = {
        task_id: [_tried(entry) for entry in entries]
        for task_id, entries in held.items()
        if isinstance(entries, list)
    }
    return submission_scores(attempts, solutions)


def _tried(entry: Any) -> list[Grid | None]:
    values = [entry.get(name) for name in ATTEMPTS] if isinstance(entry, dict) else []
    return [None if grid_fault(value) else freeze(np.array(value)) for value in values]


def write_submission(path: Path, submission: Submission) -> None:
    """Write it whole or not at all. Raises OutputError when the file system refuses."""
    write_atomic(path, json.dumps(submission, separators=(",", ":")).encode())


def read_submission(path: Path) -> Any:
    """What the file holds, unchecked: for `validate`.

    Raises InputError when it is missing, not JSON, or names a task twice.
    """
    return read_json(path)
