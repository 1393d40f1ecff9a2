"""What work on a task will take: by the plan at first, then by what was measured.

Costs are in seconds where there is a plan, else in units of the right proportion (from the cells of
the grids). Meters learn how many seconds a unit takes. They go by the latest work only, because
tasks come cheapest first and neighbours are alike.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.arc.task import Task
from appliance.config import Settings

WINDOW = 24
"""The latest measurements that a meter goes by."""

PRIOR_WEIGHT = 3.0
"""The plan's figure counts as much as this many measurements."""

SLOW_SHARE = 0.9
"""A slow task is one that this share of tasks is faster than."""

FEWEST_FOR_SLOWNESS = 20
"""Measurements before a meter says how slow the slow ones are."""

USUAL_SLOWNESS = 2.0
"""Until then: in the log of the 2025 winner the ninth of ten tasks took 2.2 times the mean."""

LEAST_SLOWNESS, MOST_SLOWNESS = 1.25, 4.0
"""Bounds of what a meter says: twenty measurements may mislead."""

ANSWER_WEIGHT = 4.0
"""A cell that is written costs about as much as this many cells that are read."""


@dataclass(frozen=True)
class TaskCost:
    """What a task costs, in seconds or in units."""

    step: float  # one optimizer step
    view: float  # one view of all test inputs, in a full batch


def cost_by_cells(task: Task, settings: Settings) -> TaskCost:
    """In proportion to what is read and written; a step packs short lessons until it is full."""
    shown = sum(p.input.size + p.output.size for p in task.train)
    written = sum(p.output.size for p in task.train) / len(task.train)
    step = max(1.0, shown / settings.train.tokens_per_step)
    return TaskCost(step, sum(shown + g.size + ANSWER_WEIGHT * written for g in task.test))


class Meter:
    """Seconds per unit of one kind of work."""

    def __init__(self, prior: float | None) -> None:
        """prior: seconds per unit by the plan, None where only proportions are known."""
        self._prior = prior
        self._seen: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self.rate = prior  # mean seconds per unit; None while nothing is known

    def note(self, units: float, seconds: float) -> None:
        if units <= 0 or seconds < 0:
            return

        self._seen.append((units, seconds))
        all_units = sum(u for u, _ in self._seen)
        all_seconds = sum(s for _, s in self._seen)

        # The plan's figure counts like some measurements of the usual size.
        if self._prior is not None:
            extra = PRIOR_WEIGHT * all_units / len(self._seen)
            all_units += extra
            all_seconds += self._prior * extra
        self.rate = all_seconds / all_units

    def slowness(self) -> float:
        """How many times its mean a slow one (9 in 10 are faster) takes."""
        if len(self._seen) < FEWEST_FOR_SLOWNESS:
            return USUAL_SLOWNESS

        mean = sum(s for _, s in self._seen) / sum(u for u, _ in self._seen)
        rates = sorted(s / u for u, s in self._seen)
        slow = rates[math.ceil(SLOW_SHARE * len(rates)) - 1]
        if mean <= 0:
            return USUAL_SLOWNESS
        return min(MOST_SLOWNESS, max(LEAST_SLOWNESS, slow / mean))


class Forecast:
    """What the work that is left will take."""

    def __init__(
        self, tasks: Iterable[Task], settings: Settings, costs: Mapping[str, TaskCost] | None = None
    ) -> None:
        """costs: seconds of each task by the plan. None: the cells of the grids give proportions,
        and the first measurement turns them into seconds."""
        prior = None if costs is None else 1.0
        self._costs = costs or {t.task_id: cost_by_cells(t, settings) for t in tasks}
        self._step = Meter(prior)
        self._sample = {"quick": Meter(prior), "deep": Meter(prior)}

    def replan(self, costs: Mapping[str, TaskCost]) -> None:
        """Better figures of the plan; what was measured against the old ones is forgotten."""
        self._costs = costs
        self._step = Meter(1.0)
        self._sample = {"quick": Meter(1.0), "deep": Meter(1.0)}

    def size(self, task_id: str) -> float:
        """What tasks are ordered by, from cheap to dear."""
        return self._costs[task_id].view

    def step_s(self, task_id: str) -> float | None:
        """Of one optimizer step; None while nothing is known."""
        return _times(self._step.rate, self._costs[task_id].step)

    def sample_s(self, stage: str, task_ids: Iterable[str], num_views: int) -> float | None:
        """Of that many views of all these tasks; None while nothing is known.

        The passes do not learn from each other: a view costs several times as much in a small batch
        as in a full one.
        """
        units = num_views * sum(self._costs[task_id].view for task_id in task_ids)
        return _times(self._sample[stage].rate, units)

    def slowness(self, stage: str) -> float:
        return self._sample[stage].slowness()

    def note_training(self, task_id: str, num_steps: int, seconds: float) -> None:
        self._step.note(num_steps * self._costs[task_id].step, seconds)

    def note_sampling(self, stage: str, num_views: Mapping[str, float], seconds: float) -> None:
        """num_views: views that each task of the job was answered under, parts of one included."""
        units = sum(num * self._costs[task_id].view for task_id, num in num_views.items())
        self._sample[stage].note(units, seconds)


def _times(rate: float | None, units: float) -> float | None:
    return None if rate is None else rate * units
