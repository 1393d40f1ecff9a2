"""What a simulation plays: the plan of a run, with workers that take as long as it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance.arc.task import TaskSet
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS, Faults
from appliance.run.rehearsal.recorded_answers import Records
from appliance.run.rehearsal.rehearsal import (
    POLLS,
    Baseline,
    Crew,
    Rehearsal,
    rehearse,
    static_baseline,
)
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
    crew: Crew
    on_cpu: Callable[[float], Crew] | None  # once all devices are lost: see `rehearse`
    budget_s: float
    faults: Faults
    records: Records | None = None  # what answers are drawn from; None: they are invented

    @staticmethod
    def of(
        request: PlanRequest,
        *,
        faults: Faults = NO_FAULTS,
        at_once: int | None = None,
        on_cpu: Callable[[PlanRequest], PlanRequest] | None = None,
        records: Records | None = None,
    ) -> ImaginedRun:
        """at_once: answers that are written at once, by default as many as the plan says.

        on_cpu: what a run that has lost its cards asks for instead.
        """
        tasks = request.tasks
        assert tasks is not None  # the verb requires them
        plan = plan_run(request)

        def others(seconds: float) -> Crew:
            assert on_cpu is not None
            return crew_of(plan_run(on_cpu(replace(request, budget_s=seconds))), tasks, at_once)

        has_cards = isinstance(plan, Plan) and bool(plan.machine.gpus)
        return ImaginedRun(
            tasks,
            plan,
            crew_of(plan, tasks, at_once),
            others if on_cpu and has_cards else None,
            request.budget_s,
            faults,
            records,
        )

    def rehearse(
        self,
        seed: int,
        *,
        polls: int = POLLS,
        watch: Callable[[float], None] = lambda seconds: None,
    ) -> Rehearsal:
        return rehearse(
            self.tasks,
            self.crew,
            budget_s=self.budget_s,
            faults=self.faults,
            seed=seed,
            polls=polls,
            on_cpu=self.on_cpu,
            records=self.records,
            watch=watch,
        )

    def baseline(self) -> Baseline | None:
        """None without a model."""
        if not self.crew.num_workers:
            return None
        return static_baseline(
            self.tasks,
            self.plan.settings,
            self.crew.true_costs,
            num_workers=self.crew.num_workers,
            budget_s=self.budget_s,
            seed=0,
        )


def crew_of(plan: AnyPlan, tasks: TaskSet, at_once: int | None) -> Crew:
    """Workers that take as long as the plan says. at_once: see `ImaginedRun.of`."""
    searches = search_costs(tasks, math.inf)
    if not isinstance(plan, Plan):
        true_costs = ImaginedCosts({}, plan.settings, load_s=0.0, search=searches)
        return Crew(plan.settings, true_costs, num_workers=0, search=search_share(plan))

    planned = PlannedCosts.of(plan, tasks, at_once=at_once)
    load_s = plan.costs.load_s()
    return Crew(
        plan.settings,
        ImaginedCosts(planned.task_costs(), plan.settings, load_s=load_s, search=searches),
        num_workers=plan.workers.value,
        workers_per_device=plan.settings.run.workers_per_card,
        planned=planned,
        is_rate_given="train.learning_rate" in plan.given_keys,
        search=search_share(plan),
    )


def crew_text(plan: AnyPlan) -> str:
    """Who works, for people."""
    parts = []
    if isinstance(plan, Plan):
        count = plan.workers.value
        workers = "one worker" if count == 1 else f"{count} workers"
        parts.append(f"{plan.model.value}, {workers} on {plan.device}")
    if plan.search:
        count = plan.search.workers.value
        parts.append("one search worker" if count == 1 else f"{count} search workers")
    return " and ".join(parts)


def of_tasks(request: PlanRequest, task_ids: tuple[str, ...]) -> PlanRequest:
    """The same run on some of its tasks, as on one slot of a pool."""
    assert request.tasks is not None
    return replace(request, tasks=request.tasks.select(task_ids))
