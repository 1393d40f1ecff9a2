"""Where the results of a job go: into the journal, the vote and the forecast, and to people."""

from __future__ import annotations

from collections.abc import Callable

from appliance.arc.task import Task
from appliance.clock import Clock
from appliance.config import Settings
from appliance.engine.base import Cause
from appliance.run.ledger import Ledger, Outcome
from appliance.run.resend import remaining_job
from appliance.run.schedule.schedule import Schedule
from appliance.run.worker_state import Running, TaskReport, views_answered
from appliance.solve.messages import Finished, Job


class Results:
    """Bookkeeping over the jobs of all workers."""

    def __init__(
        self,
        settings: Settings,
        schedule: Schedule,
        ledger: Ledger,
        clock: Clock,
        show: Callable[[TaskReport], None],
    ) -> None:
        self._settings = settings
        # Learning from programs is a part of writing them.
        self._trains = settings.train.enabled and settings.writes_grids
        self._is_counted = settings.sample.predictions is not None
        self._schedule = schedule
        self._ledger = ledger
        self._clock = clock
        self._show = show

    def finish(self, running: Running, event: Finished) -> None:
        """A job came to its end: what it gave counts, also where its time cut it off."""
        assignment = running.assignment
        # A job that was sent again had answered some tasks before its worker was lost.
        complete = [*running.answered, *event.complete]
        is_empty = not running.candidates and not complete
        if assignment.stage != "search":
            self._measure(running, event, complete)

        for task in assignment.tasks:
            found = running.found(task)
            # A deep job has one task: any answer of it is all there will be of this round. Where
            # predictions are counted, the next round gives the rest.
            is_all = bool(found) and assignment.stage == "deep" and not self._is_counted
            is_done = task.task_id in complete or is_all
            if is_done:
                self._note(running, task, "done", finished=event)
            elif found:
                self._note(running, task, "partial", finished=event)
            else:
                reason = "no answer in its time"
                self._note(running, task, "failed", reason=reason, cause="time", finished=event)

        # Last, for it weighs what the answers did to the vote.
        self._schedule.finished(assignment, complete, seconds=event.seconds, is_empty=is_empty)

    def keep_partial(self, running: Running | None) -> None:
        """The job was cut off; its candidates vote all the same."""
        for task in running.assignment.tasks if running else ():
            if running and running.found(task):
                self._note(running, task, "partial")

    def give_up(self, running: Running, task_id: str, reason: str, cause: Cause) -> None:
        """The task is not tried again at this stage. What it has stays."""
        task = self._schedule.states[task_id].task
        status = "partial" if running.found(task) else "failed"
        self._note(running, task, status, reason=reason, cause=cause)

    def remaining(self, running: Running | None) -> Job | None:
        """What is left of a job whose worker was lost, None if it cannot be resumed."""
        if running is None:
            return None

        settings = self._settings
        return remaining_job(
            running,
            samples_per_view=settings.sample.samples_per_view if settings.writes_grids else 0,
            quick_programs=settings.program.quick_samples if settings.writes_programs else 0,
        )

    def _measure(self, running: Running, event: Finished, complete: list[str]) -> None:
        """What the job took goes into the forecast of those to come."""
        forecast = self._schedule.forecast
        for task_id, trained in running.trained.items():
            forecast.note_training(task_id, trained.num_steps, trained.seconds)

        # What neither trained nor wrote programs, sampled.
        aside_s = sum(t.seconds for t in running.trained.values())
        aside_s += sum(s.seconds for s in running.wrote.values())
        views = views_answered(running, complete, self._samples_per_view)
        forecast.note_sampling(running.assignment.stage, views, event.seconds - aside_s)

    @property
    def _samples_per_view(self) -> float:
        """On the mean."""
        sample = self._settings.sample
        if sample.predictions is not None:
            return sample.predictions / sample.views
        return sample.samples_per_view

    def _note(
        self,
        running: Running,
        task: Task,
        status: str,
        *,
        reason: str | None = None,
        cause: Cause | None = None,
        finished: Finished | None = None,
    ) -> None:
        """Write down what a job gave for one of its tasks, and take it into the vote."""
        assignment, found = running.assignment, running.found(task)
        trained = running.training(task.task_id, is_wanted=self._trains)
        if trained and trained.adapter_sha:
            self._schedule.set_adapter(task.task_id, trained.adapter_sha)

        # Tasks of one job were answered in the same batches, so its time is divided equally.
        seconds = (self._clock.now() - running.started_s) / len(assignment.tasks)
        outcome = Outcome(
            status=status,
            candidates=found,
            programs=running.written(task),
            trained=trained,
            wrote=running.wrote.get(task.task_id),
            searched=running.searched,
            seconds=seconds,
            worker=running.worker,
            reason=reason,
            cause=cause,
            how=finished.how if finished else "",
            refused=finished.refused if finished else (),
        )
        self._ledger.put(assignment, task, outcome)
        if self._is_counted and assignment.stage == "deep" and found:
            self._schedule.mark_cut(task.task_id, assignment.round)

        if task.task_id in self._ledger.found:
            self._schedule.set_found(task.task_id)
        certainty = self._ledger.certainties.get(task.task_id)
        if certainty is not None:
            self._schedule.set_certainty(task.task_id, certainty)
        if found or status != "failed":
            self._show(
                TaskReport(
                    task,
                    assignment.stage,
                    trained,
                    tuple(found),
                    seconds,
                    assignment.round,
                    running.searched,
                )
            )
