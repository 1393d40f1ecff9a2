"""`make fuzz`: damaged inputs by the million over every reader of readers.py.

Prints a table, and saves under out/fuzz/ each input that brought a foreign exception to light.
Exit code 1 where there was one. `python -m tests.fuzz.run --again FILE` reads a saved input once
more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.reader import Reader, good_input, try_one
from tests.fuzz.readers import READERS

OUT = Path("out/fuzz")
CHUNK = 2000
"""Inputs that a process takes at a time, of a reader of texts."""

SAVED = 3
"""Inputs that are kept of each kind of foreign exception."""


@dataclass
class Tally:
    """What came of some inputs of one reader."""

    reader: str
    num_inputs: int = 0
    seconds: float = 0.0
    foreign: Counter[str] = field(default_factory=Counter)  # by type and place


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.run", description="Fuzz every reader."
    )
    parser.add_argument("--inputs", type=int, default=20_000, help="in all (default 20000)")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the name of one reader")
    parser.add_argument("--again", type=Path, help="read a saved input, with its traceback")
    args = parser.parse_args()

    readers = [r for r in READERS if args.only in (None, r.name)]
    if args.again:
        return again(args.again)

    jobs = chunks(readers, args.inputs, args.seed)
    totals = {r.name: Tally(r.name) for r in readers}
    # Not a Pool: it waits for ever for a process that crashed, which is a finding as well.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=context) as pool:
        for tally in pool.map(work, jobs):
            total = totals[tally.reader]
            total.num_inputs += tally.num_inputs
            total.seconds += tally.seconds
            total.foreign += tally.foreign

    return report(list(totals.values()))


def chunks(readers: list[Reader], num_inputs: int, seed: int) -> list[tuple[str, int, int]]:
    """Name of a reader, number of inputs, seed: dear readers take a smaller share."""
    whole = sum(r.share for r in readers)
    jobs = []
    for reader in readers:
        left = max(1, round(num_inputs * reader.share / whole))
        size = max(1, int(CHUNK * reader.share))
        for number in range(0, left, size):
            jobs.append((reader.name, min(size, left - number), seed * 10**9 + number))
    return jobs


def work(job: tuple[str, int, int]) -> Tally:
    """In a process of its own. No guard is on: an exception is seen as it is."""
    name, num_inputs, seed = job
    reader = next(r for r in READERS if r.name == name)
    tally, rng, began = Tally(name), Random(f"{name} {seed}"), time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        for _ in range(num_inputs):
            data = reader.damage(rng, good_input(reader))
            fault = try_one(reader, data, Path(folder))
            tally.num_inputs += 1
            if fault is not None:
                what = _named(fault)
                tally.foreign[what] += 1
                if tally.foreign[what] <= SAVED:
                    _save(name, what, data)
    tally.seconds = time.perf_counter() - began
    return tally


def report(totals: list[Tally]) -> int:
    print(f"{'reader':18} {'inputs':>9} {'seconds':>8} {'foreign':>8}")
    for tally in totals:
        foreign = tally.foreign.total()
        print(f"{tally.reader:18} {tally.num_inputs:>9} {tally.seconds:>8.1f} {foreign:>8}")
        for what, count in tally.foreign.most_common():
            print(f"    {count} x {what}")

    num_foreign = sum(t.foreign.total() for t in totals)
    print(f"{'all':18} {sum(t.num_inputs for t in totals):>9} {'':8} {num_foreign:>8}")
    if num_foreign:
        print(f"the inputs lie in {OUT}; read one again: python -m tests.fuzz.run --again FILE")
    return 1 if num_foreign else 0


def again(path: Path) -> int:
    name = path.name.split(".")[0]
    reader = next(r for r in READERS if _slug(r.name) == name)
    with tempfile.TemporaryDirectory() as folder:
        fault = try_one(reader, path.read_bytes(), Path(folder))
    if fault is not None:
        traceback.print_exception(fault)
    return 1 if fault is not None else 0


def _named(fault: Exception) -> str:
    frame = traceback.extract_tb(fault.__traceback__)[-1]
    return f"{type(fault).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _save(name: str, what: str, data: bytes) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    place = _slug(what)
    number = len(list(OUT.glob(f"{_slug(name)}.{place}.*")))
    if number < SAVED:
        (OUT / f"{_slug(name)}.{place}.{number}").write_bytes(data)


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)


def _memory() -> str | None:
    """A folder that is no disk, where there is one: databases wait for a disk after each write."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
