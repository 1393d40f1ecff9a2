"""Which estimates of a chance to solve a task are biased: a simulation, as a picture.

    python -m bench.estimates --out docs/pictures/estimates.svg

Tasks are of unlike difficulty: the chance p that one prediction is right is drawn from
Beta(0.3, 1), so most tasks are seldom solved and a few nearly always. Predictions are drawn one by
one. It prints the figures, and draws what the estimates give on average beside the truth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from appliance.atomic import write_atomic
from appliance.record.experiments.estimates import pass_at, predictions_needed
from appliance.report.pictures.style import COLOURS, Picture, rendered
from bench.arguments import bench_parser

NUM_TASKS = 20_000
"""The mean over so many lies within 0.01 of what it goes to."""

NUM_PREDICTIONS = 16
"""For each task in the left panel."""

Points = list[tuple[float, float, float, float]]
"""Place on the axis, the truth, the estimate in use, and the naive one."""


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("estimates", __doc__)
    parser.add_argument("--out", type=Path, help="the SVG file to write")
    args = parser.parse_args(argv)

    rng = np.random.default_rng(0)
    chances = rng.beta(0.3, 1.0, NUM_TASKS)
    solved, needed = pass_points(rng, chances), needed_points(rng, chances)
    for name, points in (("pass@k, k", solved), ("predictions needed, n", needed)):
        print(f"{name:22}  truth   estimate  naive")
        for place, truth, estimate, naive in points:
            print(f"{place:22.0f}  {truth:6.3f}  {estimate:8.3f}  {naive:6.3f}")

    if args.out:
        picture = Picture(
            "estimates", "Estimates and truth", 4.6, lambda f: draw(f, solved, needed)
        )
        write_atomic(args.out, rendered(picture, "svg"))
    return 0


def pass_points(rng: np.random.Generator, chances: np.ndarray) -> Points:
    """The mean over tasks of 1 - (1 - p)^k, by Chen's estimate and by p = right / n."""
    n = NUM_PREDICTIONS
    right = drawn(rng, chances, n)
    points = []
    for k in range(1, n + 1):
        truth = np.mean(1 - (1 - chances) ** k)
        estimate = np.mean([pass_at(k, n, int(c)) for c in right])
        naive = np.mean(1 - (1 - right / n) ** k)
        points.append((float(k), float(truth), float(estimate), float(naive)))
    return points


def needed_points(rng: np.random.Generator, chances: np.ndarray) -> Points:
    """Predictions until the first right one or n + 1, by (n + 1) / (right + 1) and by n / right,
    which has no value for tasks that were never solved."""
    points = []
    for n in (4, 8, 16, 32, 64, 128):
        right = drawn(rng, chances, n)
        truth = np.mean(sum((1 - chances) ** j for j in range(n + 1)))
        estimate = np.mean([predictions_needed(n, int(c)) for c in right])
        naive = np.mean(n / right[right > 0])
        points.append((float(n), float(truth), float(estimate), float(naive)))
    return points


def drawn(rng: np.random.Generator, chances: np.ndarray, n: int) -> np.ndarray:
    """Right ones among n predictions, of each task."""
    right: np.ndarray = (rng.random((len(chances), n)) < chances[:, None]).sum(axis=1)
    return right


def draw(figure: Any, solved: Points, needed: Points) -> None:
    left, right = figure.subplots(1, 2)
    for axis, points in ((left, solved), (right, needed)):
        x = [p[0] for p in points]
        axis.plot(x, [p[1] for p in points], color="black", label="truth")
        axis.plot(x, [p[2] for p in points], "o", color=COLOURS[0], label="estimate in use")
        axis.plot(x, [p[3] for p in points], "x", color=COLOURS[1], label="naive, from right / n")
        axis.set_ylim(bottom=0)

    left.set_xticks([1, 4, 8, 12, 16])
    left.set_xlabel(f"k, of n = {NUM_PREDICTIONS} predictions a task")
    left.set_ylabel("pass@k (mean over tasks)")
    right.set_xscale("log", base=2)
    right.xaxis.set_major_formatter("{x:.0f}")
    right.set_yscale("log", base=2)
    right.yaxis.set_major_formatter("{x:.0f}")
    right.set_ylim(bottom=1)
    right.set_xlabel("n, predictions a task")
    right.set_ylabel("predictions until a right one\n(stopped after n + 1; mean over tasks)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)


if __name__ == "__main__":
    raise SystemExit(main())
