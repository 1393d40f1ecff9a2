"""Rehearsals whose answers come from what a run recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appliance.arc.grid import Grid, freeze
from appliance.arc.source import challenges_json
from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate
from appliance.cli import main
from appliance.clock import VirtualClock
from appliance.commands.arguments import foreseen_request
from appliance.errors import InputError
from appliance.record.journal import Journal, StageRow
from appliance.run.rehearsal.imagined_run import ImaginedRun
from appliance.run.rehearsal.recorded_answers import read_records
from appliance.run.rehearsal.simulation import simulate
from tests.support.run_world import tasks
from tests.unit.test_simulate import arguments

ALL = tuple(t for t in tasks(30) if len(t.test) == 1)[:4]
RIGHT, WRONG = (freeze(np.full((2, 2), colour)) for colour in (7, 8))
TASKS = TaskSet("world", ALL, {t.task_id: (RIGHT,) for t in ALL})
KNOWN, DOUBTFUL, WRONG_ONE, NEW = TASKS.ids()


def recorded(out: Path, grids: dict[str, list[Grid | None]], *, of: TaskSet = TASKS) -> Path:
    """A run that gave these answers in its first deep round, and in the quick pass the first."""
    (out / "run").mkdir(parents=True)
    journal = Journal(out / "run" / "journal.sqlite")
    journal.put_tasks(of)
    for task_id, said in grids.items():
        found = [Candidate(task_id, 0, grid, -1.0, 6, view=f"v{i}") for i, grid in enumerate(said)]
        journal.put_stage(StageRow(task_id, "deep", "done", 1.0), found)
        journal.put_stage(StageRow(task_id, "quick", "done", 1.0), found[:1])
    journal.close()
    return out


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    said = {KNOWN: [RIGHT] * 8, DOUBTFUL: [RIGHT, WRONG, None] * 4, WRONG_ONE: [WRONG] * 8}
    return recorded(tmp_path / "run1", said)  # type: ignore[arg-type]


@pytest.fixture
def challenges(tmp_path: Path) -> str:
    path = tmp_path / "tasks.json"
    path.write_text(challenges_json(TASKS))
    return str(path)


def imagined(run_folder: Path, challenges: str, task_set: TaskSet) -> ImaginedRun:
    given = ["--gpu", "L4", "--tasks", challenges, "--budget", "20m"]
    given += ["--only", ",".join(task_set.ids())]
    request = foreseen_request(arguments(*given, "--strategy", "transduction"))
    run = ImaginedRun.of(request, records=read_records([run_folder], task_set))
    return replace(run, tasks=task_set)  # with its solutions


def test_votes_and_the_score_come_out_as_recorded(run_folder: Path, challenges: str) -> None:
    own = TASKS.select((KNOWN, DOUBTFUL, WRONG_ONE))
    run = imagined(run_folder, challenges, own)
    done = simulate(run, 2, VirtualClock())

    for rehearsal in done.runs:
        assert rehearsal.score == pytest.approx(2 / 3)  # the wrong one is never right
        rounds = rehearsal.seconds_by_task("third")
        # Of these votes only the doubtful one can gain anything by further rounds.
        assert set(rounds) == {DOUBTFUL}
    assert done.drawn_from is not None
    assert "run1 recorded: 3 of 3 tasks by their own; none of them by a search" in done.drawn_from


def test_a_task_that_was_not_recorded_is_answered_like_another(
    run_folder: Path, challenges: str
) -> None:
    run = imagined(run_folder, challenges, TASKS)
    done = simulate(run, 6, VirtualClock())
    # It is right where the task whose answers it got is right: in some seeds, not in all.
    scores = {round(4 * rehearsal.score) for rehearsal in done.runs if rehearsal.score is not None}
    assert scores <= {2, 3} and len(scores) == 2
    assert "1 are answered like recorded ones" in str(done.drawn_from)


def test_what_answers_are_drawn_from_is_told(
    run_folder: Path, challenges: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["simulate", "--gpu", "L4", "--tasks", challenges, "--budget", "20m", "--seeds", "1"]
    assert main([*given, "--recorded", str(run_folder)]) == 0
    assert "run1 recorded: 3 of 4 tasks by their own" in capsys.readouterr().out
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == "invented"


def test_runs_that_answers_cannot_be_drawn_from_are_refused(
    tmp_path: Path, run_folder: Path
) -> None:
    with pytest.raises(InputError, match="no run/journal"):
        read_records([tmp_path], TASKS)
    with pytest.raises(InputError, match="a run without answers"):
        read_records([recorded(tmp_path / "empty", {})], TASKS)
    others = TaskSet("others", tuple(tasks(40))[-3:])
    with pytest.raises(InputError, match="runs of other tasks only"):
        read_records([run_folder], others)


def test_a_person_who_watches_sees_how_far_it_is(
    challenges: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["simulate", "--gpu", "L4", "--tasks", challenges, "--budget", "20m", "--seeds", "2"]
    assert main(given) == 0
    assert capsys.readouterr().err == ""

    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(given) == 0
    told = capsys.readouterr().err
    assert "seed 2 of 2" in told and "of 20 min 00 s simulated" in told
