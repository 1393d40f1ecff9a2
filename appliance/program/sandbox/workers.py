"""The workers of a sandbox: started, tested, replaced when they die. A worker is one zygote."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from appliance.errors import PrerequisiteError
from appliance.program.sandbox import linux
from appliance.program.sandbox.frames import Result
from appliance.program.sandbox.layers import IsolationLayer
from appliance.program.sandbox.policy import AUDIT_ARCH
from appliance.program.sandbox.preload import LIBRARIES
from appliance.program.sandbox.wall_canary import CANARIES, CANARY_CPU_S, REQUIRED_LAYERS
from appliance.program.sandbox.zygote_client import (
    ProgramJob,
    ZygoteClient,
    ZygoteDied,
    ZygoteOptions,
)

NO_SECCOMP = "no-seccomp"


_MAX_STARTS = 3  # of a worker that is killed or stopped, not by its own fault, before it stands
_SECOND_SHARE = 2
"""What a second run may use, as a multiple of the memory of the first; its allocator wastes more.
"""


@dataclass(frozen=True)
class Group:
    """Workers of one kind."""

    needs_libraries: bool  # scipy and `common`, which double the cost of a fork
    is_second: bool = False  # for second runs, in another interpreter than the first


class SandboxWorkers:
    """Up to four groups of workers: with and without libraries, for first and for second runs.

    Only programs that name scipy or `common` pay for them. A group is started when the first
    program needs it.

    Raises PrerequisiteError when the workers cannot stand, or stand at a level that was not
    accepted.
    """

    def __init__(
        self,
        num_workers: int,
        *,
        preload: tuple[str, ...],
        seed: int,
        memory_bytes: int,
        wall_s: float,
        accept_level: str | None,
    ) -> None:
        if not hasattr(os, "pipe2") or linux.MACHINE not in AUDIT_ARCH:
            raise PrerequisiteError(
                f"sandbox: no walls known for {os.uname().sysname} on {linux.MACHINE}",
                expected=f"Linux on {' or '.join(AUDIT_ARCH)}",
                remedy="run programs there, or use --strategy transduction",
            )

        self.preload = preload
        self.seed = seed
        self.memory_bytes = memory_bytes
        self.wall_s = wall_s
        self.accept_level = accept_level
        self._num_workers = num_workers
        self._groups: dict[Group, list[ZygoteClient]] = {}
        self.report: tuple[IsolationLayer, ...] = ()

        try:
            self.group(Group(needs_libraries=False))
            self.level = _level(self.report)
            _refuse_weak(self.report, self.level, accept_level)
        except BaseException:
            self.close()
            raise

    def group(self, group: Group) -> list[ZygoteClient]:
        """The workers of that kind, started at the first call."""
        if group not in self._groups:
            options = ZygoteOptions(
                modules=self.preload + (LIBRARIES if group.needs_libraries else ()),
                seed=self.seed,  # of the generators, which give the same in both runs
                memory_bytes=self.memory_bytes * (_SECOND_SHARE if group.is_second else 1),
                wall_s=self.wall_s,
                hash_seed=self.seed + group.is_second,
                is_second=group.is_second,
            )
            workers = [ZygoteClient(options) for _ in range(self._num_workers)]
            self._groups[group] = workers
            for worker in tuple(workers):
                self._admit(worker)

        return self._groups[group]

    def all(self) -> list[ZygoteClient]:
        return [worker for group in self._groups.values() for worker in group]

    def replace(self, worker: ZygoteClient) -> None:
        """A fresh worker in the place of that one, whose jobs are lost."""
        self._admit(self._fresh(worker))

    def _fresh(self, worker: ZygoteClient) -> ZygoteClient:
        """A worker that is starting, in the place of that one."""
        worker.close()
        fresh = ZygoteClient(worker.options)
        for group in self._groups.values():
            group[:] = [fresh if w is worker else w for w in group]
        return fresh

    def drop_jobs(self) -> None:
        """Replaces every worker that has work, because a job that was sent cannot be taken back."""
        for worker in self.all():
            if worker.jobs:
                self.replace(worker)

    def close(self) -> None:
        for worker in self.all():
            worker.close()
        self._groups.clear()

    def _admit(self, worker: ZygoteClient) -> None:
        """Waits until the worker stands; the first is tested, others must report the same walls.

        One that is killed or stopped on the way is started anew.
        """
        for _ in range(_MAX_STARTS):
            try:
                layers = tuple(worker.layers())
                if not self.report:
                    self.report = layers + tuple(_self_test(worker))
                break
            except ZygoteDied:
                worker = self._fresh(worker)
        else:
            raise PrerequisiteError(
                f"sandbox: a worker ended at its start, {_MAX_STARTS} times, without a word",
                expected="processes that nobody kills or stops, and memory for them",
                remedy="run `appliance doctor`; give the job more memory, or fewer --workers",
            )

        if layers != self.report[: len(layers)]:
            others = [asdict(layer) for layer in set(layers) - set(self.report)]
            raise PrerequisiteError(
                f"sandbox: one worker reports {others}, unlike the first",
                expected="the same walls around every worker",
                remedy="start again; if it stays, run `appliance doctor`",
            )


def _self_test(worker: ZygoteClient) -> list[IsolationLayer]:
    """What the canaries found, by layer: in force if each of its canaries ended as it must.

    Raises ZygoteDied when the worker is gone.
    """
    faults: dict[str, list[str]] = {}
    one_cell = b"\1\0\1\1\4"  # one grid, [[4]], as `encode_grids` writes it

    def ran(source: str) -> Result:
        worker.send(ProgramJob(0, source.encode(), one_cell, 1, CANARY_CPU_S))
        answers = worker.receive()
        while not answers:
            answers = worker.receive()
        return answers[0][1]

    for canary in CANARIES:
        result = ran(canary.source)
        if not canary.held(result):  # a wall that is not there is not there at a second try either
            result = ran(canary.source)
        found = faults.setdefault(canary.layer, [])
        if not canary.held(result):
            found.append(f"{canary.what}: {result.outcome} {result.error or ''}".strip())

    return [
        IsolationLayer(name, not found, "; ".join(found) or "canaries held")
        for name, found in faults.items()
    ]


def _level(report: tuple[IsolationLayer, ...]) -> str:
    """full, seccomp-only or no-seccomp.

    full: seccomp, and a root directory or a user of its own. seccomp-only: enough against every
    attack known to us.
    """
    held = {x.name for x in report if x.in_force}
    if not {"seccomp", "forbidden calls"} <= held:
        return NO_SECCOMP
    return "full" if {"empty root", "other user"} & held else "seccomp-only"


def _refuse_weak(report: tuple[IsolationLayer, ...], level: str, accept_level: str | None) -> None:
    broken = [x for x in report if x.name in REQUIRED_LAYERS and not x.in_force]
    if broken:
        raise PrerequisiteError(
            f"sandbox: {broken[0].name}: {broken[0].detail}",
            expected="honest programs to run and endless ones to be stopped",
            remedy="run `appliance doctor`",
        )

    if level == NO_SECCOMP and accept_level != NO_SECCOMP:
        faults = "; ".join(
            x.detail for x in report if x.name in ("seccomp", "forbidden calls") and not x.in_force
        )
        raise PrerequisiteError(
            f"sandbox: programs would run without a system call filter ({faults})",
            expected="a kernel and a container that allow seccomp filters",
            remedy=f"allow them, or accept the risk by name: --accept-level {NO_SECCOMP}",
        )
