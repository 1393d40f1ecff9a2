"""Tasks: demonstrations and test inputs, frozen and validated.

Solutions are kept apart on purpose: what solves a task cannot see them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from appliance.arc.grid import Grid, as_grid, grid_key, to_lists
from appliance.errors import InputError
from appliance.foreign_text import as_shown


@dataclass(frozen=True, eq=False)
class Pair:
    """One demonstration: input and output grid."""

    input: Grid
    output: Grid

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pair) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def key(self) -> tuple[tuple[int, int, bytes], tuple[int, int, bytes]]:
        return (grid_key(self.input), grid_key(self.output))


@dataclass(frozen=True, eq=False)
class Task:
    """One task, without its answers."""

    task_id: str
    train: tuple[Pair, ...]  # the demonstrations
    test: tuple[Grid, ...]  # the test inputs

    def num_cells(self) -> int:
        """Cells of all grids, by which tasks are ordered from cheap to dear."""
        demonstrations = sum(pair.input.size + pair.output.size for pair in self.train)
        return demonstrations + sum(grid.size for grid in self.test)

    def with_train(self, train: tuple[Pair, ...]) -> Task:
        return replace(self, train=train)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Task)
            and self.digest() == other.digest()
            and self.task_id == other.task_id
        )

    def __hash__(self) -> int:
        return hash((self.task_id, self.digest()))

    def digest(self) -> str:
        """SHA-256 over demonstrations and test inputs (not over the name)."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256()
        for pair in self.train:
            sha.update(repr(pair.key()).encode())
        for grid in self.test:
            sha.update(repr(grid_key(grid)).encode())
        return sha.hexdigest()


Solutions = Mapping[str, tuple[Grid, ...]]
"""Task id to one answer grid per test input, in their order."""


@dataclass(frozen=True)
class TaskSet:
    """Tasks in the order of their source, and the answers where the source carries them."""

    name: str
    tasks: tuple[Task, ...]
    solutions: Solutions = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __getitem__(self, task_id: str) -> Task:
        return self._by_id[task_id]

    @cached_property
    def _by_id(self) -> Mapping[str, Task]:
        return {task.task_id: task for task in self.tasks}

    def ids(self) -> tuple[str, ...]:
        return tuple(t.task_id for t in self.tasks)

    def select(self, task_ids: tuple[str, ...]) -> TaskSet:
        """Only these tasks, in the given order. Raises InputError naming ids that are not there."""
        by_id = self._by_id
        missing = [i for i in task_ids if i not in by_id]
        if missing:
            some = ", ".join(self.ids()[:3])
            raise InputError(
                as_shown(f"{self.name}: no task {', '.join(missing)}"),
                expected=as_shown(f"ids of its {len(self)} tasks, such as {some}"),
                remedy="correct --only",
            )

        chosen = tuple(by_id[i] for i in task_ids)
        solutions = {i: self.solutions[i] for i in task_ids if i in self.solutions}
        return TaskSet(self.name, chosen, solutions)

    def digest(self) -> str:
        """SHA-256 over ids and contents in order."""
        sha = hashlib.sha256()
        for task in self.tasks:
            sha.update(task.task_id.encode() + b"\0" + task.digest().encode())
        return sha.hexdigest()


def task_to_json(task: Task) -> dict[str, Any]:
    """Its JSON form without answers, which `task_from_json` reads back."""
    return {
        "train": [{"input": to_lists(p.input), "output": to_lists(p.output)} for p in task.train],
        "test": [{"input": to_lists(grid)} for grid in task.test],
    }


def task_from_json(task_id: str, value: Any, *, place: str) -> tuple[Task, tuple[Grid, ...] | None]:
    """A task from its JSON form, and its answers when every test entry carries an "output".

    Raises InputError naming file, task and pair.
    """
    where = f"{place}, task {as_shown(task_id)}"
    train_json = _entries(value, "train", where)
    test_json = _entries(value, "test", where)

    train = []
    for i, entry in enumerate(train_json):
        spot = f"{where}, train pair {i}"
        train.append(Pair(_grid_at(entry, "input", spot), _grid_at(entry, "output", spot)))
    test = tuple(
        _grid_at(entry, "input", f"{where}, test {i}") for i, entry in enumerate(test_json)
    )

    answers = None
    if all("output" in entry for entry in test_json):
        answers = tuple(
            _grid_at(entry, "output", f"{where}, test {i}") for i, entry in enumerate(test_json)
        )

    return Task(task_id, tuple(train), test), answers


def _entries(value: Any, key: str, where: str) -> list[dict[str, Any]]:
    wanted = '{"train": [{"input": grid, "output": grid}, ...], "test": [{"input": grid}, ...]}'
    remedy = "correct the file, or pass the challenges file of the competition"
    if not isinstance(value, dict) or key not in value:
        raise InputError(f'{where}: no "{key}"', expected=wanted, remedy=remedy)

    entries = value[key]
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{where}: "{key}" has no entries', expected=wanted, remedy=remedy)

    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(
                f'{where}: "{key}" entry {i} is not an object', expected=wanted, remedy=remedy
            )

    return entries


def _grid_at(entry: dict[str, Any], key: str, spot: str) -> Grid:
    if key not in entry:
        raise InputError(f'{spot}: no "{key}"', expected="a grid", remedy="correct the file")
    return as_grid(entry[key], place=f"{spot}, {key}")
