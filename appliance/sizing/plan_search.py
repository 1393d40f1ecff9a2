"""How many processes search for programs, for how long, and whether they go before the model."""

from __future__ import annotations

from appliance.arc.task import Task, TaskSet
from appliance.machine.machine import Machine
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import steady_free_gib
from appliance.sizing.plan import SearchPlan
from appliance.sizing.request import SizingRequest
from appliance.sizing.steps_and_views import reserve_s

USUAL_S, USUAL_CELLS = 6.0, 1500
"""CPU seconds of a search that may take longer, and cells of its task: means over the 80 tuning
tasks (docs/results/search.md)."""

LEAST_S = 0.5
"""A search of less time finds little: it gets through some twenty expansions."""

MOST_S = 15.0
"""Enough for all expansions of nine tasks in ten; the others are large."""

MOST_BESIDE_GPU_S = 20.0
"""Beside a GPU, where the cores have little else to do."""

SHARE_FIRST = 0.5
"""Part of the budget that search may take where the model has to wait for it."""

SHARE_BESIDE = 0.8
"""The same where GPUs work beside it: its last answers must not come too late for the vote."""

SHARE_ALONE = 0.85
"""The same where there is nothing but search. With 0.95 a tight budget on a busy machine ended with
fewer than nine of ten tasks searched, which is below the floor."""

WORKER_GIB = 1.0
"""Memory of one search process at its peak."""

CORES_A_GPU = 2
"""What the worker of a GPU really needs: one core feeds the card, one tokenizes and reads."""

MOST_WORKERS = 256
"""As the setting search.workers allows."""


def plan_search(
    machine: Machine, request: SizingRequest, *, num_tasks: int, device_workers: int
) -> SearchPlan:
    """How a run searches.

    device_workers: workers of the model that keep cores of their own, one a GPU; 0 in a run without
    a model, and on a machine without a GPU, where search goes first.
    """
    is_first = device_workers == 0
    most_s = MOST_S if is_first else MOST_BESIDE_GPU_S
    share = _share(request, is_first)

    workers = _workers(machine, request, num_tasks, device_workers)
    rate = workers.value / max(1, num_tasks)  # CPU seconds a task for each second of the run
    limit = _seconds(request, share=share, rate=rate, most_s=most_s)

    free_s = request.budget_s - reserve_s(request.settings, request.budget_s)
    return SearchPlan(
        workers=workers,
        seconds_per_task=limit,
        is_first=Choice(is_first, _order_reason(request, is_first)),
        total_s=min(min(limit.value, USUAL_S) / rate, share * free_s),
    )


def search_costs(tasks: TaskSet, seconds_per_task: float) -> dict[str, float]:
    """Predicted CPU seconds of each task: in proportion to its cells, within the limit."""
    cell_s = USUAL_S / USUAL_CELLS
    return {t.task_id: min(seconds_per_task, cell_s * _cells(t)) for t in tasks}


def _cells(task: Task) -> int:
    """Of all grids that the search holds."""
    pairs = sum(pair.input.size + pair.output.size for pair in task.train)
    return pairs + sum(grid.size for grid in task.test)


def _share(request: SizingRequest, is_first: bool) -> float:
    if not request.settings.needs_model:
        return SHARE_ALONE
    return SHARE_FIRST if is_first else SHARE_BESIDE


def _workers(
    machine: Machine, request: SizingRequest, num_tasks: int, device_workers: int
) -> Choice[int]:
    pins, cores = request.pins, machine.host.num_cores
    if pins.search_workers:
        return Choice(pins.search_workers, request.reason("search_workers", ""))

    if device_workers:
        kept = CORES_A_GPU * device_workers
        wanted = max(1, cores - kept)
        why = f"{cores} cores, of which the workers of {device_workers} GPUs keep {kept}"
    elif pins.workers:
        wanted = min(pins.workers, cores)
        why = request.reason("workers", "")
    else:
        wanted, why = cores, f"one a core ({machine.host.cores_reason})"

    by_memory = max(1, int(steady_free_gib(machine.host) / WORKER_GIB))
    count = max(1, min(wanted, by_memory, num_tasks, MOST_WORKERS))
    if count < wanted:
        limit = f"memory for {by_memory}" if count == by_memory else f"{num_tasks} tasks"
        why = f"{why}; {limit}"
    return Choice(count, why)


def _seconds(request: SizingRequest, *, share: float, rate: float, most_s: float) -> Choice[float]:
    if request.pins.search_seconds is not None:
        return Choice(request.pins.search_seconds, request.reason("search_seconds", ""))

    affordable_s = share * request.budget_s * rate
    if affordable_s >= most_s:
        return Choice(most_s, f"longer finds little more; time allows {affordable_s:.3g} s")
    why = f"{share:.0%} of the budget, shared by all tasks"
    if affordable_s < LEAST_S:
        return Choice(LEAST_S, f"{why}, is {affordable_s:.2g} s; less than this finds little")
    return Choice(round(affordable_s, 2), why)


def _order_reason(request: SizingRequest, is_first: bool) -> str:
    if not request.settings.needs_model:
        return "there is no model"
    if is_first:
        return "no GPU: search solves more in a second of a core than the model does"
    return "the GPUs need few cores, so search runs beside them"
