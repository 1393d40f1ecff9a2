"""Pacing: how many training steps and views a task gets from the time that is there for it."""

from __future__ import annotations

from appliance.config import Settings
from appliance.sizing.choice import Choice
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.plan import SearchPlan, TimePlan
from appliance.sizing.request import SizingRequest

FEWEST_STEPS = 8
"""Fewer training steps than this teach nothing."""

RESERVE_SHARE = 0.1
"""The reserve for the last write is at most this part of a short budget."""

VIEWS = (32, 16, 8, 4, 2, 1)
"""Numbers of views that are tried, most first. Votes are flat past 32 candidates (arc24)."""


def reserve_s(settings: Settings, budget_s: float) -> float:
    """Seconds kept free at the end for the last write."""
    return min(settings.run.reserve_s, RESERVE_SHARE * budget_s)


def pace(
    costs: Costs,
    request: SizingRequest,
    *,
    trains: bool,
    samples: int,
    workers: int,
    max_steps: Choice[int],
    search: SearchPlan | None = None,
) -> tuple[Choice[int], Choice[int], TimePlan]:
    """Steps and views per task from the time that each task may take on the mean."""
    tasks, settings = request.lengths.tasks, request.settings
    num = max(1, len(tasks))
    load_s = costs.load_s()
    kept_s = reserve_s(settings, request.budget_s)

    # The quick pass over all tasks comes first; what it leaves is shared by training and sampling.
    search_s = search.total_s if search and search.is_first.value else 0.0
    free_s = max(0.0, request.budget_s - kept_s - load_s - search_s) * workers
    quick_s = 0.0
    if settings.sample.predictions is None:  # else there is no quick pass
        quick_s = sum(costs.sample_s(t, settings.sample.quick_views) for t in tasks) / num
    left_s = max(0.0, free_s / num - quick_s)

    step_s = sum(costs.step_s(t.lesson_tokens) for t in tasks) / num
    steps = _steps(request, max_steps, trains, left_s, step_s)
    train_s = steps.value * step_s

    views = _views(costs, request, samples, max(0.0, left_s - train_s))
    sample_s = sum(costs.sample_s(t, views.value, samples_per_view=samples) for t in tasks) / num

    window = min(costs.train.max_seq_tokens, costs.sample.max_seq_tokens)
    time = TimePlan(
        budget_s=request.budget_s,
        reserve_s=kept_s,
        load_s=load_s,
        search_s=search_s,
        quick_s=quick_s,
        train_s=train_s,
        sample_s=sample_s,
        total_s=load_s + kept_s + search_s + (quick_s + train_s + sample_s) * num / workers,
        num_tasks=len(tasks),
        num_tasks_within=request.lengths.num_within(window),
    )
    return steps, views, time


def _steps(
    request: SizingRequest, max_steps: Choice[int], trains: bool, left_s: float, step_s: float
) -> Choice[int]:
    pins, train = request.pins, request.settings.train
    if pins.steps_per_task is not None:
        return Choice(pins.steps_per_task, request.reason("steps_per_task", ""))
    if not trains:
        return Choice(0, "training does not fit the memory; the model answers as it is")

    share = train.max_share
    affordable = int(share * left_s / step_s) if step_s > 0 else max_steps.value
    if affordable < FEWEST_STEPS:
        why = (
            f"{left_s:.3g} s a task pay for {affordable} steps of {step_s:.3g} s; "
            f"fewer than {FEWEST_STEPS} teach nothing"
        )
        return Choice(0, why)
    if affordable > max_steps.value:
        return Choice(max_steps.value, f"the most: {max_steps.reason}; time allows {affordable}")
    return Choice(affordable, f"{share:.0%} of {left_s:.3g} s a task at {step_s:.3g} s a step")


def _views(costs: Costs, request: SizingRequest, samples: int, left_s: float) -> Choice[int]:
    if request.pins.views is not None:
        return Choice(request.pins.views, request.reason("views", ""))

    tasks = request.lengths.tasks
    for views in VIEWS:
        all_s = sum(costs.sample_s(t, views, samples_per_view=samples) for t in tasks)
        cost_s = all_s / max(1, len(tasks))
        if cost_s <= left_s:
            limit = "; votes are flat past it" if views == VIEWS[0] else ""
            why = f"{cost_s:.3g} s of the {left_s:.3g} s that a task has left{limit}"
            return Choice(views, why)

    why = f"{left_s:.3g} s a task pay for no view more than the quick pass"
    return Choice(request.settings.sample.quick_views, why)
