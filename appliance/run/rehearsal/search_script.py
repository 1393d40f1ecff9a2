"""The job of an imagined search worker: one task, so long, and answers with their weights."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.run.rehearsal.fake_answers import Answers
from appliance.run.rehearsal.work_item import WorkItem, log_normal
from appliance.seeds import generator
from appliance.solve.messages import Finished, Job, Sampled, Searched

SPREAD = 0.7
"""Sigma of the log-normal factor on a search. Of 103 public tasks the mean took 6.6 s, the median
5.6 s and the longest 26 s."""

CHECK_S = 0.1
"""In which the programs that were found are run in the sandbox."""

CALLS_PER_S = 20_000
"""Functions that a search applies in a second."""


def search_items(
    job: Job, now_s: float, mean_s: float, answers: Answers, *, seed: int
) -> Iterator[WorkItem]:
    """One search that begins now. mean_s: CPU seconds that it takes on the mean, unlimited."""
    task = job.tasks[0].task()
    wanted_s = mean_s * log_normal(generator(seed, task.task_id, "search"), SPREAD)
    limit_s = max(0.0, min(job.cpu_s, job.deadline_s - now_s - CHECK_S))
    cpu_s = min(wanted_s, limit_s)
    seconds = cpu_s + CHECK_S

    found = Sampled(job_id=job.job_id, candidates=answers.of_search(task))
    yield WorkItem("search", task.task_id, seconds, found)

    has_answer = bool(found.candidates)
    searched = Searched(
        job_id=job.job_id,
        task_id=task.task_id,
        seconds=seconds,
        cpu_s=cpu_s,
        expansions=job.expansions,
        applications=int(cpu_s * CALLS_PER_S),
        bound="time" if wanted_s > limit_s else "expansions",
        kind="exact" if has_answer else "",
        num_answers=int(has_answer),
        num_refused=0,
        num_left=0,
    )
    yield WorkItem("overhead", task.task_id, 0.0, searched)

    finished = Finished(job_id=job.job_id, complete=[task.task_id], seconds=seconds)
    yield WorkItem("overhead", task.task_id, 0.0, finished)
