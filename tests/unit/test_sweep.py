"""Sweeps: rows and their names, and what is told before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.errors import UsageError
from appliance.learn.recipe import load_recipe
from appliance.learn.series.sweep import read_sweep
from appliance.yaml_text import parse_yaml
from tests.support.cases import REPOSITORY

RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))


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

    assert len(read_sweep(path).rows) >= 3
