"""Settings: six layers, every fault named at once with the nearest valid key."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import (
    Layer,
    Settings,
    assignments_layer,
    describe_settings,
    environment_layer,
    file_layer,
    profile_layer,
    resolve,
)
from appliance.errors import UsageError


def test_later_layers_lie_over_earlier_ones() -> None:
    layers = [Layer("a", {"train.rank": 8, "run.seed": 1}), Layer("b", {"train.rank": 16})]
    settings = resolve(layers)
    assert (settings.train.rank, settings.run.seed) == (16, 1)


def test_all_faults_are_named_at_once() -> None:
    layers = [
        Layer("run.yaml", {"train.rnak": 8, "sample.views": 0}),
        Layer("--set", {"nonsense": 1}),
    ]
    with pytest.raises(UsageError) as fault:
        resolve(layers)

    message = str(fault.value)
    assert "run.yaml: no setting train.rnak (did you mean train.rank?)" in message
    assert "sample.views = 0 (run.yaml)" in message
    assert "nonsense" in message


def test_a_budget_is_read_as_a_duration_and_never_zero() -> None:
    assert resolve([Layer("flags", {"run.budget_s": "11h30m"})]).run.budget_s == 41400
    for bad in ("0", 0, -3, "soon"):
        with pytest.raises(UsageError, match="budget"):
            resolve([Layer("flags", {"run.budget_s": bad})])


def test_environment_names_spell_the_dot_as_two_underscores() -> None:
    layer = environment_layer(
        {"APPLIANCE_TRAIN__RANK": "32", "PATH": "/bin", "APPLIANCE_STRATEGY": "both"}
        | {"APPLIANCE_CPU_BF16": "on"}  # says what the machine is, not how a run is done
    )
    assert layer.values == {"train.rank": 32, "strategy": "both"}


def test_assignments_are_yaml_scalars() -> None:
    assert assignments_layer(["train.rslora=false", "run.seed=7"]).values == {
        "train.rslora": False,
        "run.seed": 7,
    }
    with pytest.raises(UsageError, match="'='"):
        assignments_layer(["train.rank"])


def test_a_file_may_nest_or_dot_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("train:\n  rank: 8\nrun.seed: 3\n")
    assert file_layer(path).values == {"train.rank": 8, "run.seed": 3}


@pytest.mark.parametrize("text", ["- a list", "{unclosed", "just words"])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"run\.yaml"):
        file_layer(path)


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="laptop"):
        profile_layer("labtop")


def test_greedy_sampling_of_several_answers_is_refused() -> None:
    with pytest.raises(UsageError, match="greedy"):
        resolve([Layer("flags", {"sample.samples_per_view": 4})])


@pytest.mark.parametrize(
    ("given", "strategy"),
    [
        ("search", ("search",)),
        ("search, transduction,search", ("transduction", "search")),
        ("both", ("transduction", "induction")),
        (["search", "both"], ("transduction", "induction", "search")),
        (("search",), ("search",)),
    ],
)
def test_a_strategy_is_a_list_in_one_order(given: object, strategy: tuple[str, ...]) -> None:
    chosen = resolve([Layer("flags", {"strategy": given})])
    assert chosen.strategy == strategy
    assert chosen.needs_model == (strategy != ("search",))
    assert Settings.model_validate_json(chosen.model_dump_json()) == chosen


@pytest.mark.parametrize("given", ["sarch", "", ",", [], None, 7, "search,tranduction"])
def test_a_strategy_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(UsageError) as fault:
        resolve([Layer("flags", {"strategy": given})])
    message = str(fault.value)
    assert f"strategy = {given!r} (flags): expected a comma list of " in message
    assert "transduction, induction, search" in message
    if given == "sarch":
        assert "did you mean search?" in message


def test_the_default_strategy_is_shown_as_it_is_typed() -> None:
    assert ("strategy", "transduction,search") in [row[:2] for row in describe_settings()]


def test_the_identity_ignores_time_but_not_the_seed() -> None:
    def identity(**values: object) -> str:
        return resolve([Layer("flags", values)]).identity(tasks_digest="t")

    assert identity(**{"run.budget_s": "5m"}) == identity(
        **{"run.budget_s": "9m", "run.workers": 2}
    )
    assert identity(**{"run.seed": 1}) != identity(**{"run.seed": 2})
    assert identity(**{"search.workers": 1}) == identity(**{"search.workers": 2})
    assert identity(**{"search.expansions": 1}) != identity(**{"search.expansions": 2})
    assert identity(strategy="search") != identity()
    assert Settings().identity(tasks_digest="a") != Settings().identity(tasks_digest="b")


def test_every_key_is_described() -> None:
    rows = describe_settings()
    keys = [key for key, _, _ in rows]
    assert "train.rank" in keys
    assert len(keys) == len(set(keys))
    assert [key for key, _, meaning in rows if meaning.startswith("None")] == []
