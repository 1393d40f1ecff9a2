"""One leg of a self-checkpointing job: `python -m appliance.pack.leg --out DIR --budget 8h --every 1h -- --tasks ...`.

Runs `appliance submit` on what the earlier legs left of the budget, and stops it with exit code 85 (files are saved, start me
again) when a leg is over or the slot is taken away. The time used is kept in DIR/run/legs.json, so waiting in the queue costs
nothing. Exit code 5, a stage below its floor, becomes 0: the shard is valid, and a batch system that tries again gains nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.atomic import write_atomic
from appliance.clock import Clock, SystemClock, parse_duration
from appliance.errors import EXIT_CHECKPOINTED, EXIT_COVERAGE, EXIT_DONE
from appliance.record.run_folder import RunFolder

LEAST_S = 20.0
"""A budget that is used up still gets this long, so that the run ends by itself and says what it reached."""
NOTE_EVERY_S = 30.0
SUBMIT = (sys.executable, "-m", "appliance", "submit")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="appliance.pack.leg", description="One leg of a self-checkpointing job."
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="folder of the run, also what is saved between legs"
    )
    parser.add_argument("--budget", required=True, help="time of all legs together")
    parser.add_argument("--every", required=True, help="a leg ends after this time")
    parser.add_argument("submit", nargs="+", metavar="-- ARG", help="arguments of appliance submit")
    args = parser.parse_args(argv)
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
    """The exit code of the leg. Adapters are removed at its end: they are large, and a task trains anew where its next round
    wants one."""
    notes = RunFolder(out).legs
    notes.parent.mkdir(parents=True, exist_ok=True)
    legs: list[float] = json.loads(notes.read_text()) if notes.exists() else []
    left_s = max(LEAST_S, budget_s - sum(legs))
    start_s = clock.now()
    print(
        f"leg {len(legs) + 1}: {left_s:.0f} s of {budget_s:.0f} s left", file=sys.stderr, flush=True
    )
    process = subprocess.Popen([*program, *submit, "--budget", f"{left_s:.0f}s", "--out", str(out)])
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
    shutil.rmtree(RunFolder(out).adapters, ignore_errors=True)
    if code == -signal.SIGTERM:  # stopped before it could listen: nothing is lost, nothing was done
        return EXIT_CHECKPOINTED
    return EXIT_DONE if code == EXIT_COVERAGE else code


if __name__ == "__main__":
    sys.exit(main())
