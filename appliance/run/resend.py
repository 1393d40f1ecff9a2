"""What remains of a job whose worker died or fell silent while it sampled.

The worker that is started in its place gets the rest.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from appliance.arc.vote import Candidate
from appliance.predictions import rounds_left
from appliance.run.worker_state import Running, grids_by_view
from appliance.solve.messages import Ask, Job, KnownProgram, TaskMessage

MAX_RESENDS = 2
"""Times that the rest of a job is sent again. The last time Transformers does it: an engine that
was lost twice at the same prompts would be lost again."""

LOST_TWICE = "vllm: lost twice under this task"
"""Why it does, for the count at the end of a run."""


def remaining_job(running: Running, *, samples_per_view: int, quick_programs: int) -> Job | None:
    """The same job without what is answered, with the adapter that was trained.

    None if it had not come to sampling, or was sent again often enough. Writing programs goes
    on from those that it had written; if it was over, only grids remain. A task of a quick job that
    lacks programs is asked anew. Answers that are asked for once more are forgotten, so that none
    counts twice.

    samples_per_view: grids for each view and test input, 0 if none are asked for. quick_programs:
    programs for each task of a quick job, likewise.
    """
    job = running.job
    if running.stall_s is None or running.num_resends >= MAX_RESENDS:
        return None

    running.num_resends += 1
    running.stall_s = None
    is_last = running.num_resends == MAX_RESENDS
    plain_because = job.plain_because or (LOST_TWICE if is_last else "")

    # The writing of programs is not over.
    if job.program_until_s > 0 and not running.wrote:
        written = [p for p in running.programs if p.outcome == "ok"]
        known = {(k.view, k.answer): k for k in [*job.known, *map(KnownProgram.of, written)]}
        rest: dict[str, Any] = {"known": list(known.values()), "plain_because": plain_because}
        if job.program_rounds is not None:
            num_sent = running.num_programs_sent
            rest["program_rounds"] = list(
                rounds_left(tuple(job.program_rounds), len(running.programs) - num_sent)
            )
            running.num_programs_sent = len(running.programs)
        return job.model_copy(update=rest)

    # Where predictions are counted, exactly those that are missing are asked for.
    if job.asks is not None:
        rest = {"asks": _open_asks(running, job.asks), "program_rounds": [], "program_until_s": 0.0}
        return job.model_copy(
            update={**rest, "plain_because": plain_because, "adapter_sha": _adapter(running)}
        )

    # Which tasks and views still lack answers.
    views_open = {
        task.task_id: _open_views(running, task, samples_per_view, quick_programs)
        for task in job.tasks
    }
    views = [v for v in job.views if any(v in missing for missing in views_open.values())]
    running.answered += [task_id for task_id, missing in views_open.items() if not missing]
    tasks = [task for task in job.tasks if views_open[task.task_id]]

    # A job has one list of views for all its tasks: what comes a second time is forgotten now.
    asked = {task.task_id for task in tasks}
    is_quick = job.stage == "quick"
    running.programs = [p for p in running.programs if p.task_id not in asked or not is_quick]
    running.candidates = [
        c for c in running.candidates if c.task_id not in asked or not _is_asked(c, views, is_quick)
    ]

    change = {
        "tasks": tasks,
        "views": views,
        "adapter_sha": _adapter(running) if tasks else job.adapter_sha,
        "program_until_s": 0.0,
        "plain_because": plain_because,
    }
    return job.model_copy(update=change)


def _adapter(running: Running) -> str:
    """The one that answers: trained in this job, or before it."""
    trained = running.trained.get(running.job.tasks[0].task_id)
    return trained.adapter_sha if trained else running.job.adapter_sha


def _open_asks(running: Running, asks: list[Ask]) -> list[Ask]:
    """The questions of a job without the answers that it gave since they were asked."""
    grids = [c for c in running.candidates if c.method == "transduction"]
    there = Counter((c.view, c.test_index) for c in grids[running.num_grids_sent :])
    running.num_grids_sent = len(grids)

    left = []
    for ask in asks:
        key = (ask.view, ask.test_index)
        num_there = min(ask.num_samples, there[key])
        there[key] -= num_there
        if ask.num_samples > num_there:
            left.append(ask.model_copy(update={"num_samples": ask.num_samples - num_there}))
    return left


def _open_views(
    running: Running, task: TaskMessage, samples_per_view: int, quick_programs: int
) -> list[str]:
    """The task's views that lack answers; all of them if a quick job lacks programs."""
    job = running.job
    num_programs = sum(p.task_id == task.task_id for p in running.programs)
    if job.stage == "quick" and num_programs < quick_programs:
        return job.views

    found = (c for c in running.candidates if c.task_id == task.task_id)
    grids = grids_by_view(found, samples_per_view)
    return [v for v in job.views if grids[v] < samples_per_view * len(task.test)]


def _is_asked(candidate: Candidate, views: list[str], is_quick: bool) -> bool:
    """Whether the new job asks for this answer once more."""
    return is_quick if candidate.method == "induction" else candidate.view in views
