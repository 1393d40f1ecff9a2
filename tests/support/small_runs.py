"""Folders of runs, with grids and programs that are right now and then, made without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from appliance.arc.grid import Grid, freeze, grid_key
from appliance.arc.source import challenges_json, solutions_json
from appliance.arc.submission import build, write_submission
from appliance.arc.task import Solutions, TaskSet
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal, StageRow
from appliance.record.legs import note_start
from appliance.record.run_folder import RunFolder
from appliance.solve.messages import ProgramMessage
from tests.support.run_world import grid, tasks

START_S = 1_000_000.0
"""When the first leg of every run began, in Unix seconds."""


def world(count: int = 6, seed: int = 0) -> tuple[TaskSet, dict[str, tuple[Grid, ...]]]:
    """Random tasks, some with two test inputs, and their answers."""
    task_set = tasks(count, seed)
    rng = np.random.default_rng(seed + 1)
    return task_set, {t.task_id: tuple(grid(rng, 3) for _ in t.test) for t in task_set}


def write_world(folder: Path, task_set: TaskSet, answers: Solutions) -> tuple[str, str]:
    """The challenges and the solutions as files."""
    challenges, solutions = folder / "tasks.json", folder / "answers.json"
    challenges.write_text(challenges_json(task_set))
    solutions.write_text(solutions_json(answers))
    return str(challenges), str(solutions)


def make_run(
    out: Path,
    task_set: TaskSet,
    answers: Solutions,
    *,
    seed: int = 0,
    num_grids: int = 4,
    num_programs: int = 3,
    is_ended: bool = True,
) -> Path:
    """A run with a quick pass over all tasks, a deep pass over most, and a search over some.

    Its stages end ten seconds after each other.
    """
    rng = np.random.default_rng(seed)
    folder = RunFolder(out)
    folder.run.mkdir(parents=True)
    journal = Journal(folder.journal)
    note_start(journal, START_S)
    journal.put_tasks(task_set)

    now_s = START_S
    for stage, share in (("quick", 1.0), ("deep", 0.7), ("search", 0.5)):
        for task in task_set:
            now_s += 10
            if rng.random() >= share:
                continue
            row = StageRow(task.task_id, stage, "done", 9.0, {}, at_s=now_s)
            right = answers[task.task_id]
            if stage == "search":
                found = [_searched(task.task_id, i, _near(rng, a)) for i, a in enumerate(right)]
                journal.put_stage(row, found)
                continue
            programs = [_program(rng, task.task_id, right) for _ in range(num_programs)]
            grids = [
                Candidate(task.task_id, i, _near(rng, a), -1.0, 12)
                for i, a in enumerate(right)
                for _ in range(num_grids)
            ]
            journal.put_stage(
                row, [*grids, *(c for p in programs for c in p.candidates())], programs
            )

    attempts = attempts_of(journal.candidates(), DEFAULT_SELECTOR)
    write_submission(folder.submission, build(task_set, attempts))
    journal.close()
    folder.write_json(folder.plan, {"device": "a card"})
    if is_ended:
        folder.write_json(folder.report, {"seconds": now_s - START_S})
    return out


def _near(rng: np.random.Generator, answer: Grid) -> Grid | None:
    """The answer, one with a wrong cell, one of another shape, or nothing that could be read."""
    kind = int(rng.integers(4))
    if kind == 0:
        return None
    if kind == 1:
        return grid(rng, 2)
    cells = answer.copy()
    if kind == 2:
        cells[0, 0] = (cells[0, 0] + 1) % 10
    return freeze(cells)


def _searched(task_id: str, test_index: int, found: Grid | None) -> Candidate:
    return Candidate(
        task_id, test_index, found, 0.0, 0, method="search", program="p", demo_score=1.0, weight=0.5
    )


def _program(rng: np.random.Generator, task_id: str, answers: tuple[Grid, ...]) -> ProgramMessage:
    test = [_near(rng, answer) for answer in answers]
    is_valid = all(found is not None for found in test)
    share = float(rng.choice([0.0, 0.5, 1.0])) if is_valid else 0.0
    return ProgramMessage(
        task_id=task_id,
        view="",
        adapter="",
        answer="text",
        source="def transform(grid): ...",
        outcome="ok" if is_valid else "error",
        error=None if is_valid else "ValueError: x",
        demo_score=share,
        similarity=share,
        outputs=str([grid_key(found) for found in test if found is not None]),
        test=[None if found is None else found.tolist() for found in test],
        logprob=-2.0,
        num_tokens=20,
    )
