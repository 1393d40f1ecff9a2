"""Search and learn: write programs, run them, learn from what they really do, write again.

One epoch: the best programs so far become solved tasks by hindsight (`program/relabel.py`), a fresh adapter is trained on
these for a short while, and the adapted model writes the next programs. They go where they may still find something: none to a
task that two different programs settle, which fit all demonstrations and answer alike, and where an epoch takes several
tasks, those that no program fits yet share the programs of all. It ends when all tasks are settled, when the epochs are over,
or when the time is. The first programs of all tasks are written in one batch by the plain model; an epoch may take all tasks
together, one adapter for all, or one task by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.arc.task import Task
from appliance.arc.view import sampling_views
from appliance.clock import Deadline
from appliance.config import ProgramSettings
from appliance.engine.base import NotTuned, Outcome, Sampler, Served, Server, Trainer, TuneSettings
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
from appliance.solve.transduce import Language

TRAIN_SHARE = 0.5
"""Learning may use this part of the time left at most: what is learnt must be put to use."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """outcome: of the training before it. trials: the programs that were written and run after it."""

    outcome: Outcome
    num_picked: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Room:
    """What a job leaves to a search.

    tune_settings: by the tokens of the longest lesson, max_steps for each task; None where nothing may be trained.
    batch_tokens: (prompt + new tokens) x rows of one batch of the sampler.
    """

    max_lesson_tokens: int
    tune_settings: Callable[[int], TuneSettings | None]
    batch_tokens: int
    adapter_dir: Path
    deadline: Deadline


class Searcher:
    """What search needs of a worker: the model that writes, the engines that train and sample it, and the sandbox.

    max_new_tokens: of the longest program. keep_colours: views leave the colours as they are. tell: called with what samples
    when it begins and whenever it has written something, and with None when it has ended.
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
        keep_colours: bool = False,
        tell: Callable[[Served | None], None] = lambda _: None,
    ) -> None:
        self._language = language
        self._settings = settings
        self._trainer = trainer
        self._server = server
        self._sandbox = sandbox
        self._max_new_tokens = max_new_tokens
        self._keep_colours = keep_colours
        self._tell = tell

    def write(
        self,
        tasks: Sequence[Task],
        *,
        num_samples: int,
        adapter: tuple[Path, str] | None,
        room: Room,
        seed: int,
    ) -> Iterator[list[Trial]]:
        """Programs for these tasks by the model as it is now, run: a list for each batch that the sampler finished.

        adapter: folder and hash of what the trainer's model wears, None while it is plain.
        """
        asked = []
        for task in tasks:
            own_seed = seed_of(seed, task.task_id, "programs")
            rng = generator(own_seed, "views")
            num_views = -(-num_samples // self._settings.samples_per_view)
            views = sampling_views(rng, num_views, len(task.train), keep_colours=self._keep_colours)
            asked += program_questions(
                task,
                views,
                self._language,
                self._settings,
                num_samples=num_samples,
                max_new_tokens=self._max_new_tokens,
                seed=own_seed,
            )
        requests = [request for _, request in asked]
        directory, name = adapter or (None, "")
        with self._server.serve(
            self._trainer, adapter_dir=directory, batch_tokens=room.batch_tokens
        ) as served:
            self._tell(served)
            sampler: Sampler = served.sampler
            for batch in sampler.sample(requests, deadline=room.deadline):
                self._tell(served)
                drafts: list[Draft] = []
                for completion in batch:
                    question = asked[completion.request_index][0]
                    drafts.append(draft_of(question, completion, self._language, adapter=name))
                yield list(run_drafts(drafts, self._sandbox, deadline=room.deadline))
        self._tell(None)

    def search(
        self,
        tasks: Sequence[Task],
        known: Sequence[Trial],
        *,
        num_epochs: int,
        num_samples: int,
        room: Room,
        seed: int,
    ) -> Iterator[Epoch]:
        """Epochs of num_samples programs a task on average, beginning with the programs that are known already.

        The model is left as the last epoch adapted it.
        """
        trials: dict[str, list[Trial]] = {task.task_id: [] for task in tasks}
        for trial in known:
            trials[trial.draft.task.task_id].append(trial)
        for number in range(num_epochs):
            wanting = _wanting(tasks, trials)
            if not wanting or room.deadline.is_past():
                return
            own_seed = seed_of(seed, tasks[0].task_id, "epoch", number)
            solved = [
                relabel(trial) for task in tasks for trial in self._picked(trials[task.task_id])
            ]
            outcome = self._learn(solved, num_tasks=len(tasks), room=room, seed=own_seed)
            adapter = (
                None
                if isinstance(outcome, NotTuned)
                else (outcome.adapter_dir, outcome.adapter_sha)
            )
            found: list[Trial] = []
            for batch in self.write(
                wanting,
                num_samples=num_samples * len(tasks) // len(wanting),
                adapter=adapter,
                room=room,
                seed=own_seed,
            ):
                found += batch
            for trial in found:
                trials[trial.draft.task.task_id].append(trial)
            yield Epoch(outcome, len(solved), tuple(found))

    def _picked(self, trials: Sequence[Trial]) -> list[Trial]:
        return pick(trials, self._settings.picked, is_diverse=self._settings.is_diverse)

    def _learn(
        self, solved: Sequence[Relabelled], *, num_tasks: int, room: Room, seed: int
    ) -> Outcome:
        """A few passes over the lessons, no more: a program learnt by heart is all that the model would write."""
        lengths = program_lesson_tokens(solved, self._language, room.max_lesson_tokens)
        row_tokens = max(lengths, default=0)
        settings = room.tune_settings(row_tokens) if row_tokens else None
        if settings is None or not self._settings.learn:
            self._trainer.reset()
            return NotTuned(self._why_not(solved, row_tokens))
        step_tokens = row_tokens * settings.rows_per_step
        num_steps = -(-self._settings.passes * sum(lengths) // step_tokens)
        return self._trainer.tune(
            program_lessons(
                solved, self._language, generator(seed, "lessons"), max_tokens=row_tokens
            ),
            replace(settings, max_steps=min(num_tasks * settings.max_steps, num_steps)),
            adapter_dir=room.adapter_dir,
            deadline=room.deadline.within(TRAIN_SHARE * room.deadline.remaining_s()),
            seed=seed_of(seed, "adapter"),
        )

    def _why_not(self, solved: Sequence[Relabelled], row_tokens: int) -> str:
        if not self._settings.learn:
            return "learning is switched off"
        if not solved:
            return "no valid program yet"
        return (
            "out of memory on every rung of the ladder"
            if row_tokens
            else "no lesson fits the sequence length"
        )


def _wanting(tasks: Sequence[Task], trials: Mapping[str, Sequence[Trial]]) -> list[Task]:
    """The tasks that no program fits, else those that no two programs settle."""
    unfitted = [task for task in tasks if not any(trial.fits for trial in trials[task.task_id])]
    return unfitted or [task for task in tasks if not agreed(trials[task.task_id])]
