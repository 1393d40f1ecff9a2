"""The jobs of an imagined worker that solve nothing: a probe, a check of the learning rate; and the
fault that ends them."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.run.rehearsal.faults import Faults
from appliance.run.rehearsal.work_item import WorkItem
from appliance.run.schedule.measured_costs import TaskCost
from appliance.seeds import generator
from appliance.solve.messages import Checked, Failed, Job, Probed

PROBE_STEPS = 2
"""Training steps that a probe takes."""

UNTRAINED, HELPED, HARMED = 0.5, 0.4, 0.9
"""Nats a token of an answer that was held back: before training, and after it went well or not."""


FAULT = "EngineError: imagined in a rehearsal"
"""What training says on tasks that the fault "fault" strikes."""


def is_faulty(task_id: str, faults: Faults, seed: int) -> bool:
    """Whether training on the task always fails."""
    rate = faults.rate("fault")
    return rate > 0 and generator(seed, task_id, "fault").random() < rate


def fault_item(job: Job) -> WorkItem:
    """It fails at the first step, and the worker lives on."""
    failed = Failed(job_id=job.job_id, kind="engine", message=FAULT)
    return WorkItem("lost", job.tasks[0].task_id, 0.1, failed)


def probe_item(job: Job, costs: Mapping[str, TaskCost]) -> WorkItem:
    """It takes its time and measures nothing: the imagined costs are the true ones."""
    task_id = job.tasks[0].task_id
    cost = costs[task_id]
    event = Probed(job_id=job.job_id, tokens=0, prompt_tokens=0, rows=1)
    return WorkItem("overhead", task_id, PROBE_STEPS * cost.step + cost.view, event)


def check_item(job: Job, costs: Mapping[str, TaskCost], faults: Faults, *, seed: int) -> WorkItem:
    """Every rate does as well as the others; on tasks that the fault "harm" strikes, as badly."""
    task_id = job.tasks[0].task_id
    is_harmed = generator(seed, task_id, "harm").random() < faults.rate("harm")
    event = Checked(
        job_id=job.job_id,
        task_id=task_id,
        untrained=UNTRAINED,
        trained=[HARMED if is_harmed else HELPED] * len(job.rates),
    )

    cost = costs[task_id]
    train_s = len(job.rates) * job.num_steps * cost.step
    read_s = (1 + len(job.rates)) * len(job.views) * cost.view
    return WorkItem("overhead", task_id, train_s + read_s, event)
