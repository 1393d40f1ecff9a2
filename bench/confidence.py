"""How likely the answers of each source are right: learns the curves, and checks them.

    python -m bench.confidence --search RUN --programs RUN --learn-tasks CHALLENGES \\
        --grids RUN... [--beside RUN...] --check-tasks CHALLENGES [--to FILE] [--picture FILE]

The curves of what is found without a model, and of programs, are learnt on the first two runs:
those of --strategy search and induction, on tasks for training. What a model says of its grids can
only be learnt on tasks whose kind it has not seen: the curves of scores and votes are learnt on
--grids and checked there by cross-fitting. Each tenth of the tasks is judged by curves that were
learnt on the other nine.

In the check, answers of the runs of --beside join those of --grids, as `appliance vote` merges
runs: a run of --strategy search on the same tasks. Tasks must have solutions.

Prints the curves, what each chance is worth in the check, and the votes against those of the
default selector (means over tasks, 95 % intervals by bootstrap over tasks). --to keeps the curves,
learnt on all tasks, as JSON; --picture draws a reliability diagram.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.grid import Grid, grid_key
from appliance.arc.metrics import vote_k
from appliance.arc.source import load_tasks
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate, Output, group_by_output
from appliance.atomic import write_atomic
from appliance.clock import SystemClock
from appliance.record.attempts import attempts_of
from appliance.record.confidence import Claim, Curve, by_chance, chances, claims_of
from appliance.record.experiments.estimates import wilson
from appliance.record.experiments.read_run import RunRecord
from appliance.record.figures import pooled, votes_by_task
from appliance.report.pictures.style import Picture, line_of, rendered
from appliance.seeds import generator
from bench.arguments import bench_parser
from bench.selectors import compared, merged, read, share

NUM_FOLDS = 10

PRIOR = 0.02
"""Strength of the belief that a bias is 0 and a slope is 1."""

BANDS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 1.01)
"""Of chances, for the table and the picture."""

WRITTEN = ("scores", "votes")
SOURCES = ("all", "search", "programs", *WRITTEN)

MANY = 1000
"""Grids of a test output, all of them."""


@dataclass(frozen=True)
class Case:
    """A grid, what speaks for it, and whether it is right."""

    output: Output
    claims: tuple[Claim, ...]
    is_right: bool


@dataclass(frozen=True)
class Judged:
    """A chance that was given, and what is true."""

    source: str  # of the claim; "all" for all claims to a grid
    chance: float
    is_right: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Raises InputError for what is no run, or a run of other tasks."""
    parser = bench_parser("confidence", __doc__)
    parser.add_argument("--search", type=Path, required=True, metavar="RUN")
    parser.add_argument("--programs", type=Path, required=True, metavar="RUN")
    parser.add_argument("--learn-tasks", required=True, metavar="CHALLENGES")
    parser.add_argument("--grids", type=Path, required=True, nargs="+", metavar="RUN")
    parser.add_argument("--beside", type=Path, default=[], nargs="+", metavar="RUN")
    parser.add_argument("--check-tasks", required=True, metavar="CHALLENGES")
    parser.add_argument("--to", type=Path, metavar="FILE", help="the curves, as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="an SVG")
    args = parser.parse_args(argv)

    learnt: dict[str, Any] = {}
    known: dict[str, Curve] = {}
    for path, sources in ((args.search, ("search",)), (args.programs, ("programs",))):
        cases = cases_of(read(path, args.learn_tasks))
        known |= learn(cases, sources, {})
        learnt |= counts_of(cases, sources)

    written = reduce(merged, [read(path, args.check_tasks) for path in args.grids])
    cases = cases_of(written)
    curves = known | learn(cases, WRITTEN, known)
    learnt |= counts_of(cases, WRITTEN)
    for source, curve in curves.items():
        print(f"{source:9} bias {curve.bias:+.2f} slope {curve.slope:.2f}  {learnt[source]}")
    if args.to:
        text = json.dumps(to_keep(curves, learnt, args), indent=1)
        write_atomic(args.to, f"{text}\n".encode())

    checked = reduce(merged, [read(path, args.check_tasks) for path in args.beside], written)
    fitted = cross_fitted(cases, known)
    fitted |= {task_id: curves for task_id in checked.solutions if task_id not in fitted}
    judged = judged_by(fitted, checked)
    print("\n".join(reliability(judged)))
    print("\n".join(votes(fitted, checked)))
    if args.picture:
        picture = Picture("confidence", "Chance and truth", 4.8, lambda f: draw(f, judged))
        write_atomic(args.picture, rendered(picture, "svg"))
    return 0


def to_keep(
    curves: Mapping[str, Curve], learnt: Mapping[str, Mapping[str, int]], args: argparse.Namespace
) -> dict[str, Any]:
    """What the file holds: `shipped_curves` reads the curves, the rest is for people."""
    return {
        "made": {
            "day": f"{datetime.fromtimestamp(SystemClock().now(), UTC):%Y-%m-%d}",
            "command": "python -m bench.confidence",
            "search, programs": load_tasks(args.learn_tasks).name,
            "scores, votes": load_tasks(args.check_tasks).name,
        },
        "curves": {
            source: {
                "bias": round(curve.bias, 3),
                "slope": round(curve.slope, 3),
                **learnt[source],
            }
            for source, curve in curves.items()
        },
    }


def outputs_of(run: RunRecord) -> dict[Output, list[Candidate]]:
    groups = group_by_output(pooled(run.candidates, "all"))
    return {output: group for output, group in groups.items() if output[0] in run.solutions}


def cases_of(run: RunRecord) -> list[Case]:
    return [
        Case(output, tuple(claims), key == grid_key(run.solutions[output[0]][output[1]]))
        for output, group in outputs_of(run).items()
        for key, claims in claims_of(group).items()
    ]


def counts_of(cases: Iterable[Case], sources: Iterable[str]) -> dict[str, dict[str, int]]:
    """By source: claims, how many of them were right, and tasks."""
    counts = {}
    for source in sources:
        found = [(case, c) for case in cases for c in case.claims if c.source == source]
        counts[source] = {
            "claims": len(found),
            "right": sum(case.is_right for case, _ in found),
            "tasks": len({case.output[0] for case, _ in found}),
        }
    return counts


def learn(
    cases: Sequence[Case], sources: Sequence[str], known: Mapping[str, Curve]
) -> dict[str, Curve]:
    """The likeliest curves of these sources, all at once, with the known ones as they are. Claims
    of other sources do not count.

    The belief before: no bias and a slope of 1. So a curve that few answers are behind stays
    finite.
    """
    from scipy.optimize import minimize

    names = [*sources, *known]
    claims = [(case, c) for case in cases for c in case.claims if c.source in names]
    outputs = sorted({case.output for case, _ in claims})
    output_of = np.array([outputs.index(case.output) for case, _ in claims], int)
    source_of = np.array([names.index(c.source) for _, c in claims], int)
    log_odds = np.array([c.log_odds for _, c in claims])
    is_right = np.array([case.is_right for case, _ in claims], float)
    has_right = np.bincount(output_of, is_right) > 0
    fixed = [(curve.bias, curve.slope) for curve in known.values()]
    start = np.array([0.0, 1.0] * len(sources))

    def loss(values: np.ndarray) -> float:
        curves = np.array([*values.reshape(-1, 2), *fixed])
        odds = np.exp(curves[source_of, 0] + curves[source_of, 1] * log_odds)
        of_all = np.bincount(output_of, odds)
        of_right = np.bincount(output_of, odds * is_right)
        likely = np.log(of_right[has_right]).sum() - np.log1p(of_all).sum()
        return float(PRIOR * ((values - start) ** 2).sum() - likely)

    bounds = [(-20.0, 20.0), (0.0, 20.0)] * len(sources)
    found = minimize(loss, start, bounds=bounds).x.reshape(-1, 2)
    return {
        source: Curve(float(bias), float(slope))
        for source, (bias, slope) in zip(sources, found, strict=True)
    }


def cross_fitted(cases: Sequence[Case], known: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """By task, curves that were learnt without it, or any task of its fold."""
    task_ids = sorted({case.output[0] for case in cases})
    order = generator("confidence").permutation(len(task_ids))
    curves: dict[str, dict[str, Curve]] = {}
    for number in range(NUM_FOLDS):
        left_out = {task_ids[place] for place in order[number::NUM_FOLDS]}
        others = [case for case in cases if case.output[0] not in left_out]
        fold = {**known, **learn(others, WRITTEN, known)}
        curves |= dict.fromkeys(left_out, fold)
    return curves


def judged_by(curves: Mapping[str, Mapping[str, Curve]], run: RunRecord) -> list[Judged]:
    """The chance of each grid by all claims, and by those of each source alone. curves: by task."""
    judged = []
    for (task_id, index), group in outputs_of(run).items():
        right = grid_key(run.solutions[task_id][index])
        for source in SOURCES:
            alone = {name: c for name, c in curves[task_id].items() if source in ("all", name)}
            for key, chance in chances(group, alone).items():
                if chance > 0:
                    judged.append(Judged(source, chance, key == right))
    return judged


def banded(judged: Iterable[Judged], source: str) -> list[list[Judged]]:
    """Those of a source, by the bands of their chances; bands without any are left out."""
    mine = [j for j in judged if j.source == source]
    bands = [[j for j in mine if low <= j.chance < high] for low, high in itertools.pairwise(BANDS)]
    return [band for band in bands if band]


def point(band: Sequence[Judged]) -> tuple[float, int, float, tuple[float, float]]:
    """Mean chance, right ones, their share and its interval."""
    num_right = sum(j.is_right for j in band)
    mean = sum(j.chance for j in band) / len(band)
    return mean, num_right, num_right / len(band), wilson(num_right, len(band))


def reliability(judged: Sequence[Judged]) -> list[str]:
    """Lines of Markdown."""
    lines = ["", "| source | mean chance | right | share |", "|---|---|---|---|"]
    for source in SOURCES:
        for band in banded(judged, source):
            mean, num_right, part, (low, high) = point(band)
            lines.append(
                f"| {source} | {mean:.3f} | {num_right} of {len(band)} "
                f"| {part:.3f} [{low:.3f}, {high:.3f}] |"
            )
    whole = [j for j in judged if j.source == "all"]
    expected = sum(j.chance for j in whole)
    return [*lines, "", f"right: {sum(j.is_right for j in whole)}, expected {expected:.1f}"]


def votes(curves: Mapping[str, Mapping[str, Curve]], run: RunRecord) -> list[str]:
    """vote_1 and vote_2 by the chances, with the curves of each task, against the default."""
    base = votes_by_task(run.candidates, run.solutions)
    attempts = attempts_of(run.candidates, DEFAULT_SELECTOR, num_attempts=MANY)
    groups = outputs_of(run)
    ranked: dict[str, list[list[Grid | None]]] = {
        task_id: [[] for _ in answers] for task_id, answers in run.solutions.items()
    }
    for (task_id, index), grids in attempts.items():
        if task_id in ranked and grids:
            likely = chances(groups[task_id, index], curves[task_id])
            ranked[task_id][index] = [*by_chance(grids, likely)]

    lines = [""]
    for k in (1, 2):
        ours = [vote_k(ranked, {i: a}, k) for i, a in run.solutions.items()]
        theirs = [base[task_id][f"vote_{k}"] for task_id in run.solutions]
        lines.append(
            f"vote_{k} by chances {share(ours)}, by {DEFAULT_SELECTOR} {share(theirs)}: "
            f"{compared(ours, theirs)}"
        )
    return lines


def draw(figure: Any, judged: Sequence[Judged]) -> None:
    """Left all claims together, right each source by itself."""
    left, right = figure.subplots(1, 2)
    for axis, sources, title in (
        (left, ("all",), "all claims to a grid together"),
        (right, SOURCES[1:], "each source by itself"),
    ):
        axis.plot([0, 1], [0, 1], color="#777777", linewidth=1.0)
        for number, source in enumerate(sources):
            bands = banded(judged, source)
            if not bands:
                continue
            points = [point(band) for band in bands]
            means, shares = [p[0] for p in points], [p[2] for p in points]
            low, high = [p[3][0] for p in points], [p[3][1] for p in points]
            line = line_of(number)
            axis.vlines(means, low, high, color=line.colour, linewidth=1.5, alpha=0.6)
            axis.plot(means, shares, line.marker, color=line.colour, label=source)
        axis.set_title(title)
        axis.set_xlabel("chance that was given (mean of a band)")
        axis.set_ylabel("share that is right\n(bars: 95 % intervals)")
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.03)
    right.legend(loc="upper left")


if __name__ == "__main__":
    sys.exit(main())
