"""The run's memory: what is written is there again, whole and in the order it came.

A broken file is one clear error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.arc.grid import Grid
from appliance.arc.vote import Candidate
from appliance.errors import InputError
from appliance.record.attempts import attempts_of
from appliance.record.coverage import coverage_of
from appliance.record.journal import Journal, StageRow
from appliance.seeds import generator
from tests.support.run_world import grid, tasks

TASKS = tasks(3)
FIRST = TASKS.ids()[0]


def candidate(number: int, task_id: str = FIRST, *, side: int | None = 3) -> Candidate:
    said = None if side is None else grid(generator("journal", number), side)
    return Candidate(
        task_id, 0, said, -0.5 * number, 10 + number, view=f"v{number}", adapter="a", demo_score=0.5
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def test_candidates_come_back_equal_and_in_order_after_reopening(path: Path) -> None:
    given = [candidate(2), candidate(1, side=None), candidate(3)]
    journal = Journal(path)
    journal.put_stage(StageRow(FIRST, "deep", "done", 1.5, {"rung": 2}), given)
    journal.close()
    again = Journal(path)
    assert again.candidates() == {"deep": given}
    assert again.stages() == [StageRow(FIRST, "deep", "done", 1.5, {"rung": 2})]
    again.close()


def test_a_second_try_replaces_the_candidates_of_its_own_stage_and_round_only(path: Path) -> None:
    journal = Journal(path)
    tries = (("quick", 1, 1), ("deep", 1, 2), ("deep", 2, 3), ("deep", 1, 4))
    for stage, round_number, number in tries:
        row = StageRow(FIRST, stage, "done", 1.0, {}, round_number)
        journal.put_stage(row, [candidate(number)])
    assert journal.candidates() == {
        "quick": [candidate(1)],
        "deep": [candidate(3), candidate(4)],
    }
    journal.close()


def test_a_try_that_gave_nothing_leaves_the_earlier_candidates(path: Path) -> None:
    journal = Journal(path)
    journal.put_stage(StageRow(FIRST, "deep", "partial", 1.0, {}), [candidate(1)])
    journal.put_stage(StageRow(FIRST, "deep", "failed", 1.0, {"reason": "crash"}))
    assert journal.candidates(FIRST) == {"deep": [candidate(1)]}
    journal.close()


def assert_grids_of(attempts: Sequence[Grid], candidates: list[Candidate]) -> None:
    """The attempts are the grids of these candidates, in this order."""
    assert [g.tobytes() for g in attempts] == [
        None if c.grid is None else c.grid.tobytes() for c in candidates
    ]


def test_all_rounds_vote_as_one_and_the_quick_pass_only_fills_up() -> None:
    one, two, three = candidate(1), candidate(2), candidate(3)
    quick = [three, three, candidate(4)]
    found = {"quick": quick, "deep": [one, two], "deep-2": [two], "deep-3": [two]}
    assert_grids_of(attempts_of(found, "votes-only")[FIRST, 0], [two, one])
    only = attempts_of({"quick": [three], "deep": [one]}, "votes-only")[FIRST, 0]
    assert_grids_of(only, [one, three])


def test_coverage_counts_tasks_not_rounds_and_a_training_that_worked_once(path: Path) -> None:
    journal = Journal(path)
    journal.put_tasks(TASKS)
    for stage, number, status in (
        ("quick", 1, "done"),
        ("deep", 1, "done"),
        ("deep", 2, "done"),
        ("train", 1, "failed"),
        ("train", 2, "done"),
    ):
        rows = [candidate(1)] if stage != "train" else []
        detail = {"reason": "no time"}
        journal.put_stage(StageRow(FIRST, stage, status, 1.0, detail, number), rows)
    covered = coverage_of(journal)
    counts = (covered.quick, covered.deep, covered.again, covered.trained, covered.sampled)
    assert counts == (1, 1, 1, 1, 1)
    assert covered.untrained_reasons == {}
    journal.close()


def test_a_stage_and_its_candidates_are_there_together_or_not_at_all(path: Path) -> None:
    journal = Journal(path)
    journal.put_stage(StageRow(FIRST, "quick", "done", 1.0, {}), [candidate(1)])
    with pytest.raises(TypeError):
        journal.put_stage(StageRow(FIRST, "quick", "done", 2.0, {"x": object()}), [candidate(2)])
    assert journal.candidates() == {"quick": [candidate(1)]}
    assert journal.stages()[0].seconds == 1.0
    journal.close()


WRITER = """
import sys
from pathlib import Path
from appliance.record.journal import Journal, StageRow
from appliance.arc.vote import Candidate
import numpy as np
journal = Journal(Path(sys.argv[1]))
for n in range(100000):
    grid = np.full((3, 3), n % 10, dtype=np.int8)
    found = [Candidate(f"t{n}", 0, grid, -1.0, 9, view=str(i)) for i in range(20)]
    journal.put_stage(StageRow(f"t{n}", "deep", "done", 1.0, {}), found)
    print(n, flush=True)
"""


def test_killed_while_writing_it_holds_every_stage_that_was_reported_and_no_half_one(
    path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(15):
            reported = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
    journal = Journal(path)
    found = journal.candidates()["deep"]
    done = {r.task_id for r in journal.stages()}
    assert {f"t{n}" for n in range(reported + 1)} <= done
    assert all(sum(c.task_id == t for c in found) == 20 for t in done)
    journal.close()


def test_a_file_that_is_no_journal_is_bad_input(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(InputError, match="not a database"):
        Journal(path)


def test_events_and_facts_are_kept(path: Path) -> None:
    journal = Journal(path)
    journal.put_event(1.5, "worker 0 ready")
    journal.put_fact("plan", {"views": 16})
    assert (journal.events(), journal.fact("plan"), journal.fact("none")) == (
        [(1.5, "worker 0 ready")],
        {"views": 16},
        None,
    )
    journal.close()


def test_a_journal_from_before_views_were_scored_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    with sqlite3.connect(path) as old:
        old.execute("ALTER TABLE candidates DROP COLUMN view_scores")
        old.execute(
            "INSERT INTO candidates"
            " (task_id, test_index, stage, view, method, adapter, grid, logprob, num_tokens,"
            " program)"
            " VALUES ('t', 0, 'deep', 'f0r0-0123456789', 'transduction', '', '[[1]]', -1.0, 2, '')"
        )
    old.close()
    (found,) = Journal(path).candidates()["deep"]
    assert found.grid is not None
    assert found.grid.tolist() == [[1]]


def test_the_tasks_themselves_come_back_whole_and_nothing_that_was_meddled_with(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.put_tasks(TASKS)
    assert journal.contents() == list(TASKS)
    journal.close()

    with sqlite3.connect(path) as db:  # another task under the name of the first
        first, second = TASKS.ids()[:2]
        content = "(SELECT content FROM tasks WHERE task_id = ?)"
        db.execute(f"UPDATE tasks SET content = {content} WHERE task_id = ?", (second, first))
    db.close()
    journal = Journal(path)
    assert journal.contents() == list(TASKS)[1:]
    assert "1 of tasks" in journal.notes()[0]
    journal.close()


def test_a_journal_without_the_tasks_themselves_is_read_and_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.put_tasks(TASKS)
    journal.close()
    with sqlite3.connect(path) as old:
        old.execute("ALTER TABLE tasks DROP COLUMN content")
        old.execute("PRAGMA user_version = 2")
    old.close()

    journal = Journal(path)
    assert journal.contents() == [] and [row.task_id for row in journal.tasks()] == [*TASKS.ids()]
    journal.put_tasks(TASKS)
    assert journal.contents() == list(TASKS)
    assert journal.notes() == []
    journal.close()


def test_a_journal_that_held_stage_and_round_in_one_text_is_read(tmp_path: Path) -> None:
    """Version 0.1 wrote "deep-2" for the second round of a stage."""
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(
            """
            CREATE TABLE stages (
                task_id TEXT NOT NULL, stage TEXT NOT NULL, status TEXT NOT NULL,
                seconds REAL NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (task_id, stage));
            CREATE TABLE candidates (
                id INTEGER PRIMARY KEY, task_id TEXT NOT NULL, test_index INTEGER NOT NULL,
                stage TEXT NOT NULL, view TEXT NOT NULL, method TEXT NOT NULL,
                adapter TEXT NOT NULL, grid TEXT, logprob REAL NOT NULL,
                num_tokens INTEGER NOT NULL, program TEXT NOT NULL, demo_score REAL,
                view_scores TEXT NOT NULL DEFAULT '[]');
            CREATE TABLE programs (
                id INTEGER PRIMARY KEY, task_id TEXT NOT NULL, stage TEXT NOT NULL,
                message TEXT NOT NULL);
            INSERT INTO stages VALUES ('t', 'quick', 'done', 1.0, '{}');
            INSERT INTO stages VALUES ('t', 'deep', 'done', 2.0, '{}');
            INSERT INTO stages VALUES ('t', 'search', 'done', 2.5, '{"is_agreed": true}');
            INSERT INTO stages VALUES ('t', 'deep-12', 'partial', 3.0, '{"rung": 1}');
            INSERT INTO candidates
                (task_id, test_index, stage, view, method, adapter, grid, logprob, num_tokens,
                program)
                VALUES ('t', 0, 'deep-12', 'v', 'transduction', '', '[[1]]', -1.0, 2, '');
            """
        )
    old.close()

    journal = Journal(path)
    assert journal.stages() == [
        StageRow("t", "quick", "done", 1.0, {}, 1),
        StageRow("t", "deep", "done", 2.0, {}, 1),
        StageRow("t", "programs", "done", 2.5, {"is_agreed": True}, 1),
        StageRow("t", "deep", "partial", 3.0, {"rung": 1}, 12),
    ]
    assert [len(found) for found in journal.candidates().values()] == [1]
    journal.put_stage(StageRow("t", "deep", "done", 4.0, {}, 12))
    journal.put_stage(StageRow("t", "search", "done", 1.0, {}))
    journal.close()
    again = Journal(path)
    assert [r.stage for r in again.stages()].count("search") == 1
    assert [(r.round, r.status) for r in again.stages() if r.stage == "deep"][-1] == (12, "done")
    again.close()


def test_an_output_is_answered_where_a_row_that_counts_has_a_grid(path: Path) -> None:
    journal = Journal(path)
    journal.put_tasks(tasks(3))
    first, second, third = tasks(3).ids()
    found = {first: [candidate(1, first), candidate(2, first)], second: [candidate(3, second)]}
    found[third] = [candidate(4, third, side=None)]
    for task_id, answers in found.items():
        journal.put_stage(StageRow(task_id, "deep", "done", 1.0), answers)
    assert journal.answered() == {(first, 0), (second, 0)}
    assert list(journal.candidates(stage="deep")) == ["deep"]
    assert journal.candidates(stage="quick") == {}
    journal.close()

    # Of the first task the first row is damaged, of the second one the only row.
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE candidates SET grid = '[[99]]' WHERE id IN (1, 3)")
        db.commit()
    journal = Journal(path)
    assert journal.answered() == {(first, 0)}
    assert coverage_of(journal).outputs_fallback == sum(journal.num_tests().values()) - 1
    journal.close()
