"""What follows when the same fault comes at task after task: it is told once, and then it ends.

First plainer engines stand in, where there are any. If the fault comes all the same, the run ends:
with more time it would only come again. A scored rerun, which nobody can start anew, goes on with
what works and reports the fault at its end. What counts as the same: schedule/repeated_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.engine.base import Blame, NotTuned
from appliance.errors import SameFault, SameInputFault, without_details
from appliance.record.coverage import names_of
from appliance.run.schedule.repeated_faults import RepeatedFaults
from appliance.run.schedule.schedule import Schedule
from appliance.run.worker_state import Running
from appliance.solve.messages import LeftOut, Scored, Trained, Wrote

PARTS = {
    "search": "at the search",
    "probe": "in the probe",
    "check": "in the check of the learning rate",
    "quick": "in the quick pass",
    "deep": "in the deep pass",
    "training": "at training",
    "programs": "at writing programs",
    "scores": "at scoring answers",
}
"""What may fail again and again, for people."""

LEFT_OUT = {"programs": "no programs were written", "scores": "answers were not scored"}
"""What a job goes without, for the count at the end of a run."""


class FaultWatch:
    """Counts the faults of jobs, and ends the run where they are always the same."""

    def __init__(
        self,
        schedule: Schedule,
        tell: Callable[[str], None],
        set_back: Callable[[str], None],
        *,
        make_plain: Callable[[str, str], bool],
        goes_on: bool,
    ) -> None:
        """make_plain: of a part of PARTS, and why; whether plainer engines stand in for it from now
        on. goes_on: leave out what always fails, and go on with the rest.
        """
        self._schedule = schedule
        self._tell = tell
        self._set_back = set_back
        self._make_plain = make_plain
        self._goes_on = goes_on
        self._repeated = RepeatedFaults(len(schedule.states))
        self._always_fails: set[str] = set()  # parts that the run goes on without
        self.fault: SameFault | None = None  # that a run which goes on reports at its end

    def went_on(self, running: Running, event: Trained | LeftOut | Scored | Wrote) -> None:
        """A part of a job went well, or failed and was left out. Raises SameFault as `failed`."""
        match event:
            case Trained(cause="fault", reason=str(reason)):
                self._tell(f"{running.name}: training failed: {reason}; it is answered untrained")
                self.failed(running, "training", reason, event.blame)
            case LeftOut():
                task_ids = [task.task_id for task in running.assignment.tasks]
                why = without_details(event.message, task_ids)
                self._set_back(f"{LEFT_OUT[event.part]}: {why}")
                self.failed(running, event.part, event.message, event.blame)
            case Trained(reason=None):
                self._repeated.went_well("training")
            case Scored():
                self._repeated.went_well("scores")
            case Wrote():
                self._repeated.went_well("programs")

    def went_well(self, running: Running) -> None:
        """A job came to its end."""
        self._repeated.went_well(running.assignment.stage)

    def failed(self, running: Running, part: str, message: str, blame: Blame) -> None:
        """A job failed at this part. Raises SameFault where every task would."""
        assignment = running.assignment
        is_good_in_part = len(assignment.tasks) > 1 and running.candidates
        # In a further round every task has the answers of the first one.
        if assignment.round > 1 or is_good_in_part or part in self._always_fails:
            return

        task_ids = tuple(task.task_id for task in assignment.tasks)
        met = self._repeated.met(part, message, task_ids)
        if not met:
            return
        if blame == "engine" and self._make_plain(part, message):
            self._repeated.went_well(part)
            return

        self._end(part, message, blame, met)

    def _end(self, part: str, message: str, blame: Blame, met: list[str]) -> None:
        """End the run; or go on without this part."""
        kind = SameInputFault if blame == "input" else SameFault
        tasks = "one task, twice" if len(met) == 1 else f"{len(met)} tasks in a row"
        fault = kind(
            f"the same fault {PARTS[part]} at {tasks} ({names_of(met)}): {message}",
            remedy="mend what it names (run/logs tells more); the same command goes on from here",
        )
        if not self._goes_on:
            self._tell(f"the run ends: {fault.found}")
            raise fault

        self._tell(f"{fault.found}; nobody can start this run again, it goes on with what works")
        self.fault = self.fault or SameFault(fault.found, remedy=fault.remedy)
        self._always_fails.add(part)
        if part == "training":
            self._schedule.stop_training(NotTuned(message, "fault", blame))
