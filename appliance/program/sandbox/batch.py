"""One batch of programs: which worker runs which, what runs again, what comes out next."""

from __future__ import annotations

import re
import select
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from appliance.clock import SystemClock
from appliance.program.sandbox.frames import BEAT_S, Result
from appliance.program.sandbox.result_cache import ResultCache
from appliance.program.sandbox.workers import Group, SandboxWorkers
from appliance.program.sandbox.zygote_client import (
    SILENCE_S,
    ProgramJob,
    ZygoteClient,
    ZygoteDied,
)

MAX_SOURCE_BYTES = 1 << 18
RETRY_FACTOR = 2.0  # CPU time of the second try, as a multiple of the limit
_MAX_WAITING = 64  # programs taken from the caller before there is a worker for them
_MAX_AHEAD = 20_000  # results kept while an earlier program still runs

_LIBRARY = re.compile(rb"\b(scipy|common)\b")


class BatchRun:
    """One run over a batch; `results` gives one result per program, in the order of the programs.

    programs: (source, encoded inputs, number of inputs), taken from the iterable as there is room.
    runs_twice: whether a program that may depend on chance runs again elsewhere.
    """

    def __init__(
        self,
        programs: Iterable[tuple[bytes, bytes, int]],
        workers: SandboxWorkers,
        *,
        cpu_s: float,
        cache: ResultCache | None,
        runs_twice: bool,
    ) -> None:
        self._programs = iter(programs)
        self._workers = workers
        self._cpu_s = cpu_s
        self._clock = SystemClock()
        self._cache = cache
        self._runs_twice = runs_twice
        self._num_taken = self._num_given = 0
        self._is_exhausted = False
        self._waiting: defaultdict[Group, deque[ProgramJob]] = defaultdict(deque)
        self._waiting[Group(needs_libraries=False)]  # the queue that takes from the caller
        self._done: dict[int, Result] = {}  # by index, until those before it are done

    def results(self) -> Iterator[Result]:
        """One result per program, in order, as they come."""
        while True:
            self._fill()
            while self._num_given in self._done:
                self._num_given += 1
                yield self._done.pop(self._num_given - 1)

            busy = [worker for worker in self._workers.all() if worker.jobs]
            if busy:
                self._collect(busy)
            elif self._is_exhausted and self._num_given == self._num_taken:
                return

    def _fill(self) -> None:
        """Gives work to every worker that has room, the least busy first."""
        for kind, waiting in tuple(self._waiting.items()):
            while not waiting and not kind.is_second and self._take():
                pass
            if not waiting:
                continue

            group = self._workers.group(kind)
            for worker in sorted(group, key=lambda w: len(w.jobs)):
                while (waiting or self._take()) and waiting and worker.has_room(waiting[0]):
                    try:
                        worker.send(waiting.popleft())
                    except ZygoteDied:
                        self._replace_dead(worker)
                        break

    def _take(self) -> bool:
        """Takes the next program from the caller.

        False when there is none, or when too many have been taken already.
        """
        num_waiting = sum(map(len, self._waiting.values()))
        num_ahead = self._num_taken - self._num_given
        if self._is_exhausted or num_waiting >= _MAX_WAITING or num_ahead >= _MAX_AHEAD:
            return False

        program = next(self._programs, None)
        if program is None:
            self._is_exhausted = True
            return False

        source, inputs, num_inputs = program
        index, self._num_taken = self._num_taken, self._num_taken + 1

        known = self._cache.get(source, inputs, num_inputs) if self._cache else None
        if known:
            self._done[index] = known
        elif len(source) > MAX_SOURCE_BYTES:
            reason = f"a source of {len(source)} bytes, the most is {MAX_SOURCE_BYTES}"
            self._done[index] = Result("error", (None,) * num_inputs, reason)
        else:
            job = ProgramJob(index, source, inputs, num_inputs, self._cpu_s)
            self._waiting[_group_of(job)].append(job)

        return True

    def _collect(self, busy: list[ZygoteClient]) -> None:
        """Waits for the first answers. A worker that is silent for too long counts as dead."""
        poll = select.poll()
        by_fd = {worker.socket.fileno(): worker for worker in busy}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)

        # In short waits, so that a host that was itself stopped does not count it as their silence.
        started_s = self._clock.now()
        events = poll.poll(1000 * BEAT_S)
        waited_s = min(self._clock.now() - started_s, 2 * BEAT_S)
        for worker in busy:
            worker.silent_s += waited_s

        for fd, _ in events:
            try:
                by_fd[fd].silent_s = 0.0
                for job, result in by_fd[fd].receive():
                    self._finish(job, result)
            except ZygoteDied:
                self._replace_dead(by_fd[fd])

        for worker in busy:
            if worker.silent_s > SILENCE_S and worker.jobs:
                self._replace_dead(worker)

    def _replace_dead(self, worker: ZygoteClient) -> None:
        """Replaces a dead worker; its jobs go back to the head of the queue.

        The job that ran is to blame: it has crashed when it took down a second worker.
        """
        jobs = list(worker.jobs)
        self._workers.replace(worker)

        jobs[0].deaths += 1
        if jobs[0].deaths == 2:
            job = jobs.pop(0)
            self._done[job.index] = Result(
                "crash", (None,) * job.num_inputs, "took its worker down, twice"
            )

        for job in reversed(jobs):
            self._requeue(job)

    def _finish(self, job: ProgramJob, result: Result) -> None:
        """Takes the result, or lets the job run a second time where that may change it."""
        # An endless loop seldom answers half of its inputs. A program that was filling the memory
        # when its time ended may be a memory bomb on a slow machine: the second try tells.
        has_progress = 0 < job.num_inputs <= 2 * result.num_answered
        is_filling = result.peak_kib << 10 >= self._workers.memory_bytes // 2
        is_first_try = job.cpu_s == self._cpu_s
        if result.outcome == "timeout" and is_first_try and (has_progress or is_filling):
            job.cpu_s *= RETRY_FACTOR
            return self._requeue(job)

        if job.first:
            result = job.first.confirmed_by(result)
        elif self._runs_twice and result.outcome == "ok" and (result.may_vary or is_filling):
            job.first = result
            job.cpu_s = self._cpu_s * RETRY_FACTOR  # what ran once is not to fail by a hair
            return self._requeue(job)

        self._done[job.index] = result
        if self._cache:
            self._cache.put(job.source, job.inputs, result)
        return None

    def _requeue(self, job: ProgramJob) -> None:
        self._waiting[_group_of(job)].appendleft(job)


def _group_of(job: ProgramJob) -> Group:
    """The workers that this program needs now."""
    return Group(_LIBRARY.search(job.source) is not None, is_second=job.first is not None)
