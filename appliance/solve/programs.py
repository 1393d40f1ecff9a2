"""A worker's work on programs: it keeps a sandbox, writes for a job, and tells what it found."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.arc.grid import to_lists
from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.config import Settings
from appliance.engine.base import NotTuned, Served, Server, Trainer
from appliance.program.source import runnable
from appliance.program.trial import Draft, Trial, agreed, run_drafts
from appliance.solve.language import Language
from appliance.solve.messages import (
    EpochMessage,
    Event,
    Job,
    KnownProgram,
    ProgramMessage,
    Sampled,
    Wrote,
)
from appliance.solve.sandbox import open_sandbox
from appliance.solve.write_programs import Epoch, WriteLimits, Writer


@dataclass(frozen=True)
class Written:
    """How the writing for one task ended."""

    is_settled: bool  # two different programs agree, so no grids are needed
    is_whole: bool  # all the programs that were asked for are there


NOTHING = Written(is_settled=False, is_whole=True)
"""No programs were asked for."""


class ProgramWork:
    """Writes, runs and learns from programs, in the way that a job asks for."""

    def __init__(
        self,
        settings: Settings,
        language: Language,
        *,
        trainer: Trainer,
        server: Server,
        plain: Server,
        program_tokens: int,
        num_workers: int,
        stall_s: float,
        emit: Callable[[Event], None],
    ) -> None:
        """language: the one in which programs are asked for. plain: the server for jobs under
        which the sampling engine was lost. program_tokens: longest program where the settings name
        none. num_workers: of the sandbox. stall_s: see `Sampled`.

        Raises PrerequisiteError where this machine cannot isolate programs.
        """
        program = settings.program.model_copy(update={"learn": settings.learns})
        self._language = language
        self._settings = program
        self._emit = emit
        self._sandbox = open_sandbox(settings, workers=num_workers)
        self._stall_s = stall_s
        self._is_watched = False  # silence means now that the sampler is stuck
        self._job_id = 0
        self.served: list[Served] = []  # what generated in this job, each with what it came after

        self._writers = {
            is_plain: Writer(
                language,
                program,
                trainer=trainer,
                server=plain if is_plain else server,
                sandbox=self._sandbox,
                max_new_tokens=program.max_new_tokens or program_tokens,
                sample=settings.sample,
                tell=self._tell,
            )
            for is_plain in (False, True)
        }

    def quick(self, tasks: Sequence[Task], job: Job, limits: WriteLimits) -> list[str]:
        """Write the first programs of all tasks in one batch, with the model as it is.

        Then, `quick_epochs` times while there is time, write as many again with one adapter that
        has learnt from the programs of all tasks. Returns the tasks that got all their first
        programs.
        """
        wanted = self._settings.quick_samples
        writer = self._writer(job)

        known: list[Trial] = []
        for trials in writer.write(
            tasks, num_samples=wanted, adapter=None, limits=limits, seed=job.seed
        ):
            if trials:
                self._send(trials)
            known += trials

        for epoch in writer.epochs(
            tasks,
            known,
            num_samples=[wanted] * self._settings.quick_epochs,
            limits=limits,
            seed=job.seed,
        ):
            self._send(epoch.trials)

        num_run = Counter(trial.draft.task.task_id for trial in known)
        return [task.task_id for task in tasks if num_run[task.task_id] >= wanted]

    def deep(self, task: Task, job: Job, limits: WriteLimits) -> Written:
        """Search and learn on one task until the deadline of the limits.

        Where the job counts programs, it gets so many, and grids are asked for all the same.
        """
        clock = limits.deadline.clock
        began_s = clock.now()

        # Known programs come as text, without what they answered, and are run again.
        drafts = [_draft(task, known, self._language) for known in job.known]
        trials = list(run_drafts(drafts, self._sandbox, deadline=limits.deadline))

        epochs: list[EpochMessage] = []
        counted = job.program_rounds
        num_samples = [self._settings.samples_per_epoch] * self._settings.epochs
        for epoch in self._writer(job).epochs(
            [task],
            trials,
            num_samples=num_samples if counted is None else counted,
            until_settled=counted is None,
            limits=limits,
            seed=job.seed,
        ):
            self._send(epoch.trials)
            epochs.append(_epoch_message(epoch))
            trials += epoch.trials

        is_agreed = agreed(trials)
        self._emit(
            Wrote(
                job_id=job.job_id,
                task_id=task.task_id,
                seconds=clock.now() - began_s,
                is_agreed=is_agreed,
                epochs=epochs,
            )
        )
        if counted is None:
            return Written(is_settled=is_agreed, is_whole=True)
        num_written = sum(epoch.num_programs for epoch in epochs)
        return Written(is_settled=False, is_whole=num_written == sum(counted))

    def _writer(self, job: Job) -> Writer:
        self._job_id = job.job_id
        return self._writers[bool(job.plain_because)]

    def _tell(self, served: Served | None) -> None:
        """Tell the orchestrator whether silence means from now on that the sampler is stuck."""
        self._is_watched = served is not None and served.shows_life
        if served is not None and served not in self.served[-1:]:
            self.served.append(served)
        self._send(())

    def _send(self, trials: Sequence[Trial]) -> None:
        stall_s = self._stall_s if self._is_watched else None
        self._emit(
            Sampled(
                job_id=self._job_id,
                stall_s=stall_s,
                programs=[_program_message(trial) for trial in trials],
            )
        )


def _draft(task: Task, known: KnownProgram, language: Language) -> Draft:
    kind = language.style.answer
    assert kind != "grid"
    return Draft(
        task=task,
        view=View.parse(known.view),
        answer=known.answer,
        source=runnable(known.answer, kind),
        logprob=known.logprob,
        num_tokens=known.num_tokens,
    )


def _program_message(trial: Trial) -> ProgramMessage:
    draft = trial.draft
    outputs = hashlib.sha256(repr(trial.outputs_key()).encode()).hexdigest()[:16]
    return ProgramMessage(
        task_id=draft.task.task_id,
        view=draft.view.name,
        adapter=draft.adapter,
        answer=draft.answer,
        source=draft.source,
        outcome=trial.outcome,
        error=trial.error,
        demo_score=trial.demo_score,
        similarity=trial.similarity,
        outputs=outputs,
        test=[None if grid is None else to_lists(grid) for grid in trial.test],
        logprob=draft.logprob,
        num_tokens=draft.num_tokens,
    )


def _epoch_message(epoch: Epoch) -> EpochMessage:
    counts = {
        "num_picked": epoch.num_picked,
        "num_programs": len(epoch.trials),
        "num_fit": sum(trial.fits for trial in epoch.trials),
    }
    if isinstance(epoch.outcome, NotTuned):
        return EpochMessage(**counts, reason=epoch.outcome.reason, cause=epoch.outcome.cause)

    return EpochMessage(
        **counts,
        num_steps=epoch.outcome.num_steps,
        loss_before=epoch.outcome.loss_before,
        loss_after=epoch.outcome.loss_after,
    )
