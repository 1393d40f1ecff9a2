"""What each selector makes of the answers that finished runs hold.

    python -m bench.selectors RUN... --tasks CHALLENGES

No model is asked: the answers are those of the journals, so the figures of a task are paired.
--tasks must have solutions. Prints a table a run, and one of all together where there are several:

  among     share of test outputs whose right grid is among the answers: what no selector exceeds
  vote_1    share of test outputs that the first attempt solves
  vote_2    the same of both attempts
  less default   vote_2 less that of the default selector, task by task, and on how many tasks it is
            more and less

Means over tasks with 95 % intervals (bootstrap over tasks).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
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

    tasks = load_tasks(args.tasks)
    if not tasks.solutions:
        raise SystemExit(f"{args.tasks} has no solutions; expected challenges with them beside")
    answers = Answers(args.tasks, tasks.solutions, tasks)

    found = []
    for path in args.runs:
        run = open_run_record(path, answers)
        for note in run.notes:
            print(f"note: {note}", file=sys.stderr)
        found.append(figures_of(run))
        print("\n".join(table(str(path), found[-1])), flush=True)
    if len(found) > 1:
        print("\n".join(table("all runs, the mean for each task", mean_over_runs(found))))
    return 0


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


def mean_over_runs(runs: Sequence[Mapping[str, TaskFigures]]) -> dict[str, TaskFigures]:
    """By task, over the runs that hold it."""
    by_task: dict[str, list[TaskFigures]] = defaultdict(list)
    for run in runs:
        for task_id, figures in run.items():
            by_task[task_id].append(figures)
    return {
        task_id: {name: sum(f[name] for f in many) / len(many) for name in many[0]}
        for task_id, many in by_task.items()
    }


def table(title: str, by_task: Mapping[str, TaskFigures]) -> list[str]:
    """Lines of Markdown, the default selector first."""
    tasks = list(by_task.values())
    among = share([figures["among"] for figures in tasks])
    lines = [
        "",
        f"{title}: {len(tasks)} tasks, the right grid is among the answers for {among}",
        "",
        "| selector | vote_1 | vote_2 | less default | more, less |",
        "|---|---|---|---|---|",
    ]
    base = [figures[f"{DEFAULT_SELECTOR} vote_2"] for figures in tasks]
    for selector in sorted(SELECTORS, key=lambda name: (name != DEFAULT_SELECTOR, name)):
        first, both = ([figures[f"{selector} {vote}"] for figures in tasks] for vote in VOTES)
        cells = [f"`{selector}`", share(first), share(both), "", ""]
        if selector != DEFAULT_SELECTOR:
            difference = paired_difference(both, base)
            low, high = difference.interval
            cells[3] = f"{difference.mean:+.1%} [{low:+.1%}, {high:+.1%}]"
            cells[4] = f"{difference.num_more}, {difference.num_less}"
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def share(values: Sequence[float]) -> str:
    low, high = share_interval(values)
    return f"{sum(values) / len(values):.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    sys.exit(main())
