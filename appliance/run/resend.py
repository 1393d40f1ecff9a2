"""A worker died or fell silent while it sampled: what remains of its job, for the worker that is started in its place."""

from __future__ import annotations

from collections import Counter

from appliance.run.slots import Running
from appliance.solve.messages import Job

MAX_RESENDS = 2
"""The last time with Transformers: an engine that was lost twice under the same prompts would be lost again."""


def remaining_job(running: Running, *, samples_per_view: int) -> Job | None:
    """The same job without what is answered, with the adapter that was trained; None where it had not come to sampling, where
    programs are searched for, or where it was sent again often enough.

    Forgets the answers of views that are asked once more, so that none of them counts twice.
    """
    job = running.job
    if running.stall_s is None or running.num_resends >= MAX_RESENDS or job.program_until_s > 0:
        return None
    num_found = Counter((c.task_id, c.view) for c in running.candidates)
    open_views = {
        task.task_id: [v for v in job.views if num_found[task.task_id, v] < samples_per_view * len(task.test)]
        for task in job.tasks
    }
    views = [v for v in job.views if any(v in missing for missing in open_views.values())]
    running.answered += [task_id for task_id, missing in open_views.items() if not missing]
    tasks = [task for task in job.tasks if open_views[task.task_id]]
    asked = {task.task_id for task in tasks}
    running.candidates = [c for c in running.candidates if c.task_id not in asked or c.view not in views]
    running.num_resends += 1
    running.stall_s = None
    trained = running.trained.get(tasks[0].task_id) if tasks else None
    change = {
        "tasks": tasks,
        "views": views,
        "adapter_sha": trained.adapter_sha if trained else job.adapter_sha,
        "is_plain": running.num_resends == MAX_RESENDS,
    }
    return job.model_copy(update=change)
