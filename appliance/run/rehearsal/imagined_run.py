"""What a simulation plays: the plan of a run, with workers that take as long as it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.arc.task import TaskSet
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS, Faults
from appliance.run.rehearsal.rehearsal import POLLS, Baseline, Rehearsal, rehearse, static_baseline
from appliance.run.schedule.measured_costs import TaskCost
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.workers import search_share
from appliance.sizing.make_plan import plan_run
from appliance.sizing.plan import AnyPlan, Plan
from appliance.sizing.plan_search import search_costs
from appliance.sizing.request import PlanRequest


@dataclass(frozen=True)
class ImaginedRun:
    """Everything that a rehearsal needs but its seed."""

    tasks: TaskSet
    plan: AnyPlan
    costs: Mapping[str, TaskCost]  # of each task, as the orchestrator expects them; of the model
    true_costs: ImaginedCosts  # what the work takes in the rehearsal
    budget_s: float
    faults: Faults

    @staticmethod
    def of(
        request: PlanRequest, *, faults: Faults = NO_FAULTS, at_once: int | None = None
    ) -> ImaginedRun:
        """at_once: answers that are written at once, by default as many as the plan says."""
        assert request.tasks is not None  # the verb requires them

        plan = plan_run(request)
        costs: Mapping[str, TaskCost] = {}
        load_s = 0.0
        if isinstance(plan, Plan):
            costs = PlannedCosts.of(plan, request.tasks, at_once=at_once).task_costs()
            load_s = plan.costs.load_s()

        searches = search_costs(request.tasks, math.inf)
        true_costs = ImaginedCosts(costs, plan.settings, load_s=load_s, search=searches)
        return ImaginedRun(request.tasks, plan, costs, true_costs, request.budget_s, faults)

    def rehearse(self, seed: int, *, polls: int = POLLS) -> Rehearsal:
        return rehearse(
            self.tasks,
            self.plan.settings,
            self.true_costs,
            num_workers=self.num_workers,
            budget_s=self.budget_s,
            faults=self.faults,
            seed=seed,
            costs=self.costs if self.num_workers else None,
            search=search_share(self.plan),
            polls=polls,
        )

    @property
    def num_workers(self) -> int:
        """Workers of the model; 0 where there is none."""
        return self.plan.workers.value if isinstance(self.plan, Plan) else 0

    def baseline(self) -> Baseline | None:
        """None without a model."""
        if not self.num_workers:
            return None
        return static_baseline(
            self.tasks,
            self.plan.settings,
            self.true_costs,
            num_workers=self.num_workers,
            budget_s=self.budget_s,
            seed=0,
        )


def crew(plan: AnyPlan) -> str:
    """Who works, for people."""
    parts = []
    if isinstance(plan, Plan):
        parts.append(f"{plan.model.value}, {plan.workers.value} workers on {plan.device}")
    if plan.search:
        parts.append(f"{plan.search.workers.value} search workers")
    return " and ".join(parts)


def of_tasks(request: PlanRequest, task_ids: tuple[str, ...]) -> PlanRequest:
    """The same run on some of its tasks, as on one slot of a pool."""
    assert request.tasks is not None
    return replace(request, tasks=request.tasks.select(task_ids))
