"""What a simulation plays: the plan of a run, with workers that take as long as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.arc.task import TaskSet
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS, Faults
from appliance.run.rehearsal.rehearsal import POLLS, Baseline, Rehearsal, rehearse, static_baseline
from appliance.run.schedule.measured_costs import TaskCost
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.sizing.make_plan import make_plan
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest


@dataclass(frozen=True)
class ImaginedRun:
    """Everything that a rehearsal needs but its seed."""

    tasks: TaskSet
    plan: Plan
    costs: Mapping[str, TaskCost]  # of each task, as the orchestrator expects them
    true_costs: ImaginedCosts  # what the work takes in the rehearsal
    budget_s: float
    faults: Faults

    @staticmethod
    def of(
        request: PlanRequest, *, faults: Faults = NO_FAULTS, at_once: int | None = None
    ) -> ImaginedRun:
        """at_once: answers that are written at once, by default as many as the plan says."""
        assert request.tasks is not None  # the verb requires them

        plan = make_plan(request)
        costs = PlannedCosts.of(plan, request.tasks, at_once=at_once).task_costs()
        true_costs = ImaginedCosts(costs, plan.settings, load_s=plan.costs.load_s())
        return ImaginedRun(request.tasks, plan, costs, true_costs, request.budget_s, faults)

    def rehearse(self, seed: int, *, polls: int = POLLS) -> Rehearsal:
        return rehearse(
            self.tasks,
            self.plan.settings,
            self.true_costs,
            num_workers=self.plan.workers.value,
            budget_s=self.budget_s,
            faults=self.faults,
            seed=seed,
            costs=self.costs,
            polls=polls,
        )

    def baseline(self) -> Baseline:
        return static_baseline(
            self.tasks,
            self.plan.settings,
            self.true_costs,
            num_workers=self.plan.workers.value,
            budget_s=self.budget_s,
            seed=0,
        )


def of_tasks(request: PlanRequest, task_ids: tuple[str, ...]) -> PlanRequest:
    """The same run on some of its tasks, as on one slot of a pool."""
    assert request.tasks is not None
    return replace(request, tasks=request.tasks.select(task_ids))
