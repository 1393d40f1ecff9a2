"""The worker child: one device, one model, job after job (long, for all jobs share the model).

Runs as `python -m appliance.solve.worker`. It reads one Setup line and then Job lines, and answers
with Event lines (see line_protocol.py).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from appliance.arc.prompt import get_style
from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.clock import Deadline, SystemClock
from appliance.engine.base import EngineSpec, NotTuned, Outcome, Served, Server, TuneSettings
from appliance.engine.device_faults import check_device, is_out_of_memory, poisons_process
from appliance.engine.environment import hide_scipy, hush_kernel_hub, no_garbage_collection
from appliance.engine.folder.card import FolderCard, read_card
from appliance.engine.folder.identity import weights_sha
from appliance.engine.memory_meter import TrainingMemory, meter_of
from appliance.engine.probe import TRAINING_SHARE, probe_engines, probe_training
from appliance.engine.registry import import_first, make_scorer, make_server, make_trainer
from appliance.engine.training.packing import TokenSequence
from appliance.errors import (
    AdapterLost,
    DeviceLost,
    EngineError,
    EngineLost,
    InputError,
    OutOfMemory,
)
from appliance.foreign_text import as_file_name
from appliance.machine.contention import slowdown
from appliance.seeds import generator, seed_of
from appliance.sizing.memory_ladder import RUNGS
from appliance.solve.grids import GridWork
from appliance.solve.ladder import (
    batch_tokens_at,
    tune_settings_again,
    tune_settings_at,
    tune_settings_made,
    tune_settings_of,
)
from appliance.solve.language import Language
from appliance.solve.line_protocol import Emit, blame_of, failed, message_of, open_lines
from appliance.solve.messages import (
    Checked,
    Finished,
    Job,
    LeftOut,
    Probed,
    Ready,
    Setup,
    Trained,
)
from appliance.solve.programs import NOTHING, ProgramWork, Written
from appliance.solve.rate_check import check_rates
from appliance.solve.transduce import LessonPlan, lessons, longest_lesson, questions
from appliance.solve.write_programs import WriteLimits


class Worker:
    """The loaded model and what is done with it, one job at a time."""

    def __init__(self, setup: Setup, emit: Emit) -> None:
        """Load the model and start the engines; emits Ready.

        A sampling engine that does not start is replaced by Transformers. Raises DeviceLost,
        InputError for a bad model or adapter, EngineError for a trainer that does not start,
        OutOfMemory.
        """
        import torch

        torch.set_num_threads(setup.num_threads)
        self._clock = SystemClock()
        began_s = self._clock.now()
        self._setup = setup
        self._emit = emit

        check_device(setup.device)
        model_dir = Path(setup.model_dir)
        card = read_card(model_dir)
        window_tokens = min(card.max_positions, setup.window_tokens)
        spec = _spec(setup, window_tokens)
        import_first(setup.trainer, spec)
        self._language = replace(Language.of(model_dir), max_seq_tokens=window_tokens)
        codec = self._language.codec
        self._max_lesson_tokens = min(setup.settings.train.max_seq_tokens, card.max_positions)

        self._trainer = make_trainer(setup.trainer, spec, codec)
        self._memory = TrainingMemory(meter_of(setup.device))  # before anything else is loaded
        self._plain = make_server("transformers", spec, codec, self._trainer)
        self._server, self._engine_faults = self._plain, list[str]()
        self._served: list[Served] = []  # what generated grids in this job
        try:
            self._server = make_server(setup.engine, spec, codec, self._trainer)
        except EngineError as fault:
            traceback.print_exc()
            self._engine_faults = [f"{setup.engine}: {fault}"]

        # After the sampling engine, which is started beside the plain model.
        self._start: Literal["new", "continue"] = "new"
        if setup.settings.model.adapter is not None:
            self._start = "continue"
            with self._memory.joined():
                self._trainer.start_from_shipped()

        self._grids = GridWork(setup, self._language, emit)
        self._programs = self._program_work(card) if setup.settings.writes_programs else None

        engine = setup.engine
        if self._engine_faults:
            engine = " not ".join(["transformers", *self._engine_faults])
        facts = {
            "parameters": sum(p.numel() for p in self._trainer.model.parameters()),
            "style": card.style,
            "max_seq_tokens": card.max_positions,
            "torch": torch.__version__,
            "engine": engine,
        }
        # A GPU works as fast whatever the cores do.
        slow = slowdown() if setup.device == "cpu" else 1.0
        emit(Ready(seconds=self._clock.now() - began_s, facts=facts, slowdown=slow))

    def do(self, job: Job) -> None:
        """Do one job; its events are emitted as they come.

        Raises OutOfMemory when the device has no room for it.
        """
        began_s = self._clock.now()
        deadline = Deadline(job.deadline_s, self._clock)
        tasks = [m.task() for m in job.tasks]
        if job.stage == "probe":
            self._emit(self._probe(tasks[0], job, deadline))
            return
        if job.stage == "check":
            self._emit(self._check_rates(job, deadline))
            return

        self._served = []
        if self._programs:
            self._programs.served = []

        complete = [task.task_id for task in tasks]
        written = self._write_programs(tasks[0], job) if job.stage == "deep" else NOTHING
        # Where the answers are counted, there may be none left to ask for.
        if self._setup.settings.writes_grids and not written.is_settled and job.asks != []:
            complete = self._do_grids(tasks, job, deadline)
        if not written.is_whole:
            complete = []

        if self._programs and job.stage == "quick":
            whole = self._write_first_programs(tasks, job, deadline)
            complete = [task_id for task_id in complete if task_id in whole]

        seconds = self._clock.now() - began_s
        serving = self._told_of_serving(job)
        self._emit(Finished(job_id=job.job_id, complete=complete, seconds=seconds, **serving))

    def _told_of_serving(self, job: Job) -> dict[str, Any]:
        """What generated the answers, and why nothing better did.

        Writing programs loads an adapter each epoch: a reason that comes back counts once.
        """
        served = [*(self._programs.served if self._programs else []), *self._served]
        if not served:
            return {}

        plain = [job.plain_because] if job.plain_because else []
        refused = [*self._engine_faults, *plain, *(r for s in served for r in s.refused)]
        return {"how": served[-1].how, "refused": list(dict.fromkeys(refused))}

    def _do_grids(self, tasks: list[Task], job: Job, deadline: Deadline) -> list[str]:
        """Train where the job says so, and sample grids.

        Returns the tasks all of whose questions were answered.
        """
        adapter_sha = job.adapter_sha
        if adapter_sha:
            self._put_on(tasks[0], job)
        elif job.stage == "deep" and job.train_until_s > 0:
            began_s = self._clock.now()
            outcome = self._tune_or_not(tasks[0], job)
            self._emit(_trained(job, tasks[0].task_id, outcome, self._clock.now() - began_s))
            adapter_sha = "" if isinstance(outcome, NotTuned) else outcome.adapter_sha
        else:
            self._trainer.reset()

        server = self._plain if job.plain_because else self._server
        adapter_dir = self._adapter_dir(tasks[0]) if adapter_sha else None
        with server.serve(
            self._trainer, adapter_dir=adapter_dir, batch_tokens=self._batch_tokens(job)
        ) as served:
            self._served.append(served)
            sampling = self._grids.sampling_deadline(job, deadline)
            complete, answers = self._grids.sample(
                tasks, job, served, adapter=adapter_sha, deadline=sampling
            )

        if self._grids.has_scores(job):
            try:
                with self._trainer.merged() as model:  # it still has the task's adapter on
                    self._grids.score(
                        tasks,
                        job,
                        answers,
                        model,
                        batch_tokens=self._batch_tokens(job),
                        deadline=deadline,
                    )
            except Exception as fault:
                if _ends_job(fault):
                    raise
                self._leave_out("scores", job, fault)

        return complete

    def _write_first_programs(self, tasks: list[Task], job: Job, deadline: Deadline) -> list[str]:
        """Returns the tasks that got all of theirs; all tasks where grids have to do instead."""
        assert self._programs is not None
        try:
            self._trainer.reset()
            limits = self._limits(job, f"quick-{job.job_id}", deadline)
            return self._programs.quick(tasks, job, limits)
        except Exception as fault:
            if _ends_job(fault) or not self._setup.settings.writes_grids:
                raise
            self._leave_out("programs", job, fault)
            return [task.task_id for task in tasks]

    def _write_programs(self, task: Task, job: Job) -> Written:
        """Write programs as long as the job says."""
        if self._programs is None or job.program_until_s <= 0:
            return NOTHING

        deadline = Deadline(min(job.program_until_s, job.deadline_s), self._clock)
        limits = self._limits(job, as_file_name(task.task_id), deadline)
        try:
            return self._programs.deep(task, job, limits)
        except Exception as fault:
            if _ends_job(fault) or not self._setup.settings.writes_grids:
                raise
            self._leave_out("programs", job, fault)
            return NOTHING

    def _leave_out(self, part: Literal["programs", "scores"], job: Job, fault: Exception) -> None:
        """Go on without what failed, and tell. To be called where it was caught."""
        traceback.print_exc()
        message, blame = message_of(fault), blame_of(fault)
        self._emit(LeftOut(job_id=job.job_id, part=part, message=message, blame=blame))

    def _limits(self, job: Job, adapter_name: str, deadline: Deadline) -> WriteLimits:
        """What writing programs may use on the job's rung of the memory ladder."""
        return WriteLimits(
            max_lesson_tokens=self._lesson_tokens(job),
            tune_settings=partial(self._program_tune_settings, rung=job.rung),
            batch_tokens=self._batch_tokens(job),
            # as_file_name gives no dot, so no task has this folder for its grids.
            adapter_dir=Path(self._setup.adapters_dir) / f"{adapter_name}.programs",
            deadline=deadline,
        )

    def _program_tune_settings(self, row_tokens: int, rung: int) -> TuneSettings | None:
        program = self._setup.settings.program
        planned = self._tune_settings(row_tokens, rung)
        if planned is None:
            return None

        return replace(
            planned, method="lora", learning_rate=program.learning_rate, max_steps=program.max_steps
        )

    def _program_work(self, card: FolderCard) -> ProgramWork:
        return ProgramWork(
            self._setup.settings,
            replace(self._language, style=get_style(card.program_style)),
            trainer=self._trainer,
            server=self._server,
            plain=self._plain,
            program_tokens=card.program_tokens,
            num_workers=self._setup.num_threads,
            stall_s=self._setup.stall_s,
            emit=self._emit,
        )

    def _lesson_tokens(self, job: Job) -> int:
        """Longest lesson in tokens on the job's rung of the memory ladder."""
        return RUNGS[job.rung].seq_tokens(self._max_lesson_tokens)

    def _batch_tokens(self, job: Job) -> int:
        return batch_tokens_at(self._setup.settings.sample.batch_tokens, job.rung)

    def _probe(self, task: Task, job: Job, deadline: Deadline) -> Probed:
        """Measure at the length of this task what the plan only computed."""
        row_tokens = longest_lesson(task, self._language, self._lesson_tokens(job))
        settings = None
        if row_tokens and job.train_until_s:
            settings = self._tune_settings(row_tokens, job.rung)

        training = None
        if settings is not None:
            stream = self._lessons(task, job, row_tokens)
            training = probe_training(
                self._trainer,
                stream,
                settings,
                memory=self._memory,
                deadline=deadline.within(TRAINING_SHARE * deadline.remaining_s()),
            )

        views = [View.parse(name) for name in job.views]
        asked = questions(
            task, views, self._language, temperature=0.0, top_p=1.0, num_samples=1, seed=0
        )
        prompt_ids = asked[0][1].prompt_ids if asked else ()

        self._trainer.reset()
        sampling, batch_s = probe_engines(self._to_probe(job), prompt_ids, deadline=deadline)

        return Probed(
            job_id=job.job_id,
            tokens=row_tokens,
            prompt_tokens=len(prompt_ids),
            rows=settings.rows_per_step if settings else 1,
            gradient_checkpointing=settings.gradient_checkpointing if settings else False,
            train_step_s=training.step_s if training else None,
            train_memory_gib=training.memory_gib if training else None,
            memory_fault=self._memory.fault if training else "",
            read_s=sampling.read_s,
            write_token_s=sampling.write_token_s,
            short_tokens=sampling.short_tokens,
            batch_s=batch_s,
        )

    def _to_probe(self, job: Job) -> dict[str, Callable[[], AbstractContextManager[Served]]]:
        """The engine of this worker, and Transformers beside it where they are compared.

        An engine that did not start is Transformers already.
        """
        servers = {self._setup.engine: self._server}
        if self._setup.is_compared and self._server is not self._plain:
            servers["transformers"] = self._plain

        def serve(server: Server) -> AbstractContextManager[Served]:
            return server.serve(
                self._trainer, adapter_dir=None, batch_tokens=self._batch_tokens(job)
            )

        return {name: partial(serve, server) for name, server in servers.items()}

    def _check_rates(self, job: Job, deadline: Deadline) -> Checked:
        def settings(task: Task) -> TuneSettings | None:
            row_tokens = longest_lesson(task, self._language, self._lesson_tokens(job))
            return self._tune_settings(row_tokens, job.rung) if row_tokens else None

        return check_rates(
            job,
            self._trainer,
            self._language,
            settings=settings,
            lessons=lambda task, row_tokens: self._lessons(task, job, row_tokens),
            make_scorer=lambda model: make_scorer(
                self._setup.trainer,
                model,
                pad_id=self._language.codec.pad_id,
                batch_tokens=self._batch_tokens(job),
            ),
            adapter_dir=Path(self._setup.scratch_dir) / f"check-{os.getpid()}",
            deadline=deadline,
        )

    def _lessons(self, task: Task, job: Job, row_tokens: int) -> Iterator[TokenSequence]:
        train = self._setup.settings.train
        rng = generator(job.seed, task.task_id, "lessons")
        plan = LessonPlan.of(train)
        return lessons(task, self._language, rng, max_tokens=row_tokens, plan=plan)

    def _adapter_dir(self, task: Task) -> Path:
        return Path(self._setup.adapters_dir) / as_file_name(task.task_id)

    def _put_on(self, task: Task, job: Job) -> None:
        """Put on the adapter that an earlier round saved.

        Raises AdapterLost when the folder does not hold it any more.
        """
        folder, settings = self._adapter_dir(task), self._tune_settings(1, job.rung)
        if settings is None:
            raise AdapterLost(f"no adapter of {task.task_id} fits the memory any more")
        try:
            found = weights_sha(folder)
            if found != job.adapter_sha:
                raise AdapterLost(
                    f"the adapter of {task.task_id} is {found[:12]}",
                    expected=f"{job.adapter_sha[:12]}, which the journal names",
                )
            self._trainer.load(folder, tune_settings_made(settings, folder))
        except InputError as fault:  # no weights, or a record that does not fit them
            raise AdapterLost(f"the adapter of {task.task_id}: {fault.found}") from fault

    def _tune_or_not(self, task: Task, job: Job) -> Outcome:
        """Train on the task. After a fault it is answered by the model as it was loaded."""
        try:
            return self._tune(task, job)
        except Exception as fault:
            if _ends_job(fault):
                raise
            traceback.print_exc()
            self._trainer.reset()
            return NotTuned(message_of(fault), "fault", blame_of(fault))

    def _tune(self, task: Task, job: Job) -> Outcome:
        """Test-time training on the task's own demonstrations."""
        max_tokens = self._lesson_tokens(job)
        row_tokens = longest_lesson(task, self._language, max_tokens)
        if row_tokens == 0:
            self._trainer.reset()
            return NotTuned(
                f"no lesson of at most {max_tokens} tokens can be made "
                f"from {len(task.train)} demonstrations",
                "length",
            )

        settings = self._tune_settings(row_tokens, job.rung)
        if settings is None:
            self._trainer.reset()
            return NotTuned("out of memory on every rung of the ladder", "memory")
        settings = tune_settings_again(
            settings, rank_divisor=job.rank_divisor, steps_fold=job.steps_fold
        )
        if job.learning_rate is not None:
            settings = replace(settings, learning_rate=job.learning_rate)

        return self._trainer.tune(
            self._lessons(task, job, row_tokens),
            settings,
            adapter_dir=self._adapter_dir(task),
            deadline=Deadline(min(job.train_until_s, job.deadline_s), self._clock),
            seed=seed_of(job.seed, task.task_id, "adapter"),
        )

    def _tune_settings(self, row_tokens: int, rung: int) -> TuneSettings | None:
        """Settings on this rung of the memory ladder, for lessons of at most so many tokens.

        None on the last rung, where nothing is trained.
        """
        train = self._setup.settings.train
        return tune_settings_at(tune_settings_of(train, row_tokens, start=self._start), rung)


def _spec(setup: Setup, window_tokens: int) -> EngineSpec:
    return EngineSpec(
        model_dir=Path(setup.model_dir),
        scratch_dir=Path(setup.scratch_dir) / str(os.getpid()),  # workers share the folder above
        device=setup.device,
        dtype=setup.dtype,
        autocast_dtype=setup.autocast_dtype,
        quantization=setup.quantization,
        shipped_adapter=setup.settings.model.adapter,
        max_seq_tokens=window_tokens,
        batch_tokens=setup.settings.sample.batch_tokens,
        memory_share=setup.memory_share,
        kv_cache_bytes=setup.kv_cache_bytes,
        max_num_seqs=setup.max_num_seqs,
        serving=setup.serving,
        sleeps=setup.sleeps,
        max_rank=setup.settings.train.rank,
    )


def _trained(job: Job, task_id: str, outcome: Outcome, seconds: float) -> Trained:
    if isinstance(outcome, NotTuned):
        return Trained(
            job_id=job.job_id,
            task_id=task_id,
            seconds=seconds,
            reason=outcome.reason,
            cause=outcome.cause,
            blame=outcome.blame,
        )

    return Trained(
        job_id=job.job_id,
        task_id=task_id,
        seconds=seconds,
        loss_before=outcome.loss_before,
        loss_after=outcome.loss_after,
        num_steps=outcome.num_steps,
        adapter_sha=outcome.adapter_sha,
    )


def _ends_job(fault: Exception) -> bool:
    """Whether the job cannot go on without the part that failed.

    For want of memory it is tried on another rung of the ladder, and a process that cannot be
    trusted any more, or has no device, does nothing more.
    """
    lost = isinstance(fault, EngineLost | DeviceLost) or poisons_process(fault)
    return lost or is_out_of_memory(fault) or isinstance(fault, OutOfMemory)


def main() -> None:
    hush_kernel_hub()
    lines, emit = open_lines()
    setup = Setup.model_validate_json(lines.get())
    if setup.trainer != "unsloth":  # which patches what it finds
        hide_scipy()
    try:
        with no_garbage_collection():
            worker = Worker(setup, emit)
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is told
        traceback.print_exc()
        told = failed(-1, fault)
        # unsloth that the plan chose, not the person, may be replaced by the trainer "peft".
        is_planned = setup.trainer == "unsloth" and setup.settings.model.trainer == "auto"
        if is_planned and told.kind == "engine":
            told = told.model_copy(update={"kind": "trainer"})
        emit(told)
        return

    while True:
        job = Job.model_validate_json(lines.get())
        try:
            worker.do(job)
        except Exception as fault:  # noqa: BLE001 - it ends the job and not the worker
            traceback.print_exc()
            if isinstance(fault, EngineLost) or poisons_process(fault):
                # Every later call would fail or hang, those of a tidy end as well. The
                # orchestrator goes on with another process.
                sys.stderr.flush()
                os._exit(1)
            emit(failed(job.job_id, fault))


if __name__ == "__main__":
    main()
