"""The benchmarks of this project, one after another: `make bench`.

    python -m bench                 all of them
    python -m bench run worker      these two

What one measures: python -m bench.NAME --help. Others take much longer or need files with tasks,
and run only by their own names: budgets, calibrate, canary, confidence, estimates, grammar,
gpu_check, induction, kills, loss, pool, screen, search, search_costs, selectors, ttt.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys

import psutil

BENCHES = (
    *("run", "worker", "workers", "cpu_plan", "search_speed"),
    *("sandbox", "sample", "vllm", "train"),
)
"""What `make bench` runs."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(BENCHES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {names}; default: all")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in BENCHES]
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; expected one of {names}")

    print(
        f"machine: {platform.processor() or platform.machine()}, "
        f"{psutil.cpu_count()} cores, python {platform.python_version()}"
    )
    for name in args.names or BENCHES:
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
