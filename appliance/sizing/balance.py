"""Divides tasks into shards of about equal predicted cost."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from appliance.errors import UsageError
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.costs.task_lengths import TaskLength


def predicted_costs(
    lengths: Sequence[TaskLength], costs: Costs, *, num_steps: int, num_views: int
) -> dict[str, float]:
    """Seconds that training and sampling of each task take on the planned device."""
    return {t.task_id: costs.train_s(t, num_steps) + costs.sample_s(t, num_views) for t in lengths}


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
