"""Which learning rate helps this model: the worker's part of the check at the start of a run.

One demonstration of a task is held back. The model trains on the others at each rate in turn, with
the same lessons in the same order, and is asked how likely it holds the answer that it has not
seen. run/schedule/rate_check.py decides by what all tasks of the check say.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.clock import Deadline
from appliance.engine.base import NotTuned, Scorer, ScoreRequest, Trainer, TuneSettings
from appliance.engine.training.packing import TokenSequence
from appliance.solve.language import Language
from appliance.solve.messages import Checked, Job
from appliance.solve.scoring import score_request


def check_rates(
    job: Job,
    trainer: Trainer,
    language: Language,
    *,
    settings: Callable[[Task], TuneSettings | None],
    lessons: Callable[[Task, int], Iterator[TokenSequence]],
    make_scorer: Callable[[Any], Scorer],
    adapter_dir: Path,
    deadline: Deadline,
) -> Checked:
    """Try the job's rates on its task, and leave the model as it was loaded.

    settings: of training on a task; None where no lesson fits. lessons: of a task, each of at most
    so many tokens, from the first one on. adapter_dir: gets each adapter, and is removed. Raises
    OutOfMemory.
    """
    shown, requests = _held_out(job, language)
    planned = settings(shown)
    if planned is None or not requests:
        return _checked(job, why="no lesson or no answer fits the sequence length")

    def nats() -> float:
        """Of the answer held back, a token, mean over views."""
        with trainer.merged() as model:
            scores = list(make_scorer(model).score(requests, deadline=deadline))
        num_tokens = sum(len(request.answers[0]) for request in requests[: len(scores)])
        return -sum(logprob for (logprob,) in scores) / num_tokens if scores else math.nan

    trainer.reset()
    untrained, trained = nats(), list[float]()
    try:
        for rate in job.rates:
            outcome = trainer.tune(
                lessons(shown, planned.row_tokens),
                replace(planned, learning_rate=rate, max_steps=job.num_steps),
                adapter_dir=adapter_dir,
                deadline=deadline,
                seed=job.seed,
            )
            # A run answers untrained where a training comes to nothing.
            trained.append(untrained if isinstance(outcome, NotTuned) else nats())
            if deadline.is_past():
                return _checked(job, why="out of time")
    finally:
        trainer.reset()
        shutil.rmtree(adapter_dir, ignore_errors=True)

    if not all(math.isfinite(value) for value in (untrained, *trained)):
        return _checked(job, why="the likelihood was not finite")
    return _checked(job, untrained=untrained, trained=trained)


def _held_out(job: Job, language: Language) -> tuple[Task, list[ScoreRequest]]:
    """The task without its last demonstration, and the question for that one under each view."""
    task = job.tasks[0].task()
    held = task.train[-1]
    shown = Task(task.task_id, task.train[:-1], (held.input,))

    asked = [
        score_request(shown, 0, View.parse(name), [held.output], language) for name in job.views
    ]
    return shown, [request for request in asked if request is not None]


def _checked(
    job: Job,
    *,
    untrained: float | None = None,
    trained: list[float] | None = None,
    why: str | None = None,
) -> Checked:
    return Checked(
        job_id=job.job_id,
        task_id=job.tasks[0].task_id,
        untrained=untrained,
        trained=trained or [],
        reason=why,
    )
