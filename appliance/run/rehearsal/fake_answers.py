"""Plausible answers without a model, so that votes are certain, uncertain or tied.

Some tasks are easy, and wrong answers are few and repeat. Nothing here tells about real scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from appliance.arc.fallback import predicted_shape
from appliance.arc.grid import NUM_COLOURS, Grid, freeze, to_lists
from appliance.arc.task import Task
from appliance.seeds import generator
from appliance.solve.messages import CandidateMessage, Job, Scored

NUM_WRONG = 6
"""Different wrong answers to one test input."""

ILLEGAL_SHARE = 0.05
"""Part of the answers that are not a grid."""

SURE = ((0.15, 1.5), (0.25, 0.6), (0.32, 0.2), (0.57, 0.05))
"""How sure a search is of its answer: up to this share of the tasks, this weight. The first two
settle their task; the tasks that are left get no answer."""

UNTRAINED_SKILL = 0.35
"""Skill before training, as a part of that after it: published systems gain that much."""


@dataclass(frozen=True)
class _Answers:
    """What a model would say to one task."""

    skill: float  # probability of the first grid, after training
    grids: list[list[Grid]]  # for each test input: the right one, then the wrong ones


class Answers(Protocol):
    """What imagined workers say."""

    def of(
        self, task: Task, asked: Sequence[tuple[str, int]], job: Job, *, is_trained: bool
    ) -> list[CandidateMessage]:
        """One candidate for each view and test input that is asked."""

    def scored(self, job: Job) -> Iterable[Scored]:
        """How likely the model holds the answers that this job gave."""

    def of_search(self, task: Task) -> list[CandidateMessage]:
        """The answer of a search without a model to all test inputs; empty where it has none."""


class FakeAnswers:
    """Answers that follow from the seed alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[str, _Answers] = {}

    def of(
        self, task: Task, asked: Sequence[tuple[str, int]], job: Job, *, is_trained: bool
    ) -> list[CandidateMessage]:
        known = self._of_task(task)
        rng = generator(self._seed, task.task_id, job.stage, job.seed, *asked[0])
        skill = known.skill * (1.0 if is_trained else UNTRAINED_SKILL)

        # All at once, for a simulation asks hundreds of thousands of times.
        num = len(asked)
        are_right = rng.random(num) < skill
        are_illegal = rng.random(num) < ILLEGAL_SHARE
        # The first wrong answers come most often.
        wrong = np.minimum(NUM_WRONG, rng.geometric(0.4, num))
        nats = rng.gamma(2.0, np.where(are_right, 0.01, 0.05))  # a token

        which = np.where(are_right, 0, wrong).tolist()
        found = []
        for (view, test_index), i, is_illegal, cost in zip(
            asked, which, are_illegal.tolist(), nats.tolist(), strict=True
        ):
            grids = known.grids[test_index]
            rows, columns = grids[0].shape
            num_tokens = rows * (columns + 1)
            grid = None if is_illegal else grids[i]
            answer = written(task.task_id, test_index, grid, view, -num_tokens * cost, num_tokens)
            found.append(answer)
        return found

    def scored(self, job: Job) -> Iterable[Scored]:
        """No answer is scored."""
        return ()

    def of_search(self, task: Task) -> list[CandidateMessage]:
        known = self._of_task(task)
        rng = generator(self._seed, task.task_id, "search answers")
        share = rng.random()
        weight = next((weight for most, weight in SURE if share <= most), None)
        if weight is None:
            return []

        # About as often right as it is sure.
        is_right = rng.random() < min(0.95, 0.4 + weight / 2)
        return [
            CandidateMessage.model_construct(
                task_id=task.task_id,
                test_index=test_index,
                grid=to_lists(grids[0 if is_right else 1]),
                logprob=0.0,
                num_tokens=0,
                view="",
                method="search",
                adapter="",
                program="",
                demo_score=1.0,
                weight=weight,
            )
            for test_index, grids in enumerate(known.grids)
        ]

    def _of_task(self, task: Task) -> _Answers:
        if task.task_id not in self._known:
            self._known[task.task_id] = self._draw(task)
        return self._known[task.task_id]

    def _draw(self, task: Task) -> _Answers:
        rng = generator(self._seed, task.task_id, "answers")
        shapes = [predicted_shape(task, i) for i in range(len(task.test))]
        grids = [
            [freeze(rng.integers(0, NUM_COLOURS, shape)) for _ in range(1 + NUM_WRONG)]
            for shape in shapes
        ]
        skill = float(rng.beta(0.5, 0.7))  # two humps: most tasks are either easy or hopeless
        return _Answers(skill, grids)


_BLANK = CandidateMessage(
    task_id="",
    test_index=0,
    grid=None,
    logprob=0.0,
    num_tokens=0,
    view="",
    method="transduction",
    adapter="",
)


def written(
    task_id: str, test_index: int, grid: Grid | None, view: str, logprob: float, num_tokens: int
) -> CandidateMessage:
    """An answer of the model. There are hundreds of thousands of them, right by construction, so
    the grid stays an array and nothing is checked again."""
    return _BLANK.model_copy(
        update={
            "task_id": task_id,
            "test_index": test_index,
            "grid": grid,
            "view": view,
            "logprob": logprob,
            "num_tokens": num_tokens,
        }
    )
