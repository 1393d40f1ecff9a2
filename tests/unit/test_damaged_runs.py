"""A run whose files were damaged or meddled with: an own error, or the damage is left out and said.

What is illegal never reaches a submission, and no command ends well over an invalid one.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.arc.grid import Grid
from appliance.arc.source import challenges_json, solutions_json
from appliance.arc.submission import build, write_submission
from appliance.arc.task import Pair, Task, TaskSet
from appliance.arc.vote import Candidate
from appliance.errors import InputError
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder, open_run
from appliance.seeds import generator
from tests.support.run_world import grid, tasks

TASKS = tasks(3)
FIRST = TASKS.ids()[0]
RIGHT = grid(generator("right", 0), 4)
SOLUTIONS = {t.task_id: tuple(RIGHT for _ in t.test) for t in TASKS}


def candidate(task: Task, index: int = 0) -> Candidate:
    return Candidate(task.task_id, index, RIGHT, -1.0, 9, view="v")


def make_run(out: Path, task_set: TaskSet = TASKS) -> Path:
    """Every task answered right by one candidate."""
    folder, journal, lock = open_run(out, identity="i", is_fresh=False)
    journal.put_tasks(task_set)
    attempts: dict[tuple[str, int], tuple[Grid, ...]] = {}
    for task in task_set:
        found = [candidate(task, i) for i in range(len(task.test))]
        journal.put_stage(StageRow(task.task_id, "deep", "done", 1.0, {}), found)
        attempts |= {(task.task_id, i): (RIGHT,) for i in range(len(task.test))}
    journal.close()
    lock.close()
    write_submission(folder.submission, build(task_set, attempts))
    return out


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run-1")


@pytest.fixture
def solutions(tmp_path: Path) -> Path:
    path = tmp_path / "solutions.json"
    path.write_text(solutions_json(SOLUTIONS))
    return path


@pytest.fixture
def challenges(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.json"
    path.write_text(challenges_json(TASKS))
    return path


def change(run: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(RunFolder(run).journal)) as db:
        db.execute(sql, values)
        db.commit()


def read_twice(run: Path, out: Path) -> list[tuple[int, str]]:
    """Exit codes of the verbs that read a run."""
    words = [
        ["vote", str(run), "--out", str(out)],
        ["report", str(run), "--out", str(out.with_suffix(".html"))],
    ]
    return [(cli.main(w), w[0]) for w in words]


@pytest.mark.parametrize(
    "text",
    [
        *("[[1, 2], [3]]", "[[10]]", "[[-1]]", "[[true]]", "[[1.0]]", "[[1e999]]", '[["1"]]'),
        *("[]", "[[]]", "5", "{}", "nothing", "[[NaN]]", "[" * 5000, json.dumps([[1] * 31])),
        *("[[" + "1," * 100_000 + "1]]", "[[[1]]]", "[[null]]", 7, b"\xff\xfe"),
    ],
)
def test_an_illegal_grid_in_a_journal_never_reaches_a_submission(
    run: Path, challenges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: object
) -> None:
    change(run, "UPDATE candidates SET grid = ? WHERE task_id = ?", text, FIRST)
    out = tmp_path / "out.json"
    assert read_twice(run, out) == [(0, "vote"), (0, "report")]
    assert "of candidates" in capsys.readouterr().err
    assert cli.main(["validate", str(out), "--tasks", str(challenges)]) == 0


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        *(("candidates", "logprob", v) for v in (float("inf"), "x", 1e300, b"x")),
        *(("candidates", "test_index", v) for v in (-1, 99, "x", 1.5, 2**62)),
        *(("candidates", "view_scores", v) for v in ("5", "{}", "[NaN]", '["x"]', "[1e999]", "x")),
        *(("candidates", "stage", v) for v in ("other", 5)),
        *(("candidates", "weight", v) for v in ("x", -1.0, float("inf"))),
        *(("candidates", "demo_score", v) for v in ("x", 2.0, -1)),
        *(("stages", "round", v) for v in (0, -5, "x", 10**12)),
        *(("stages", "stage", v) for v in ("other", b"\xff")),
        *(("stages", "status", v) for v in ("fine", 3)),
        *(("stages", "seconds", v) for v in ("x", -1.0, float("inf"))),
        *(("stages", "detail", v) for v in ("[]", "x", "null", '{"loss_before": "x"}', "[" * 9999)),
        *(("stages", "detail", v) for v in ('{"refused": 5}', '{"how": []}', '{"cause": "fault"}')),
        *(("tasks", "num_tests", v) for v in (0, -1, "x", 10**12)),
        ("tasks", "digest", 5.5),
    ],
)
def test_a_row_that_no_run_writes_is_left_out_and_counted(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    table: str,
    column: str,
    value: Any,
) -> None:
    change(run, "PRAGMA ignore_check_constraints = 1")
    change(run, f"UPDATE {table} SET {column} = ? WHERE task_id = ?", value, FIRST)
    with closing(Journal(RunFolder(run).journal)) as journal:
        journal.tasks(), journal.stages(), journal.candidates(), journal.programs()
        is_text = (table, column) == ("tasks", "digest")  # SQLite makes a text of it
        assert is_text or f"of {table}" in journal.notes()[0]

    assert {code for code, _ in read_twice(run, tmp_path / "out.json")} <= {0, 4}


def test_facts_and_programs_that_are_none_are_left_out(run: Path) -> None:
    change(run, "INSERT INTO facts VALUES ('setbacks', '{')")
    change(run, "INSERT INTO facts VALUES ('model', '[5]')")
    for message in ("{}", "x", '{"task_id": 5}', "[" * 9999):
        change(
            run, "INSERT INTO programs (task_id, stage, message) VALUES ('a', 'deep', ?)", message
        )
    with closing(Journal(RunFolder(run).journal)) as journal:
        assert journal.fact("setbacks", list[str]) is None
        assert journal.fact("model", str | None) is None
        assert journal.programs() == {}
        assert "2 of facts, 4 of programs" in journal.notes()[0]


def break_pages(path: Path, *, at: int = 8192) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + 4096] = b"\xaa" * 4096
    path.write_bytes(bytes(data))


def test_damaged_pages_are_refused_by_readers_and_put_aside_by_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", tasks(60))
    path = RunFolder(run).journal
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'candidates'"
        ).fetchone()
    break_pages(path, at=(page - 1) * 4096)
    assert read_twice(run, tmp_path / "out.json") == [(4, "vote"), (4, "report")]
    assert "damaged" in capsys.readouterr().err

    _, journal, lock = open_run(run, identity="i", is_fresh=False)
    assert path.with_name("journal.sqlite.damaged-1").exists()
    assert "journal.sqlite.damaged-1" in journal.notes()[0]
    assert len(journal.tasks()) == 60
    assert journal.stages() == [], "their candidates are lost, so they are done again"
    journal.close()
    lock.close()


def other_schema(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE stages (a, b)")


def newer_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        other_schema,
        newer_version,
        folder_instead,
        lambda path: path.write_text("a text, and long enough to be taken for a database" * 9),
        lambda path: path.write_bytes(b""),
    ],
)
def test_what_is_no_journal_of_this_version_is_refused(
    run: Path, solutions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    damage(RunFolder(run).journal)
    assert read_twice(run, tmp_path / "out.json") == [(4, "vote"), (4, "report")]
    assert not (tmp_path / "out.json").exists()


def test_a_journal_that_is_locked_is_a_missing_prerequisite(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.record.journal.BUSY_S", 0.01)
    with closing(sqlite3.connect(RunFolder(run).journal, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        assert cli.main(["vote", str(run), "--out", str(tmp_path / "out.json")]) == 3


SUBMISSIONS = [
    "null", "[]", "5", '"x"', '{"x": 5}', f'{{"{FIRST}": {{}}}}', f'{{"{FIRST}": null}}',
    f'{{"{FIRST}": [null]}}', f'{{"{FIRST}": [[[1]]]}}', f'{{"{FIRST}": [{{"attempt_1": [[1]]}}]}}',
    f'{{"{FIRST}": [{{"attempt_1": "x", "attempt_2": [[NaN]]}}]}}',
    f'{{"{FIRST}": 1, "{FIRST}": 2}}',
    "[" * 99999, "\ufeffnull", "{", "", f'{{"{FIRST}": []}}',
    f'{{"{FIRST}": [{{"attempt_1": [[1]], "attempt_2": [[1]], "attempt_3": [[1]]}}]}}',
]  # fmt: skip


@pytest.mark.parametrize("text", SUBMISSIONS)
def test_a_submission_that_is_none_never_ends_well(
    run: Path, solutions: Path, challenges: Path, tmp_path: Path, text: str
) -> None:
    path = RunFolder(run).submission
    path.write_text(text)
    assert read_twice(run, tmp_path / "out.json") == [(4, "vote"), (4, "report")]
    assert cli.main(["evaluate", str(path), "--solutions", str(solutions)]) == 4
    assert cli.main(["evaluate", str(run), "--solutions", str(solutions)]) == 4
    assert cli.main(["validate", str(path), "--tasks", str(challenges)]) == 4


def test_a_score_divides_by_the_tasks_of_the_solutions(
    run: Path, solutions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = RunFolder(run).submission
    held = json.loads(path.read_text())
    del held[FIRST]
    path.write_text(json.dumps(held | {"extra": [{"attempt_1": [[1]], "attempt_2": [[2]]}]}))

    assert cli.main(["evaluate", str(path), "--solutions", str(solutions), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["score"]["by_task"] == pytest.approx(2 / 3)
    assert json.loads(said.out)["answered"]["by_task"] == 1.0
    assert "1 of 3 tasks of the solutions are not in the submission" in said.err
    assert "1 of 3 tasks of" in said.err
    assert "extra" in said.err


def test_answers_to_another_version_of_a_task_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "more.json"
    path.write_text(solutions_json(SOLUTIONS | {FIRST: (RIGHT,) * 5}))
    assert cli.main(["evaluate", str(run), "--solutions", str(path)]) == 4
    assert FIRST in capsys.readouterr().err


def another_version(task: Task, *, has_more: bool) -> Task:
    if has_more:
        return Task(task.task_id, task.train, (*task.test, RIGHT))
    return Task(task.task_id, (Pair(RIGHT, RIGHT), *task.train[1:]), task.test)


@pytest.mark.parametrize("has_more", [False, True])
def test_runs_of_two_versions_of_a_task_are_not_merged(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], has_more: bool
) -> None:
    changed = another_version(TASKS[FIRST], has_more=has_more)
    other = make_run(tmp_path / "run-2", TaskSet("other", (changed, *TASKS.tasks[1:])))
    out = tmp_path / "out.json"
    assert cli.main(["vote", str(run), str(other), "--out", str(out)]) == 4
    error = capsys.readouterr().err
    assert all(word in error for word in (FIRST, "run-1", "run-2"))
    assert not out.exists()

    if not has_more:
        change(run, "UPDATE tasks SET digest = ''")
        assert cli.main(["vote", str(run), str(other), "--out", str(out)]) == 0


def test_a_run_that_is_given_twice_or_copied_votes_once(run: Path, tmp_path: Path) -> None:
    """Two different candidates outvote one that a copy would double."""
    best, worse = (grid(generator("vote", n), 5) for n in (1, 2))
    folder = RunFolder(run)
    with closing(Journal(folder.journal)) as journal:
        voters = [Candidate(FIRST, 0, best, -n, 9, view=f"b{n}") for n in (1.0, 2.0, 3.0)]
        journal.put_stage(StageRow(FIRST, "deep", "done", 1.0), voters)
    other = make_run(tmp_path / "other")
    with closing(Journal(RunFolder(other).journal)) as journal:
        voters = [Candidate(FIRST, 0, worse, -n, 9, view=f"w{n}") for n in (1.0, 2.0)]
        journal.put_stage(StageRow(FIRST, "deep", "done", 1.0), voters)
    shutil.copytree(other, tmp_path / "copy")

    out = tmp_path / "out.json"
    for runs in ([run, other, tmp_path / "copy"], [run, other, other]):
        words = ["vote", *map(str, runs), "--selector", "votes-only", "--out", str(out)]
        assert cli.main(words) == 0
        assert json.loads(out.read_text())[FIRST][0]["attempt_1"] == best.tolist()


def test_a_plan_that_is_none_is_said_in_the_report(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for text in ("[]", "{", "null", '{"train": 5}', '{"train": {"a": {"value": 1, "reason": 5}}}'):
        RunFolder(run).plan.write_text(text)
        assert cli.main(["report", str(run), "--out", str(page)]) == 0
        assert "<h2>Plan</h2>" in page.read_text()


def test_an_illegal_vote_is_passed_over_when_a_submission_is_built() -> None:
    import numpy as np

    from appliance.arc.submission import validate

    bad = [np.full((31, 1), 1, np.int8), np.full((1, 1), 10, np.int8), np.zeros((0, 3), np.int8)]
    assert validate(build(TASKS, {(FIRST, 0): bad}), TASKS) == []


def test_empty_answers_are_refused(tmp_path: Path) -> None:
    from appliance.arc.source import read_solutions

    path = tmp_path / "solutions.json"
    path.write_text('{"a": []}')
    with pytest.raises(InputError, match="no answers"):
        read_solutions(str(path))
