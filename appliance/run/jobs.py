"""What a worker is told of an assignment: views, instants, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.arc.view import sampling_views
from appliance.config import Settings
from appliance.predictions import in_order, program_rounds, rounds_left
from appliance.run.schedule.task_state import Assignment
from appliance.seeds import generator, seed_of
from appliance.solve.messages import Ask, Job, KnownProgram, TaskMessage


@dataclass(frozen=True)
class Done:
    """What the earlier rounds of a task gave."""

    grids: Mapping[tuple[str, int], int]  # answers by view and test input
    num_programs: int


NOTHING_DONE = Done({}, 0)


def job_of(
    assignment: Assignment,
    settings: Settings,
    *,
    job_id: int,
    now_s: float,
    known: list[KnownProgram],
    done: Done = NOTHING_DONE,
    plain_because: str = "",
) -> Job:
    """The message for a worker; the same assignment gives the same views and seed in every run.

    known: programs that writing goes on from. done: what earlier rounds gave, where predictions are
    counted. plain_because: see `Job`.
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

    views = views_of(assignment, settings)
    asks, rounds = None, None
    is_counted = settings.sample.predictions is not None and assignment.stage == "deep"
    if is_counted and settings.writes_grids:
        asks = _asks(assignment, settings, views, done)
    if is_counted and settings.writes_programs:
        rounds = list(rounds_left(program_rounds(settings), done.num_programs))

    train_from_s = now_s + assignment.program_s  # programs come first
    has_programs = assignment.program_s > 0 and rounds != []

    return Job(
        job_id=job_id,
        stage=assignment.stage,
        tasks=[TaskMessage.of(t) for t in assignment.tasks],
        views=views,
        deadline_s=assignment.until_s,
        train_until_s=train_from_s + assignment.train_s if assignment.train_s else 0.0,
        program_until_s=train_from_s if has_programs else 0.0,
        known=known,
        asks=asks,
        program_rounds=rounds,
        plain_because=plain_because,
        rung=assignment.rung,
        seed=seed if assignment.round == 1 else seed_of(seed, "round", assignment.round),
        adapter_sha=assignment.adapter_sha,
        rank_divisor=assignment.rank_divisor,
        steps_fold=assignment.steps_fold,
        learning_rate=assignment.learning_rate,
        rates=list(assignment.rates),
        num_steps=assignment.num_steps,
    )


def _asks(assignment: Assignment, settings: Settings, views: list[str], done: Done) -> list[Ask]:
    """The answers that are still to come, of all that are to be there in the end."""
    num = settings.sample.predictions
    assert num is not None
    num_tests = len(assignment.tasks[0].test)
    return [
        Ask(view=view, test_index=test_index, num_samples=num_samples)
        for view, test_index, num_samples in in_order(num, tuple(views), num_tests, done.grids)
    ]


def views_of(assignment: Assignment, settings: Settings) -> list[str]:
    """Names of the views to sample under.

    One set serves all quick jobs, however the tasks are grouped or sharded; every round of a task
    has a set of its own. Where predictions are counted, all rounds together have one.
    """
    is_deep, is_counted = assignment.stage == "deep", settings.sample.predictions is not None
    first, number = assignment.tasks[0], 1 if is_counted else assignment.round
    stage = assignment.stage if number == 1 else f"{assignment.stage}-{number}"
    rng = generator(settings.run.seed, first.task_id if is_deep else "all", stage, "views")

    order = len(first.train) if is_deep else 0
    views = sampling_views(rng, assignment.num_views, order, **settings.sample.kept)

    # The first view is the same in every round. A further round's adapter has answered it; that of
    # a first round has not, where training left no time for answers.
    if assignment.round > 1 and assignment.adapter_sha and len(views) > 1 and not is_counted:
        views = views[1:]
    return list(dict.fromkeys(view.name for view in views))
