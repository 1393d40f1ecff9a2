"""Pacing: how many training steps and views a task gets from the time that is there for it."""

from __future__ import annotations

from appliance.sizing.choice import Choice
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.pins import Pins
from appliance.sizing.plan import TimePlan
from appliance.sizing.request import SizingRequest

QUICK_VIEWS = 2
TRAIN_SHARE = 0.65
"""Of a task's time goes to training, the rest to sampling: published runs spent 60-75 % on it (3 h 55 of 5 h 44; 28 of 76 s
in the winner's log, where answers ended early)."""
FEWEST_STEPS = 8
MOST_STEPS = 400
VIEWS = (32, 16, 8, 4, 2, 1)
"""Votes are flat past 32 candidates (arc24)."""


def pace(
    costs: Costs, request: SizingRequest, *, trains: bool, samples: int, workers: int
) -> tuple[Choice[int], Choice[int], TimePlan]:
    """Steps and views per task from the time that each task may take on the mean."""
    tasks, pins = request.lengths.tasks, request.pins
    num = max(1, len(tasks))
    load_s = costs.load_s()
    reserve_s = min(request.reserve_s, 0.1 * request.budget_s)
    free_s = max(0.0, request.budget_s - reserve_s - load_s) * workers
    quick_s = sum(costs.sample_s(t, QUICK_VIEWS) for t in tasks) / num
    left_s = max(0.0, free_s / num - quick_s)
    step_s = sum(costs.step_s(t.lesson_tokens) for t in tasks) / num
    steps = _steps(pins, trains, left_s, step_s)
    train_s = steps.value * step_s
    views = _views(pins, costs, request, samples, max(0.0, left_s - train_s))
    sample_s = sum(costs.sample_s(t, views.value, samples_per_view=samples) for t in tasks) / num
    window = min(costs.train.max_seq_tokens, costs.sample.max_seq_tokens)
    total_s = load_s + reserve_s + (quick_s + train_s + sample_s) * num / workers
    time = TimePlan(
        request.budget_s,
        reserve_s,
        load_s,
        quick_s,
        train_s,
        sample_s,
        total_s,
        len(tasks),
        request.lengths.num_within(window),
    )
    return steps, views, time


def _steps(pins: Pins, trains: bool, left_s: float, step_s: float) -> Choice[int]:
    if pins.steps_per_task is not None:
        return Choice(pins.steps_per_task, "pinned")
    if not trains:
        return Choice(0, "training does not fit the memory; the model answers as it is")
    affordable = int(TRAIN_SHARE * left_s / step_s) if step_s > 0 else MOST_STEPS
    if affordable < FEWEST_STEPS:
        return Choice(
            0,
            f"{left_s:.3g} s a task pay for {affordable} steps of {step_s:.3g} s; fewer than {FEWEST_STEPS} teach nothing",
        )
    if affordable > MOST_STEPS:
        return Choice(
            MOST_STEPS,
            f"time allows {affordable}; published runs gain nothing past about {MOST_STEPS}",
        )
    return Choice(
        affordable, f"{TRAIN_SHARE:.0%} of {left_s:.3g} s a task at {step_s:.3g} s a step"
    )


def _views(
    pins: Pins, costs: Costs, request: SizingRequest, samples: int, left_s: float
) -> Choice[int]:
    if pins.views is not None:
        return Choice(pins.views, "pinned")
    tasks = request.lengths.tasks
    for views in VIEWS:
        cost_s = sum(costs.sample_s(t, views, samples_per_view=samples) for t in tasks) / max(
            1, len(tasks)
        )
        if cost_s <= left_s:
            limit = "; votes are flat past it" if views == VIEWS[0] else ""
            return Choice(
                views, f"{cost_s:.3g} s of the {left_s:.3g} s that a task has left{limit}"
            )
    return Choice(QUICK_VIEWS, f"{left_s:.3g} s a task pay for no view more than the quick pass")
