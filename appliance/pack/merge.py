"""The end of a DAG: one vote over all shards, and how far each of them came.

    python -m appliance.pack.merge DAG [--out FOLDER]

DAG is the folder that `appliance pack condor` wrote, with what came back of its shards. With --out
two files are written there: submission.json, which is valid whatever is missing, and coverage.json.
Without it, what there is is only told.

Shards that still run are there as far as they have saved themselves: HTCondor keeps that in its
spool. Where it cannot be read, that is said.

Exit code 5: a shard is not at its end, or a stage of all shards together is below its floor. The
last job of the DAG ends with it, so DAGMan sees it too, and its result is there all the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from appliance.arc.source import load_tasks
from appliance.arc.submission import write_submission
from appliance.arc.task import TaskSet
from appliance.arc.vote import DEFAULT_SELECTOR
from appliance.atomic import write_atomic
from appliance.config import Settings
from appliance.errors import EXIT_COVERAGE, EXIT_DONE, ApplianceError, InputError
from appliance.foreign_text import as_shown
from appliance.pack.spool import Queue, find_queue
from appliance.record.coverage import Coverage, covered_by_all, uncovered
from appliance.record.reached import Reached, reached_by
from appliance.record.revote import vote_again

SUBMISSION, COVERAGE = "submission.json", "coverage.json"
"""The files that are written."""

SHOWN = 20
"""Shards that are told one by one; a pool may have a thousand that wait."""


@dataclass(frozen=True)
class Shard:
    """What is there of one shard."""

    name: str
    run: Path  # its --out folder, or a copy of what it saved
    reached: Reached | None  # None: nothing that can be read
    fault: str = ""  # what is wrong with it, for people; empty when all is well

    def as_json(self) -> dict[str, Any]:
        coverage = self.reached.coverage.as_json() if self.reached else None
        return {"fault": self.fault, "coverage": coverage}


@dataclass(frozen=True)
class Merged:
    """All shards together."""

    shards: tuple[Shard, ...]
    coverage: Coverage
    shortfalls: tuple[str, ...]  # stages below their floor, each as a sentence

    @property
    def num_missing(self) -> int:
        """Shards that are not at their end."""
        return sum(s.reached is None or not s.reached.is_ended for s in self.shards)

    def as_json(self) -> dict[str, Any]:
        return {
            "coverage": self.coverage.as_json(),
            "below_floor": list(self.shortfalls),
            "not_at_their_end": self.num_missing,
            "shards": {shard.name: shard.as_json() for shard in self.shards},
        }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="appliance.pack.merge", description="One vote over all shards of a DAG."
    )
    parser.add_argument("dag", type=Path, help="folder that appliance pack condor wrote")
    parser.add_argument(
        "--out", type=Path, help="gets submission.json and coverage.json (default: only tell)"
    )
    args = parser.parse_args(argv)

    try:
        return run(args.dag, args.out)
    except ApplianceError as fault:
        print(f"appliance: {as_shown(str(fault))}", file=sys.stderr)
        return fault.exit_code


def run(dag: Path, out: Path | None) -> int:
    """Tell, and where `out` is given write. The exit code."""
    tasks = load_tasks(str(dag / "tasks.json"))
    with TemporaryDirectory() as copies:
        queue = find_queue(dag, Path(copies))
        merged = merge(tasks, shards_of(dag, queue))
        notes = [*queue.notes, *(write(out, tasks, merged) if out else ())]

    for note in notes:
        print(f"appliance: note: {as_shown(note)}", file=sys.stderr)
    for line in told(merged):
        print(line)
    if out:
        print(f"{out / SUBMISSION}: {len(tasks)} tasks, valid")

    # Of what is still under way no floor is asked, unless somebody takes it as it is.
    for shortfall in merged.shortfalls if out or not merged.num_missing else ():
        print(f"appliance: below its floor: {as_shown(shortfall)}", file=sys.stderr)
    if merged.num_missing:
        told_missing = f"{merged.num_missing} of {len(merged.shards)} shards are not at their end"
        print(f"appliance: {told_missing}", file=sys.stderr)
    return EXIT_COVERAGE if out and (merged.shortfalls or merged.num_missing) else EXIT_DONE


def shards_of(dag: Path, queue: Queue) -> tuple[Shard, ...]:
    """In the order of their names."""
    names = sorted(path.name for path in dag.glob("shard-*") if path.is_dir())
    return tuple(
        _shard(name, queue.saved.get(name, dag / name), is_waiting=name in queue.waiting)
        for name in names
    )


def _shard(name: str, run: Path, *, is_waiting: bool) -> Shard:
    try:
        reached = reached_by(run)
        vote_again([run], selector=DEFAULT_SELECTOR)
    except InputError as fault:
        if (run / "run").is_dir():
            return Shard(name, run, None, fault.found)
        why = "in the queue, and nothing saved yet" if is_waiting else "nothing has come back"
        return Shard(name, run, None, why)

    faults = reached.shortfalls()
    if is_waiting:
        faults = ["in the queue; this is what it saved last"]
    elif not reached.is_ended:
        faults = ["it did not come to its end", *faults]
    return Shard(name, run, reached, "; ".join(faults))


def merge(tasks: TaskSet, shards: Sequence[Shard]) -> Merged:
    """Floors hold for all tasks together, also for those that nothing came back of."""
    reached = [shard.reached for shard in shards if shard.reached]
    seen = {task_id for part in reached for task_id in part.task_ids}
    lost = [task for task in tasks if task.task_id not in seen]

    settings = reached[0].settings if reached else Settings()
    nothing = uncovered(
        len(lost),
        sum(len(task.test) for task in lost),
        asked=len(lost) if settings.needs_model else 0,
    )
    coverage = covered_by_all([*(part.coverage for part in reached), nothing])
    shortfalls = coverage.shortfalls(settings.run, train_enabled=settings.trains)
    return Merged(tuple(shards), coverage, tuple(shortfalls))


def write(out: Path, tasks: TaskSet, merged: Merged) -> list[str]:
    """Both files. What people must know about the runs."""
    runs = [shard.run for shard in merged.shards if shard.reached]
    voted = vote_again(runs, selector=DEFAULT_SELECTOR, tasks=tasks)

    out.mkdir(parents=True, exist_ok=True)
    write_submission(out / SUBMISSION, voted.submission)
    write_atomic(out / COVERAGE, (json.dumps(merged.as_json(), indent=1) + "\n").encode())
    return list(voted.notes)


def told(merged: Merged) -> list[str]:
    """For people: the shards that something is wrong with, then all of them together."""
    faulty = [shard for shard in merged.shards if shard.fault]
    more = len(faulty) - SHOWN
    return [
        *(f"{shard.name}: {as_shown(shard.fault)}" for shard in faulty[:SHOWN]),
        *([f"and {more} more shards (all of them: {COVERAGE} of --out)"] if more > 0 else []),
        f"shards: {len(merged.shards) - len(faulty)} of {len(merged.shards)} are whole",
        *(merged.coverage.lines() if any(shard.reached for shard in merged.shards) else ()),
    ]


if __name__ == "__main__":
    sys.exit(main())
