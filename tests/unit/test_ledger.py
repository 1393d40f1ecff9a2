"""What a run knows of its answers is what its journal holds, without reading it anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from appliance.arc.grid import Grid, freeze, grid_key
from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate
from appliance.clock import VirtualClock
from appliance.record.journal import Journal
from appliance.run.ledger import Attempts, Ledger, Outcome
from appliance.run.schedule.task_state import Assignment, Stage
from tests.support.run_world import tasks

TASKS = TaskSet("world", tuple(t for t in tasks(20) if len(t.test) == 1)[:2])
ONE, TWO = (freeze(np.full((2, 2), colour)) for colour in (1, 2))
TOO_WIDE = freeze(np.zeros((1, 31)))


def ledger(journal: Journal) -> Ledger:
    return Ledger(
        TASKS, journal, selector="programs-first", clock=VirtualClock(), write=lambda attempts: None
    )


def answers(
    number: int, *grids: Grid | None, logprob: float = -1.0, weight: float | None = None
) -> list[Candidate]:
    """To the first task, each under a view of its own."""
    task_id = TASKS.ids()[0]
    return [
        Candidate(task_id, 0, grid, logprob, 4, view=f"v{number}-{i}", weight=weight)
        for i, grid in enumerate(grids)
    ]


def put(to: Ledger, stage: Stage, found: list[Candidate], *, number: int = 1) -> None:
    task = TASKS.tasks[0]
    to.put(Assignment(stage, (task,), 4, 9.0, 9.0, round=number), task, Outcome("done", found))


def same_as_read_anew(known: Ledger, journal: Journal) -> bool:
    read = ledger(journal)
    attempts = [
        {output: [grid_key(g) for g in grids] for output, grids in of.attempts().items()}
        for of in (known, read)
    ]
    return attempts[0] == attempts[1] and (known.certainties, known.found) == (
        read.certainties,
        read.found,
    )


def test_it_knows_after_every_job_what_a_resumed_run_would_read() -> None:
    journal = Journal(Path(":memory:"))
    journal.put_tasks(TASKS)
    known = ledger(journal)
    jobs: list[tuple[Stage, int, list[Candidate]]] = [
        ("quick", 1, answers(0, ONE, None)),
        ("deep", 1, answers(1, ONE, ONE, TWO)),
        ("deep", 2, answers(2, TWO, TWO, logprob=math.nan)),
        ("deep", 1, answers(3, TWO, ONE)),  # once more: instead of the first ones
        ("deep", 3, answers(4, TOO_WIDE, ONE, logprob=7.0)),  # nothing that counts as it is
        ("search", 1, answers(5, TWO, weight=0.4)),
    ]
    for stage, number, found in jobs:
        put(known, stage, found, number=number)
        assert same_as_read_anew(known, journal)

    task_id = TASKS.ids()[0]
    (grids,) = known.attempts().values()
    assert [int(g[0, 0]) for g in grids] == [2, 1]
    # Of 5 votes 3 are for the two grid: the first three answers and the illegal one do not count.
    assert known.certainties[task_id].margin == (3 - 2) / (5 + 1)
    assert known.found == {task_id}
    journal.close()


def test_a_vote_is_paid_for_when_somebody_asks_for_it() -> None:
    journal = Journal(Path(":memory:"))
    journal.put_tasks(TASKS)
    seen: list[Callable[[], Attempts]] = []
    known = Ledger(
        TASKS, journal, selector="programs-first", clock=VirtualClock(), write=seen.append
    )
    put(known, "quick", answers(0, ONE))
    known.write()
    put(known, "deep", answers(1, TWO))
    known.write()
    known.write()  # nothing is new

    assert len(seen) == 2
    assert [int(g[0, 0]) for g in seen[-1]()[TASKS.ids()[0], 0]] == [2, 1]
    journal.close()


def test_the_journal_says_which_worker_it_was() -> None:
    journal = Journal(Path(":memory:"))
    journal.put_tasks(TASKS)
    task = TASKS.tasks[0]
    outcome = Outcome("done", answers(0, ONE), worker=0)
    ledger(journal).put(Assignment("quick", (task,), 4, 9.0, 9.0), task, outcome)
    assert [row.detail["worker"] for row in journal.stages()] == [0]
    journal.close()
