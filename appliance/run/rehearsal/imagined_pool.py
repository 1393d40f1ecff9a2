"""`appliance simulate --shards N`: one rehearsal for each of N slots of a pool.

The tasks are divided as `appliance pack condor` does. No slot waits for another; what a pool adds
(queue, start of the container, transfers) is not in the figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from appliance.arc.task import TaskSet
from appliance.clock import Clock, format_duration
from appliance.record.coverage import Coverage, covered_by_all
from appliance.run.rehearsal.faults import Faults
from appliance.run.rehearsal.imagined_run import ImaginedRun, crew_text, of_tasks
from appliance.run.rehearsal.rehearsal import Rehearsal
from appliance.sizing.balance import balance, predicted_costs
from appliance.sizing.make_plan import plan_run
from appliance.sizing.plan import AnyPlan, Plan
from appliance.sizing.request import PlanRequest

POLLS = 500
"""Looks for signals in one shard: few, because many shards are played and none is interrupted."""


@dataclass(frozen=True)
class Shard:
    """A part of the tasks, and how its run on one slot went."""

    tasks: TaskSet
    plan: AnyPlan
    load_s: float  # predicted work, in seconds of one device
    run: Rehearsal


@dataclass(frozen=True)
class ImaginedPool:
    """The rehearsals of all slots."""

    tasks: TaskSet
    shards: tuple[Shard, ...]
    merged: Coverage  # of all shards together
    budget_s: float  # of each slot
    real_s: float  # that the simulation took

    def ends_s(self) -> list[float]:
        return [shard.run.seconds for shard in self.shards]

    def slot_hours(self) -> float:
        """Hours that slots are held, all slots together."""
        return sum(self.ends_s()) / 3600

    def num_late(self) -> int:
        return sum(shard.run.seconds > self.budget_s for shard in self.shards)

    def num_faulty(self) -> int:
        """Shards whose submission is not valid, or that gave up."""
        return sum(bool(s.run.submission_faults or s.run.failure) for s in self.shards)


def simulate_shards(
    request: PlanRequest,
    num_shards: int,
    clock: Clock,
    *,
    faults: Faults,
    at_once: int | None,
    on_cpu: Callable[[PlanRequest], PlanRequest] | None = None,
) -> ImaginedPool:
    """Divide the tasks as `pack condor` does and rehearse each slot.

    The plan that balances the shards is of the whole pool; each slot then plans for its own tasks.
    """
    began_s = clock.now()
    assert request.tasks is not None  # the verb requires them

    whole = plan_run(replace(request, budget_s=request.budget_s * num_shards))
    costs = predicted_costs(request.tasks, whole)

    shards = []
    for seed, ids in enumerate(balance(costs, num_shards)):
        run = ImaginedRun.of(of_tasks(request, ids), faults=faults, at_once=at_once, on_cpu=on_cpu)
        load_s = sum(costs[task_id] for task_id in ids)
        shards.append(Shard(run.tasks, run.plan, load_s, run.rehearse(seed, polls=POLLS)))

    merged = covered_by_all([shard.run.coverage for shard in shards])
    seconds = clock.now() - began_s
    return ImaginedPool(request.tasks, tuple(shards), merged, request.budget_s, seconds)


def lines(pool: ImaginedPool) -> list[str]:
    """For people."""
    shards, plan = pool.shards, pool.shards[0].plan
    counts = [float(len(shard.tasks)) for shard in shards]
    steps = [float(n) for s in shards for n in s.run.done_by_task("train", "deep").values()]
    views = [float(n) for s in shards for n in s.run.done_by_task("sample", "deep").values()]
    idle = [share for shard in shards for share in shard.run.idle_shares()]
    held_h = len(shards) * pool.budget_s / 3600

    return [
        f"{len(pool.tasks)} tasks of {pool.tasks.name} on {len(shards)} slots, each "
        f"{crew_text(plan)}, {format_duration(pool.budget_s)}",
        "divided as appliance pack condor does; in each slot the real orchestrator and schedule, "
        "and imagined workers",
        "",
        f"tasks per shard:     {_count_spread(counts)}",
        f"predicted work:      {_time_spread([shard.load_s for shard in shards])}",
        f"finished after:      {_time_spread(pool.ends_s())}",
        f"steps per task:      {_count_spread(steps)}",
        f"views per task:      {_count_spread(views)}",
        f"devices idle:        mean {statistics.fmean(idle):.2%}, max {max(idle):.2%}",
        f"slot hours:          {pool.slot_hours():.1f} of {held_h:.1f}",
        "",
        "merged over all shards:",
        *(f"  {line}" for line in pool.merged.lines()),
        f"  invalid submissions: {pool.num_faulty()}; "
        f"shards past their deadline: {pool.num_late()}",
        f"simulated in {format_duration(pool.real_s)}",
    ]


def as_json(pool: ImaginedPool) -> dict[str, Any]:
    ends, plan = pool.ends_s(), pool.shards[0].plan
    return {
        "model": plan.model.value if isinstance(plan, Plan) else None,
        "device": plan.device if isinstance(plan, Plan) else None,
        "budget_s": pool.budget_s,
        "finish_s": {"min": min(ends), "median": statistics.median(ends), "max": max(ends)},
        "slot_hours": round(pool.slot_hours(), 4),
        "coverage": pool.merged.as_json(),
        "late": pool.num_late(),
        "faulty": pool.num_faulty(),
        "shards": [
            {
                "tasks": list(s.tasks.ids()),
                "predicted_s": round(s.load_s, 3),
                "finish_s": round(s.run.seconds, 3),
                "coverage": s.run.coverage.as_json(),
            }
            for s in pool.shards
        ],
        "simulated_in_s": round(pool.real_s, 3),
    }


def _count_spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    return f"min {min(values):.0f}, median {statistics.median(values):.0f}, max {max(values):.0f}"


def _time_spread(values: Sequence[float]) -> str:
    least, median, most = (format_duration(f(values)) for f in (min, statistics.median, max))
    return f"min {least}, median {median}, max {most}"
