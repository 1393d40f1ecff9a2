"""The score that a run would have had at any moment, for several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.report.pictures.style import Picture, legend, legend_in, line_of

Curve = Sequence[tuple[float, float]]
"""Seconds of work, and the score from then on."""

UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
"""Of the axis of time: the first of which the longest run takes more than three."""


def time_picture(curves: Mapping[str, Curve]) -> Picture | None:
    """curves: by the name of the run. None where no run says anything of times."""
    drawn = {name: curve for name, curve in curves.items() if curve}
    if not drawn:
        return None
    # The longest run decides which unit is easy to read.
    longest_s = max(curve[-1][0] for curve in drawn.values())
    unit_s, unit = next(u for u in UNITS if longest_s > 3 * u[0] or u is UNITS[-1])

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        handles = []
        for number, (name, curve) in enumerate(curves.items()):
            if name in drawn:
                line = line_of(number)
                x, y = [t / unit_s for t, _ in curve], [score for _, score in curve]
                axis.plot(x, y, color=line.colour, linestyle=line.dash, drawstyle="steps-post")
                (end,) = axis.plot(
                    x[-1:], y[-1:], color=line.colour, linestyle=line.dash, marker=line.marker
                )
                handles.append(end)
        best = max(score for curve in drawn.values() for _, score in curve)
        axis.set_ylim(0, min(1.02, max(0.1, best * 1.15)))
        axis.set_xlim(left=0)
        axis.set_xlabel(f"{unit} of work (without the time between a stop and the next start)")
        axis.set_ylabel("score by test output")
        legend(figure, handles, list(drawn))

    return Picture("score-over-time", "Score against time", 4.1 + legend_in(list(drawn)), draw)
