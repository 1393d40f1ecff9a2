"""A run whose figures go to a tracking service is the run that it is without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from tests.support.cases import REPOSITORY

TASKS = REPOSITORY / "tests/cases/search_challenges.json"

PACKAGE = """
import json
out = open({told!r}, "a")
def init(project, name, config): pass
def log(values, step): print(json.dumps([step, values]), file=out, flush=True)
def finish(): print(json.dumps("end"), file=out, flush=True)
"""

BROKEN = "def init(**_): raise OSError('no route to host')\n"

RECIPE = """
architecture: {hidden_size: 64, num_layers: 1, intermediate_size: 128, max_positions: 512}
data: {row_tokens: 128, rows_per_step: 2, datasets: {copies: {source: TASKS, min_pairs: 2}}}
optimization: {schedule: constant, warmup_steps: 2, max_steps: 3}
evaluation: {datasets: {held: {source: TASKS, min_pairs: 2}}, documents: 4}
log_every_steps: 1
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the service, a package named trackio, was told: one line a call."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{packages}:{REPOSITORY}")
    monkeypatch.syspath_prepend(str(packages))
    (packages / "trackio.py").write_text(PACKAGE.format(told=str(tmp_path / "told")))
    return tmp_path / "told"


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def submit(out: Path, *more: str) -> int:
    words = ["submit", "--tasks", str(TASKS), "--strategy", "search", "--budget", "60s"]
    words += ["--set", "run.min_sampled_share=0", "--display", "plain"]
    return cli.main([*words, "--out", str(out), *more])


def test_a_run_sends_each_task_and_its_end(tmp_path: Path, told: Path) -> None:
    assert submit(tmp_path / "out", "--set", "run.tracking=trackio") == 0

    *calls, last = lines(told)
    assert last == "end"
    *steps, (_, final) = calls
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert [values["done/search"] for _, values in steps] == list(range(1, len(steps) + 1))
    assert all(values["search/certainty"] > 0 for _, values in steps)

    report = json.loads((tmp_path / "out/run/report.json").read_text())
    assert final["coverage/searched"] == report["coverage"]["searched"] == len(steps)
    assert final["solved"] == report["solved"] == steps[-1][1]["solved"] > 0
    assert final["score/by_task"] == report["score"]["by_task"]


def test_a_service_that_fails_changes_no_run_and_is_one_note(
    tmp_path: Path, told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packages/trackio.py").write_text(BROKEN)
    assert submit(tmp_path / "out", "--set", "run.tracking=trackio") == 0
    text = capsys.readouterr().out
    assert text.count("tracking by trackio ended: OSError: no route to host") == 1
    assert (tmp_path / "out/run/report.json").is_file()
    # The run of before goes on with another service, or none.
    assert submit(tmp_path / "out") == 0


@pytest.mark.engine
def test_a_training_sends_its_lines_and_scores_and_is_the_same_without(
    tmp_path: Path, told: Path, challenges: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("TASKS", str(challenges)))

    def losses(name: str, *more: str) -> list[float]:
        out = tmp_path / name
        words = ["train", "--recipe", str(recipe), "--out", str(out), "--display", "none", *more]
        assert cli.main(words) == 0
        return [line["loss"] for line in lines(out / "metrics.jsonl")]

    alone = losses("alone")
    tracked = losses("tracked", "--set", "tracking=trackio")
    *calls, last = lines(told)
    assert last == "end"
    assert [values["loss"] for _, values in calls if "loss" in values] == tracked == alone
    assert [step for step, values in calls if "validation_loss" in values] == [0, 3]

    (tmp_path / "packages/trackio.py").write_text(BROKEN)
    capsys.readouterr()
    assert losses("broken", "--set", "tracking=trackio") == alone
    assert capsys.readouterr().err.count("no route to host") == 1
