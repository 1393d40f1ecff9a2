"""What a worker is told of an assignment: views, instants, seeds."""

from __future__ import annotations

from appliance.arc.view import sampling_views
from appliance.config import Settings
from appliance.run.schedule.task_state import Assignment
from appliance.seeds import generator, seed_of
from appliance.solve.messages import Job, KnownProgram, TaskMessage


def job_of(
    assignment: Assignment,
    settings: Settings,
    *,
    job_id: int,
    now_s: float,
    known: list[KnownProgram],
    plain_because: str = "",
) -> Job:
    """The message for a worker; the same assignment gives the same views and seed in every run.

    known: programs that writing goes on from. plain_because: see `Job`.
    """
    seed = settings.run.seed
    if assignment.stage == "search":
        return Job(
            job_id=job_id,
            stage="search",
            tasks=[TaskMessage.of(assignment.tasks[0])],
            deadline_s=assignment.until_s,
            seed=seed,
            expansions=settings.search.expansions,
            cpu_s=assignment.cpu_s,
        )

    train_from_s = now_s + assignment.program_s  # programs come first

    return Job(
        job_id=job_id,
        stage=assignment.stage,
        tasks=[TaskMessage.of(t) for t in assignment.tasks],
        views=views_of(assignment, settings),
        deadline_s=assignment.until_s,
        train_until_s=train_from_s + assignment.train_s if assignment.train_s else 0.0,
        program_until_s=train_from_s if assignment.program_s else 0.0,
        known=known,
        plain_because=plain_because,
        rung=assignment.rung,
        seed=seed if assignment.round == 1 else seed_of(seed, "round", assignment.round),
        adapter_sha=assignment.adapter_sha,
        learning_rate=assignment.learning_rate,
        rates=list(assignment.rates),
        num_steps=assignment.num_steps,
    )


def views_of(assignment: Assignment, settings: Settings) -> list[str]:
    """Names of the views to sample under.

    One set serves all quick jobs, however the tasks are grouped or sharded; every round of a task
    has a set of its own.
    """
    is_deep = assignment.stage == "deep"
    first, number = assignment.tasks[0], assignment.round
    stage = assignment.stage if number == 1 else f"{assignment.stage}-{number}"
    rng = generator(settings.run.seed, first.task_id if is_deep else "all", stage, "views")

    order = len(first.train) if is_deep else 0
    views = sampling_views(rng, assignment.num_views, order, **settings.sample.kept)

    if assignment.adapter_sha and len(views) > 1:
        # The first view is the same in every round, and this adapter has answered it.
        views = views[1:]
    return list(dict.fromkeys(view.name for view in views))
