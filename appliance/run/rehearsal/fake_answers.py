"""Plausible answers without a model: some tasks come easy, most wrong answers are few and repeat. Nothing here says anything
about real scores; it makes votes that are certain, uncertain or tied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.arc.fallback import predicted_shape
from appliance.arc.grid import NUM_COLOURS
from appliance.arc.task import Task
from appliance.seeds import generator
from appliance.solve.messages import CandidateMessage, Job

NUM_WRONG = 6
ILLEGAL_SHARE = 0.05
UNTRAINED_SKILL = 0.35
"""Of the skill after training: published systems gain that much by it."""


@dataclass(frozen=True)
class _Answers:
    """grids[test] holds the answer that skill leads to, then the usual wrong ones."""

    skill: float
    grids: list[list[list[list[int]]]]


class FakeAnswers:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[str, _Answers] = {}

    def of(
        self, task: Task, views: Sequence[str], job: Job, *, is_trained: bool
    ) -> list[CandidateMessage]:
        """One candidate per view and test input."""
        known = self._known.setdefault(task.task_id, self._draw(task))
        rng = generator(self._seed, task.task_id, job.stage, job.seed, views[0])
        skill = known.skill * (1.0 if is_trained else UNTRAINED_SKILL)
        return [
            self._candidate(task, test_index, view, known.grids[test_index], skill, rng)
            for test_index in range(len(task.test))
            for view in views
        ]

    def _draw(self, task: Task) -> _Answers:
        rng = generator(self._seed, task.task_id, "answers")
        shapes = [predicted_shape(task, i) for i in range(len(task.test))]
        grids = [
            [rng.integers(0, NUM_COLOURS, shape).tolist() for _ in range(1 + NUM_WRONG)]
            for shape in shapes
        ]
        return _Answers(float(rng.beta(0.5, 0.7)), grids)

    @staticmethod
    def _candidate(
        task: Task,
        test_index: int,
        view: str,
        grids: list[list[list[int]]],
        skill: float,
        rng: np.random.Generator,
    ) -> CandidateMessage:
        is_right = rng.random() < skill
        wrong = min(NUM_WRONG, int(rng.geometric(0.4)))
        grid = None if rng.random() < ILLEGAL_SHARE else grids[0 if is_right else wrong]
        num_tokens = len(grids[0]) * (len(grids[0][0]) + 1)
        logprob = -num_tokens * float(rng.gamma(2.0, 0.01 if is_right else 0.05))
        return CandidateMessage.model_construct(  # thousands of them, right by construction
            task_id=task.task_id,
            test_index=test_index,
            grid=grid,
            logprob=logprob,
            num_tokens=num_tokens,
            view=view,
            method="transduction",
            adapter="",
        )
