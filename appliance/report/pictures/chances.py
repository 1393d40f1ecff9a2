"""How likely one prediction is right, task by task, and how many predictions are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.record.experiments.estimates import chance_interval, predictions_needed
from appliance.record.experiments.tries import Tries, grid_tries, program_tries
from appliance.report.pictures.pass_at_n import NamedRun
from appliance.report.pictures.style import COLOURS, Picture, label, legend_below

ROW_IN = 3.8
"""Height of the two panels of a run, in inches."""


def chance_picture(runs: Sequence[NamedRun]) -> Picture | None:
    """Two panels a run and kind of prediction; None where no model predicted anything."""
    rows = [(run.name, "grids", grid_tries(run.run)) for run in runs]
    rows += [(run.name, "programs", program_tries(run.run)) for run in runs]
    rows = [(name, kind, [t for t in tries if t.num]) for name, kind, tries in rows]
    rows = [row for row in rows if row[2]]
    if not rows:
        return None

    def draw(figure: Any) -> None:
        parts = figure.subfigures(len(rows), 1, squeeze=False).flat
        for part, (name, kind, tries) in zip(parts, rows, strict=True):
            what = "test outputs" if kind == "grids" else "tasks"
            # Those that were never solved come last, whatever their number of predictions.
            tries.sort(key=lambda t: (not t.num_right, predictions_needed(t.num, t.num_right)))
            left, right = part.subplots(1, 2)
            part.suptitle(f"{label(name)}: {kind}", fontsize="medium", fontweight="bold")
            _chances(left, tries)
            _needed(right, tries)
            legend_below(part, right)
            for axis in (left, right):
                axis.set_xlabel(f"{what}, the likeliest first")
                axis.set_xlim(0.3, len(tries) + 0.7)

    return Picture("solve-chance", "Chance of a right prediction", ROW_IN * len(rows), draw)


def _chances(axis: Any, tries: Sequence[Tries]) -> None:
    """Shares with their exact intervals; those never solved are hollow, with what n leaves open."""
    low, high = zip(*(chance_interval(t.num, t.num_right) for t in tries), strict=True)
    width = _mark_size(tries) / 5
    axis.vlines(range(1, len(tries) + 1), low, high, color="#bbbbbb", linewidth=width)
    _points(axis, tries, [t.num_right / t.num for t in tries])
    axis.set_ylim(-0.03, 1.03)
    axis.set_ylabel("chance of a right prediction\n(bars: 95 % intervals)")


def _needed(axis: Any, tries: Sequence[Tries]) -> None:
    """Predictions until the first right one; beside them the naive ratio, where it has a value."""
    solved = [(i, t.num / t.num_right) for i, t in enumerate(tries, 1) if t.num_right]
    axis.plot(
        [i for i, _ in solved],
        [ratio for _, ratio in solved],
        color="#777777",
        linestyle="none",
        marker="x",
        markersize=_mark_size(tries),
        label="n / right ones (biased)",
    )
    _points(axis, tries, [predictions_needed(t.num, t.num_right) for t in tries])
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter("{x:.0f}")
    most = max(t.num + 1 for t in tries)
    axis.set_ylim(0.8, max(8.0, 1.5 * most))
    axis.set_ylabel("predictions until a right one\n(stopped after n + 1)")


def _points(axis: Any, tries: Sequence[Tries], values: Sequence[float]) -> None:
    for is_solved, face, name in (
        (True, COLOURS[0], "solved at least once"),
        (False, "white", "never solved: more than n are needed"),
    ):
        chosen = [i for i, t in enumerate(tries) if bool(t.num_right) == is_solved]
        if chosen:
            axis.plot(
                [i + 1 for i in chosen],
                [values[i] for i in chosen],
                color=COLOURS[0] if is_solved else COLOURS[1],
                markerfacecolor=face,
                linestyle="none",
                markersize=_mark_size(tries),
                marker="o" if is_solved else "^",
                label=name,
            )


def _mark_size(tries: Sequence[Tries]) -> float:
    """In points: smaller where many marks share the width of a panel."""
    return max(2.5, min(6.0, 300 / len(tries)))
