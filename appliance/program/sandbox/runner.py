"""The sandbox as its users see it: programs in, results out in the same order."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from appliance.arc.grid import Grid
from appliance.errors import InputError, OutputError, UsageError
from appliance.program.sandbox.batch import BatchRun
from appliance.program.sandbox.frames import MAX_INPUTS, Result, encode_grids
from appliance.program.sandbox.layers import IsolationLayer
from appliance.program.sandbox.result_cache import ResultCache, conditions_key
from appliance.program.sandbox.workers import SandboxWorkers

MAX_WORKERS = 1024
"""Far above the cores of any machine; a slip of the keyboard is not to start a million processes.
"""


@dataclass(frozen=True)
class Limits:
    """What a program may use, over all its inputs.

    Raises UsageError outside 0.01-3600 s and 16 MiB-1 TiB.
    """

    cpu_s: float = 0.5  # CPU seconds
    memory_mb: int = 256  # MiB of address space above the bare interpreter

    def __post_init__(self) -> None:
        if not 0.01 <= self.cpu_s <= 3600 or not 16 <= self.memory_mb <= 1 << 20:
            raise UsageError(
                f"limits of {self.cpu_s} CPU s and {self.memory_mb} MiB per program",
                expected="0.01-3600 s and 16 MiB-1 TiB",
                remedy="correct --cpu-s or --memory-mb",
            )

    @property
    def wall_s(self) -> float:
        """Seconds after which a program that stands still is ended.

        One that works gets its CPU time, however long that takes on a busy machine.
        """
        return 5 * self.cpu_s + 1


@dataclass(frozen=True, eq=False)
class Program:
    """Text that defines `transform(grid)`, and the grids to call it on.

    Raises InputError for more than 1000 grids.
    """

    source: str
    inputs: tuple[Grid, ...]

    def __post_init__(self) -> None:
        if len(self.inputs) > MAX_INPUTS:
            raise InputError(
                f"a program with {len(self.inputs)} inputs",
                expected=f"at most {MAX_INPUTS}",
                remedy="give the program in several records",
            )


class Sandbox:
    """Runs programs, each in a process of its own behind every wall that this machine grants.

    workers: programs at the same time, 1-1024; by default one per core that this process may use.
        As many again stand ready for second runs, from the first program on that needs one.
    preload: further modules that programs may import.
    cache: folder for results.
    accept_level: "no-seccomp" to go on where seccomp is refused.
    seed: of the random generators and of string hashes inside.

    Raises UsageError for another number of workers, PrerequisiteError when the sandbox cannot
    stand, or stands only at a level that was not
    accepted.

    >>> with Sandbox(Limits(cpu_s=1)) as sandbox:                            # doctest: +SKIP
    ...     results = list(sandbox.run([Program("def transform(g): return g.T", (grid,))]))
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        workers: int | None = None,
        preload: tuple[str, ...] = (),
        cache: Path | None = None,
        accept_level: str | None = None,
        seed: int = 0,
    ) -> None:
        if workers is not None and not 1 <= workers <= MAX_WORKERS:
            raise UsageError(
                f"a sandbox of {workers} workers",
                expected=f"1 to {MAX_WORKERS} workers",
                remedy="correct --workers, or leave it out for one per core",
            )

        self.limits = limits or Limits()
        self._second: Sandbox | None = None
        self._cache: ResultCache | None = None
        self._workers = SandboxWorkers(
            workers or len(os.sched_getaffinity(0)),
            preload=preload,
            seed=seed,
            memory_bytes=self.limits.memory_mb << 20,
            wall_s=self.limits.wall_s,
            accept_level=accept_level,
        )

        if cache:
            conditions = conditions_key(
                limits=vars(self.limits), level=self.level, seed=seed, preload=preload
            )
            try:
                self._cache = ResultCache(cache, conditions)
            except OutputError:
                self._workers.close()
                raise

    @property
    def level(self) -> str:
        """What stands: full, seccomp-only or no-seccomp."""
        return self._workers.level

    @property
    def report(self) -> tuple[IsolationLayer, ...]:
        """Every layer, in force or not."""
        return self._workers.report

    def run(self, programs: Iterable[Program]) -> Generator[Result]:
        """One result per program, in order, as they come.

        Programs are taken from the iterable as there is room for them. Some run twice:
        - One that had answered half of its inputs, or filled half of its memory, when its CPU time
          ended is near its limit. It runs once more with twice the time.
        - One whose answer may depend on more than its inputs, see chance.py. It runs again in
          another interpreter, with other addresses, other string hashes and the same random
          numbers, and is `nondeterministic` when the two answers differ.
        - One that a worker had not answered when it died or fell silent. The worker is replaced.
        """
        return self._results(programs, runs_twice=True)

    def _results(self, programs: Iterable[Program], *, runs_twice: bool) -> Generator[Result]:
        if any(worker.jobs for worker in self._workers.all()):
            raise RuntimeError(
                "one batch at a time: the results of an earlier run() are still being read"
            )

        batch = BatchRun(
            (
                (p.source.encode("utf-8", "surrogatepass"), encode_grids(p.inputs), len(p.inputs))
                for p in programs
            ),
            self._workers,
            cpu_s=self.limits.cpu_s,
            cache=self._cache,
            runs_twice=runs_twice,
        )

        try:
            yield from batch.results()
        finally:
            self._workers.drop_jobs()  # of a caller who did not wait for all results
            if self._cache:
                self._cache.save()

    def confirm(self, program: Program, result: Result) -> Result:
        """The result, or `nondeterministic` where a second run elsewhere gives other outputs.

        Elsewhere is another interpreter with another seed and another hash seed, and the inputs in
        reverse order. For programs that are about to count.
        """
        if self._second is None:
            workers = self._workers
            self._second = Sandbox(
                self.limits,
                workers=1,
                preload=workers.preload,
                accept_level=workers.accept_level,
                seed=workers.seed + 1,
            )

        turned = replace(program, inputs=program.inputs[::-1])
        (again,) = self._second._results([turned], runs_twice=False)
        return result.confirmed_by(replace(again, outputs=again.outputs[::-1]))

    def close(self) -> None:
        self._workers.close()
        if self._second:
            self._second.close()
        if self._cache:
            self._cache.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def sandbox_report(*, preload: tuple[str, ...] = ()) -> list[tuple[str, bool, str]]:
    """(layer, in force, detail) of a sandbox on this machine, whatever its level.

    The last row is the level reached. Raises PrerequisiteError when none can stand at all.
    """
    with Sandbox(workers=1, preload=preload, accept_level="no-seccomp") as sandbox:
        rows = [(x.name, x.in_force, x.detail) for x in sandbox.report]
        return [*rows, ("level", sandbox.level != "no-seccomp", sandbox.level)]
