"""Steps that are done once: what was done stands in a file, and a table says what is where.

A step is done `of` something, such as a digest: it is done anew where that has changed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from appliance.atomic import make_folder, write_atomic
from appliance.clock import Clock, format_duration, format_instant
from appliance.errors import InputError, PrerequisiteError

FAILURES = 5
"""So many questions in a row may fail before waiting ends."""

UNTOUCHED = "not reached"

T = TypeVar("T")


@dataclass
class Row:
    """A step in the table."""

    state: str = UNTOUCHED
    took_s: float | None = None
    where: str = ""


class Steps:
    def __init__(self, names: Sequence[str], file: Path, clock: Clock) -> None:
        """Raises InputError for a file that is damaged."""
        self.rows = {name: Row() for name in names}
        self.clock = clock
        self._file = file
        self._done = _read(file)

    def is_done(self, name: str, *, of: Any) -> bool:
        return name in self._done and bool(self._done[name].get("of") == of)

    def value(self, name: str, key: str) -> Any:
        """What was noted of a step that is done."""
        return self._done[name][key]

    def skip(self, name: str, where: str) -> None:
        self.rows[name] = Row("done before", self._done[name].get("took_s"), where)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Row]:
        """Do a step; what it leaves is noted by `note`."""
        row = self.rows[name] = Row("failed")
        start_s = self.clock.now()
        print(f"--- {name}", flush=True)
        try:
            yield row
            row.state = "done"
        except KeyboardInterrupt:
            row.state = "stopped"
            raise
        finally:
            row.took_s = self.clock.now() - start_s

    def note(self, name: str, *, of: Any, **values: Any) -> None:
        """That a step is done, for this command and for later ones."""
        row = self.rows.get(name, Row())
        took_s = None if row.took_s is None else round(row.took_s, 1)
        at = format_instant(self.clock.now())
        self._done[name] = {"of": of, **values, "took_s": took_s, "at": at}
        make_folder(self._file.parent)
        write_atomic(self._file, (json.dumps(self._done, indent=1) + "\n").encode())

    def table(self) -> str:
        """What is where, and how long each step took."""
        lines = [f"{'step':<8} {'state':<12} {'took':>11}  where"]
        for name, row in self.rows.items():
            took = "" if row.took_s is None else format_duration(row.took_s)
            lines.append(f"{name:<8} {row.state:<12} {took:>11}  {row.where}".rstrip())
        return "\n".join(lines)


def wait(
    ask: Callable[[], T], is_over: Callable[[T], bool], clock: Clock, *, limit_s: float, what: str
) -> T:
    """Ask, at longer and longer intervals, until it is over; changes are shown.

    Raises PrerequisiteError after the limit, and after FAILURES questions in a row that failed,
    with the words of the last refusal.
    """
    start_s, failures, pause_s = clock.now(), 0, 10.0
    last: T | None = None
    while True:
        try:
            found = ask()
        except PrerequisiteError as fault:
            failures += 1
            if failures == FAILURES:
                raise
            print(f"{what}: {fault.found}; asked again ({failures} of {FAILURES})", flush=True)
        else:
            failures = 0
            if found != last:
                last = found
                print(f"{what}: {found} after {format_duration(clock.now() - start_s)}", flush=True)
            if is_over(found):
                return found

        if clock.now() - start_s > limit_s:
            raise PrerequisiteError(
                f"{what}: {last or 'no answer'} for {format_duration(limit_s)}",
                expected="its end",
                remedy="look at its page; the same command waits on",
            )
        clock.sleep(pause_s)
        pause_s = min(60.0, pause_s * 1.2)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and all(isinstance(entry, dict) for entry in found.values()):
        return found
    raise InputError(
        f"{file}: damaged",
        expected="what was done",
        remedy="remove it; the steps are then done again",
    )
