"""Divides tasks into shards of about equal predicted cost."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from appliance.arc.task import TaskSet
from appliance.errors import UsageError
from appliance.sizing.costs.task_lengths import lengths_of
from appliance.sizing.plan import AnyPlan, Plan
from appliance.sizing.plan_search import search_costs


def predicted_costs(tasks: TaskSet, plan: AnyPlan) -> dict[str, float]:
    """Seconds of each task by the plan: of a device for training and sampling, or, in a run without
    a model, of a core for its search."""
    if not isinstance(plan, Plan):
        return search_costs(tasks, plan.search.seconds_per_task.value)

    costs = plan.costs
    num_steps, num_views = plan.train.steps_per_task.value, plan.sample.views.value
    return {
        t.task_id: costs.train_s(t, num_steps) + costs.sample_s(t, num_views)
        for t in lengths_of(tasks, costs.card).tasks
    }


def balance(costs: Mapping[str, float], num_shards: int) -> tuple[tuple[str, ...], ...]:
    """Ids of the tasks of each shard, in the order of `costs`. No shard is empty.

    The dearest task goes first, and each task to the shard with the least load so far (longest
    processing time first): the heaviest shard costs at most 4/3 of the best possible (Graham 1969).

    Raises UsageError unless 1 <= num_shards <= number of tasks.

    >>> balance({"a": 3.0, "b": 1.0, "c": 1.0, "d": 1.0}, 2)
    (('a',), ('b', 'c', 'd'))
    """
    if not 1 <= num_shards <= len(costs):
        raise UsageError(
            f"{num_shards} shards for {len(costs)} tasks", expected="at least one task a shard"
        )

    # Load, number of tasks, shard: tasks that cost nothing go to the shard with the fewest, so that
    # no shard stays empty.
    heap: list[tuple[float, int, int]] = [(0.0, 0, shard) for shard in range(num_shards)]
    chosen: list[set[str]] = [set() for _ in range(num_shards)]

    for task_id in sorted(costs, key=lambda t: (-costs[t], t)):
        load, count, shard = heapq.heappop(heap)
        chosen[shard].add(task_id)
        heapq.heappush(heap, (load + costs[task_id], count + 1, shard))

    return tuple(tuple(t for t in costs if t in ids) for ids in chosen)
