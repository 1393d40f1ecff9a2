"""The chance that n predictions hold a right one, for several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.record.experiments.read_run import RunRecord
from appliance.record.experiments.tries import (
    CurvePoint,
    Tries,
    grid_tries,
    pass_curve,
    program_tries,
)
from appliance.report.pictures.style import Picture, legend, legend_in, line_of

KINDS: dict[str, Callable[[RunRecord], list[Tries]]] = {
    "grids": grid_tries,
    "programs": program_tries,
}


NOTE = (
    "bands: 95 % intervals over tasks; hollow: some tasks have fewer than n predictions, so that "
    "it is a lower bound"
)


@dataclass(frozen=True)
class NamedRun:
    """A run, how it is called here, and which of its tasks its two attempts solve."""

    name: str
    run: RunRecord
    solved: set[str]


def pass_picture(runs: Sequence[NamedRun]) -> Picture | None:
    """A panel for grids and one for programs; None where no model predicted anything."""
    curves = {
        kind: {i: pass_curve(tries_of(run.run)) for i, run in enumerate(runs)}
        for kind, tries_of in KINDS.items()
    }
    curves = {kind: found for kind, found in curves.items() if any(found.values())}
    if not curves:
        return None

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
        handles: dict[int, Any] = {}
        for axis, (kind, found) in zip(axes, curves.items(), strict=True):
            for number, points in found.items():
                if points:
                    handles[number] = _curve(axis, points, number)
            _name_axes(axis, kind, [p for points in found.values() for p in points])
        axes[0].set_ylabel("pass@n (share of tasks)")
        figure.supxlabel(NOTE, fontsize="small")

        shown = sorted(handles)
        legend(figure, [handles[i] for i in shown], [runs[i].name for i in shown])

    height_in = 4.7 + legend_in([run.name for run in runs])
    return Picture("pass-at-n", "A right one among n predictions", height_in, draw)


def _curve(axis: Any, points: Sequence[CurvePoint], number: int) -> Any:
    line = line_of(number)
    x = [p.k for p in points]
    low, high = zip(*(p.interval for p in points), strict=True)
    axis.fill_between(x, low, high, color=line.colour, alpha=0.13, linewidth=0)
    (handle,) = axis.plot(
        x, [p.mean for p in points], color=line.colour, linestyle=line.dash, marker=line.marker
    )

    bounds = [p for p in points if not p.is_whole]
    axis.plot(
        [p.k for p in bounds],
        [p.mean for p in bounds],
        color=line.colour,
        linestyle="none",
        marker=line.marker,
        markerfacecolor="white",
    )
    return handle


def _name_axes(axis: Any, kind: str, points: Sequence[CurvePoint]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    most = max(p.k for p in points)
    powers = [2**power for power in range(most.bit_length())]
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(powers[:: max(1, len(powers) // 6)]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.set_xlim(0.9, most * 1.15)
    axis.set_ylim(-0.02, 1.02)

    what = "for a test output" if kind == "grids" else "for a task"
    axis.set_title(kind)
    axis.set_xlabel(f"n, predicted {kind} {what}")
