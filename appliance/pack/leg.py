"""One leg of a job that saves itself: one run of `appliance submit` between two starts of the job.

    python -m appliance.pack.leg --out DIR --budget 8h --every 1h -- --tasks ...

The leg gives `appliance submit` the part of the budget that earlier legs left. It stops the run
with exit code 85 (files are saved, start me again) when its own time is over or when the slot is
taken away. The time used is kept in DIR/run/legs.json, so waiting in the queue costs nothing of the
budget. Exit code 5, a stage below its floor, is passed on: DAGMan sees it, does not try that shard
again, which would gain nothing, and votes over it all the same. With exit code 3, something is
missing on this machine, the leg waits before it gives the machine back.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from appliance.arc.read import read_json
from appliance.atomic import write_atomic
from appliance.clock import LONGEST_S, Clock, SystemClock, parse_duration
from appliance.errors import EXIT_CHECKPOINTED, EXIT_PREREQUISITE, InputError
from appliance.record.run_folder import RunFolder

LEAST_S = 20.0
"""Seconds of a leg whose budget is used up: enough for the run to end by itself and report."""

NOTE_EVERY_S = 30.0
"""Seconds between two notes of the time used; a leg that is killed loses no more than that."""

BAD_MACHINE_S = 900.0
"""Seconds that a leg stays at least where nothing runs (exit code 3). A pool gives the next shard
to whoever is free: a machine that fails at once takes one after another, until hundreds have failed
for good (docs/results/simulation.md)."""

SUBMIT = (sys.executable, "-m", "appliance", "submit")
"""The program of a leg."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="appliance.pack.leg", description="One leg of a self-checkpointing job."
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="folder of the run, kept from leg to leg"
    )
    parser.add_argument("--budget", required=True, help="time of all legs together")
    parser.add_argument("--every", required=True, help="time of one leg")
    parser.add_argument(
        "--unpack", type=Path, metavar="TAR", help="tar file to unpack first, such as a model"
    )
    parser.add_argument("submit", nargs="+", metavar="-- ARG", help="arguments of appliance submit")
    args = parser.parse_args(argv)

    try:
        if args.unpack:
            unpack(args.unpack)
    except InputError as fault:
        print(f"appliance: {fault}", file=sys.stderr)
        return fault.exit_code
    return run_leg(
        args.out,
        parse_duration(args.budget),
        parse_duration(args.every),
        args.submit,
        clock=SystemClock(),
    )


def run_leg(
    out: Path,
    budget_s: float,
    every_s: float,
    submit: Sequence[str],
    *,
    clock: Clock,
    program: Sequence[str] = SUBMIT,
) -> int:
    """Run one leg and return its exit code.

    Adapters are removed at its end: they are large to transfer, and a task that needs one again
    trains anew.
    """
    folder = RunFolder(out)
    notes = folder.legs
    notes.parent.mkdir(parents=True, exist_ok=True)
    legs = read_legs(notes)
    left_s = max(LEAST_S, budget_s - sum(legs))

    start_s = clock.now()
    print(
        f"leg {len(legs) + 1}: {left_s:.0f} s of {budget_s:.0f} s left", file=sys.stderr, flush=True
    )
    process = subprocess.Popen([*program, *submit, "--budget", f"{left_s:.0f}s", "--out", str(out)])
    # The batch system takes the slot away by SIGTERM to this process only.
    former = signal.signal(signal.SIGTERM, lambda number, _frame: process.send_signal(number))

    try:
        while True:
            used_s = clock.now() - start_s
            write_atomic(notes, json.dumps([*legs, round(used_s, 1)]).encode())
            try:
                code = process.wait(timeout=max(0.1, min(NOTE_EVERY_S, every_s - used_s)))
                break
            except subprocess.TimeoutExpired:
                if used_s >= every_s:
                    process.terminate()
    finally:
        signal.signal(signal.SIGTERM, former)

    write_atomic(notes, json.dumps([*legs, round(clock.now() - start_s, 1)]).encode())
    if folder.journal.is_file():  # else the run was refused, and what is there is not ours
        shutil.rmtree(folder.adapters, ignore_errors=True)

    rest_s = BAD_MACHINE_S - (clock.now() - start_s)
    if code == EXIT_PREREQUISITE and rest_s > 0:
        print(f"this machine is kept for {rest_s:.0f} s, from other shards", file=sys.stderr)
        sys.stderr.flush()
        clock.sleep(rest_s)
    if code == -signal.SIGTERM:  # stopped before it could listen: nothing is lost, nothing was done
        return EXIT_CHECKPOINTED
    return code


def unpack(tar: Path) -> None:
    """Unpack it here and remove it, which a later leg on the same machine finds done.

    Raises InputError for a file that is none.
    """
    if not tar.exists():
        return
    try:
        with tarfile.open(tar) as archive:
            # Debian's Python 3.11.2, on which images may be built, knows no filters.
            has_filters = hasattr(tarfile, "data_filter")
            archive.extraction_filter = tarfile.data_filter if has_filters else None
            archive.extractall()
    except (tarfile.TarError, EOFError, zlib.error) as fault:
        raise InputError(
            f"{tar} cannot be unpacked: {fault}",
            expected="a whole tar file",
            remedy="make it anew, and give it another name: caches keep what they have",
        ) from fault
    tar.unlink()


def read_legs(notes: Path) -> list[float]:
    """Seconds of the legs so far. A damaged note counts for nothing: the job goes on with the whole
    budget rather than not at all."""
    if not notes.exists():
        return []
    try:
        value = read_json(notes)
    except InputError as fault:
        print(f"legs are counted anew: {fault}", file=sys.stderr, flush=True)
        return []

    seconds: list[float] = value if isinstance(value, list) else [-1.0]
    if all(type(s) in (int, float) and 0 <= s <= LONGEST_S for s in seconds):
        return seconds
    print(f"legs are counted anew: {notes} holds no list of seconds", file=sys.stderr, flush=True)
    return []


if __name__ == "__main__":
    sys.exit(main())
