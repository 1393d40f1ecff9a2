"""Loss and every other figure of trainings, against steps or against tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from appliance.record.experiments.read_training import TrainingLog
from appliance.report.pictures.style import Picture, label, legend, legend_in, line_of

Axis = Literal["steps", "tokens"]

PANEL_IN = 2.7
"""Height of a row of panels, in inches."""

SMOOTHED_POINTS = 40
"""A curve with more points than twice this is smoothed; what was measured stays behind it, pale."""


@dataclass(frozen=True)
class NamedLog:
    """A training, and how it is called here."""

    name: str
    log: TrainingLog


def training_picture(trainings: Sequence[NamedLog], against: Axis) -> Picture:
    """A panel for each figure that any of them has, losses first."""
    found = [training.log.figures() for training in trainings]
    names = list(dict.fromkeys(name for figures in found for name in figures))
    names.sort(key=lambda name: (name != "loss", "loss" not in name))
    num_rows = math.ceil(len(names) / 2)
    longest = max(
        _place(training.log, step, against)
        for training, figures in zip(trainings, found, strict=True)
        for points in figures.values()
        for step, _ in points
    )
    # Ticks of thousands of tokens, or of millions.
    unit = 1000 if against == "tokens" and longest > 2000 else 1
    amount = "millions" if unit > 1 else "thousands"
    x_name = "training steps" if against == "steps" else f"tokens trained on ({amount})"

    def draw(figure: Any) -> None:
        axes = list(figure.subplots(num_rows, 2, squeeze=False).flat)
        handles: dict[int, Any] = {}
        for axis, name in zip(axes, names, strict=False):
            for number, (training, figures) in enumerate(zip(trainings, found, strict=True)):
                points = figures.get(name, [])
                if points:
                    handles[number] = _curve(axis, training.log, points, number, against)
            axis.set_ylabel(
                f"{label(name)}\n(nats per answer token)" if "loss" in name else label(name)
            )
            values = [y for figures in found for _, y in figures.get(name, [])]
            _limit(axis, values, longest)
            axis.set_xlabel(x_name)
            if unit > 1:
                axis.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")
        for axis in axes[len(names) :]:
            axis.set_visible(False)

        shown = sorted(handles)
        legend(figure, [handles[i] for i in shown], [trainings[i].name for i in shown])

    height_in = 0.3 + PANEL_IN * num_rows + legend_in([training.name for training in trainings])
    return Picture(f"training-{against}", f"Training against {against}", height_in, draw)


def _curve(
    axis: Any, log: TrainingLog, points: list[tuple[float, float]], number: int, against: Axis
) -> Any:
    line = line_of(number)
    x = [_place(log, step, against) for step, _ in points]
    y = [value for _, value in points]
    is_long = len(points) > 2 * SMOOTHED_POINTS
    if is_long:
        axis.plot(x, y, color=line.colour, alpha=0.25, linewidth=0.8)

    (handle,) = axis.plot(
        x,
        _smoothed(y) if is_long else y,
        color=line.colour,
        linestyle=line.dash,
        marker=line.marker,
        markevery=max(1, len(points) // 8),
    )
    return handle


def _smoothed(values: list[float]) -> list[float]:
    """The mean of each value and those around it."""
    half = max(1, len(values) // SMOOTHED_POINTS // 2)
    smooth = []
    for i in range(len(values)):
        around = values[max(0, i - half) : i + half + 1]
        smooth.append(sum(around) / len(around))
    return smooth


def _place(log: TrainingLog, step: float, against: Axis) -> float:
    """Steps, or thousands of tokens."""
    return step if against == "steps" else log.tokens_at(step) / 1e3


def _limit(axis: Any, values: Sequence[float], longest: float) -> None:
    """The same steps in every panel, and little room below 0 where nothing is less."""
    axis.set_xlim(-0.03 * (longest or 1), 1.03 * (longest or 1))
    low, high = min(values), max(values)
    pad = max(0.08 * (high - low), 0.02)
    bottom = max(low - pad, -0.1 * (high + pad)) if low >= 0 else low - pad
    axis.set_ylim(bottom, high + pad)
