"""A command that is stopped after some seconds, with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.clock import Clock

ROOT = Path(__file__).parents[1]

MARK = "BENCH_COMMAND_{}"
"""Variable by which the processes of a command are found: one for each, because a command may run
others in this way.

A worker of a run is a process group of its own, so to kill the group of `appliance submit` would
leave workers behind, and what they hold of the card.
"""

PAUSE_S = 0.01
"""Between two looks at processes that are about to end."""

STUCK_S = 10.0
"""After these seconds a process that was killed is left: it waits for a driver that hangs."""


@dataclass(frozen=True)
class Ended:
    """How a command went."""

    exit_code: int | None  # None where it had to be stopped
    seconds: float
    text: str  # all that it printed

    def outcome(self) -> str:
        if self.exit_code is None:
            return "no time"
        return "ok" if self.exit_code == 0 else "FAILED"

    def last_line(self) -> str:
        return (self.text.strip().splitlines() or ["nothing printed"])[-1]


def run(
    command: Sequence[str], limit_s: float, clock: Clock, variables: Mapping[str, str]
) -> Ended:
    """Run it in the repository, in a process group of its own.

    variables: laid over the environment. At its end, or after limit_s seconds (one at least),
    nothing of what it started is left.
    """
    mark = MARK.format(uuid.uuid4().hex)
    began_s = clock.now()

    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=os.environ | variables | {mark: "1"},
            start_new_session=True,
        )
        exit_code: int | None = None
        try:
            exit_code = process.wait(max(1.0, limit_s))
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill_all(process.pid, mark, clock)
            process.wait()
        log.seek(0)
        text = log.read().decode(errors="replace")
    return Ended(exit_code, round(clock.now() - began_s, 1), text)


def _kill_all(group: int, mark: str, clock: Clock) -> None:
    """Kill the process group and whoever bears the mark, and wait until all have ended."""
    killed = set(_marked(mark))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)

    # One that is about to end shows no variables any more, but may hold its memory still.
    until_s = clock.now() + STUCK_S
    while (pids := set(_marked(mark))) or any(map(is_alive, killed)):
        killed |= pids
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        if clock.now() >= until_s:
            return
        clock.sleep(PAUSE_S)


def is_alive(pid: int) -> bool:
    """Whether the process is there and has not ended; one that nobody has waited for has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def _marked(mark: str) -> Iterator[int]:
    """Living processes with that variable; those that have ended show none."""
    entry = f"{mark}=1".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            if entry in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)
