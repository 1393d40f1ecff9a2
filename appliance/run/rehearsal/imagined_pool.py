"""`appliance simulate --shards N`: the tasks shared out over N slots as `appliance pack condor` does, and each slot rehearsed.

No slot waits for another; what a pool adds (queue, start of the container, transfers) is not in the figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from appliance.arc.task import TaskSet
from appliance.clock import Clock, format_duration
from appliance.record.coverage import Coverage, covered_by_all
from appliance.run.rehearsal.faults import Faults
from appliance.run.rehearsal.imagined_run import ImaginedRun, of_tasks
from appliance.run.rehearsal.rehearsal import Rehearsal
from appliance.sizing.balance import balance, predicted_costs
from appliance.sizing.costs.task_lengths import lengths_of
from appliance.sizing.make_plan import make_plan
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest

POLLS = 500
"""Of one shard; many are played, and none of them is interrupted."""


@dataclass(frozen=True)
class Shard:
    """loads_s: predicted work of one device. run: the rehearsal on its slot."""

    tasks: TaskSet
    plan: Plan
    load_s: float
    run: Rehearsal


@dataclass(frozen=True)
class Sharded:
    tasks: TaskSet
    shards: tuple[Shard, ...]
    merged: Coverage
    budget_s: float
    real_s: float

    def ends_s(self) -> list[float]:
        return [shard.run.seconds for shard in self.shards]

    def slot_hours(self) -> float:
        """Time that slots are held, all together."""
        return sum(self.ends_s()) / 3600

    def num_late(self) -> int:
        return sum(shard.run.seconds > self.budget_s for shard in self.shards)

    def num_faulty(self) -> int:
        """Shards whose submission is not valid, or that gave up."""
        return sum(bool(s.run.submission_faults or s.run.failure) for s in self.shards)


def simulate_shards(
    request: PlanRequest, num_shards: int, clock: Clock, *, faults: Faults, at_once: int | None
) -> Sharded:
    """Shares the tasks out as `pack condor` does and plays each slot.

    The plan that balances is of the whole pool; each slot then plans for its own tasks.
    """
    began_s = clock.now()
    assert request.tasks is not None  # the verb requires them
    whole = make_plan(replace(request, budget_s=request.budget_s * num_shards))
    costs = predicted_costs(
        lengths_of(request.tasks, whole.costs.card).tasks,
        whole.costs,
        num_steps=whole.train.steps_per_task.value,
        num_views=whole.sample.views.value,
    )

    shards = []
    for seed, ids in enumerate(balance(costs, num_shards)):
        run = ImaginedRun.of(of_tasks(request, ids), faults=faults, at_once=at_once)
        load_s = sum(costs[task_id] for task_id in ids)
        shards.append(Shard(run.tasks, run.plan, load_s, run.rehearse(seed, polls=POLLS)))

    merged = covered_by_all([shard.run.coverage for shard in shards])
    seconds = clock.now() - began_s
    return Sharded(request.tasks, tuple(shards), merged, request.budget_s, seconds)


def lines(sharded: Sharded) -> list[str]:
    """For people."""
    shards, plan = sharded.shards, sharded.shards[0].plan
    counts = [float(len(shard.tasks)) for shard in shards]
    per_slot = shards[0].run.num_workers
    steps, views = (
        [float(n) for shard in shards for n in shard.run.done_by_task(kind, "deep").values()]
        for kind in ("train", "sample")
    )
    idle = [share for shard in shards for share in shard.run.idle_shares()]
    return [
        f"{len(sharded.tasks)} tasks of {sharded.tasks.name} on {len(shards)} slots, {plan.model.value}, "
        f"{per_slot} workers on {plan.device} each, {format_duration(sharded.budget_s)}",
        "shared out as by appliance pack condor; in each slot the real orchestrator and schedule, and imagined workers",
        "",
        f"tasks of a shard:    {_count_spread(counts)}",
        f"predicted work:      {_time_spread([shard.load_s for shard in shards])}",
        f"finished after:      {_time_spread(sharded.ends_s())}",
        f"steps a task:        {_count_spread(steps)}",
        f"views a task:        {_count_spread(views)}",
        f"idle on the mean:    {statistics.fmean(idle):.2%}, the worst {max(idle):.2%}",
        f"slot hours:          {sharded.slot_hours():.1f} of {len(shards) * sharded.budget_s / 3600:.1f}",
        "",
        "merged over all shards:",
        *(f"  {line}" for line in sharded.merged.lines()),
        f"  submissions that are not valid: {sharded.num_faulty()}; shards past their deadline: {sharded.num_late()}",
        f"simulated in {format_duration(sharded.real_s)}",
    ]


def as_json(sharded: Sharded) -> dict[str, Any]:
    ends = sharded.ends_s()
    return {
        "model": sharded.shards[0].plan.model.value,
        "device": sharded.shards[0].plan.device,
        "budget_s": sharded.budget_s,
        "finish_s": {"min": min(ends), "median": statistics.median(ends), "max": max(ends)},
        "slot_hours": round(sharded.slot_hours(), 4),
        "coverage": sharded.merged.as_json(),
        "late": sharded.num_late(),
        "faulty": sharded.num_faulty(),
        "shards": [
            {
                "tasks": list(s.tasks.ids()),
                "predicted_s": round(s.load_s, 3),
                "finish_s": round(s.run.seconds, 3),
                "coverage": s.run.coverage.as_json(),
            }
            for s in sharded.shards
        ],
        "simulated_in_s": round(sharded.real_s, 3),
    }


def _count_spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    return f"min {min(values):.0f}, median {statistics.median(values):.0f}, max {max(values):.0f}"


def _time_spread(values: Sequence[float]) -> str:
    least, median, most = (format_duration(f(values)) for f in (min, statistics.median, max))
    return f"min {least}, median {median}, max {most}"
