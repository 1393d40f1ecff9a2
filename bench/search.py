"""What the search solves, how long it takes, and how sure it may be of its answers.

    python -m bench.search --tasks CHALLENGES --solutions SOLUTIONS [--limit N --seed 5] [--jobs 2]

For every task: the search alone, without the sandbox and without a run; as in a run, the heaviest
programs count, a few for each answer.
Prints one line a task, then the totals with 95 % intervals (bootstrap over tasks), then the table
of summed weight against right for first answers. --out keeps a JSON line a task with all answers:
cost, kind, program and whether it is right, for calibration.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.grid import Grid, grid_key, same_grid
from appliance.arc.source import load_solutions, load_tasks
from appliance.arc.task import Task
from appliance.arc.vote import by_weight
from appliance.record.experiments.estimates import bootstrap
from appliance.search.answers import Answer, Limits
from appliance.search.solve import search_task
from appliance.solve.check_answers import chosen_answers
from appliance.solve.search_worker import candidates_of
from bench.arguments import bench_parser

BANDS = (0.0, 0.03, 0.1, 0.3, 1.0, float("inf"))
"""Of the summed weight of a first answer."""


@dataclass(frozen=True)
class Result:
    """What came of one task."""

    task_id: str
    solved_by: int  # rank of the last right answer needed, 1 and 2 are attempts; 0: none is right
    weights: tuple[float, ...]  # of the first answer to each test input
    is_first_right: tuple[bool, ...]
    cpu_s: float
    applications: int
    bound: str
    answers: list[dict[str, Any]]
    kinds: tuple[str, ...]  # of right answers


def main() -> None:
    parser = bench_parser("search", __doc__)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--solutions", required=True)
    parser.add_argument("--only")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=5, help="draws the tasks of --limit")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--expansions", type=int, default=250)
    parser.add_argument("--cpu-s", type=float, default=20.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    given = load_tasks(args.tasks)
    tasks, solutions = list(given), load_solutions(args.solutions, given)
    if args.only:
        tasks = [t for t in tasks if t.task_id in args.only.split(",")]
    if args.limit:
        random.Random(args.seed).shuffle(tasks)
        tasks = tasks[: args.limit]

    limits = Limits(args.expansions, args.cpu_s)
    work = [(task, solutions[task.task_id], limits) for task in tasks]
    results = []
    with get_context("spawn").Pool(args.jobs) as pool:
        for result in pool.imap(_search, work):
            results.append(result)
            print(_line(result), flush=True)

    if args.out:
        rows = (json.dumps(vars(r)) for r in results)
        args.out.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    print("\n".join(_totals(results)))


def _search(work: tuple[Task, Sequence[Grid], Limits]) -> Result:
    task, solution, limits = work
    found = search_task(task, limits)
    counting = [a for a in found.answers if not a.program]
    counting += chosen_answers([a for a in found.answers if a.program])
    candidates = candidates_of(task, counting)
    ranks, weights, is_right = [], [], []
    for index, right in enumerate(solution):
        ranked = by_weight(c for c in candidates if c.test_index == index)
        places = [n for n, entry in enumerate(ranked, 1) if same_grid(entry.grid, right)]
        ranks.append(places[0] if places else 0)
        weights.append(ranked[0].weight if ranked else 0.0)
        is_right.append(ranks[-1] == 1)

    def all_right(answer: Answer) -> bool:
        return all(same_grid(a, b) for a, b in zip(answer.grids, solution, strict=True))

    rows = [
        {
            "weight": a.weight,
            "kind": a.kind,
            "right": all_right(a),
            "grids": [hash(grid_key(g)) for g in a.grids],
            "program": a.program,
        }
        for a in found.answers[:400]
    ]
    return Result(
        task.task_id,
        0 if 0 in ranks else max(ranks),
        tuple(weights),
        tuple(is_right),
        found.cpu_s,
        found.applications,
        found.bound,
        rows,
        tuple(sorted({str(r["kind"]) for r in rows if r["right"]})),
    )


def _line(result: Result) -> str:
    outcome = {0: "-", 1: "first", 2: "second"}.get(result.solved_by, f"rank {result.solved_by}")
    weight = min(result.weights, default=0.0)
    return (
        f"{result.task_id} {outcome:8} weight {weight:7.3f} {result.cpu_s:5.1f} s "
        f"{result.applications:7} calls {result.bound:10} {len(result.answers):3} answers "
        f"right by {', '.join(result.kinds) or '-'}"
    )


def _totals(results: Sequence[Result]) -> Iterator[str]:
    num = len(results)
    for name, last in (("vote_1", 1), ("vote_2", 2), ("any", 10**9)):
        is_solved = [1.0 if 0 < r.solved_by <= last else 0.0 for r in results]
        low, high = bootstrap(is_solved)
        yield (
            f"{name}: {sum(is_solved):.0f} of {num}, {np.mean(is_solved):.1%} "
            f"[{low:.1%}, {high:.1%}]"
        )

    cpu_s = [r.cpu_s for r in results]
    calls = sum(r.applications for r in results)
    yield (
        f"CPU seconds a task: mean {np.mean(cpu_s):.2f}, median {np.median(cpu_s):.2f}, "
        f"most {max(cpu_s):.2f}; {calls / sum(cpu_s):,.0f} calls a second of all work"
    )

    for low_w, high_w in itertools.pairwise(BANDS):
        pairs = [p for r in results for p in zip(r.weights, r.is_first_right, strict=True)]
        hits = [ok for weight, ok in pairs if low_w < weight <= high_w]
        if hits:
            yield f"weight {low_w} to {high_w}: {sum(hits)} of {len(hits)} first answers right"


if __name__ == "__main__":
    main()
