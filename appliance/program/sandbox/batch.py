"""One batch of programs: which worker runs which, what runs again, what comes out next."""

from __future__ import annotations

import re
import select
from collections import deque
from collections.abc import Iterable, Iterator

from appliance.program.sandbox.frames import Result
from appliance.program.sandbox.result_cache import ResultCache
from appliance.program.sandbox.workers import SandboxWorkers
from appliance.program.sandbox.zygote_client import ProgramJob, ZygoteClient, ZygoteDied

MAX_SOURCE_BYTES = 1 << 18
RETRY_FACTOR = 2.0  # CPU time of the second try, as a multiple of the limit
_MAX_WAITING = 64  # programs taken from the caller before there is a worker for them
_MAX_AHEAD = 20_000  # results kept while an earlier program still runs
# Silence, in wall limits, after which a worker counts as dead. The zygote itself ends a program
# that stands still after one.
_PATIENCE = 100

_LIBRARY = re.compile(rb"\b(scipy|common)\b")
# Words of programs whose answer can depend on addresses or the real clock, which no seed governs.
# They are run a second time.
_SUSPECT = re.compile(
    rb"\b(class|hash|repr|ctypes|datetime|strftime|ctime|localtime|gmtime)\b|\bobject\(\)"
)


class BatchRun:
    """One run over a batch; `results` gives one result per program, in the order of the programs.

    programs: (source, encoded inputs, number of inputs), taken from the iterable as there is room.
    """

    def __init__(
        self,
        programs: Iterable[tuple[bytes, bytes, int]],
        workers: SandboxWorkers,
        *,
        cpu_s: float,
        cache: ResultCache | None,
    ) -> None:
        self._programs = iter(programs)
        self._workers = workers
        self._cpu_s = cpu_s
        self._cache = cache
        self._num_taken = self._num_given = 0
        self._is_exhausted = False
        # One queue for programs that need libraries (True) and one for all others.
        self._waiting: dict[bool, deque[ProgramJob]] = {False: deque(), True: deque()}
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
        for needs_libraries, waiting in self._waiting.items():
            while not waiting and self._take():
                pass
            if not waiting:
                continue

            group = self._workers.group(needs_libraries=needs_libraries)
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
            self._waiting[_names_library(source)].append(
                ProgramJob(index, source, inputs, num_inputs, self._cpu_s)
            )

        return True

    def _collect(self, busy: list[ZygoteClient]) -> None:
        """Waits for the first answers. Workers that are all silent for too long count as dead."""
        poll = select.poll()
        by_fd = {worker.socket.fileno(): worker for worker in busy}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)

        events = poll.poll(self._workers.wall_s * _PATIENCE * 1000)
        for fd, _ in events:
            try:
                for job, result in by_fd[fd].receive():
                    self._finish(job, result)
            except ZygoteDied:
                self._replace_dead(by_fd[fd])

        for worker in busy if not events else ():
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
        elif result.outcome == "ok" and _SUSPECT.search(job.source):
            job.first = result
            return self._requeue(job)

        self._done[job.index] = result
        if self._cache:
            self._cache.put(job.source, job.inputs, result)
        return None

    def _requeue(self, job: ProgramJob) -> None:
        self._waiting[_names_library(job.source)].appendleft(job)


def _names_library(source: bytes) -> bool:
    return _LIBRARY.search(source) is not None
