"""The figures by which runs are compared, and the two scores of a submission.

The figures are computed as arc24 and arc25 do. Each is between 0 and 1. A test output without
predictions counts as unanswered: denominators never shrink.
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
    """Figures of one test output over its k predictions."""
    if not predictions:
        return output_figures([None], answer)

    pixels = [equal_cells(p, answer) for p in predictions]
    sizes = [p is not None and p.shape == answer.shape for p in predictions]
    exact = [value == 1.0 for value in pixels]
    k = len(predictions)

    return {
        "accuracy": sum(exact) / k,  # share of exact matches
        "correct_pixels": sum(pixels) / k,  # mean fraction of equal cells, 0 for another shape
        "max_correct_pixels": max(pixels),  # the same of the best prediction
        "correct_size": sum(sizes) / k,  # share of right shapes
        "any_correct_size": float(any(sizes)),
        "pass_n": float(any(exact)),  # whether any prediction is exact
        "unanswered": sum(p is None for p in predictions) / k,  # share that could not be read
    }


def task_figures(predictions: Sequence[Sequence[Grid | None]], answers: Sequence[Grid]) -> Figures:
    """Figures of one task: the mean over its test outputs."""
    return mean_figures(
        [output_figures(p, answer) for p, answer in _per_output(predictions, answers)]
    )


def grid_figures(predictions: Predictions, solutions: Solutions) -> Figures:
    """Figures over all tasks that have a solution: means within each task, then over tasks."""
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
    """The two scores of a submission, over the tasks that have a solution.

    by_output: solved test outputs / all test outputs, as Kaggle scores.
    by_task: mean over tasks of the share of solved test outputs, as the public notebooks score.
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
    if grid is None or grid.shape != answer.shape:
        return 0.0
    return float(np.mean(grid == answer))


def pixel_similarity(grid: Grid | None, answer: Grid) -> float:
    """How much of the answer a grid gets right, 0 to 1, wherever in the grid it stands.

    Equal shapes: the fraction of equal cells. Other shapes: one grid slides over the other, and
    the most matches at any offset count, over the area of the smallest box that holds both shapes
    (1x1 against 2x2 of ones: 0.25; 2x3 against 3x2: at most 4/9).
    """
    if grid is None:
        return 0.0
    if grid.shape == answer.shape:
        return equal_cells(grid, answer)

    box_cells: int = max(grid.shape[0], answer.shape[0]) * max(grid.shape[1], answer.shape[1])
    # Matches at every offset at once: the cross-correlation of the colours' masks, summed over
    # colours. The field is as large as both grids, so that nothing wraps round.
    field = (grid.shape[0] + answer.shape[0], grid.shape[1] + answer.shape[1])
    colours = np.arange(NUM_COLOURS)[:, None, None]
    ours, theirs = np.fft.rfft2(grid == colours, field), np.fft.rfft2(answer == colours, field)
    matches = np.fft.irfft2(np.sum(ours * np.conj(theirs), axis=0), field)

    return float(round(matches.max())) / box_cells


@dataclass(frozen=True, eq=False)
class ProgramRun:
    """What one predicted program gave. A program that was never run has no outputs."""

    has_code: bool  # whether a code block could be read from the model's text
    train: Sequence[Grid | None] = ()  # one output per demonstration, None where it failed
    test: Sequence[Grid | None] = ()  # one output per test input, None where it failed

    def is_valid(self) -> bool:
        """Every input gave a legal grid."""
        outputs = [*self.train, *self.test]
        return bool(outputs) and all(g is not None for g in outputs)


def correct_grids(outputs: Sequence[Grid | None], answers: Sequence[Grid]) -> float:
    """Fraction of grids exactly right.

    With the demonstrations as answers it is the demonstration score of a program.
    """
    hits = [
        p is not None and same_grid(p, a) for p, a in zip_longest(outputs[: len(answers)], answers)
    ]
    return sum(hits) / len(hits) if hits else 0.0


@dataclass(frozen=True)
class ProgramScore:
    """One program against the answers. A program that is not valid scores 0."""

    has_code: bool
    outputs_key: object | None  # equal for programs with equal outputs; None if not valid
    train_similarity: float = 0.0  # mean pixel similarity
    train_correct: float = 0.0  # fraction of grids exactly right
    test_similarity: float = 0.0
    test_correct: float = 0.0


def score_program(run: ProgramRun, train: Sequence[Grid], test: Sequence[Grid]) -> ProgramScore:
    """The program's outputs against the true ones, `train` and `test`."""
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

    All but the `pass@n` ones are means or shares over the n programs, where failures count 0.
    """
    n = max(1, len(scores))
    valid = [s for s in scores if s.outputs_key is not None]
    train = [s.train_correct == 1.0 for s in valid]
    test = [s.test_correct == 1.0 for s in valid]

    return {
        "valid_code": sum(s.has_code for s in scores) / n,
        "valid_outputs": len(valid) / n,
        "unique_outputs": len({s.outputs_key for s in valid}) / n,  # distinct sets of outputs
        "train_pixel_similarity": sum(s.train_similarity for s in valid) / n,
        "train_correct_grids": sum(s.train_correct for s in valid) / n,
        "train_pass_rate": sum(train) / n,  # programs with all grids right
        "train_pass@n": float(any(train)),  # whether any program has all grids right
        "test_pixel_similarity": sum(s.test_similarity for s in valid) / n,
        "test_correct_grids": sum(s.test_correct for s in valid) / n,
        "test_pass_rate": sum(test) / n,
        "test_pass@n": float(any(test)),
        "pass_rate": sum(a and b for a, b in zip(train, test, strict=True)) / n,
        # As published: one program may solve the demonstrations and another one the test.
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
