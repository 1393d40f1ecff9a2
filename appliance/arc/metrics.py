"""The figures by which runs are compared, as arc24 and arc25 compute them, and the two scores of a submission.

Every figure is 0 to 1. A test output without predictions counts as unanswered: denominators never shrink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from appliance.arc.grid import NUM_COLOURS, Grid, grid_key, same_grid
from appliance.arc.task import Solutions

Figures = dict[str, float]
Predictions = Mapping[str, Sequence[Sequence[Grid | None]]]
"""Task id to, per test output, the predicted grids; None is a prediction that could not be read."""


def mean_figures(figures: Sequence[Figures]) -> Figures:
    """The plain mean of each figure; empty when there is nothing to average."""
    if not figures:
        return {}
    return {key: sum(f[key] for f in figures) / len(figures) for key in figures[0]}


def output_figures(predictions: Sequence[Grid | None], answer: Grid) -> Figures:
    """Figures of one test output over its k predictions.

    accuracy: exact matches / k. correct_pixels: mean fraction of equal cells, 0 where the shape differs.
    correct_size: right shapes / k. unanswered: predictions that could not be read / k.
    max_correct_pixels, any_correct_size, pass_n: the best prediction of the k.
    """
    if not predictions:
        return output_figures([None], answer)
    pixels = [equal_cells(p, answer) for p in predictions]
    sizes = [p is not None and p.shape == answer.shape for p in predictions]
    exact = [value == 1.0 for value in pixels]
    k = len(predictions)
    return {
        "accuracy": sum(exact) / k,
        "correct_pixels": sum(pixels) / k,
        "max_correct_pixels": max(pixels),
        "correct_size": sum(sizes) / k,
        "any_correct_size": float(any(sizes)),
        "pass_n": float(any(exact)),
        "unanswered": sum(p is None for p in predictions) / k,
    }


def task_figures(predictions: Sequence[Sequence[Grid | None]], answers: Sequence[Grid]) -> Figures:
    """Figures of one task: the mean over its test outputs."""
    return mean_figures(
        [output_figures(p, answer) for p, answer in _per_output(predictions, answers)]
    )


def grid_figures(predictions: Predictions, solutions: Solutions) -> Figures:
    """Figures over all tasks that have a solution: means over test outputs within the task, then over tasks."""
    return mean_figures(
        [task_figures(predictions.get(i, ()), answers) for i, answers in solutions.items()]
    )


def vote_k(attempts: Predictions, solutions: Solutions, k: int) -> float:
    """pass_n of the first k voted grids (vote_1, vote_2), averaged as `grid_figures` averages."""
    first = {
        task_id: [list(ranked)[:k] for ranked in outputs] for task_id, outputs in attempts.items()
    }
    return grid_figures(first, solutions).get("pass_n", 0.0)


def submission_scores(attempts: Predictions, solutions: Solutions) -> Figures:
    """by_output: solved test outputs / all test outputs, as Kaggle scores; by_task: the mean over tasks, as notebooks do.

    The denominators come from the solutions: a task that is not attempted scores 0.
    """
    solved = {
        task_id: [
            any(p is not None and same_grid(p, answer) for p in tried)
            for tried, answer in _per_output(attempts.get(task_id, ()), answers)
        ]
        for task_id, answers in solutions.items()
    }
    outputs = [hit for hits in solved.values() for hit in hits]
    by_task = [sum(hits) / len(hits) for hits in solved.values()]
    return {
        "by_output": sum(outputs) / len(outputs) if outputs else 0.0,
        "by_task": sum(by_task) / len(by_task) if by_task else 0.0,
    }


def equal_cells(grid: Grid | None, answer: Grid) -> float:
    """Fraction of equal cells; 0 where the shape differs or there is no grid."""
    return (
        float(np.mean(grid == answer)) if grid is not None and grid.shape == answer.shape else 0.0
    )


def pixel_similarity(grid: Grid | None, answer: Grid) -> float:
    """Equal shapes: fraction of equal cells. Else one grid slides over the other: most matches at any offset, over the
    area of the smallest box that holds both shapes (1x1 against 2x2 of ones: 0.25; 2x3 against 3x2: at most 4/9).
    """
    if grid is None:
        return 0.0
    if grid.shape == answer.shape:
        return equal_cells(grid, answer)
    box_cells: int = max(grid.shape[0], answer.shape[0]) * max(grid.shape[1], answer.shape[1])
    # Matches at every offset at once: the cross-correlation of the colours' masks, summed over colours.
    field = (grid.shape[0] + answer.shape[0], grid.shape[1] + answer.shape[1])
    colours = np.arange(NUM_COLOURS)[:, None, None]
    ours, theirs = np.fft.rfft2(grid == colours, field), np.fft.rfft2(answer == colours, field)
    matches = np.fft.irfft2(np.sum(ours * np.conj(theirs), axis=0), field)
    return float(round(matches.max())) / box_cells


@dataclass(frozen=True, eq=False)
class ProgramRun:
    """What one predicted program gave.

    has_code: a code block was read from the text. train, test: its output grids per demonstration and test input, in
    order; None where it failed. A program that was never run has empty ones.
    """

    has_code: bool
    train: Sequence[Grid | None] = ()
    test: Sequence[Grid | None] = ()

    def is_valid(self) -> bool:
        """Every input gave a legal grid."""
        outputs = [*self.train, *self.test]
        return bool(outputs) and all(g is not None for g in outputs)


def correct_grids(outputs: Sequence[Grid | None], answers: Sequence[Grid]) -> float:
    """Fraction of grids exactly right: the demonstration score of a program, with its demonstrations as answers."""
    hits = [
        p is not None and same_grid(p, a) for p, a in zip_longest(outputs[: len(answers)], answers)
    ]
    return sum(hits) / len(hits) if hits else 0.0


@dataclass(frozen=True)
class ProgramScore:
    """One program against the answers. outputs_key: equal for programs with the same outputs, None where it is not valid.
    correct: fraction of grids exactly right; similarity: mean pixel similarity; both 0 for a program that is not valid."""

    has_code: bool
    outputs_key: object | None
    train_similarity: float = 0.0
    train_correct: float = 0.0
    test_similarity: float = 0.0
    test_correct: float = 0.0


def score_program(run: ProgramRun, train: Sequence[Grid], test: Sequence[Grid]) -> ProgramScore:
    """train, test: the true outputs."""
    if not run.is_valid():
        return ProgramScore(run.has_code, None)
    return ProgramScore(
        run.has_code,
        tuple(grid_key(g) for g in (*run.train, *run.test) if g is not None),
        mean_similarity(run.train, train),
        correct_grids(run.train, train),
        mean_similarity(run.test, test),
        correct_grids(run.test, test),
    )


def program_task_figures(scores: Sequence[ProgramScore]) -> Figures:
    """Figures of one task over its n programs, as arc25 computes them.

    valid_code, valid_outputs, unique_outputs: shares of n (distinct sets of outputs).
    {train,test}_pixel_similarity, _correct_grids: means over programs, 0 for failures. {train,test}_pass_rate: share of
    programs with all grids right; pass_rate: right on both. {train,test}_pass@n: any program. pass@n is the product of
    the two, as published: one program may solve the demonstrations and another one the test.
    """
    n = max(1, len(scores))
    valid = [s for s in scores if s.outputs_key is not None]
    train = [s.train_correct == 1.0 for s in valid]
    test = [s.test_correct == 1.0 for s in valid]
    return {
        "valid_code": sum(s.has_code for s in scores) / n,
        "valid_outputs": len(valid) / n,
        "unique_outputs": len({s.outputs_key for s in valid}) / n,
        "train_pixel_similarity": sum(s.train_similarity for s in valid) / n,
        "train_correct_grids": sum(s.train_correct for s in valid) / n,
        "train_pass_rate": sum(train) / n,
        "train_pass@n": float(any(train)),
        "test_pixel_similarity": sum(s.test_similarity for s in valid) / n,
        "test_correct_grids": sum(s.test_correct for s in valid) / n,
        "test_pass_rate": sum(test) / n,
        "test_pass@n": float(any(test)),
        "pass_rate": sum(a and b for a, b in zip(train, test, strict=True)) / n,
        "pass@n": float(any(train) and any(test)),
    }


def mean_similarity(outputs: Sequence[Grid | None], answers: Sequence[Grid]) -> float:
    """Mean pixel similarity over the answers; a missing grid counts 0."""
    values = [pixel_similarity(p, a) for p, a in zip_longest(outputs[: len(answers)], answers)]
    return sum(values) / len(values) if values else 0.0


def _per_output(
    predictions: Sequence[Sequence[Grid | None]], answers: Sequence[Grid]
) -> list[tuple[Sequence[Grid | None], Grid]]:
    """Each answer with its predictions; an output that was never predicted has none."""
    return [
        (predictions[i] if i < len(predictions) else (), answer) for i, answer in enumerate(answers)
    ]
