"""The search worker: one process on a core, which finds programs for tasks without a model.

Runs as `python -m appliance.solve.search_worker`. It speaks as worker.py does, a SearchSetup and
then Jobs in, Events out, but it never imports torch nor any engine: it starts within a second, and
needs a core and less than a gigabyte.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from appliance.arc.grid import grid_key
from appliance.arc.task import Task
from appliance.arc.vote import Candidate
from appliance.clock import Deadline, SystemClock
from appliance.program.sandbox import Sandbox
from appliance.search.answers import Answer, Limits
from appliance.search.solve import search_task
from appliance.solve.check_answers import check_answers
from appliance.solve.line_protocol import Emit, failed, open_lines
from appliance.solve.messages import (
    CandidateMessage,
    Finished,
    Job,
    Ready,
    Sampled,
    Searched,
    SearchSetup,
)
from appliance.solve.sandbox import open_sandbox

NICENESS = 5
"""Beside device workers a search takes what they leave of the cores."""

CHECK_SHARE = 0.1
"""Part of the time left that the search leaves to the check of its programs, where time is
short."""


class SearchWorker:
    """Searches task after task, and runs in a sandbox what it finds."""

    def __init__(self, setup: SearchSetup, emit: Emit) -> None:
        """Emits Ready. Raises PrerequisiteError where this machine cannot isolate programs."""
        self._clock = SystemClock()
        began_s = self._clock.now()
        if setup.is_beside:
            os.nice(NICENESS)

        self._sandbox: Sandbox = open_sandbox(setup.settings, workers=1)
        self._emit = emit
        facts = {"search": "without a model", "sandbox": self._sandbox.level}
        emit(Ready(seconds=self._clock.now() - began_s, facts=facts))

    def do(self, job: Job) -> None:
        """Search the task of the job; its answers are emitted when all is over."""
        began_s = self._clock.now()
        deadline = Deadline(job.deadline_s, self._clock)
        task = job.tasks[0].task()

        cpu_s = min(job.cpu_s, (1 - CHECK_SHARE) * deadline.remaining_s())
        found = search_task(task, Limits(job.expansions, cpu_s), seed=job.seed)
        checked = check_answers(task, found.answers, self._sandbox, deadline=deadline)

        candidates = candidates_of(task, checked.answers)
        messages = [CandidateMessage.of(candidate) for candidate in candidates]
        self._emit(Sampled(job_id=job.job_id, candidates=messages))
        self._emit(
            Searched(
                job_id=job.job_id,
                task_id=task.task_id,
                seconds=self._clock.now() - began_s,
                cpu_s=found.cpu_s,
                expansions=found.expansions,
                applications=found.applications,
                bound=found.bound,
                kind=_kind(checked.answers),
                num_answers=len(checked.answers),
                num_refused=checked.num_refused,
                num_left=checked.num_left,
            )
        )
        seconds = self._clock.now() - began_s
        self._emit(Finished(job_id=job.job_id, complete=[task.task_id], seconds=seconds))


def _kind(answers: Sequence[Answer]) -> str:
    """How the first program of the likeliest grids ends; "cells" where only trees gave them."""
    weights: dict[tuple[object, ...], float] = {}
    for answer in answers:
        weights[_grids_key(answer)] = weights.get(_grids_key(answer), 0.0) + answer.weight
    likeliest = max(weights, key=lambda key: weights[key], default=())

    kinds = [answer.kind for answer in answers if _grids_key(answer) == likeliest]
    return next((kind for kind in kinds if kind != "cells"), kinds[0] if kinds else "")


def _grids_key(answer: Answer) -> tuple[object, ...]:
    return tuple(grid_key(grid) for grid in answer.grids)


def candidates_of(task: Task, answers: Sequence[Answer]) -> list[Candidate]:
    """One for each answer and test input."""
    return [
        Candidate(
            task_id=task.task_id,
            test_index=index,
            grid=grid,
            logprob=0.0,
            num_tokens=0,
            method="search" if answer.program else "cells",
            program=answer.program,
            demo_score=1.0 if answer.program else None,
            weight=answer.weight,
        )
        for answer in answers
        for index, grid in enumerate(answer.grids)
    ]


def main() -> None:
    lines, emit = open_lines()
    setup = SearchSetup.model_validate_json(lines.get())
    try:
        worker = SearchWorker(setup, emit)
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is told
        traceback.print_exc()
        emit(failed(-1, fault))
        return

    while True:
        job = Job.model_validate_json(lines.get())
        try:
            worker.do(job)
        except Exception as fault:  # noqa: BLE001 - it costs the task one try
            traceback.print_exc()
            sys.stderr.flush()
            emit(failed(job.job_id, fault))


if __name__ == "__main__":
    main()
