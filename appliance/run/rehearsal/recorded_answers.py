"""Answers drawn from what real runs recorded, so that votes come out as they did there.

A task that a run had is answered by draws from its own recorded answers: a quick job from the quick
pass, the first deep job from first rounds, further ones from further rounds where there were any,
and a search as it was. Answers of one round stay together, for they share an adapter. A task that
no run had is answered like a recorded one of about its size: as many answers are equal, but over
grids made up for it, with its own solution in the place of the other's where both are known.
Programs that a model wrote are not drawn, for imagined workers write none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from appliance.arc.fallback import predicted_shape
from appliance.arc.grid import NUM_COLOURS, Grid, freeze, grid_key, to_lists
from appliance.arc.task import Task, TaskSet
from appliance.arc.vote import Candidate
from appliance.errors import InputError
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.run.rehearsal.fake_answers import written
from appliance.seeds import generator
from appliance.solve.messages import CandidateMessage, Job, Scored

ALIKE = 8
"""A task that was not recorded is answered like one of so many that come nearest in size."""

Round = list[Candidate]
"""What one stage gave for one task in one round."""


@dataclass
class TaskRecord:
    """What runs recorded of one task: rounds of the same kind together, and searches."""

    quick: list[Round] = field(default_factory=list)
    first: list[Round] = field(default_factory=list)
    further: list[Round] = field(default_factory=list)
    search: list[Round] = field(default_factory=list)  # an empty one where nothing was found

    @property
    def num_answers(self) -> int:
        return sum(map(len, (*self.quick, *self.first, *self.further, *self.search)))

    @property
    def size(self) -> float:
        """Of its answers, in tokens; 0 without a grid."""
        found = (c for kind in (self.first, self.quick, self.search) for some in kind for c in some)
        sizes = [_size(c.grid.shape) for c in found if c.grid is not None]
        return float(np.median(sizes)) if sizes else 0.0

    def rounds(self, stage: str, *, is_again: bool, is_trained: bool) -> list[Round]:
        """Those like such a job; where the task has none, those that come nearest."""
        deep = [self.further, self.first] if is_again else [self.first, self.further]
        is_plain = stage == "quick" or not is_trained
        kinds = [self.quick, *deep] if is_plain else [*deep, self.quick]
        return next((kind for kind in kinds if kind), [])


@dataclass(frozen=True)
class Records:
    """What some runs recorded, all together."""

    names: tuple[str, ...]  # of the runs
    by_task: Mapping[str, TaskRecord]  # without tasks that have no answer at all

    def text(self, tasks: TaskSet) -> str:
        """For people: where the answers come from."""
        num_own = sum(task.task_id in self.by_task for task in tasks)
        num_answers = sum(record.num_answers for record in self.by_task.values())
        num_like = len(tasks) - num_own
        others = f"; {num_like} are answered like recorded ones of their size" if num_like else ""
        if not any(record.search for record in self.by_task.values()):
            others += "; none of them by a search"
        return (
            f"answers are drawn from the {num_answers} that {', '.join(self.names)} recorded: "
            f"{num_own} of {len(tasks)} tasks by their own{others}"
        )


def read_records(runs: Sequence[Path], tasks: TaskSet) -> Records:
    """What these runs recorded.

    Raises InputError for a folder that holds no run, for a run without answers, and where no run
    has any of these tasks.
    """
    by_task: dict[str, TaskRecord] = {}
    for out in runs:
        journal = Journal(RunFolder(out).existing_journal())
        try:
            num_answers = _take_in(by_task, journal)
        finally:
            journal.close()
        if not num_answers:
            raise InputError(
                f"--recorded {out}: a run without answers",
                expected="a run that answered tasks",
                remedy="start its `appliance submit` again, or pass another run",
            )

    by_task = {task_id: record for task_id, record in by_task.items() if record.num_answers}
    if not any(task.task_id in by_task for task in tasks):
        some = ", ".join(sorted(by_task)[:3])
        raise InputError(
            f"--recorded: runs of other tasks only, such as {some}",
            expected=f"runs with tasks of {tasks.name}",
            remedy="pass the --tasks of those runs, or other runs",
        )
    return Records(tuple(out.name for out in runs), by_task)


def _take_in(by_task: dict[str, TaskRecord], journal: Journal) -> int:
    """Add one run; returns how many answers it has that can be drawn."""
    rounds: dict[tuple[str, str, int], Round] = {}
    for row in journal.stages():
        if row.stage == "search" and row.status == "done":
            rounds[row.task_id, "search", 1] = []
    for stage, number, candidate in journal.candidate_rows():
        if stage == "search" or candidate.method == "transduction":
            rounds.setdefault((candidate.task_id, stage, number), []).append(candidate)

    for (task_id, stage, number), found in rounds.items():
        record = by_task.setdefault(task_id, TaskRecord())
        if stage == "search":
            record.search.append(found)
        elif stage == "quick":
            record.quick.append(found)
        else:
            (record.first if number == 1 else record.further).append(found)
    return sum(map(len, rounds.values()))


class RecordedAnswers:
    """Draws that follow from the records and the seed."""

    def __init__(self, records: Records, tasks: TaskSet, run_seed: int, seed: int) -> None:
        """run_seed: of the settings, which the first round of each task works with."""
        self._records = records
        self._tasks = tasks
        self._run_seed = run_seed
        self._seed = seed
        self._donors: dict[str, str] = {}
        self._stand_ins: dict[tuple[str, int], dict[tuple[int, int, bytes], Grid]] = {}
        self._scored: dict[int, dict[tuple[str, int, tuple[int, int, bytes]], Candidate]] = {}

    def of(
        self, task: Task, asked: Sequence[tuple[str, int]], job: Job, *, is_trained: bool
    ) -> list[CandidateMessage]:
        """One answer for each view and test input that is asked, all of one recorded round."""
        parts = (self._seed, task.task_id, job.stage, job.seed)
        is_again = job.stage == "deep" and job.seed != self._run_seed
        rounds = self._record(task).rounds(job.stage, is_again=is_again, is_trained=is_trained)
        found = _drawn(rounds, generator(*parts, "round")) or []
        rng = generator(*parts, *asked[0])

        answers = []
        for view, test_index in asked:
            answer = _drawn([c for c in found if c.test_index == test_index], rng)
            grid = None
            if answer and answer.grid is not None:
                grid = self._grid(task, test_index, answer.grid)
                if answer.view_scores:
                    key = task.task_id, test_index, grid_key(grid)
                    self._scored.setdefault(job.job_id, {})[key] = answer
            logprob, num_tokens = (answer.logprob, answer.num_tokens) if answer else (0.0, 0)
            answers.append(written(task.task_id, test_index, grid, view, logprob, num_tokens))
        return answers

    def scored(self, job: Job) -> Iterator[Scored]:
        """How the grids that the job gave were scored when they were recorded."""
        for (task_id, test_index, key), answer in self._scored.pop(job.job_id, {}).items():
            rows, columns, cells = key
            grid = np.frombuffer(cells, dtype=np.int8).reshape(rows, columns)
            yield Scored(
                job_id=job.job_id,
                task_id=task_id,
                test_index=test_index,
                grid=to_lists(grid),
                logprobs=list(answer.view_scores),
            )

    def of_search(self, task: Task) -> list[CandidateMessage]:
        """What one search gave, whole."""
        found = _drawn(self._record(task).search, generator(self._seed, task.task_id, "search"))
        answers = []
        for answer in found or ():
            if answer.test_index < len(task.test) and answer.grid is not None:
                grid = self._grid(task, answer.test_index, answer.grid)
                message = CandidateMessage.of(replace(answer, task_id=task.task_id, grid=grid))
                answers.append(message)
        return answers

    def _record(self, task: Task) -> TaskRecord:
        """Its own, or that of a task of about its size, the same in all passes of a rehearsal."""
        by_task = self._records.by_task
        if task.task_id in by_task:
            return by_task[task.task_id]

        if task.task_id not in self._donors:
            size = _size(predicted_shape(task, 0))
            near = sorted(by_task, key=lambda i: (abs(math.log((1 + by_task[i].size) / size)), i))
            alike = near[:ALIKE]
            number = generator(self._seed, task.task_id, "alike").integers(len(alike))
            self._donors[task.task_id] = alike[int(number)]
        return by_task[self._donors[task.task_id]]

    def _grid(self, task: Task, test_index: int, grid: Grid) -> Grid:
        """The grid itself where the task's own answers are drawn, else its stand-in here: equal
        ones have the same, and that of the right one is right where both solutions are known."""
        donor = self._donors.get(task.task_id)
        if donor is None:
            return grid

        stand_ins = self._stand_ins.get((task.task_id, test_index))
        if stand_ins is None:
            stand_ins = self._stand_ins[task.task_id, test_index] = {}
            theirs, ours = (self._tasks.solutions.get(i, ()) for i in (donor, task.task_id))
            if test_index < min(len(theirs), len(ours)):
                stand_ins[grid_key(theirs[test_index])] = ours[test_index]

        key = grid_key(grid)
        if key not in stand_ins:
            rng = generator(self._seed, task.task_id, test_index, "stand-in", len(stand_ins))
            shape = predicted_shape(task, test_index)
            stand_ins[key] = freeze(rng.integers(0, NUM_COLOURS, shape))
        return stand_ins[key]


Item = TypeVar("Item")


def _drawn(items: Sequence[Item], rng: np.random.Generator) -> Item | None:
    return items[int(rng.integers(len(items)))] if items else None


def _size(shape: tuple[int, ...]) -> int:
    """Tokens of a grid as text."""
    rows, columns = shape
    return rows * (columns + 1)
