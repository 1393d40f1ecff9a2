"""The rows of a sweep are run one after another, once, whatever becomes of one of them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from tests.support.cases import REPOSITORY

TASKS = REPOSITORY / "tests/cases/search_challenges.json"
SOLUTIONS = REPOSITORY / "tests/cases/search_solutions.json"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def put(values: Any) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(json.dumps(values))
        return path

    return put


def sweep_of(write: Any, rows: dict[str, Any], *more: str) -> Path:
    arguments = ["--tasks", str(TASKS), "--strategy", "search", "--budget", "60s", *more]
    arguments += ["--set", "run.min_sampled_share=0"]  # on a busy machine, too
    path: Path = write({"verb": "submit", "rows": rows, "arguments": arguments})
    return path


def test_rows_are_done_once_and_one_that_fails_stops_no_other(
    write: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    rows = {"bad": {"run.deadline": "2001-01-01T00:00"}, "good": {"run.seed": 3}}
    path = sweep_of(write, rows, "--limit", "1", "--display", "none")
    command = ["sweep", str(path), "--out", str(out), "--solutions", str(SOLUTIONS)]

    assert cli.main(command) == 2, "the exit code of the row that failed"
    told = capfd.readouterr()
    assert "bad: failed with exit code 2; the others go on" in told.out
    assert "1 of 2 rows failed: bad (exit code 2)" in told.err
    assert (out / "good/submission.json").is_file()

    # The command of a row is one that a person could type.
    (line,) = [x for x in told.out.splitlines() if x.startswith("sweep: 2/2 good: ")]
    typed = shlex.split(line.removeprefix("sweep: 2/2 good: "))
    assert typed[:2] == ["appliance", "submit"]
    assert typed[-2:] == ["--set", "run.seed=3"]
    (line,) = [x for x in told.out.splitlines() if " compare " in x]
    assert str(out / "good") in line and str(out / "bad") not in line

    before = (out / "good/run/report.json").stat().st_mtime_ns
    assert cli.main(command) == 2
    assert "good: done before" in capfd.readouterr().out
    assert (out / "good/run/report.json").stat().st_mtime_ns == before


def test_a_folder_of_something_else_is_left_alone(
    write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    assert cli.main(["sweep", str(sweep_of(write, {"a": {}})), "--out", str(out)]) == 4
    assert "holds something else than a sweep" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 85), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_row_and_the_same_command_goes_on(
    number: int, code: int, write: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = sweep_of(write, {"first": {"run.seed": 1}, "second": {"run.seed": 2}})
    command = [sys.executable, "-m", "appliance", "sweep", str(path), "--out", str(out)]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
    journal = out / "first/run/journal.sqlite"
    while not journal.is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == code
    assert not (out / "second").exists()

    again = subprocess.run(command, capture_output=True, text=True, env=env)
    assert again.returncode == 0, again.stderr
    assert "not compared without --solutions" in again.stdout
    assert (out / "second/submission.json").is_file()
