"""`make bench`: every benchmark of the project, one after another.

python -m bench run     this one alone
"""

from __future__ import annotations

import platform
import subprocess
import sys

import psutil

BENCHES = ("run", "worker", "workers", "cpu_plan", "sandbox", "sample", "vllm", "train")
"""What `make bench` runs; the other benches take much longer or need task files."""


def main(names: list[str]) -> int:
    unknown = [n for n in names if n not in BENCHES]
    if unknown:
        print(
            f"bench: unknown {', '.join(unknown)}; expected one of {', '.join(BENCHES)}",
            file=sys.stderr,
        )
        return 2

    print(
        f"machine: {platform.processor() or platform.machine()}, "
        f"{psutil.cpu_count()} cores, python {platform.python_version()}"
    )
    for name in names or BENCHES:
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
