"""Worker processes and the pipes to them. The orchestrator submits jobs, waits for events, kills.

A worker is a process group of its own, so a kill takes everything that it started. Its standard
error goes to a log file in the run folder. Events of all workers arrive in one queue, those of one
worker in their order.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pydantic import ValidationError

from appliance.errors import how_it_ended
from appliance.machine.gpu import find_gpus
from appliance.solve.messages import Event, Job, SearchSetup, Setup, parse_event

PLAIN = {"engine": "transformers", "trainer": "peft"}
"""What stands in for engine and trainer of a worker that does not start with those planned: they
are written in Python and torch alone, with no kernels of their own to compile or to crash."""


@dataclass(frozen=True)
class Died:
    """The worker's process has ended, by itself or because somebody else killed it."""

    exit_code: int  # minus the number of the signal that ended it
    log_tail: str  # last lines of its standard error

    @property
    def is_killed(self) -> bool:
        """By somebody else, or by the system, most likely because memory ran out."""
        return -self.exit_code in (signal.SIGKILL, signal.SIGTERM)

    @property
    def fault(self) -> str:
        """The same in words for all that ended alike: after a signal, what was logged last is
        chance."""
        return how_it_ended(self.exit_code) if self.exit_code < 0 else self.how

    @property
    def how(self) -> str:
        """In words. What was logged last explains an end of its own, not one from outside."""
        how = how_it_ended(self.exit_code)
        if self.is_killed:
            return how
        last_line = (self.log_tail.splitlines() or ["its log is empty"])[-1]
        return f"{how} ({last_line})"


Arrival = tuple[int, Event | Died]
"""The number of a worker, and what came from it."""


class Pool(Protocol):
    """Workers are numbered 0 to num_workers - 1."""

    @property
    def num_workers(self) -> int: ...

    def start(self, worker: int) -> None:
        """(Re)start a worker; its Ready event follows."""

    def make_plain(self, worker: int, *parts: str) -> str:
        """From its next start on, PLAIN stands in for these parts (all, if none is named).

        Returns what changes, such as "transformers in place of vllm"; "" if nothing does.
        """

    def device_fault(self, worker: int) -> str:
        """Why its device is not there any more, as the driver tells; "" where nothing is known."""

    def submit(self, worker: int, job: Job) -> None: ...

    def next_arrival(self, timeout_s: float) -> Arrival | None:
        """What arrived next, or None after `timeout_s` seconds."""

    def kill(self, worker: int) -> None:
        """End the worker and all it started. No event of it arrives any more, not even Died."""

    def close(self) -> None: ...


@dataclass
class _Child:
    process: subprocess.Popen[str]
    log: IO[str]
    log_path: Path


class SubprocessPool:
    """Real worker processes."""

    def __init__(
        self,
        setups: Sequence[Setup | SearchSetup],
        environments: Sequence[Mapping[str, str]],
        *,
        log_dir: Path,
    ) -> None:
        """Nothing is started yet.

        setups, environments: one per worker, with its kind; an environment is laid over that of
        this process.
        """
        self._setups = list(setups)
        self._environments = environments
        self._log_dir = log_dir
        self._children: dict[int, _Child] = {}
        self._arrivals: queue.Queue[tuple[_Child, int, Event | Died]] = queue.Queue()

    @property
    def num_workers(self) -> int:
        return len(self._setups)

    def start(self, worker: int) -> None:
        log_path = self._log_dir / f"worker-{worker}.log"
        log = _open_log(log_path)

        environment = dict(os.environ) | dict(self._environments[worker])
        setup = self._setups[worker]
        kind = "search_worker" if isinstance(setup, SearchSetup) else "worker"
        # The package may have been found by a path that only this process knows.
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        process = subprocess.Popen(
            [sys.executable, "-m", f"appliance.solve.{kind}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            errors="replace",  # a kill may cut a line inside a character
            env=environment,
            start_new_session=True,
        )

        child = _Child(process, log, log_path)
        self._children[worker] = child
        self._send(child, setup.model_dump_json())
        threading.Thread(target=self._listen, args=(worker, child), daemon=True).start()

    def make_plain(self, worker: int, *parts: str) -> str:
        setup = self._setups[worker]
        if not isinstance(setup, Setup):
            return ""
        planned = {part: getattr(setup, part) for part in parts or PLAIN}
        changed = {part: PLAIN[part] for part, name in planned.items() if name != PLAIN[part]}
        self._setups[worker] = setup.model_copy(update=changed)
        return " and ".join(f"{new} in place of {planned[part]}" for part, new in changed.items())

    def device_fault(self, worker: int) -> str:
        setup = self._setups[worker]
        if not isinstance(setup, Setup) or setup.device != "cuda":
            return ""
        device = self._environments[worker].get("CUDA_VISIBLE_DEVICES", "")
        found = find_gpus(visible=device)
        if found.gpus or found.source == "none":  # without any answer the start will tell
            return ""
        return f"its GPU {device} is not listed any more"

    def submit(self, worker: int, job: Job) -> None:
        self._send(self._children[worker], job.model_dump_json())

    def next_arrival(self, timeout_s: float) -> Arrival | None:
        while True:
            try:
                child, worker, event = self._arrivals.get(timeout=max(0.0, timeout_s))
            except queue.Empty:
                return None
            if self._children.get(worker) is child:  # else it was killed meanwhile
                if isinstance(event, Died):
                    self._discard(worker)
                return worker, event
            timeout_s = 0.0  # what else has come by now is taken, without more waiting

    def kill(self, worker: int) -> None:
        if worker in self._children:
            self._discard(worker)

    def close(self) -> None:
        # All at once: on a busy machine each takes a second to end.
        for child in self._children.values():
            _kill_group(child)
        for worker in list(self._children):
            self.kill(worker)

    def _send(self, child: _Child, line: str) -> None:
        assert child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: Died is on its way
            child.process.stdin.write(line + "\n")
            child.process.stdin.flush()

    def _listen(self, worker: int, child: _Child) -> None:
        """In a thread of its own for each child: everything it says, then how it ended."""
        assert child.process.stdout is not None
        with child.process.stdout as lines:
            for line in lines:
                try:
                    event = parse_event(line)
                except ValidationError:
                    break  # cut off by a kill
                self._arrivals.put((child, worker, event))

        code = child.process.wait()
        self._arrivals.put((child, worker, Died(code, _tail(child.log_path))))

    def _discard(self, worker: int) -> None:
        """Kill what is left of the worker, and close its pipes."""
        child = self._children.pop(worker)
        _kill_group(child)
        child.process.wait()

        with contextlib.suppress(BrokenPipeError):
            if child.process.stdin is not None:
                child.process.stdin.close()
        child.log.close()


def _kill_group(child: _Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)


def _open_log(path: Path) -> IO[str]:
    """To append to; a worker whose log cannot be opened goes without."""
    try:
        return path.open("a", encoding="utf-8")
    except OSError:
        return Path(os.devnull).open("a", encoding="utf-8")


def _tail(path: Path, num_lines: int = 5) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(
            path.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:]
        )
    return ""
