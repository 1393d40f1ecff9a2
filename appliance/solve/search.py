"""Search and learn: write programs, run them, learn from what they really do, write again.

One epoch on a task: the best programs so far become solved tasks by hindsight (`program/relabel.py`), a fresh adapter is
trained on these for a short while, and the adapted model writes the next programs. It ends when two different programs fit
all demonstrations and answer alike, when the epochs are over, or when the time is. The first programs of all tasks are
written in one batch by the plain model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.arc.task import Task
from appliance.arc.view import sampling_views
from appliance.clock import Deadline
from appliance.config import ProgramSettings
from appliance.engine.base import NotTuned, Outcome, Sampler, Server, Trainer, TuneSettings
from appliance.program.relabel import pick, relabel
from appliance.program.sandbox import Sandbox
from appliance.program.trial import Draft, Trial, agreed, run_drafts
from appliance.seeds import generator, seed_of
from appliance.solve.induce import draft_of, longest_program_lesson, program_lessons, program_questions
from appliance.solve.transduce import Language

TRAIN_SHARE = 0.5
"""Learning may use this part of the time left at most: what is learnt must be put to use."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """outcome: of the training before it. trials: the programs that were written and run after it."""

    outcome: Outcome
    num_picked: int
    trials: tuple[Trial, ...]


class Searcher:
    """What search needs of a worker: the model that writes, the engines that train and sample it, and the sandbox.

    max_new_tokens: of the longest program. keep_colours: views leave the colours as they are.
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
    ) -> None:
        self._language = language
        self._settings = settings
        self._trainer = trainer
        self._server = server
        self._sandbox = sandbox
        self._max_new_tokens = max_new_tokens
        self._keep_colours = keep_colours

    def write(
        self,
        tasks: Sequence[Task],
        *,
        num_samples: int,
        adapter: tuple[Path, str] | None,
        batch_tokens: int,
        deadline: Deadline,
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
        with self._server.serve(self._trainer, adapter_dir=directory, batch_tokens=batch_tokens) as served:
            sampler: Sampler = served.sampler
            for batch in sampler.sample(requests, deadline=deadline):
                drafts: list[Draft] = []
                for completion in batch:
                    question = asked[completion.request_index][0]
                    drafts.append(draft_of(question, completion, self._language, adapter=name))
                yield list(run_drafts(drafts, self._sandbox, deadline=deadline))

    def search(
        self,
        task: Task,
        known: Sequence[Trial],
        tune_settings: Callable[[int], TuneSettings | None],
        *,
        max_lesson_tokens: int,
        adapter_dir: Path,
        batch_tokens: int,
        deadline: Deadline,
        seed: int,
    ) -> Iterator[Epoch]:
        """Epochs on one task, beginning with the programs that are known already.

        tune_settings: by the tokens of the longest lesson; None where nothing may be trained.
        The model is left as the last epoch adapted it.
        """
        trials = list(known)
        for number in range(self._settings.epochs):
            if agreed(trials) or deadline.is_past():
                return
            picked = pick(trials, self._settings.picked, is_diverse=self._settings.is_diverse)
            solved = [relabel(trial) for trial in picked]
            row_tokens = longest_program_lesson(solved, self._language, max_lesson_tokens)
            own_seed = seed_of(seed, task.task_id, "epoch", number)
            settings = tune_settings(row_tokens) if row_tokens else None
            outcome: Outcome
            if settings is None or not self._settings.learn:
                self._trainer.reset()
                outcome = NotTuned(self._why_not(picked, row_tokens))
            else:
                outcome = self._trainer.tune(
                    program_lessons(solved, self._language, generator(own_seed, "lessons"), max_tokens=row_tokens),
                    replace(settings, max_steps=min(settings.max_steps, self._num_steps(len(solved), settings))),
                    adapter_dir=adapter_dir,
                    deadline=deadline.within(TRAIN_SHARE * deadline.remaining_s()),
                    seed=seed_of(own_seed, "adapter"),
                )
            adapter = None if isinstance(outcome, NotTuned) else (outcome.adapter_dir, outcome.adapter_sha)
            found: list[Trial] = []
            for batch in self.write(
                [task],
                num_samples=self._settings.samples_per_epoch,
                adapter=adapter,
                batch_tokens=batch_tokens,
                deadline=deadline,
                seed=own_seed,
            ):
                found += batch
            trials += found
            yield Epoch(outcome, len(picked), tuple(found))

    def _num_steps(self, num_solved: int, settings: TuneSettings) -> int:
        """A few passes, no more: one program learnt by heart is all that the model would write."""
        return -(-self._settings.passes * num_solved // settings.rows_per_step)

    def _why_not(self, picked: Sequence[Trial], row_tokens: int) -> str:
        if not self._settings.learn:
            return "learning is switched off"
        if not picked:
            return "no valid program yet"
        return "out of memory on every rung of the ladder" if row_tokens else "no lesson fits the sequence length"
