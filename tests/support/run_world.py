"""A small world for the orchestrator: random tasks, settings, and workers cheap or dear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.grid import Grid, as_grid, freeze, to_lists
from appliance.arc.task import Pair, Task, TaskSet
from appliance.clock import VirtualClock
from appliance.config import Layer, Settings, resolve
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.run.console import NoDisplay
from appliance.run.ledger import Attempts
from appliance.run.orchestrator import Orchestrator, RunTime, RunWork
from appliance.run.pool import Pool
from appliance.run.rehearsal.fake_pool import ImaginedCosts
from appliance.run.rehearsal.faults import Faults
from appliance.run.rehearsal.rehearsal import Crew, Rehearsal, rehearse
from appliance.run.schedule.measured_costs import TaskCost
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.schedule.search_queue import SearchShare
from appliance.seeds import generator
from appliance.solve.messages import ProgramMessage


def grid(rng: np.random.Generator, side: int) -> Grid:
    return freeze(rng.integers(0, 10, (side, side)).astype(np.int8))


def tasks(count: int, seed: int = 0, *, most_side: int = 6) -> TaskSet:
    """Small grids keep the tests fast; what tasks cost is in the true_costs."""
    rng = generator("world", seed)

    def task(number: int) -> Task:
        side = int(rng.integers(1, most_side + 1))
        pairs = tuple(
            Pair(grid(rng, side), grid(rng, side)) for _ in range(int(rng.integers(2, 4)))
        )
        return Task(
            f"task{number:04}",
            pairs,
            tuple(grid(rng, side) for _ in range(1 + int(rng.random() < 0.1))),
        )

    return TaskSet("world", tuple(task(n) for n in range(count)))


def settings(budget_s: float, **values: object) -> Settings:
    """Keys with two underscores for the dot. Rounds end early, for hours of them take minutes."""
    given = {key.replace("__", "."): value for key, value in values.items()}
    few = {"run.budget_s": budget_s, "sample.views": 8, "run.rounds": 8}
    return resolve([Layer("test", few | given)])


def costs(task_set: TaskSet, *, step_s: float, view_s: float) -> dict[str, TaskCost]:
    """In proportion to the cells of a task; the mean task has the given figures."""
    mean = sum(t.num_cells() for t in task_set) / len(task_set)
    return {t.task_id: TaskCost(step_s, view_s * t.num_cells() / mean) for t in task_set}


def run(
    task_set: TaskSet,
    *,
    budget_s: float,
    num_workers: int = 2,
    step_s: float = 0.02,
    view_s: float = 0.05,
    load_s: float = 2.0,
    faults: Mapping[str, float] | None = None,
    seed: int = 0,
    is_planned: bool = False,
    **values: object,
) -> Rehearsal:
    chosen = settings(budget_s, **values)
    true = costs(task_set, step_s=step_s, view_s=view_s)
    crew = Crew(
        chosen,
        ImaginedCosts(true, chosen, load_s=load_s),
        num_workers=num_workers,
        costs=true if is_planned else None,
    )
    return rehearse(task_set, crew, budget_s=budget_s, faults=Faults(faults or {}), seed=seed)


class ToldTo(NoDisplay):
    """A display that only passes on what is told."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def tell(self, text: str) -> None:
        self._tell(text)


def orchestrator(
    task_set: TaskSet,
    chosen: Settings,
    pool: Pool,
    clock: VirtualClock,
    *,
    journal: Journal | None = None,
    planned: PlannedCosts | None = None,
    search: SearchShare | None = None,
    goes_on: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    is_stopped: Callable[[], bool] = lambda: False,
    write: Callable[[Callable[[], Attempts]], None] = lambda attempts: None,
    slowdown: float = 1.0,
) -> Orchestrator:
    """An orchestrator over those workers that begins now and has the budget of the settings.

    `rehearse` is the usual way to a run; this is for tests that bring a pool of their own or
    look at the journal and at every write. Without a journal it keeps one in memory.
    """
    budget_s = chosen.run.budget_s
    assert budget_s is not None
    if journal is None:
        journal = memory_journal(task_set)

    return Orchestrator(
        RunWork(task_set, chosen, RunFolder(Path()), journal),
        pool,
        RunTime(clock, 0.0, budget_s, lambda: slowdown),
        ToldTo(tell),
        is_stopped=is_stopped,
        planned=planned,
        search=search,
        goes_on=goes_on,
        write=write,
    )


def memory_journal(task_set: TaskSet) -> Journal:
    """A journal in memory that knows the tasks."""
    journal = Journal(Path(":memory:"))
    journal.put_tasks(task_set)
    return journal


def program(
    answer: str,
    *,
    task_id: str = "t",
    view: str = "v0",
    score: float = 0.0,
    grid: Any = ((1,),),
    outcome: str = "ok",
) -> ProgramMessage:
    """A program whose text and outputs are `answer`.

    For the only test input it gave the grid, or nothing where that is None.
    """
    return ProgramMessage(
        task_id=task_id,
        view=view,
        adapter="",
        answer=answer,
        source=answer,
        outcome=outcome,
        error=None,
        demo_score=score,
        similarity=score,
        outputs=answer,
        test=[None if grid is None else to_lists(as_grid(grid))],
        logprob=-1.0,
        num_tokens=2,
    )
