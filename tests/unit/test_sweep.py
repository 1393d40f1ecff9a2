"""Sweeps: rows and their names, what is told before anything starts, and how rows end."""

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
import yaml

from appliance import cli
from appliance.config import describe_settings
from appliance.errors import UsageError
from appliance.learn.recipe import load_recipe
from appliance.learn.series.sweep import read_sweep
from tests.support.cases import REPOSITORY

RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))

TASKS = REPOSITORY / "tests/cases/search_challenges.json"
SOLUTIONS = REPOSITORY / "tests/cases/search_solutions.json"


def is_sweep(path: Path) -> bool:
    return "verb" in yaml.safe_load(path.read_text())


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def put(values: Any) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(json.dumps(values))
        return path

    return put


# What stands in the file.


def test_a_grid_has_a_row_for_each_combination_named_by_its_values(write: Any) -> None:
    grid = {"train.learning_rate": [1e-4, 0.001], "train.rank": [32, 128]}
    sweep = read_sweep(write({"verb": "submit", "grid": grid}))
    assert [row.name for row in sweep.rows] == [
        "learning_rate-0_0001_rank-32",
        "learning_rate-0_0001_rank-128",
        "learning_rate-0_001_rank-32",
        "learning_rate-0_001_rank-128",
    ]
    assert sweep.rows[1].assignments() == ["train.learning_rate=0.0001", "train.rank=128"]


def test_keys_that_end_alike_are_told_apart_and_so_are_values(write: Any) -> None:
    grid = {"train.learning_rate": [0.1], "program.learning_rate": [0.2], "model.path": ["a", "A"]}
    rows = read_sweep(write({"verb": "submit", "grid": grid})).rows
    assert len({row.name for row in rows}) == 2
    (alone,) = read_sweep(write({"verb": "submit", "grid": dict(list(grid.items())[:2])})).rows
    assert alone.name == "train_learning_rate-0_1_program_learning_rate-0_2"


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", ".."])
def test_a_name_is_one_part_of_a_path(name: str, write: Any) -> None:
    (row,) = read_sweep(write({"verb": "submit", "rows": {name: {}}})).rows
    assert "/" not in row.name and row.name not in ("", ".", "..")


@pytest.mark.parametrize("value", [True, None, 3, 0.5, "a", "3", "a b", "yes", "ä", [1, 2]])
def test_a_value_is_the_same_after_it_was_typed(value: Any, write: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("")
    values = {"verb": "train", "arguments": ["--recipe", str(recipe)]}
    (row,) = read_sweep(write(values | {"rows": {"a": {"card.x": value}}})).rows
    (typed,) = row.assignments()
    key, _, text = typed.partition("=")
    from appliance.yaml_text import parse_yaml

    assert (key, parse_yaml(text, place="")) == ("card.x", value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "holds a list"),
        ({"verb": "train", "row": {}}, "did you mean rows"),
        ({"verb": "plan", "rows": {"a": {}}}, "verb 'plan'"),
        ({"verb": "submit"}, "needs rows or grid"),
        ({"verb": "submit", "rows": {"a": {}}, "grid": {}}, "needs rows or grid"),
        ({"verb": "submit", "rows": []}, "rows is no mapping"),
        ({"verb": "submit", "rows": {}}, "has 0 rows"),
        ({"verb": "submit", "rows": {"a": 3}}, "row a is no mapping"),
        ({"verb": "submit", "grid": {"train.rank": 3}}, "grid is no mapping"),
        ({"verb": "submit", "grid": {"train.rank": []}}, "grid is no mapping"),
        ({"verb": "submit", "grid": {"run.seed": list(range(501))}}, "has 501 rows"),
        ({"verb": "submit", "rows": {"a": {}}, "arguments": "--budget"}, "arguments is no list"),
        ({"verb": "train", "rows": {"a": {}}}, "no --recipe"),
        ({"verb": "submit", "rows": {"1": {}, 1: {}}}, "twice"),
    ],
)
def test_a_file_that_is_no_sweep_is_told_why(values: Any, told: str, write: Any) -> None:
    with pytest.raises(UsageError, match=told):
        read_sweep(write(values))


def test_every_bad_key_of_every_row_is_told_with_the_nearest_one(write: Any) -> None:
    rows = {"a": {"train.rnk": 3}, "b": {"train.rank": "many"}, "c": {"run.sed": 1}}
    with pytest.raises(UsageError) as refused:
        read_sweep(write({"verb": "submit", "rows": rows}))
    told = str(refused.value)
    assert "did you mean train.rank?" in told and "did you mean run.seed?" in told
    assert "row b: train.rank = 'many'" in told


def test_a_bad_key_of_a_recipe_is_told_with_the_nearest_one(write: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {datasets: {mine: {source: x}}}")
    given = ["--recipe", str(recipe), "--set", "adaptation.rnk=3"]
    rows = {"a": {"optimization.learning_rat": 1}, "b": {"data.datasets.mine.weigth": 2}}
    with pytest.raises(UsageError) as refused:
        read_sweep(write({"verb": "train", "rows": rows}), given)
    told = str(refused.value)
    assert "did you mean optimization.learning_rate?" in told
    assert "did you mean data.datasets.mine.weight?" in told
    assert "did you mean adaptation.rank?" in told


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_the_recipes_of_the_repository_are_valid(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    if not is_sweep(path):
        values = yaml.safe_load(path.read_text())
        needs_model = values.get("adaptation", {}).get("method") == "lora"
        load_recipe(path, {"start_from": "arc-mini"} if needs_model else {})
        return

    known = {key for key, _, _ in describe_settings()}
    if "sample.predictions" not in known and path.name == "iteration-4.yaml":
        pytest.skip("sample.predictions and train.keep_orientation are not there yet")
    assert len(read_sweep(path).rows) >= 3


# How rows are run.


def sweep_of(write: Any, rows: dict[str, Any], *more: str) -> Path:
    arguments = ["--tasks", str(TASKS), "--strategy", "search", "--budget", "60s", *more]
    arguments += ["--set", "run.min_sampled_share=0"]  # on a busy machine, too
    path: Path = write({"verb": "submit", "rows": rows, "arguments": arguments})
    return path


COMPARED = 0 if "compare" in cli.VERBS else 2


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
    assert typed[:4] == [sys.executable, "-m", "appliance", "submit"]
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
    assert again.returncode == COMPARED, again.stderr
    assert (out / "second/submission.json").is_file()
