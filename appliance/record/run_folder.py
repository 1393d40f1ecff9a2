"""The folder of a run: DIR/submission.json and DIR/run/ with everything else. One run at a time, resumed or refused."""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from appliance.atomic import write_atomic
from appliance.errors import ApplianceError, OutputError, PrerequisiteError, UsageError
from appliance.record.journal import Journal


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    out: Path

    @property
    def submission(self) -> Path:
        return self.out / "submission.json"

    @property
    def run(self) -> Path:
        return self.out / "run"

    @property
    def journal(self) -> Path:
        return self.run / "journal.sqlite"

    def write_json(self, name: str, value: Any) -> None:
        """DIR/run/NAME, whole or not at all."""
        write_atomic(self.run / name, (json.dumps(value, indent=1) + "\n").encode())


def open_run(out: Path, *, identity: str, is_fresh: bool) -> tuple[RunFolder, Journal, IO[bytes]]:
    """Make or reopen the run folder and lock it until the returned handle is closed.

    identity: what must not have changed since the run began; the caller notes it once the run does begin, so that a start
    that failed binds nobody. Raises OutputError when the folder cannot be written,
    PrerequisiteError when another run holds it, UsageError when it holds a run with another configuration and `is_fresh`
    is not set.
    """
    folder = RunFolder(out)
    try:
        folder.run.mkdir(parents=True, exist_ok=True)
        lock = (folder.run / "lock").open("wb")
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
            _empty(folder.run)
        journal = _open_journal(folder, identity)
    except ApplianceError:
        lock.close()
        raise
    (folder.run / "adapters").mkdir(exist_ok=True)
    (folder.run / "logs").mkdir(exist_ok=True)
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


def _empty(folder: Path) -> None:
    """Remove what an earlier run left, but not the lock that is held."""
    for path in folder.iterdir():
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
