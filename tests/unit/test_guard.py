"""What nobody foresaw: one line, a log with the traceback, exit code 70, counted in the journal."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest

from appliance import cli
from appliance.commands import plan, submit
from appliance.errors import EXIT_DEFECT, EXIT_INPUT, EXIT_PREREQUISITE
from appliance.process.guard import DEBUG_VARIABLE
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.record.setbacks import setbacks_of

GRID = [[1, 2], [3, 4]]
TASKS = {"a": {"train": [{"input": GRID, "output": GRID}] * 2, "test": [{"input": GRID}]}}


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The guard on, and the folder for temporary files."""
    monkeypatch.delenv(DEBUG_VARIABLE)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def failing(fault: Exception) -> object:
    def fail(*_: object, **__: object) -> int:
        raise fault

    return fail


def test_a_defect_is_one_line_and_a_log(
    guarded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "run", failing(KeyError("rows\nof\x1b[31m lines")))
    assert cli.main(["plan"]) == EXIT_DEFECT

    line = capsys.readouterr().err
    assert line.startswith("appliance: a defect of ours: KeyError: ")
    assert line.count("\n") == 1
    assert "\x1b" not in line
    found = re.search(r"the traceback is in (\S+);", line)
    assert found and Path(found[1]).parent == guarded
    assert "Traceback" in Path(found[1]).read_text()


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (RecursionError("maximum recursion depth exceeded"), EXIT_DEFECT, "RecursionError"),
        (MemoryError(), EXIT_DEFECT, "memory ran out"),
        (ModuleNotFoundError("No module named 'wandb'", name="wandb"), EXIT_PREREQUISITE, "wandb"),
        (ImportError("cannot import x", name="appliance.x"), EXIT_DEFECT, "a defect of ours"),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), EXIT_INPUT, "No space left"),
        (OSError(errno.EINVAL, "Invalid argument"), EXIT_DEFECT, "a defect of ours"),
    ],
)
def test_faults_of_the_machine_are_no_defects(
    fault: Exception,
    code: int,
    text: str,
    guarded: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(plan, "run", failing(fault))
    assert cli.main(["plan"]) == code
    assert text in capsys.readouterr().err
    assert len(list(guarded.iterdir())) == (code == EXIT_DEFECT)


def test_a_defect_of_a_run_is_counted_and_its_file_stays_valid(
    guarded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks, out = tmp_path / "tasks.json", tmp_path / "out"
    tasks.write_text(json.dumps(TASKS))
    monkeypatch.setattr(submit, "launch", failing(ZeroDivisionError("division by zero")))
    given = ["--tasks", str(tasks), "--out", str(out), "--strategy", "search"]
    assert cli.main(["submit", *given]) == EXIT_DEFECT

    folder = RunFolder(out)
    assert str(folder.logs) in capsys.readouterr().err
    journal = Journal(folder.journal)
    assert any("ZeroDivisionError" in text for text in setbacks_of(journal))
    journal.close()
    assert cli.main(["validate", str(out), "--tasks", str(tasks)]) == 0


def test_where_no_log_can_be_written_the_line_says_so(
    guarded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guarded.rmdir()
    monkeypatch.setattr(plan, "run", failing(KeyError("x")))
    assert cli.main(["plan"]) == EXIT_DEFECT
    assert "could not be written (No such file or directory)" in capsys.readouterr().err


def test_switched_off_it_shows_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "run", failing(KeyError("x")))
    with pytest.raises(KeyError):
        cli.main(["plan"])
