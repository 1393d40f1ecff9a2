"""Reading the journal of a run that goes on, perhaps on another machine, without the run noticing.

No lock is taken: a reader that is stopped (Ctrl-Z) or far away would hold up the run. Instead the
file is looked at before and after; where a write came between, it is read once more. A run that was
killed in the middle of a write leaves a half-done change beside its journal; then a copy is read,
in which SQLite takes the change back.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from appliance.clock import Clock
from appliance.errors import InputError
from appliance.record.journal import DamagedJournal, Journal

Value = TypeVar("Value")

TRIES = 8
PAUSE_S = 0.05
"""A write takes some milliseconds, on a slow disk some hundred."""


class Stamp(NamedTuple):
    """Of a journal; another one after every write."""

    inode: int
    size: int
    changed_ns: int
    half_done: tuple[int, int] | None  # size and time of a change that is not complete


def stamp_of(path: Path) -> Stamp:
    """Raises InputError where there is no journal."""
    try:
        status = path.stat()
        half_done = _half_done(path)
    except OSError as fault:
        raise InputError(
            f"{path} cannot be read: {fault.strerror or fault}",
            expected="the journal of a run",
            remedy="pass the --out folder of a run that has begun",
        ) from fault
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns, half_done)


def peek(path: Path, read: Callable[[Journal], Value], clock: Clock) -> Value:
    """What `read` gives of the journal, as it was at one moment.

    Raises InputError where there is none, where it is damaged, and where it is written so often
    that no moment was found.
    """
    before = stamp_of(path)
    for _ in range(TRIES):
        if before.half_done is None:
            fault: InputError | None = None
            try:
                value = _read(path, read, is_looked_at=True)
            except InputError as found:  # damaged, or torn by a write
                fault = found
            if stamp_of(path) == before:
                if fault is not None:
                    raise fault
                return value
        clock.sleep(PAUSE_S)
        last, before = before, stamp_of(path)

    if before.half_done is not None and before == last:
        return _read_copy(path, read)
    raise DamagedJournal(
        f"{path} is written too often to be read", expected="a pause", remedy="look again later"
    )


def _read(path: Path, read: Callable[[Journal], Value], *, is_looked_at: bool) -> Value:
    journal = Journal(path, is_looked_at=is_looked_at)
    try:
        return read(journal)
    finally:
        journal.close()


def _read_copy(path: Path, read: Callable[[Journal], Value]) -> Value:
    """Of a copy with the half-done change, which opening it takes back."""
    with tempfile.TemporaryDirectory(prefix="appliance-watch-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(_beside(path), _beside(copy))
        return _read(copy, read, is_looked_at=False)


def _half_done(path: Path) -> tuple[int, int] | None:
    try:
        status = _beside(path).stat()
    except FileNotFoundError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None


def _beside(path: Path) -> Path:
    """Where SQLite keeps a change until it is complete."""
    return path.with_name(path.name + "-journal")
