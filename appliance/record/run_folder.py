"""The folder of a run: DIR/submission.json, and DIR/run/ with everything else.

One run at a time works in it. A run that was interrupted is resumed, one with other settings is
refused, and so is a folder run/ that no run has made. Links are followed to run/ and to
submission.json only, so what a run writes and removes lies where these two do.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from appliance.arc.read import read_json
from appliance.atomic import write_atomic
from appliance.errors import ApplianceError, InputError, OutputError, PrerequisiteError, UsageError
from appliance.foreign_text import as_file_name
from appliance.record.journal import Journal
from appliance.record.salvage import open_whole


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
        """The journal of a run that was. Raises InputError when there is none, or an empty one."""
        is_there = self.journal.is_file()
        if not is_there or not self.journal.stat().st_size:
            name = self.journal.relative_to(self.out)
            raise InputError(
                f"{self.out}: {name} is empty" if is_there else f"{self.out}: no {name}",
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

    def is_finished(self) -> bool:
        """Whether the run came to its end: not stopped, not given up, not below a floor, and not
        still going on."""
        return self.is_ended() and not self._report().get("below_floor")

    def is_ended(self) -> bool:
        """The same, wherever its stages stand."""
        report = self._report()
        return "coverage" in report and not report.get("stopped") and not report.get("failure")

    def _report(self) -> dict[str, Any]:
        """Nothing where there is none yet, or a damaged one."""
        try:
            report = read_json(self.report)
        except InputError:
            return {}
        return report if isinstance(report, dict) else {}

    @property
    def adapters(self) -> Path:
        """One folder per task that was trained."""
        return self.run / "adapters"

    def has_adapter(self, task_id: str) -> bool:
        """Whether the adapter of this task lies in its folder."""
        return any((self.adapters / as_file_name(task_id)).glob("*.safetensors"))

    @property
    def logs(self) -> Path:
        """What the workers print."""
        return self.run / "logs"

    @property
    def tracking(self) -> Path:
        """Files of a tracking service, where the run has one."""
        return self.run / "tracking"

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
        _check_kinds(folder)
        _check_ours(folder)
        lock = folder.lock.open("ab")
    except OutputError:
        raise
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

    try:
        folder.adapters.mkdir(exist_ok=True)
        folder.logs.mkdir(exist_ok=True)
    except OSError as fault:
        journal.close()
        lock.close()
        raise OutputError(
            f"{fault.filename} cannot be made: {fault.strerror}",
            expected="a folder, or a place for one",
            remedy="remove what stands there, or pass --fresh",
        ) from fault
    return folder, journal, lock


def _open_journal(folder: RunFolder, identity: str) -> Journal:
    """The journal of the folder, or a new one. A damaged one is put aside, so that whoever starts
    the run again, often a batch system at night, need not do anything."""
    begin_anew = "pass another --out, or --fresh to begin anew"
    try:
        journal = open_whole(folder.journal)
    except InputError as fault:  # not a journal, or one of a newer version
        raise InputError(fault.found, expected=fault.expected, remedy=begin_anew) from fault

    was = journal.fact("identity")

    if was not in (None, identity):
        journal.close()
        raise UsageError(
            f"{folder.out} holds a run with other tasks or settings",
            expected="the same tasks, model and settings (time, workers and floors may change)",
            remedy=begin_anew,
        )
    return journal


def _check_kinds(folder: RunFolder) -> None:
    """Raises OutputError where a link, a pipe or a folder stands in the place of a file, and so on.

    A pipe would be waited for without end, and what is behind a link is not ours.
    """
    files = [folder.lock, folder.journal, folder.config, folder.plan, folder.report, folder.legs]
    if not folder.logs.is_symlink() and folder.logs.is_dir():
        files += folder.logs.glob("*.log")
    found = [(path, "file", stat.S_ISREG, path.lstat) for path in files]
    found += [
        (path, "folder", stat.S_ISDIR, path.lstat)
        for path in (folder.adapters, folder.logs, folder.scratch, folder.tracking)
    ]
    found.append((folder.submission, "file", stat.S_ISREG, folder.submission.stat))

    for path, kind, is_right, status in found:
        try:
            mode = status().st_mode
        except FileNotFoundError:
            continue
        if not is_right(mode):
            raise OutputError(
                f"{path} is no {kind} but {_kind(mode)}",
                expected=f"a {kind} that a run has made, or nothing",
                remedy="pass another --out, or move it away",
            )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISREG: "a file",
        stat.S_ISDIR: "a folder",
        stat.S_ISLNK: "a link",
        stat.S_ISFIFO: "a pipe",
    }
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


def _check_ours(folder: RunFolder) -> None:
    """Raises OutputError where run/ holds files and no run has made them.

    What its first start leaves when it fails is known too.
    """
    left = {folder.lock.name, folder.legs.name}
    foreign = sorted(path.name for path in folder.run.iterdir() if path.name not in left)
    if foreign and not folder.journal.is_file():
        raise OutputError(
            f"{folder.run} holds {foreign[0]!r} and no {folder.journal.name}",
            expected="the folder of a run, or an empty one",
            remedy="pass another --out, or remove that folder",
        )


def _empty(folder: RunFolder) -> None:
    """Remove what an earlier run left, but neither the lock that is held nor what others put there.

    Raises OutputError when the file system refuses.
    """
    half_written = folder.journal.with_name(folder.journal.name + "-journal")  # by SQLite
    try:
        for path in (
            *(folder.adapters, folder.logs, folder.scratch, folder.tracking),
            *(folder.journal, half_written, folder.config),
            *(folder.plan, folder.report, folder.legs),
        ):
            # A journal, too, may be a folder where somebody meddled.
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as fault:
        raise OutputError(
            f"{folder.run} cannot be emptied: {fault}",
            expected="permission to remove what the earlier run left",
            remedy="pass another --out",
        ) from fault
