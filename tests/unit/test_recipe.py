"""The recipe of training at test time follows the model; what the user set wins."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from appliance.config import Layer, profile_layer
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.software import EVERYTHING
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.make_plan import make_plan
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest

HOST = Host("CPU", 8, "affinity", 64 << 30, "physical", 60 << 30, ("avx2",))


def plan_of(model: str, *layers: Layer, gpu: str = "H100") -> Plan:
    request = PlanRequest(
        imagined(Machine((), HOST, Platform()), gpu),
        (load_card(model),),
        EVERYTHING,
        None,
        tuple(layers),
        36_000.0,
    )
    return make_plan(request)


def given(**values: object) -> Layer:
    return Layer("test", {key.replace("__", "."): value for key, value in values.items()})


@pytest.mark.parametrize(
    ("model", "rate", "scale", "steps"),
    [
        ("arc-mini", 1e-3, 8.0, 400),
        ("Qwen2.5-0.5B", 8e-5, 8.0, 330),
        ("Qwen3-4B", 5e-5, 2.0, 128),
        ("Llama-3.1-8B", 5e-5, 2.0, 128),
    ],
)
def test_models_of_a_known_size_get_the_published_recipe(
    model: str, rate: float, scale: float, steps: int
) -> None:
    train = plan_of(model).train
    assert train.learning_rate.value == rate
    assert train.alpha.value / math.sqrt(train.lora_rank.value) == pytest.approx(scale)
    assert train.max_steps.value == steps


def test_a_size_between_two_known_ones_gets_a_rate_between_theirs() -> None:
    train = plan_of("Qwen2.5-1.5B").train
    assert 5e-5 < train.learning_rate.value < 8e-5
    assert "arc24" in train.learning_rate.reason
    assert "NVARC" in train.learning_rate.reason


@pytest.mark.parametrize("profile", ["kaggle-t4x2", "kaggle-l4x4", "rtx-3090", "a6000", "h100"])
def test_no_profile_trains_a_large_model_at_the_rate_of_a_tiny_one(profile: str) -> None:
    plan = plan_of("Qwen2.5-0.5B", profile_layer(profile))
    assert plan.settings.train.learning_rate == 8e-5
    assert plan.settings.program.learning_rate < 5e-5


def test_the_run_gets_what_the_plan_shows() -> None:
    plan = plan_of("Qwen3-4B")
    train, shown = plan.settings.train, plan.train
    assert train.learning_rate == shown.learning_rate.value
    assert train.alpha == shown.alpha.value
    assert train.rank == shown.lora_rank.value
    assert train.max_steps == shown.max_steps.value
    assert plan.settings.program.learning_rate == shown.program_learning_rate.value


def test_what_the_user_set_wins_and_is_labelled() -> None:
    mine = given(
        train__learning_rate=3e-3,
        train__alpha=7.0,
        train__rank=8,
        train__max_steps=55,
        program__learning_rate=1e-6,
    )
    plan = plan_of("Qwen2.5-0.5B", mine)
    train = plan.train
    assert (train.learning_rate.value, train.learning_rate.reason) == (
        3e-3,
        "set by train.learning_rate",
    )
    assert (train.alpha.value, train.alpha.reason) == (7.0, "set by train.alpha")
    assert (train.lora_rank.value, train.lora_rank.reason) == (8, "set by train.rank")
    assert train.max_steps.value == 55
    assert plan.settings.program.learning_rate == 1e-6
    assert "train.learning_rate" in plan.given_keys


def test_another_rank_keeps_the_published_scale() -> None:
    train = plan_of("Qwen2.5-0.5B", given(train__rank=16)).train
    assert train.alpha.value / math.sqrt(16) == pytest.approx(8.0)

    plain = plan_of("Qwen2.5-0.5B", given(train__rank=16, train__rslora=False)).train
    assert plain.alpha.value / 16 == pytest.approx(8.0)


def test_all_weights_learn_ten_times_as_slowly_as_an_adapter_of_a_large_model() -> None:
    whole = plan_of("Qwen2.5-0.5B", given(train__method="full")).train
    assert whole.learning_rate.value == pytest.approx(8e-6)
    assert plan_of("arc-mini", given(train__method="full")).train.learning_rate.value == 1e-3


def test_an_adapter_that_is_trained_further_keeps_its_shape_and_learns_more_slowly(
    tmp_path: Path,
) -> None:
    config = {"r": 128, "lora_alpha": 32, "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))

    plan = plan_of("Qwen2.5-0.5B", given(model__adapter=str(tmp_path)))
    assert plan.train.lora_rank.value == plan.settings.train.rank == 128
    assert plan.train.alpha.value == 32
    assert 4e-5 <= plan.train.learning_rate.value <= 8e-5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"r": "many", "lora_alpha": 1}'])
def test_an_adapter_that_cannot_be_read_is_left_to_the_engine(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    plan = plan_of("Qwen2.5-0.5B", given(model__adapter=str(tmp_path)))
    assert plan.train.lora_rank.value == 64
