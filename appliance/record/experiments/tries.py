"""How often each test output, or each task, was predicted and how often rightly.

What a search without a model finds is no prediction: it would find the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.arc.grid import same_grid
from appliance.arc.metrics import Figures, mean_figures
from appliance.arc.vote import Candidate
from appliance.record.experiments.estimates import Interval, pass_at, share_interval
from appliance.record.experiments.read_run import RunRecord
from appliance.record.figures import (
    grids_by_task,
    grids_of,
    pooled,
    predictions_of,
    scores_by_task,
)


@dataclass(frozen=True)
class Tries:
    """The predictions for one test output (grids) or for one task (programs)."""

    task_id: str
    num: int  # predictions
    num_right: int  # of these: the exact grid, or a program right on demonstrations and test


@dataclass(frozen=True)
class CurvePoint:
    """The chance that k predictions hold a right one, over tasks."""

    k: int
    mean: float
    interval: Interval
    is_whole: bool  # every task has k predictions; else the mean is a lower bound


def written_grids(run: RunRecord) -> list[Candidate]:
    """Every grid that a model wrote, of all stages."""
    return [c for c in pooled(grids_of(run.candidates), "all") if not c.is_searched]


def grid_tries(run: RunRecord) -> list[Tries]:
    """One for each test output of the tasks that a model wrote grids for."""
    predictions = predictions_of(written_grids(run), run.solutions)
    return [
        Tries(
            task_id,
            len(found),
            sum(grid is not None and same_grid(grid, answer) for grid in found),
        )
        for task_id, outputs in predictions.items()
        for found, answer in zip(outputs, run.solutions[task_id], strict=True)
    ]


def program_tries(run: RunRecord) -> list[Tries]:
    """One for each task that a model wrote programs for."""
    scores = scores_by_task(pooled(run.programs, "all"), run.solutions)
    return [
        Tries(
            task_id,
            len(found),
            sum(s.train_correct == 1.0 and s.test_correct == 1.0 for s in found),
        )
        for task_id, found in scores.items()
    ]


def pass_curve(tries: Sequence[Tries]) -> list[CurvePoint]:
    """pass@k for k = 1, 2, 4, ... and the largest number of predictions.

    Means within a task, then over tasks, of the unbiased estimate. A task with less than k
    predictions counts with all that it has.
    """
    most = max((t.num for t in tries), default=0)
    least = min((t.num for t in tries), default=0)
    # A power close to the last point would lie on it.
    ks = [k for k in (2**power for power in range(most.bit_length())) if k < most / 1.2]

    points = []
    for k in [*ks, most] if most else []:
        by_task: dict[str, list[float]] = {}
        for t in tries:
            share = pass_at(min(k, t.num), t.num, t.num_right) if t.num else 0.0
            by_task.setdefault(t.task_id, []).append(share)
        values = [sum(shares) / len(shares) for shares in by_task.values()]
        mean = sum(values) / len(values)
        points.append(CurvePoint(k, mean, share_interval(values), k <= least))
    return points


@dataclass(frozen=True)
class TaskScores:
    """How near the predictions for a task came, on average."""

    correct_grids: float  # share of grids that are exactly right
    pixels: float  # share of cells that are right
    is_solved: bool  # by the two attempts


def grid_scores(run: RunRecord, solved: set[str]) -> list[TaskScores]:
    """Of the written grids, against the answers: accuracy and correct_pixels."""
    figures = grids_by_task(written_grids(run), run.solutions)
    return [
        TaskScores(f["accuracy"], f["correct_pixels"], task_id in solved)
        for task_id, f in figures.items()
    ]


def program_scores(run: RunRecord, solved: set[str]) -> list[TaskScores]:
    """Of the programs, on the demonstrations: what a selection without the answers can see."""
    scores = scores_by_task(pooled(run.programs, "all"), run.solutions)
    means: dict[str, Figures] = {
        task_id: mean_figures(
            [{"grids": s.train_correct, "pixels": s.train_similarity} for s in found]
        )
        for task_id, found in scores.items()
    }
    return [TaskScores(f["grids"], f["pixels"], i in solved) for i, f in means.items()]
