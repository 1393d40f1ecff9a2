"""How near predictions came, for solved tasks and for tasks that were not solved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from appliance.record.experiments.tries import TaskScores, grid_scores, program_scores
from appliance.report.pictures.pass_at_n import NamedRun
from appliance.report.pictures.style import COLOURS, Picture, label, legend_below

NUM_BINS = 10

ROW_IN = 3.2
"""Height of the two panels of a run, in inches."""


def score_picture(runs: Sequence[NamedRun]) -> Picture | None:
    """Two panels a run and kind of prediction: exact grids and right pixels, one value a task.

    None where no model predicted anything.
    """
    rows = [(run.name, "grids", grid_scores(run.run, run.solved)) for run in runs]
    rows += [
        (run.name, "programs, on the demonstrations", program_scores(run.run, run.solved))
        for run in runs
    ]
    rows = [row for row in rows if row[2]]
    if not rows:
        return None

    def draw(figure: Any) -> None:
        parts = figure.subfigures(len(rows), 1, squeeze=False).flat
        for part, (name, kind, scores) in zip(parts, rows, strict=True):
            left, right = part.subplots(1, 2, sharey=True)
            part.suptitle(f"{label(name)}: {kind}", fontsize="medium", fontweight="bold")
            _histogram(left, scores, [s.correct_grids for s in scores])
            _histogram(right, scores, [s.pixels for s in scores])
            left.set_xlabel("correct grids (share, mean of a task)")
            right.set_xlabel("correct pixels (share, mean of a task)")
            left.set_ylabel("tasks")
            legend_below(part, left)

    return Picture("scores", "Scores of solved and unsolved tasks", ROW_IN * len(rows), draw)


def _histogram(axis: Any, scores: Sequence[TaskScores], values: Sequence[float]) -> None:
    """Two bars in each tenth, side by side; a value of 1 counts in the last."""
    from matplotlib.ticker import MaxNLocator

    width = 1 / NUM_BINS
    for side, is_solved in enumerate((True, False)):
        counts = Counter(
            min(NUM_BINS - 1, int(value * NUM_BINS + 1e-9))
            for score, value in zip(scores, values, strict=True)
            if score.is_solved == is_solved
        )
        axis.bar(
            [(number + 0.28 + 0.44 * side) * width for number in counts],
            list(counts.values()),
            0.42 * width,
            color=COLOURS[0] if is_solved else "white",
            edgecolor=COLOURS[0] if is_solved else COLOURS[1],
            hatch=None if is_solved else "////",
            label=f"{'solved' if is_solved else 'not solved'} ({counts.total()} tasks)",
        )
    axis.set_xlim(0, 1)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.grid(visible=False, axis="x")
