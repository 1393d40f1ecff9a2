"""What each selector makes of the answers that finished runs hold.

    python -m bench.selectors RUN... --tasks CHALLENGES

No model is asked: the answers are those of the journals, so the figures of a task are paired.
--tasks must have solutions. Prints a table a run, and where there are several one of all answers
together, merged as `appliance vote` merges them:

  among     share of test outputs whose right grid is among the answers: what no selector exceeds
  vote_1    share of test outputs that the first attempt solves
  vote_2    the same of both attempts
  less default   the difference to the default selector, task by task, and on how many tasks it is
            more and less

Means over tasks with 95 % intervals (bootstrap over tasks).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

from appliance.arc.source import load_tasks
from appliance.arc.vote import DEFAULT_SELECTOR, SELECTORS
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.estimates import paired_difference, share_interval
from appliance.record.experiments.read_run import RunRecord, open_run_record
from appliance.record.figures import grids_by_task, pooled, votes_by_task
from bench.arguments import bench_parser

VOTES = ("vote_1", "vote_2")

TaskFigures = dict[str, float]
"""Of one task: among, and vote_1 and vote_2 by each selector as "NAME vote_1"."""


def main(argv: Sequence[str] | None = None) -> int:
    """Raises InputError for what is no run, or a run of other tasks."""
    parser = bench_parser("selectors", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="--out folder of a run")
    parser.add_argument("--tasks", required=True, help="with solutions")
    args = parser.parse_args(argv)

    runs = []
    for path in args.runs:
        runs.append(read(path, args.tasks))
        print("\n".join(table(str(path), figures_of(runs[-1]))), flush=True)
    if len(runs) > 1:
        print("\n".join(table("all runs together", figures_of(reduce(merged, runs)))))
    return 0


def read(path: Path, spec: str) -> RunRecord:
    """A run over the tasks of this file or source, which must have solutions."""
    tasks = load_tasks(spec)
    if not tasks.solutions:
        raise SystemExit(f"{spec} has no solutions; expected challenges with them beside")
    run = open_run_record(path, Answers(spec, tasks.solutions, tasks))
    for note in run.notes:
        print(f"note: {path}: {note}", file=sys.stderr)
    return run


def figures_of(run: RunRecord) -> dict[str, TaskFigures]:
    """By task."""
    grids = grids_by_task(pooled(run.candidates, "all"), run.solutions)
    figures: dict[str, TaskFigures] = {
        task_id: {"among": grids.get(task_id, {}).get("pass_n", 0.0)} for task_id in run.solutions
    }
    for selector in SELECTORS:
        for task_id, votes in votes_by_task(run.candidates, run.solutions, selector).items():
            figures[task_id] |= {f"{selector} {name}": value for name, value in votes.items()}
    return figures


def merged(one: RunRecord, other: RunRecord) -> RunRecord:
    """The answers of both; one that both hold counts once, as in `appliance vote`."""
    stages = [*one.candidates, *(s for s in other.candidates if s not in one.candidates)]
    candidates = {
        stage: Counter(one.candidates.get(stage, ())) | Counter(other.candidates.get(stage, ()))
        for stage in stages
    }
    return replace(
        one,
        candidates={stage: list(found.elements()) for stage, found in candidates.items()},
        solutions={**one.solutions, **other.solutions},
    )


def table(title: str, by_task: Mapping[str, TaskFigures]) -> list[str]:
    """Lines of Markdown, the default selector first."""
    tasks = list(by_task.values())
    among = share([figures["among"] for figures in tasks])
    lines = [
        "",
        f"{title}: {len(tasks)} tasks, the right grid is among the answers for {among}",
        "",
        "| selector | vote_1 | less default | vote_2 | less default |",
        "|---|---|---|---|---|",
    ]
    for selector in sorted(SELECTORS, key=lambda name: (name != DEFAULT_SELECTOR, name)):
        cells = [f"`{selector}`"]
        for vote in VOTES:
            values = [figures[f"{selector} {vote}"] for figures in tasks]
            base = [figures[f"{DEFAULT_SELECTOR} {vote}"] for figures in tasks]
            is_default = selector == DEFAULT_SELECTOR
            cells += [share(values), "" if is_default else compared(values, base)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def compared(values: Sequence[float], base: Sequence[float]) -> str:
    """Task by task: the mean difference, and on how many tasks it is more and less."""
    difference = paired_difference(values, base)
    low, high = difference.interval
    return (
        f"{difference.mean:+.1%} [{low:+.1%}, {high:+.1%}], "
        f"{difference.num_more} more {difference.num_less} less"
    )


def share(values: Sequence[float]) -> str:
    low, high = share_interval(values)
    return f"{sum(values) / len(values):.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    sys.exit(main())
