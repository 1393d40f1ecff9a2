"""The probe: the first ready worker measures what the plan has only calculated.

The other workers begin with the tasks meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

from appliance.engine.probe import BATCH
from appliance.record.journal import Journal
from appliance.run.schedule.planned_costs import PlannedCosts, correction_lines
from appliance.run.schedule.repeated_faults import IN_A_ROW
from appliance.run.schedule.schedule import Schedule
from appliance.run.schedule.task_state import Assignment
from appliance.sizing.costs.task_costs import Probe
from appliance.sizing.memory_ladder import LAST_RUNG
from appliance.solve.messages import Probed

PATIENCE = 3.0
"""A probe that takes this many times its planned time ends with what it has."""

WARM_UP_S = 30.0
"""It has as long as this in any case: kernels that are compiled first may take so long. Whoever
comes first pays for them, so that a probe costs no more for it."""

WARM_UP_SHARE = 0.1
"""But not more than this part of the time that is left."""

BUSY_FROM = 1.2
"""Other work counts from this slowdown on: the workers of a run disturb each other a little."""


class Prober:
    """Hands out one probe. What it found goes into the schedule, the journal and to people."""

    def __init__(
        self,
        planned: PlannedCosts,
        schedule: Schedule,
        journal: Journal,
        tell: Callable[[str], None],
        device_s: float,
    ) -> None:
        """device_s: seconds of all devices together, of which a probe may take a small part."""
        self._planned = planned
        self._schedule = schedule
        self._journal = journal
        self._tell = tell

        # Programs alone learn from lessons of another length, which a probe would not tell about.
        writes_grids = planned.settings.writes_grids
        self._device_s = device_s
        self._to_probe = planned.to_probe(device_s) if writes_grids else None
        self._is_slowdown_known = False
        self._probed: list[str] = []  # tasks, the last one last
        self._is_out = False  # a worker is at it
        # Why Transformers samples in place of the planned engine, "" where it does not.
        self.plain_because = ""
        self._begin_on_rungs()
        self._tell_of_no_probe()

    def _tell_of_no_probe(self) -> None:
        if self._to_probe is None and self._planned.settings.writes_grids:
            self._tell(
                "no probe: it would take too much of this budget; "
                "the first jobs correct the plan instead"
            )

    @property
    def planned(self) -> PlannedCosts:
        """As they are known by now."""
        return self._planned

    @property
    def is_over(self) -> bool:
        """Nothing will be corrected any more."""
        return self._to_probe is None and not self._is_out

    def expect(self, slowdown: float) -> None:
        """Plan by what the first worker met that is ready: with other work on the cores all takes
        so many times as long. Until it is measured: jobs that are too long for their time give
        nothing.
        """
        if self._is_slowdown_known:
            return
        self._is_slowdown_known = True
        if slowdown < BUSY_FROM:
            return

        self._schedule.slowdown = slowdown
        self._planned = self._planned.slowed_by(slowdown)
        self._schedule.forecast.replan(self._planned.task_costs())
        self._tell(
            f"other work has the cores as well: a worker took {slowdown:.1f} times as long as it "
            "computed; planned times are multiplied by that until they are measured"
        )
        if self._to_probe is not None:
            self._to_probe = self._planned.to_probe(self._device_s)
            self._tell_of_no_probe()

    def next(self, now_s: float) -> Assignment | None:
        """The probe, the first time that it is asked for; None ever after."""
        if self._to_probe is None:
            return None

        task_id, self._to_probe, self._is_out = self._to_probe, None, True
        self._probed.append(task_id)
        planned, settings = self._planned, self._planned.settings
        expected_s = planned.probe_s(task_id)
        return Assignment(
            "probe",
            (self._schedule.states[task_id].task,),
            1,
            until_s=self._until_s(now_s, expected_s),
            expected_until_s=now_s + expected_s,
            train_s=expected_s if settings.train.enabled else 0.0,
            # The last rung trains nothing, so there would be nothing to measure.
            rung=min(planned.first_rung(planned.lengths[task_id]), LAST_RUNG - 1),
        )

    def _until_s(self, now_s: float, expected_s: float) -> float:
        """When a probe that begins now must be over."""
        left_s = self._schedule.end_s - now_s
        patience_s = max(PATIENCE * expected_s, min(WARM_UP_S, WARM_UP_SHARE * left_s))
        return now_s + min(left_s, patience_s)

    def take(self, event: Probed, *, seconds: float) -> None:
        """Correct the plan's costs: with them, the time of every task and its first rung change."""
        self._is_out = False
        if event.batch_s:
            self._take_faster_engine(event.batch_s)

        before, measured = self._planned, event.model_dump(exclude={"event", "job_id"})
        probe = Probe(**event.model_dump(exclude={"event", "job_id", "batch_s"}))
        self._planned = before.corrected_by(probe)

        self._journal.put_fact(
            "probe", measured | {"correction": asdict(self._planned.costs.correction)}
        )
        for line in correction_lines(before, self._planned, probe, seconds=seconds):
            self._tell(line)

        self._schedule.forecast.replan(self._planned.task_costs())
        self._begin_on_rungs()

    def _take_faster_engine(self, batch_s: Mapping[str, float]) -> None:
        """batch_s: by engine, the seconds of the same answers."""
        faster = min(batch_s, key=lambda engine: batch_s[engine])
        found = ", ".join(f"{engine} {seconds:.2f} s" for engine, seconds in batch_s.items())
        self._tell(f"the same {BATCH} answers: {found}; {faster} samples from now on")

        if faster == "transformers":
            self.plain_because = f"slower in the probe: {found}"
            self._planned = self._planned.sampled_by(faster)

    def lose(self, assignment: Assignment, message: str, *, is_memory: bool, is_told: bool) -> None:
        """Go on by the plan; if memory ran out, as if training needed more than there is.

        is_told: the worker lives and told the fault. Then another task is probed: whether it meets
        the same one is better known now than after the quick pass.
        """
        self._is_out = False
        self._tell(f"the probe failed at {assignment.tasks[0].task_id}: {message}")
        if is_told and len(self._probed) < IN_A_ROW:
            self._to_probe = self._planned.to_probe(self._device_s, without=self._probed)
        if is_memory:
            self._planned = self._planned.after_running_out(assignment.tasks[0].task_id)
            self._begin_on_rungs()

    def _begin_on_rungs(self) -> None:
        self._schedule.begin_on(self._planned.first_rungs())
        for line in self._planned.rung_lines():
            self._tell(line)
