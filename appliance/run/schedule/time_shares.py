"""How much time a task can use, and how its share is split between training and sampling."""

from __future__ import annotations

import math

from appliance.config import Settings
from appliance.engine.base import NotTuned
from appliance.run.schedule.measured_costs import Forecast
from appliance.run.schedule.task_state import TaskState
from appliance.sizing.memory_ladder import LAST_RUNG
from appliance.sizing.steps_and_views import FEWEST_STEPS

STEP_SLACK = 1.25
"""Time for all steps over its mean: with 1, half of the tasks would miss their last steps."""

LEAST_VIEWS = 2
"""A task is not begun without time for this many."""

LEAST_JOB_S = 0.5
"""No job is shorter than this."""

CUT_SLACK = 8.0
"""A task that was cut off without an answer may use this many times its expected time."""


class Shares:
    """Seconds, by what the forecast knows at the time of the call."""

    def __init__(self, settings: Settings, forecast: Forecast) -> None:
        self._settings = settings
        self._forecast = forecast
        self.untrained: NotTuned | None = None  # why the run trains no more

    @property
    def program_share(self) -> float:
        """The part of a task's time that goes to writing programs."""
        if not self._settings.writes_programs:
            return 0.0
        return self._settings.program.share if self._settings.writes_grids else 1.0

    def train_s(self, state: TaskState, share_s: float, sample_s: float | None) -> float:
        """The training part of a share for grids.

        Training gets what sampling leaves of the share: at least half of `max_share`, at most
        `max_share`, never more than all steps need. Views can be cut off, lost training cannot be
        made up for; but there is always time for the first views of a slow task. Where that leaves
        too little, nothing is trained: a training without an answer is worth nothing.
        """
        if not self._trains(state):
            return 0.0

        train = self._settings.train
        most_s = train.max_share * share_s
        if sample_s is None:
            return most_s

        task_id = state.task.task_id
        first_views_s = self._forecast.sample_s("deep", [task_id], LEAST_VIEWS) or 0.0
        slow_views_s = self._forecast.slowness("deep") * first_views_s
        most_s = min(most_s, max(0.0, share_s - slow_views_s))

        # Steps may be forecast much too short, so a task gets its least time all the same.
        enough_s = max(STEP_SLACK * self._all_steps_s(state), train.min_seconds)
        if most_s < min(enough_s, self._least_training_s(state)):
            return 0.0

        wanted_s = max(share_s - sample_s, most_s / 2, self._least_training_s(state))
        if state.is_counted:
            # All views are wanted, so training may not cost one of them.
            slow_s = self._forecast.slowness("deep") * sample_s
            wanted_s = max(share_s - slow_s, self._least_training_s(state))
        return min(most_s, wanted_s, enough_s)

    def need_s(self, state: TaskState) -> float:
        """What every step and every view take on the mean; infinite while nothing was measured."""
        train_s, sample_s = self._needs(state)
        return self._with_programs(train_s + sample_s)

    def ample_s(self, state: TaskState) -> float:
        """A share that is surely enough for all steps, within the part that training may take."""
        train_s, sample_s = self._needs(state)
        if state.deep.num_cut:
            # Its first share gave no answer: what is known of it is far too little.
            train_s, sample_s = CUT_SLACK * train_s, CUT_SLACK * sample_s
        if train_s == 0:
            return self._with_programs(sample_s)

        slow_train_s = STEP_SLACK * train_s
        by_share_s = slow_train_s / self._settings.train.max_share
        return self._with_programs(max(slow_train_s + sample_s, by_share_s))

    def least_s(self, state: TaskState) -> float:
        """Below this a task is not begun: it would be cut off with nothing to show."""
        train = self._settings.train
        if not self._settings.writes_grids:
            return max(LEAST_JOB_S, train.min_seconds)

        sample_s = self._forecast.sample_s("deep", [state.task.task_id], LEAST_VIEWS) or 0.0
        if not self._trains(state):
            return self._with_programs(max(LEAST_JOB_S, sample_s))

        train_s = self._least_training_s(state)
        grids_s = max(LEAST_JOB_S, train_s + sample_s, train_s / train.max_share)
        return self._with_programs(grids_s)

    def _with_programs(self, grids_s: float) -> float:
        """The share whose part for grids is this long.

        Writing programs alone uses whatever it gets.
        """
        return grids_s / (1 - self.program_share) if self.program_share < 1 else math.inf

    def _needs(self, state: TaskState) -> tuple[float, float]:
        """Seconds of all steps and of all views on the mean."""
        task_id, settings = state.task.task_id, self._settings
        sample_s = self._forecast.sample_s("deep", [task_id], settings.sample.views)
        train_s = self._all_steps_s(state) if self._trains(state) else 0.0
        return train_s, math.inf if sample_s is None else sample_s

    def _all_steps_s(self, state: TaskState) -> float:
        """Of its training; infinite as long as nothing is known."""
        step_s = self._forecast.step_s(state.task.task_id)
        num_steps = state.steps_fold * self._settings.train.max_steps
        return math.inf if step_s is None else num_steps * step_s

    def _least_training_s(self, state: TaskState) -> float:
        steps_s = FEWEST_STEPS * (self._forecast.step_s(state.task.task_id) or 0.0)
        return max(self._settings.train.min_seconds, steps_s)

    def _trains(self, state: TaskState) -> bool:
        train = self._settings.train
        is_wanted = self._settings.writes_grids and train.enabled and train.max_share > 0
        can_fit = state.deep.rung < LAST_RUNG and self.untrained is None
        return is_wanted and can_fit and not state.is_late and not state.kept_adapter
