"""The host's end of one zygote: it starts it, sends jobs, reads answers.

It never looks into a program.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from appliance.clock import Deadline, SystemClock
from appliance.errors import PrerequisiteError
from appliance.program.sandbox import frames
from appliance.program.sandbox.chance import SECOND_ENVIRONMENT
from appliance.program.sandbox.layers import IsolationLayer

_MAX_JOBS = 2  # one that runs and one that waits in the socket
_MAX_QUEUED_BYTES = 1 << 15
SILENCE_S = 10 * frames.BEAT_S
"""Seconds without a word, after which a zygote with work counts as dead: stopped, or stuck."""
_START_S = 300.0  # the longest start: imports from a cold network file system
_STOPPED_S = 5.0  # a zygote that somebody stopped at its start is given up after so long
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME")  # some interpreters do not start without


_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
"""Signals by which somebody else ends a process; a crash has others."""


class ZygoteDied(Exception):
    """The zygote is gone; what it had not answered must run again."""


@dataclass(eq=False)
class ProgramJob:
    """A program on its way, as it is sent, and what has happened to it so far."""

    index: int  # its place in the batch
    source: bytes
    inputs: bytes  # as `encode_grids` writes them
    num_inputs: int
    cpu_s: float
    deaths: int = 0  # workers that died while it ran
    first: frames.Result | None = None  # of its first run, where it is run twice

    def encode(self) -> bytes:
        """The bytes of the job, see frames.py."""
        cpu_ns = round(self.cpu_s * 1e9)
        head = frames.JOB.pack(cpu_ns, len(self.source), len(self.inputs))
        return head + self.source + self.inputs


@dataclass(frozen=True)
class ZygoteOptions:
    """What a zygote is told at its start."""

    modules: tuple[str, ...]  # imported besides the standard set
    seed: int
    memory_bytes: int  # per program, above the bare interpreter
    wall_s: float  # per program, after which one that stands still is ended
    hash_seed: int
    is_second: bool = False  # for second runs: other addresses, and memory that is not zeroed


@dataclass(eq=False)
class ZygoteClient:
    """One zygote and its jobs, answered in the order they were sent."""

    options: ZygoteOptions
    jobs: deque[ProgramJob] = field(default_factory=deque)
    silent_s: float = 0.0  # since it was last heard, while it has jobs

    def __post_init__(self) -> None:
        self._unread = bytearray()
        self._folder = tempfile.TemporaryDirectory(prefix="appliance-empty-")
        os.chmod(self._folder.name, 0o555)  # noqa: PTH101
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(SILENCE_S)  # no call to one that is stuck waits for ever
        command = [
            sys.executable,
            "-s",
            "-P",
            "-B",
            str(Path(__file__).with_name("start.py")),
            str(theirs.fileno()),
        ]

        with theirs:
            self._process = subprocess.Popen(
                [*command, json.dumps(vars(self.options) | {"empty_folder": self._folder.name})],
                pass_fds=[theirs.fileno()],
                env=_environment(self.options),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
            )

    def layers(self) -> list[IsolationLayer]:
        """What the zygote says of its walls, when it is ready.

        Raises PrerequisiteError when it does not stand, ZygoteDied when it was killed or stopped.
        """
        line = bytearray()
        while not line.endswith(b"\n"):
            self._await_start()
            part = self.socket.recv(1 << 16)
            if not part:
                raise self._startup_error()
            line += part

        # The zygote is in the folder or needs it no more; a host that is killed leaves nothing.
        self._folder.cleanup()

        report = json.loads(line)
        missing = [m for m in self.options.modules if m in report["missing"]]
        if missing:
            self.close()
            raise PrerequisiteError(
                f"sandbox: no module {', '.join(missing)}",
                expected="every module of --preload to be installed",
                remedy="install it, or leave it out of --preload",
            )

        return [IsolationLayer(**layer) for layer in report["layers"]]

    def _await_start(self) -> None:
        """Waits for the first bytes. Raises ZygoteDied when none can be expected any more."""
        clock = SystemClock()
        started, stopped = Deadline(clock.now() + _START_S, clock), 0.0
        while not select.select([self.socket], [], [], frames.BEAT_S)[0]:
            stopped = stopped + frames.BEAT_S if self._is_stopped() else 0.0
            if started.is_past() or stopped >= _STOPPED_S:
                raise ZygoteDied

    def _is_stopped(self) -> bool:
        """Whether a signal has stopped it, or the process in its namespaces."""
        try:
            own = psutil.Process(self._process.pid)
            states = [process.status() for process in (own, *own.children())]
        except psutil.Error:  # it has just ended, or the kernel does not tell
            return False
        return psutil.STATUS_STOPPED in states

    def _startup_error(self) -> Exception:
        """Why it ended before it stood: its own last words, or nothing when it was killed."""
        try:
            self._process.wait(SILENCE_S)
        except subprocess.TimeoutExpired:
            return ZygoteDied()
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        # Where an interrupt comes before Python is up, it ends with code 1 and these words.
        is_interrupted = any(line.startswith("KeyboardInterrupt") for line in lines)
        if not lines or is_interrupted or -self._process.returncode in _FROM_OUTSIDE:
            return ZygoteDied()

        return PrerequisiteError(
            f"sandbox: its interpreter ended with code {self._process.returncode} "
            f"at the start: {lines[-1]}",
            expected=f"{sys.executable} to import numpy and the appliance",
            remedy="run `appliance doctor`",
        )

    def has_room(self, job: ProgramJob) -> bool:
        """Whether the job may be sent now.

        A second job may wait in the socket, but never so large that sending it could block behind
        a running one.
        """
        if not self.jobs:
            return True
        num_bytes = sum(len(j.source) + len(j.inputs) for j in (*self.jobs, job))
        return len(self.jobs) < _MAX_JOBS and num_bytes < _MAX_QUEUED_BYTES

    def send(self, job: ProgramJob) -> None:
        """Raises ZygoteDied; the job is then among those not answered."""
        self.jobs.append(job)
        try:
            self.socket.sendall(job.encode())
        except OSError as error:
            raise ZygoteDied from error

    def receive(self) -> list[tuple[ProgramJob, frames.Result]]:
        """The answers that have arrived; waits for the first bytes. Raises ZygoteDied."""
        try:
            part = self.socket.recv(1 << 20)
        except OSError as error:
            raise ZygoteDied from error
        if not part:
            raise ZygoteDied

        self._unread += part
        answers = []
        while len(self._unread) >= frames.ANSWER.size:
            status, out_of_wall_time, cpu_s, wall_s, peak_kib, length = frames.ANSWER.unpack_from(
                self._unread
            )
            end = frames.ANSWER.size + length
            if len(self._unread) < end:
                break

            data = bytes(self._unread[frames.ANSWER.size : end])
            del self._unread[:end]
            if not data:
                continue  # it only says that it lives
            job = self.jobs.popleft()
            result = frames.judge(
                status, data, job.num_inputs, out_of_wall_time=bool(out_of_wall_time)
            )
            answers.append((job, replace(result, cpu_s=cpu_s, wall_s=wall_s, peak_kib=peak_kib)))

        return answers

    def close(self) -> None:
        """Ends the zygote by hanging up, which also ends its child."""
        self.socket.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

        self._complaints.close()
        self._folder.cleanup()


def _environment(options: ZygoteOptions) -> dict[str, str]:
    """All that the zygote sees of ours: where modules are, a fixed hash seed, one thread."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    folders = [os.path.abspath(p) for p in (_package_root(), *sys.path) if p]  # noqa: PTH100
    path = os.pathsep.join(folders)
    fixed = {"PYTHONPATH": path, "PYTHONHASHSEED": str(options.hash_seed), "LC_ALL": "C.UTF-8"}
    return kept | threads | fixed | (SECOND_ENVIRONMENT if options.is_second else {})


def _package_root() -> str:
    """The folder that holds the `appliance` package, which need not be installed."""
    return str(Path(__file__).resolve().parents[3])
