"""How large a set of tasks may be: time and memory of each verb over four extreme files.

    python -m bench.limits --out out/limits

Prints a row a verb: seconds, CPU seconds of it and its children, peak memory of its largest
process. A submission searches only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.clock import SystemClock
from appliance.seeds import generator


@dataclass(frozen=True)
class Extreme:
    """One file of random tasks."""

    name: str
    ids: list[str]
    num_pairs: int  # of each task
    side: int  # of each grid, in cells


def extremes() -> list[Extreme]:
    """Many tasks; 300 MB; tasks that are as long as can be; ids that differ in case only."""
    word = "abcdefgh"
    spellings = [
        "".join(c.upper() if bits >> place & 1 else c for place, c in enumerate(word))
        for bits in range(1 << len(word))
    ]
    return [
        Extreme("10,000 tasks", [f"{i:08x}" for i in range(10_000)], 3, 10),
        Extreme("300 MB", [f"{i:08x}" for i in range(1650)], 50, 30),
        Extreme("50 pairs of 30 x 30", [f"{i:08x}" for i in range(5)], 50, 30),
        Extreme("256 ids that differ in case", spellings, 3, 5),
    ]


def write(extreme: Extreme, folder: Path) -> tuple[Path, Path]:
    """The challenges and the solutions."""
    rng = generator("limits", extreme.name)

    def grid() -> list[list[int]]:
        cells: list[list[int]] = rng.integers(0, 10, (extreme.side, extreme.side)).tolist()
        return cells

    def task() -> dict[str, Any]:
        pairs = [{"input": grid(), "output": grid()} for _ in range(extreme.num_pairs)]
        return {"train": pairs, "test": [{"input": grid()}]}

    folder.mkdir(parents=True, exist_ok=True)
    tasks, solutions = folder / "tasks_challenges.json", folder / "answers.json"
    with tasks.open("w") as file:  # task by task: all of them would take gigabytes
        for number, task_id in enumerate(extreme.ids):
            entry = json.dumps({task_id: task()}, separators=(",", ":"))
            file.write(("{" if number == 0 else ",") + entry[1:-1])
        file.write("}")
    solutions.write_text(json.dumps({task_id: [grid()] for task_id in extreme.ids}))
    return tasks, solutions


def commands(tasks: Path, solutions: Path, out: Path, *, budget: str) -> Iterator[list[str]]:
    run = str(out / "run of search")
    submit = ["submit", "--tasks", str(tasks), "--out", run, "--strategy", "search"]
    submit += ["--budget", budget, "--display", "none"]
    yield submit
    yield submit
    yield ["validate", run, "--tasks", str(tasks)]
    yield ["vote", run, "--tasks", str(tasks), "--out", str(out / "voted.json")]
    yield ["evaluate", run, "--solutions", str(solutions)]
    yield ["report", run, "--out", str(out / "report.html")]
    yield ["plan", "--tasks", str(tasks), "--gpu", "H100", "--budget", "12h"]
    yield ["simulate", "--tasks", str(tasks), "--gpu", "H100", "--budget", "12h", "--seeds", "1"]


def measure(command: list[str], *, most_s: float) -> str:
    """How it ended and what it took, and on a second line what it told last on stderr."""
    clock = SystemClock()
    began_s = clock.now()
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ending = ""
    try:
        _, told = process.communicate(timeout=most_s)
        ending = (told.strip().splitlines() or [""])[-1][:100]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        ending = f"stopped after {most_s:.0f} s"
    return f"{command[0]:9} exit {process.returncode:3} {clock.now() - began_s:7.1f} s\n{ending}"


def in_process_of_its_own(command: list[str], *, most_s: float) -> str:
    """The row with CPU seconds and peak memory, which the system counts a process of all its
    children."""
    read, sent = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sent, measure(command, most_s=most_s).encode())
        os._exit(0)
    os.close(sent)
    with os.fdopen(read) as stream:
        row, _, ending = stream.read().partition("\n")
    _, _, used = os.wait4(child, 0)
    cpu_s = used.ru_utime + used.ru_stime
    return f"{row} {cpu_s:7.1f} CPU s {used.ru_maxrss / 1024:7.0f} MiB  {ending}"


def main() -> None:
    parser = argparse.ArgumentParser(description="How large a set of tasks may be.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", metavar="TEXT", default="", help="files whose name holds this")
    parser.add_argument("--budget", default="2m", help="of each submission (default 2m)")
    parser.add_argument("--most-s", type=float, default=900.0, help="seconds of a verb at most")
    args = parser.parse_args()

    for extreme in extremes():
        if args.only not in extreme.name:
            continue
        folder = args.out / extreme.name.replace(" ", "-")
        tasks, solutions = write(extreme, folder)
        print(f"{extreme.name}: {tasks.stat().st_size / 1e6:.1f} MB", flush=True)
        for command in commands(tasks, solutions, folder, budget=args.budget):
            print("  " + in_process_of_its_own(command, most_s=args.most_s), flush=True)


if __name__ == "__main__":
    main()
