"""What people see of a searched task."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.arc.grid import Grid, as_grid
from appliance.arc.task import Pair, Task
from appliance.arc.vote import Candidate
from appliance.clock import VirtualClock
from appliance.record.journal import Journal
from appliance.run.console import JsonDisplay, PlainDisplay, RichDisplay
from appliance.run.task_text import task_line
from appliance.run.worker_state import TaskReport
from appliance.solve.messages import Searched

LEFT, RIGHT = as_grid([[1, 2, 3]]), as_grid([[3, 2, 1]])
TASK = Task("t", (Pair(LEFT, RIGHT),), (LEFT,))
PROGRAM = "from dsl import *\n\n\ndef transform(grid):\n    return mirror(grid, LEFT_RIGHT)\n"
SOLUTIONS = {"t": (RIGHT,)}


def answer(grid: Grid, weight: float, program: str = PROGRAM) -> Candidate:
    method, score = ("search", 1.0) if program else ("cells", None)
    return Candidate(
        "t", 0, grid, 0.0, 0, method=method, program=program, demo_score=score, weight=weight
    )


def report(*candidates: Candidate, kind: str = "exact") -> TaskReport:
    searched = Searched(
        job_id=1,
        task_id="t",
        seconds=2.1,
        cpu_s=1.9,
        expansions=60,
        applications=4000,
        bound="",
        kind=kind,
        num_answers=len(candidates),
        num_refused=0,
        num_left=0,
    )
    return TaskReport(TASK, "search", None, candidates, 2.1, searched=searched)


SURE = report(answer(RIGHT, 0.4), answer(RIGHT, 0.22, PROGRAM + "# longer"), answer(LEFT, 0.1))


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (SURE, "t | 0.62 sure | exact | 2.1 s | SOLVED"),
        (
            report(answer(LEFT, 0.05, ""), kind="cells"),
            "t | 0.05 sure | cells (no program) | 2.1 s | not solved",
        ),
        (report(kind=""), "t | no answer | 2.1 s | not solved"),
    ],
)
def test_a_searched_task_is_one_line(shown: TaskReport, line: str) -> None:
    assert task_line(shown, SOLUTIONS) == line


def test_a_step_of_the_model_speaks_of_its_own_answers_only() -> None:
    """The search may have solved the task before."""
    sampled = TaskReport(TASK, "quick", None, (Candidate("t", 0, LEFT, -1.0, 1),), 0.2)
    told = "t | first attempt has 1 of 1 votes | 0.2 s | not solved by these answers"
    assert task_line(sampled, SOLUTIONS) == told


def test_without_the_answers_nothing_is_said_of_solved() -> None:
    assert task_line(SURE, {}) == "t | 0.62 sure | exact | 2.1 s"


def test_the_plain_line_names_the_stage_and_a_solved_task_has_its_program() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream, 10, SOLUTIONS)
    display.show(SURE)
    display.show(report(answer(LEFT, 0.4)))
    assert stream.getvalue().splitlines() == [
        "search   1/10  t | 0.62 sure | exact | 2.1 s | SOLVED",
        "    def transform(grid):",
        "        return mirror(grid, LEFT_RIGHT)",
        "search   1/10  t | 0.40 sure | exact | 2.1 s | not solved",
    ]


def test_lines_after_the_view_was_left_count_the_tasks_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    journal = Journal(Path(":memory:"))
    display = RichDisplay(
        journal=journal, name="x", clock=VirtualClock(), num_tasks=10, solutions={}
    )
    display.show(SURE)
    display.close()
    display.show(replace(SURE, task=replace(TASK, task_id="u")))
    assert capsys.readouterr().out.startswith("search   2/10  u | ")
    journal.close()


def test_json_has_the_facts_and_the_program() -> None:
    stream = io.StringIO()
    JsonDisplay(stream, SOLUTIONS).show(SURE)
    found = json.loads(stream.getvalue())
    assert found["search"]["weight"] == pytest.approx(0.62)
    assert found["search"]["program"] == PROGRAM
    assert (found["search"]["expansions"], found["search"]["cpu_s"]) == (60, 1.9)
    assert (found["solved"], found["num_programs"]) == (True, 0)
    assert found["attempts"] == [[[[3, 2, 1]], [[1, 2, 3]]]]
