"""The first command on a card, checked without one: what it reads, tells, and survives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.source import load_tasks
from appliance.clock import SystemClock
from bench import card_check
from bench.process import run

TESTS = """
import pytest

def test_stands():
    pass

def test_falls():
    raise RuntimeError("no kernel image")

@pytest.fixture
def broken():
    raise OSError("gone")

def test_without_a_start(broken):
    pass

@pytest.mark.skip
def test_left_out():
    pass
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_results_are_told_while_the_tests_run(processes: str, tmp_path: Path) -> None:
    if processes != "0":
        pytest.importorskip("xdist")
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "bench.test_lines", "-p", "no:cacheprovider"]
    command += ["-c", "/dev/null", str(tmp_path), *(["-n", processes] if processes != "0" else [])]
    lines = tmp_path / "lines.jsonl"
    ended = run(command, 60, SystemClock(), {"RESULT_LINES": str(lines)})
    counts, failures = card_check.read_results(lines.read_text())

    assert ended.outcome() == "FAILED"
    assert counts == {"passed": 1, "failed": 2, "skipped": 1}
    assert sorted(failures) == ["test_some.py::test_falls", "test_some.py::test_without_a_start"]
    assert "RuntimeError: no kernel image" in failures["test_some.py::test_falls"]


def test_the_main_jobs_tasks_are_tasks(tmp_path: Path) -> None:
    path = tmp_path / "corner_challenges.json"
    path.write_text(json.dumps(card_check.corner_tasks(5)))
    tasks = load_tasks(str(path)).tasks
    assert [len(t.train) for t in tasks] == [5, 5]
    assert (tasks[0].train[0].output == tasks[0].train[0].input[:4, :4]).all()


def test_a_part_that_breaks_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise OSError("no room")

    def fine(*_: Any) -> dict[str, Any]:
        step = {"measured": 0.5, "planned": 0.25}
        return {"outcome": "ok", "seconds": 2.0, "findings": {"train_step_s": step}}

    broken.__name__, fine.__name__ = "probe", "main_job"
    monkeypatch.setattr(card_check, "PARTS", (broken, broken, fine))
    assert card_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 1

    told = capsys.readouterr().out
    assert "no room" in told
    assert "train_step_s       0.5 (planned 0.25)" in told
    assert (tmp_path / "card-check.txt").read_text() in told
    parts = json.loads((tmp_path / "card-check.json").read_text())["parts"]
    assert [part["outcome"] for part in parts] == ["FAILED", "FAILED", "ok"]
