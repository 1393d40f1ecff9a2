"""Figures of a run for a tracking service (wandb, trackio), sent by a process of its own.

What such a package starts, prints, catches or waits for happens in that process. So the run imports
nothing, never waits for a network, and goes on whatever becomes of the service: then there is one
note. All files lie in the folder that is given, the service's own and what it prints.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from appliance.atomic import make_folder
from appliance.clock import Deadline, SystemClock
from appliance.errors import PrerequisiteError, shorten
from appliance.foreign_text import as_shown

Service = Literal["none", "wandb", "trackio"]

PROJECT = "arc-appliance"

LOG_FILE = "tracking.log"

MOST_WAITING_BYTES = 4 << 20
"""Of figures that a service has not taken yet; one that is so far behind is given up."""

CLOSE_S = 30.0
"""To send what is left at the end of a run."""


class Figures(Protocol):
    """Where a run says its figures."""

    def log(self, step: int, values: Mapping[str, Any]) -> None: ...

    def close(self, *, within_s: float = CLOSE_S) -> None: ...


class NoTracking:
    """For "none"."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        pass

    def close(self, *, within_s: float = CLOSE_S) -> None:
        pass


def check_service(name: str) -> None:
    """Raises PrerequisiteError when the package of the service is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise PrerequisiteError(
            f"tracking: {name} is not installed",
            expected=f"the package {name}",
            remedy=f"pip install {name}, or leave tracking at none",
        )


def open_tracking(
    name: str,
    folder: Path,
    *,
    run: str,
    config: Mapping[str, Any],
    note: Callable[[str], None],
) -> Figures:
    """run: its name among those of the project. note: takes the one line about a service that
    fails."""
    return NoTracking() if name == "none" else Tracking(name, folder, run, config, note)


class Tracking:
    """A service that runs, or has given up."""

    def __init__(
        self,
        name: str,
        folder: Path,
        run: str,
        config: Mapping[str, Any],
        note: Callable[[str], None],
    ) -> None:
        self._name, self._log_path, self._note = name, folder / LOG_FILE, note
        self._waiting = bytearray()
        make_folder(folder)

        # Where the user has set none of these, nothing is written outside the folder.
        places = {"WANDB_DIR": ".", "WANDB_CACHE_DIR": "cache", "WANDB_DATA_DIR": "data"}
        places["TRACKIO_DIR"] = "trackio"
        environment = {key: str((folder / place).resolve()) for key, place in places.items()}
        with self._log_path.open("ab") as log:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [sys.executable, "-m", "appliance.record.tracking", name],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment | os.environ,
                start_new_session=True,  # a Ctrl-C is for the run, which then closes this
            )
        os.set_blocking(self._pipe(), False)
        self._put({"project": PROJECT, "name": run, "config": dict(config)})

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Send figures. step: never less than before; what is no number is left out."""
        numbers = {
            key: value
            for key, value in values.items()
            if key != "step" and isinstance(value, int | float)
        }
        self._put({"step": step, "values": numbers})

    def close(self, *, within_s: float = CLOSE_S) -> None:
        """Send what is left and wait for the service, but not for longer than this."""
        process = self._process
        if process is None:
            return

        deadline = Deadline(SystemClock().now() + within_s, SystemClock())
        while self._waiting and self._process and not deadline.is_past():
            select.select([], [self._pipe()], [], 0.2)
            self._send()
        if self._process is None:
            return

        assert process.stdin is not None
        process.stdin.close()
        try:
            code = process.wait(deadline.remaining_s())
        except subprocess.TimeoutExpired:
            self._give_up(f"it was not done {within_s:.0f} s after the run")
            return
        self._process = None
        if code:
            self._tell(self._last_words())

    def _put(self, message: Mapping[str, Any]) -> None:
        if self._process is None:
            return
        self._waiting += json.dumps(message).encode() + b"\n"
        if len(self._waiting) > MOST_WAITING_BYTES:
            self._give_up("it does not take what it is sent")
            return
        self._send()

    def _send(self) -> None:
        """As much of what waits as the pipe takes at once."""
        try:
            while self._waiting:
                num_sent = os.write(self._pipe(), self._waiting)
                del self._waiting[:num_sent]
        except BlockingIOError:
            pass
        except OSError:  # it has ended
            process = self._process
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)
            self._give_up(self._last_words())

    def _pipe(self) -> int:
        assert self._process is not None and self._process.stdin is not None
        return self._process.stdin.fileno()

    def _give_up(self, why: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):  # all that it has started, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        self._tell(why)

    def _tell(self, why: str) -> None:
        self._note(f"tracking by {self._name} ended: {why} (see {self._log_path})")

    def _last_words(self) -> str:
        lines = self._log_path.read_text("utf-8", "replace").strip().splitlines()
        return as_shown(shorten(lines[-1])) if lines else "it ended without a word"


def main(name: str) -> None:
    """Take figures from standard input, one JSON object a line, until its end."""
    first = json.loads(sys.stdin.readline())
    service = importlib.import_module(name)
    config = {"project": first["project"], "name": first["name"], "config": first["config"]}

    if name == "wandb":
        # Figures only: no copy of what is printed, of code or of the machine's state.
        quiet = {"silent": True, "console": "off", "disable_git": True, "save_code": False}
        config |= {"settings": service.Settings(**quiet, x_disable_stats=True)}
    else:
        # A run that is resumed has the name of the one before it.
        wishes = {"resume": "allow", "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        known = inspect.signature(service.init).parameters
        config |= {key: value for key, value in wishes.items() if key in known}

    service.init(**config)
    for line in sys.stdin:
        message = json.loads(line)
        service.log(message["values"], step=message["step"])
    service.finish()


if __name__ == "__main__":
    main(sys.argv[1])
