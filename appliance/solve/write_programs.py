"""Write and learn: write programs, run them, learn from what they really do, write again.

One epoch has three steps:
1. The best programs so far become solved tasks by hindsight (`program/relabel.py`).
2. A fresh adapter is trained on these for a short while.
3. The adapted model writes the next programs, which are run in the sandbox.

Programs are written where they may still find something. A task is settled when two different
programs fit all its demonstrations and answer alike; it gets no more. Where an epoch takes several
tasks together, with one adapter for all, the tasks that no program fits yet share the programs of
all. It ends when all tasks are settled, or the epochs or the time are over. The first
programs of all tasks are written in one batch by the plain model, before the first epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.arc.task import Task
from appliance.arc.view import sampling_views
from appliance.clock import Deadline
from appliance.config import ProgramSettings, SampleSettings
from appliance.engine.base import (
    Completion,
    NotTuned,
    Outcome,
    Request,
    Served,
    Server,
    Trainer,
    TuneSettings,
)
from appliance.program.relabel import Relabelled, pick, relabel
from appliance.program.sandbox import Sandbox
from appliance.program.trial import Draft, Trial, agreed, run_drafts
from appliance.seeds import generator, seed_of
from appliance.solve.induce import (
    draft_of,
    program_lesson_tokens,
    program_lessons,
    program_questions,
)
from appliance.solve.language import Language
from appliance.solve.transduce import Question, in_turns

TRAIN_SHARE = 0.5
"""Learning may use this part of the time left at most: what is learnt must be put to use."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """What one round of learning and writing came to."""

    outcome: Outcome  # of the training
    num_picked: int  # programs that it learnt from
    trials: tuple[Trial, ...]  # programs that were then written and run


@dataclass(frozen=True)
class WriteLimits:
    """What a job lets the writing of programs use."""

    max_lesson_tokens: int
    # Settings by the tokens of the longest lesson, max_steps for one task; None: do not train.
    tune_settings: Callable[[int], TuneSettings | None]
    batch_tokens: int  # (prompt + new tokens) x rows of one batch of the sampler
    adapter_dir: Path  # where the adapter of each epoch is saved
    deadline: Deadline


class Writer:
    """What writing needs of a worker: the model that writes, the engines that train and sample it,
    and the sandbox.
    """

    def __init__(
        self,
        language: Language,
        settings: ProgramSettings,
        *,
        trainer: Trainer,
        server: Server,
        sandbox: Sandbox,
        max_new_tokens: int,
        sample: SampleSettings = SampleSettings(),  # noqa: B008 - it is frozen
        tell: Callable[[Served | None], None] = lambda _: None,
    ) -> None:
        """max_new_tokens: of the longest program. sample: says what views leave as it is.

        tell: called with the serving engine when sampling begins and whenever it has written
        something, and with None when it has ended.
        """
        self._language = language
        self._settings = settings
        self._trainer = trainer
        self._server = server
        self._sandbox = sandbox
        self._max_new_tokens = max_new_tokens
        self._kept = sample.kept
        self._tell = tell

    def write(
        self,
        tasks: Sequence[Task],
        *,
        num_samples: int,
        adapter: tuple[Path, str] | None,
        limits: WriteLimits,
        seed: int,
    ) -> Iterator[list[Trial]]:
        """Programs for these tasks by the model as it is now, run: a list for each finished batch.

        num_samples: programs for each task. adapter: folder and hash of the adapter that the
        trainer's model has on, None while it is plain.
        """
        asked = in_turns(self._questions(task, num_samples, seed=seed) for task in tasks)
        requests = [request for _, request in asked]
        directory, name = adapter or (None, "")

        with self._server.serve(
            self._trainer, adapter_dir=directory, batch_tokens=limits.batch_tokens
        ) as served:
            self._tell(served)
            for batch in served.sampler.sample(requests, deadline=limits.deadline):
                self._tell(served)
                drafts = [self._draft(asked, completion, adapter=name) for completion in batch]
                yield list(run_drafts(drafts, self._sandbox, deadline=limits.deadline))

        self._tell(None)

    def _questions(
        self, task: Task, num_samples: int, *, seed: int
    ) -> list[tuple[Question, Request]]:
        own_seed = seed_of(seed, task.task_id, "programs")
        num_views = -(-num_samples // self._settings.samples_per_view)
        views = sampling_views(
            generator(own_seed, "views"), num_views, len(task.train), **self._kept
        )

        return program_questions(
            task,
            views,
            self._language,
            self._settings,
            num_samples=num_samples,
            max_new_tokens=self._max_new_tokens,
            seed=own_seed,
        )

    def _draft(
        self,
        asked: Sequence[tuple[Question, Request]],
        completion: Completion,
        *,
        adapter: str,
    ) -> Draft:
        question, _ = asked[completion.request_index]
        return draft_of(question, completion, self._language, adapter=adapter)

    def epochs(
        self,
        tasks: Sequence[Task],
        known: Sequence[Trial],
        *,
        num_samples: Sequence[int],
        limits: WriteLimits,
        seed: int,
        until_settled: bool = True,
    ) -> Iterator[Epoch]:
        """Epochs with so many programs a task on average, beginning with the known programs.

        until_settled: only tasks that are not settled get programs, and without any of them the
        epochs end. The model is left as the last epoch adapted it.
        """
        trials: dict[str, list[Trial]] = {task.task_id: [] for task in tasks}
        for trial in known:
            trials[trial.draft.task.task_id].append(trial)

        for number, num_programs in enumerate(num_samples):
            unsettled = _unsettled(tasks, trials) if until_settled else list(tasks)
            if not unsettled or limits.deadline.is_past():
                return

            own_seed = seed_of(seed, tasks[0].task_id, "epoch", number)
            solved = [
                relabel(trial) for task in tasks for trial in self._picked(trials[task.task_id])
            ]
            outcome = self._learn(solved, num_tasks=len(tasks), limits=limits, seed=own_seed)

            adapter = None
            if not isinstance(outcome, NotTuned):
                adapter = (outcome.adapter_dir, outcome.adapter_sha)

            found: list[Trial] = []
            for batch in self.write(
                unsettled,
                num_samples=num_programs * len(tasks) // len(unsettled),
                adapter=adapter,
                limits=limits,
                seed=own_seed,
            ):
                found += batch

            for trial in found:
                trials[trial.draft.task.task_id].append(trial)
            yield Epoch(outcome, len(solved), tuple(found))

    def _picked(self, trials: Sequence[Trial]) -> list[Trial]:
        return pick(trials, self._settings.picked, is_diverse=self._settings.is_diverse)

    def _learn(
        self, solved: Sequence[Relabelled], *, num_tasks: int, limits: WriteLimits, seed: int
    ) -> Outcome:
        """Train on the solved tasks, for a few passes over the lessons at most.

        With more the model would learn the programs by heart and write nothing else.
        """
        lengths = program_lesson_tokens(solved, self._language, limits.max_lesson_tokens)
        row_tokens = max(lengths, default=0)
        settings = limits.tune_settings(row_tokens) if row_tokens else None
        if settings is None or not self._settings.learn:
            self._trainer.reset()
            return self._why_not(solved, row_tokens)

        step_tokens = row_tokens * settings.rows_per_step
        num_steps = -(-self._settings.passes * sum(lengths) // step_tokens)
        lessons = program_lessons(
            solved, self._language, generator(seed, "lessons"), max_tokens=row_tokens
        )
        return self._trainer.tune(
            lessons,
            replace(settings, max_steps=min(num_tasks * settings.max_steps, num_steps)),
            adapter_dir=limits.adapter_dir,
            deadline=limits.deadline.within(TRAIN_SHARE * limits.deadline.remaining_s()),
            seed=seed_of(seed, "adapter"),
        )

    def _why_not(self, solved: Sequence[Relabelled], row_tokens: int) -> NotTuned:
        """Why nothing was learnt."""
        if not self._settings.learn:
            return NotTuned("learning from programs is switched off", "result")
        if not solved:
            return NotTuned("no valid program yet", "result")
        if not row_tokens:
            return NotTuned("no lesson fits the sequence length", "length")
        return NotTuned("out of memory on every rung of the ladder", "memory")


def _unsettled(tasks: Sequence[Task], trials: Mapping[str, Sequence[Trial]]) -> list[Task]:
    """The tasks that no program fits; where there are none, those that no two programs settle."""
    unfitted = [task for task in tasks if not any(trial.fits for trial in trials[task.task_id])]
    return unfitted or [task for task in tasks if not agreed(trials[task.task_id])]
