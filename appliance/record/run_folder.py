"""The folder of a run: DIR/submission.json, and DIR/run/ with everything else.

One run at a time works in it. A run that was interrupted is resumed, one with other settings is
refused.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from appliance.atomic import write_atomic
from appliance.errors import ApplianceError, InputError, OutputError, PrerequisiteError, UsageError
from appliance.record.journal import Journal


@dataclass(frozen=True)
class RunFolder:
    """Every path of a run; nothing else in the package spells them."""

    out: Path  # what --out names

    @property
    def submission(self) -> Path:
        return self.out / "submission.json"

    @property
    def run(self) -> Path:
        """The folder of everything but the submission."""
        return self.out / "run"

    @property
    def journal(self) -> Path:
        """All that was tried and found, as SQLite: what a run resumes from."""
        return self.run / "journal.sqlite"

    def existing_journal(self) -> Path:
        """The journal of a run that was. Raises InputError when there is none."""
        if not self.journal.is_file():
            raise InputError(
                f"{self.out}: no {self.journal.relative_to(self.out)}",
                expected="the --out folder of a run",
                remedy="pass its folder, not a file in it",
            )
        return self.journal

    @property
    def config(self) -> Path:
        """The settings that the run works with, as JSON."""
        return self.run / "config.json"

    @property
    def plan(self) -> Path:
        """What was decided before the run began, each value with its reason, as JSON."""
        return self.run / "plan.json"

    @property
    def report(self) -> Path:
        """Coverage, faults and, where the answers are known, the score, as JSON."""
        return self.run / "report.json"

    @property
    def adapters(self) -> Path:
        """One folder per task that was trained."""
        return self.run / "adapters"

    @property
    def logs(self) -> Path:
        """What the workers print."""
        return self.run / "logs"

    @property
    def scratch(self) -> Path:
        """Caches and merged weights of the workers; removed at the end of the run."""
        return self.run / "scratch"

    @property
    def legs(self) -> Path:
        """Seconds used by each leg of a job that stops itself and is started again, as JSON."""
        return self.run / "legs.json"

    @property
    def lock(self) -> Path:
        """Held by the process that works in this folder."""
        return self.run / "lock"

    def write_json(self, path: Path, value: Any) -> None:
        """Write one of the JSON files above, whole or not at all."""
        write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


def open_run(out: Path, *, identity: str, is_fresh: bool) -> tuple[RunFolder, Journal, IO[bytes]]:
    """Make or reopen the run folder and lock it until the returned handle is closed.

    identity: digest of what must not have changed since the run began. The caller writes it into
    the journal once the run has begun, so that a start that failed does not bind the next one.

    Raises OutputError when the folder cannot be written, PrerequisiteError when another run holds
    it, UsageError when it holds a run with other settings and `is_fresh` is not set.
    """
    folder = RunFolder(out)
    try:
        folder.run.mkdir(parents=True, exist_ok=True)
        lock = folder.lock.open("wb")
    except OSError as fault:
        raise OutputError(
            f"{out} cannot be written: {fault.strerror}",
            expected="a folder that exists or can be made, with permission to write",
            remedy="pass another --out",
        ) from fault

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise PrerequisiteError(
            f"{out} is in use by another run",
            expected="one run per folder",
            remedy="wait for it, or pass another --out",
        ) from None

    try:
        if is_fresh:
            _empty(folder)
        journal = _open_journal(folder, identity)
    except ApplianceError:
        lock.close()
        raise

    folder.adapters.mkdir(exist_ok=True)
    folder.logs.mkdir(exist_ok=True)
    return folder, journal, lock


def _open_journal(folder: RunFolder, identity: str) -> Journal:
    journal = Journal(folder.journal)
    was = journal.fact("identity")

    if was not in (None, identity):
        journal.close()
        raise UsageError(
            f"{folder.out} holds a run with other tasks or settings",
            expected="the same tasks, model and settings (time, workers and floors may change)",
            remedy="pass another --out, or --fresh to begin anew",
        )

    return journal


def _empty(folder: RunFolder) -> None:
    """Remove what an earlier run left, but not the lock that is held."""
    for path in folder.run.iterdir():
        if path != folder.lock:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
