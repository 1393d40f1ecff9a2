"""Worker children and the pipes to them. The orchestrator sees only this: submit a job, wait for an event, kill.

A worker is a process group of its own, so a kill takes everything it started. Its standard error goes to a log file in the run
folder. Events of all workers arrive in one queue, in order per worker.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pydantic import ValidationError

from appliance.solve.messages import Event, Failed, Job, Setup, parse_event

SAFE_TRAINER = "peft"
"""What a worker starts again with when the trainer that the plan chose cannot be used on this device."""


@dataclass(frozen=True)
class Died:
    """The worker's process ended by itself or was killed; log_tail: the last lines of its standard error."""

    exit_code: int
    log_tail: str


Arrival = tuple[int, Event | Died]


class Pool(Protocol):
    """Workers are numbered 0 to num_workers - 1."""

    @property
    def num_workers(self) -> int: ...

    def start(self, worker: int) -> None:
        """(Re)start a worker; its Ready event follows."""

    def submit(self, worker: int, job: Job) -> None: ...

    def next_arrival(self, timeout_s: float) -> Arrival | None:
        """What arrived next, or None after `timeout_s` seconds."""

    def kill(self, worker: int) -> None:
        """End the worker with everything it started. No event of it arrives any more, not even Died."""

    def close(self) -> None: ...


@dataclass
class _Child:
    process: subprocess.Popen[str]
    log: IO[str]
    log_path: Path


class SubprocessPool:
    """Real worker processes. setups: one per worker; environments: what is laid over the inherited environment."""

    def __init__(
        self, setups: list[Setup], environments: list[Mapping[str, str]], *, log_dir: Path
    ) -> None:
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
        log = log_path.open("a", encoding="utf-8")
        environment = dict(os.environ) | dict(self._environments[worker])
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.solve.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        child = _Child(process, log, log_path)
        self._children[worker] = child
        self._send(child, self._setups[worker].model_dump_json())
        threading.Thread(target=self._listen, args=(worker, child), daemon=True).start()

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
            timeout_s = 0.0

    def kill(self, worker: int) -> None:
        if worker in self._children:
            self._discard(worker)

    def close(self) -> None:
        for worker in list(self._children):
            self.kill(worker)

    def _send(self, child: _Child, line: str) -> None:
        assert child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: Died is on its way
            child.process.stdin.write(line + "\n")
            child.process.stdin.flush()

    def _listen(self, worker: int, child: _Child) -> None:
        assert child.process.stdout is not None
        for line in child.process.stdout:
            try:
                event = parse_event(line)
            except ValidationError:
                break  # cut off by a kill
            if isinstance(event, Failed) and event.kind == "trainer":
                self._setups[worker] = self._setups[worker].model_copy(
                    update={"trainer": SAFE_TRAINER}
                )
            self._arrivals.put((child, worker, event))
        code = child.process.wait()
        self._arrivals.put((child, worker, Died(code, _tail(child.log_path))))

    def _discard(self, worker: int) -> None:
        child = self._children.pop(worker)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        with contextlib.suppress(BrokenPipeError):
            if child.process.stdin is not None:
                child.process.stdin.close()
        child.log.close()


def _tail(path: Path, num_lines: int = 5) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(
            path.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:]
        )
    return ""
