"""How much time a task can use, and how its share is split between training and sampling."""

from __future__ import annotations

import math

from appliance.config import Settings
from appliance.run.schedule.measured_costs import Forecast
from appliance.run.schedule.task_state import TaskState
from appliance.sizing.memory_ladder import LAST_RUNG

FEWEST_STEPS = 8
"""Fewer training steps teach nothing (the plan's figure)."""
STEP_SLACK = 1.25
"""Time for all steps has this margin over the mean, or half of the tasks would miss their last ones."""
LEAST_VIEWS = 2
"""A task is not begun without time for so many."""
LEAST_JOB_S = 0.5
CUT_SLACK = 8.0
"""A task that was cut off without an answer may use so many times what it is expected to need."""


class Shares:
    """Seconds, by what the forecast knows at the time of the call."""

    def __init__(self, settings: Settings, forecast: Forecast) -> None:
        self._settings = settings
        self._forecast = forecast

    @property
    def program_share(self) -> float:
        """The part of a task's time that goes to the search for programs."""
        if not self._settings.writes_programs:
            return 0.0
        return self._settings.program.share if self._settings.writes_grids else 1.0

    def train_s(self, state: TaskState, share_s: float, sample_s: float | None) -> float:
        """Of the share for grids what sampling leaves, but no less than half of the part that training may take, no more than
        all of it, nor than all steps need. Views can be cut off, lost training cannot be made up for; but there is
        always time for the first views of a slow task."""
        if not self._trains(state):
            return 0.0
        train = self._settings.train
        most_s = train.max_share * share_s
        if sample_s is None:
            return most_s
        task_id = state.task.task_id
        first_views_s = self._forecast.sample_s("deep", [task_id], LEAST_VIEWS) or 0.0
        most_s = min(most_s, max(0.0, share_s - self._forecast.slowness("deep") * first_views_s))
        step_s = self._forecast.step_s(task_id)
        wanted_s = max(share_s - sample_s, most_s / 2, self._least_training_s(state))
        all_steps_s = math.inf if step_s is None else STEP_SLACK * train.max_steps * step_s
        return min(
            most_s, wanted_s, max(all_steps_s, train.min_seconds)
        )  # steps may be forecast much too short

    def need_s(self, state: TaskState) -> float:
        """What every step and every view take on the mean; without end while nothing was measured."""
        train_s, sample_s = self._needs(state)
        return self._with_programs(train_s + sample_s)

    def ample_s(self, state: TaskState) -> float:
        """The share that is surely enough for all steps, within the part that training may take of it."""
        train_s, sample_s = self._needs(state)
        if (
            state.deep.num_cut
        ):  # its first share gave no answer: what is known of it is far too little
            train_s, sample_s = CUT_SLACK * train_s, CUT_SLACK * sample_s
        if train_s == 0:
            return self._with_programs(sample_s)
        grids_s = max(
            STEP_SLACK * train_s + sample_s, STEP_SLACK * train_s / self._settings.train.max_share
        )
        return self._with_programs(grids_s)

    def _with_programs(self, grids_s: float) -> float:
        """The share whose part for grids is this long. A search for programs alone uses whatever it gets."""
        return grids_s / (1 - self.program_share) if self.program_share < 1 else math.inf

    def _needs(self, state: TaskState) -> tuple[float, float]:
        sample_s = self._forecast.sample_s(
            "deep", [state.task.task_id], self._settings.sample.views
        )
        step_s = self._forecast.step_s(state.task.task_id) if self._trains(state) else 0.0
        return (
            math.inf if step_s is None else self._settings.train.max_steps * step_s,
            math.inf if sample_s is None else sample_s,
        )

    def least_s(self, state: TaskState) -> float:
        """Below this a task is not begun: it would be cut off with nothing to show."""
        sample_s = self._forecast.sample_s("deep", [state.task.task_id], LEAST_VIEWS) or 0.0
        if not self._settings.writes_grids:
            return max(LEAST_JOB_S, self._settings.train.min_seconds)
        if not self._trains(state):
            return self._with_programs(max(LEAST_JOB_S, sample_s))
        train_s = self._least_training_s(state)
        return self._with_programs(
            max(LEAST_JOB_S, train_s + sample_s, train_s / self._settings.train.max_share)
        )

    def _least_training_s(self, state: TaskState) -> float:
        steps_s = FEWEST_STEPS * (self._forecast.step_s(state.task.task_id) or 0.0)
        return max(self._settings.train.min_seconds, steps_s)

    def _trains(self, state: TaskState) -> bool:
        train = self._settings.train
        is_wanted = self._settings.writes_grids and train.enabled and train.max_share > 0
        return (
            is_wanted
            and state.deep.rung < LAST_RUNG
            and not state.is_late
            and not state.kept_adapter
        )
