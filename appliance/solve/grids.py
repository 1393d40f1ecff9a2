"""A worker's work on grids: it puts a job's questions to a sampler and weighs the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from appliance.arc.grid import to_lists
from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.arc.vote import Candidate
from appliance.clock import Deadline
from appliance.engine.base import Request, Served
from appliance.engine.registry import make_scorer
from appliance.seeds import seed_of
from appliance.solve.language import Language
from appliance.solve.messages import CandidateMessage, Event, Job, Sampled, Scored, Setup
from appliance.solve.scoring import score_candidates
from appliance.solve.transduce import (
    Question,
    candidate,
    counted_questions,
    greedily,
    in_turns,
    questions,
)

SCORE_SHARE = 0.15
"""Part of the time left after training that is kept for scores, where they are asked for."""


class GridWork:
    """Asks for grids, reads the answers, and scores them where the settings say so."""

    def __init__(self, setup: Setup, language: Language, emit: Callable[[Event], None]) -> None:
        self._setup = setup
        self._language = language
        self._emit = emit

    def sample(
        self, tasks: Sequence[Task], job: Job, served: Served, *, adapter: str, deadline: Deadline
    ) -> tuple[list[str], list[Candidate]]:
        """Emit each answer as it comes.

        Returns the tasks all of whose questions were answered, and all answers. adapter: hash of
        the adapter that the sampler's model has on, "" for none.
        """
        # The tasks take turns, and within each its test inputs: what is cut off is cut evenly.
        asked = in_turns(self._questions(task, job) for task in tasks)
        num_open = dict.fromkeys((question.task.task_id for question, _ in asked), 0)
        for question, request in asked:
            num_open[question.task.task_id] += request.num_samples

        # From here on the orchestrator watches for a stuck sampler, until the last message below.
        stall_s = self._setup.stall_s if served.shows_life else None
        self._emit(Sampled(job_id=job.job_id, stall_s=stall_s))

        def answered(asked: Sequence[tuple[Question, Request]]) -> Iterator[Candidate]:
            requests = [request for _, request in asked]
            for batch in served.sampler.sample(requests, deadline=deadline):
                found = [
                    candidate(asked[c.request_index][0], c, self._language, adapter=adapter)
                    for c in batch
                ]
                for completion in batch:
                    num_open[asked[completion.request_index][0].task.task_id] -= completion.ends

                messages = [CandidateMessage.of(f) for f in found]
                self._emit(Sampled(job_id=job.job_id, stall_s=stall_s, candidates=messages))
                yield from found

        answers = list(answered(asked))
        left = [task_id for task_id, num in num_open.items() if num > 0]
        answers += answered(greedily(asked, answers))

        self._emit(Sampled(job_id=job.job_id))
        return [task_id for task_id in num_open if task_id not in left], answers

    def _questions(self, task: Task, job: Job) -> list[tuple[Question, Request]]:
        sample = self._setup.settings.sample
        seed = seed_of(job.seed, task.task_id, "sampling")
        if job.asks is not None:
            return counted_questions(
                task,
                [(View.parse(ask.view), ask.test_index, ask.num_samples) for ask in job.asks],
                self._language,
                temperature=sample.temperature,
                top_p=sample.top_p,
                seed=seed,
                grammar=sample.grammar,
            )

        searches = sample.mode == "dfs" and job.stage == "deep"
        views = [View.parse(name) for name in job.views]
        # The views of a job serve all its tasks; one with an order of demonstrations fits only
        # tasks that have so many.
        fitting = [v for v in views if len(v.order) in (0, len(task.train))]

        return questions(
            task,
            fitting,
            self._language,
            temperature=sample.temperature,
            top_p=sample.top_p,
            num_samples=sample.samples_per_view,
            seed=seed,
            grammar=sample.grammar,
            threshold=sample.threshold if searches else None,
        )

    def has_scores(self, job: Job) -> bool:
        """Whether the answers to this job are to be scored."""
        return job.stage == "deep" and self._setup.settings.sample.score_views > 0

    def sampling_deadline(self, job: Job, deadline: Deadline) -> Deadline:
        """The deadline less the time kept for scores, where there will be any.

        Where predictions are counted, they go before scores.
        """
        if not self.has_scores(job) or job.asks is not None:
            return deadline

        now_s = deadline.clock.now()
        return Deadline(now_s + (1 - SCORE_SHARE) * (deadline.at_s - now_s), deadline.clock)

    def score(
        self,
        tasks: Sequence[Task],
        job: Job,
        answers: Sequence[Candidate],
        model: Any,
        *,
        batch_tokens: int,
        deadline: Deadline,
    ) -> None:
        """Score the distinct answers with this model, and emit the scores.

        The model must have the adapter on that the sampler's had. Raises OutOfMemory.
        """
        views = [View.parse(name) for name in job.views[: self._setup.settings.sample.score_views]]
        pad_id = self._language.codec.pad_id
        scorer = make_scorer(self._setup.trainer, model, pad_id=pad_id, batch_tokens=batch_tokens)

        for found in score_candidates(
            tasks, answers, views, self._language, scorer, deadline=deadline
        ):
            self._emit(
                Scored(
                    job_id=job.job_id,
                    task_id=found.task_id,
                    test_index=found.test_index,
                    grid=to_lists(found.grid),
                    logprobs=list(found.logprobs),
                )
            )
