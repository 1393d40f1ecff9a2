"""Scores of a model while it is trained: it answers tasks under several views, and the answers are
voted on.

Prompts, reading of answers and vote are those of a submission; the figures are those of the
notebooks. Its sampler imports torch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.arc.metrics import grid_figures, vote_k
from appliance.arc.task import Solutions, Task, TaskSet
from appliance.arc.view import View, sampling_views
from appliance.arc.vote import Candidate, group_by_output, vote
from appliance.clock import Clock, Deadline
from appliance.engine.sampling.transformers_sampler import TransformersSampler
from appliance.errors import InputError
from appliance.learn.processes import Processes
from appliance.learn.recipe import Evaluation
from appliance.seeds import generator, seed_of
from appliance.solve.language import Language
from appliance.solve.transduce import candidate, questions

BATCH_TOKENS = 16384
"""Tokens that the sampler keeps in one batch."""

FIGURES = ("accuracy", "correct_pixels", "correct_size", "pass_n", "unanswered")
"""Those of `grid_figures` that are reported."""


@dataclass(frozen=True)
class Examiner:
    """Asks the tasks.

    Greedy answers depend on model, seed and number of views, not on how many processes share the
    work.
    """

    tasks: Sequence[Task]
    solutions: Solutions
    num_views: int  # of each test input
    temperature: float  # 0: greedy
    seed: int
    keep_colours: bool = False  # views turn and flip, and leave colours as they are

    @staticmethod
    def of(plan: Evaluation, loaded: TaskSet, *, seed: int) -> Examiner:
        """loaded: the tasks that the plan names. Raises InputError for tasks without solutions."""
        tasks = sorted(loaded, key=lambda t: (t.num_cells(), t.task_id))[: plan.limit]

        missing = [t.task_id for t in tasks if t.task_id not in loaded.solutions]
        if missing:
            raise InputError(
                f"evaluation.tasks {plan.tasks}: no solutions for {len(missing)} tasks, "
                f"first {missing[0]}",
                expected="tasks with their answers",
                remedy="put the solutions file beside the challenges",
            )

        solutions = {t.task_id: loaded.solutions[t.task_id] for t in tasks}
        return Examiner(tasks, solutions, plan.views, plan.temperature, seed, plan.keep_colours)

    def figures(
        self, model: Any, language: Language, *, clock: Clock, processes: Processes
    ) -> dict[str, float]:
        """The FIGURES, over candidates, and vote_1 and vote_2, over tasks."""
        mine = self.tasks[processes.rank :: processes.world_size]
        found = list(self.candidates(model, language, mine, clock=clock))
        return score(processes.gather(found), self.solutions)

    def candidates(
        self, model: Any, language: Language, tasks: Sequence[Task], *, clock: Clock
    ) -> Iterator[Candidate]:
        """One candidate for each task, view and test input, in the order in which they are done."""
        codec = language.codec
        sampler = TransformersSampler(
            lambda: model,
            pad_id=codec.pad_id,
            stop_ids=codec.stop_ids,
            batch_tokens=BATCH_TOKENS,
            # unsloth puts forward passes of its own into every model of the process.
            takes_cache="unsloth" not in sys.modules,
        )

        asked = [
            pair
            for task in tasks
            for pair in questions(
                task,
                self._views(task),
                language,
                temperature=self.temperature,
                top_p=1.0,
                num_samples=1,
                seed=seed_of(self.seed, task.task_id, "answers"),
            )
        ]

        requests = [request for _, request in asked]
        for batch in sampler.sample(requests, deadline=Deadline(math.inf, clock)):
            for completion in batch:
                question, _ = asked[completion.request_index]
                yield candidate(question, completion, language, adapter="")

    def _views(self, task: Task) -> Sequence[View]:
        rng = generator(self.seed, task.task_id, "views")
        return sampling_views(rng, self.num_views, len(task.train), keep_colours=self.keep_colours)


def score(candidates: Sequence[Candidate], solutions: Solutions) -> dict[str, float]:
    """The FIGURES over candidates, vote_1 and vote_2 over tasks; one without candidates is
    unanswered."""
    outputs = group_by_output(candidates)
    predictions = {
        task_id: [[c.grid for c in outputs.get((task_id, i), [])] for i in range(len(answers))]
        for task_id, answers in solutions.items()
    }
    figures = grid_figures(predictions, solutions)

    voted = vote(candidates)
    attempts = {
        task_id: [voted.get((task_id, i), ()) for i in range(len(answers))]
        for task_id, answers in solutions.items()
    }
    votes = {f"vote_{k}": vote_k(attempts, solutions, k) for k in (1, 2)}

    return {name: figures[name] for name in FIGURES} | votes
