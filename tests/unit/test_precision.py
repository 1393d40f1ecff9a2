"""In which numbers a model is stored and multiplied on which card, and which trainer is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.config import Layer, Settings, resolve
from appliance.errors import PrerequisiteError, UsageError
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine, find_machine
from appliance.machine.software import EVERYTHING
from appliance.sizing.choice import Choice
from appliance.sizing.precision import choose_precision, choose_trainer

PLANNED = Choice("none", "fits")


def settings(**values: Any) -> Settings:
    return resolve(
        [Layer("test", {key.replace("__", "."): value for key, value in values.items()})]
    )


def machine(gpu: str, **environment: str) -> Machine:
    return imagined(find_machine(environment), gpu)


@pytest.mark.parametrize(
    ("gpu", "values", "dtype", "autocast"),
    [
        ("T4", {}, "float16", "float16"),
        ("T4", {"train__method": "full"}, "float32", "float16"),
        ("H100", {}, "bfloat16", "bfloat16"),
        ("H100", {"train__method": "full"}, "float32", "bfloat16"),
        ("H100", {"model__dtype": "float16"}, "float16", "float16"),
        ("H100", {"model__dtype": "float32"}, "float32", None),
        ("none", {"model__dtype": "float32"}, "float32", None),
        ("none", {"model__dtype": "bfloat16"}, "bfloat16", "bfloat16"),
    ],
)
def test_types_by_card(gpu: str, values: dict[str, Any], dtype: str, autocast: str | None) -> None:
    chosen = choose_precision(machine(gpu), settings(**values), PLANNED, EVERYTHING)
    assert (chosen.dtype.value, chosen.autocast.value, chosen.quantization.value) == (
        dtype,
        autocast,
        "none",
    )
    assert all(c.reason for c in (chosen.dtype, chosen.autocast, chosen.quantization))


@pytest.mark.parametrize("wish", ["auto", "on", "off"])
def test_a_cpu_multiplies_bfloat16_where_it_can_or_where_the_switch_says(wish: str) -> None:
    here = machine("none", APPLIANCE_CPU_BF16=wish)
    chosen = choose_precision(here, settings(), PLANNED, EVERYTHING)
    is_bf16 = here.host.can_bf16 if wish == "auto" else wish == "on"
    assert chosen.dtype.value == "float32"
    assert chosen.autocast == Choice("bfloat16" if is_bf16 else None, here.host.bf16_reason)


def test_the_plans_quantisation_is_taken_unless_the_user_says_otherwise() -> None:
    planned, t4 = Choice("nf4", "else it does not fit"), machine("T4")
    chosen = choose_precision(t4, settings(), planned, EVERYTHING)
    assert chosen.quantization == planned
    chosen = choose_precision(t4, settings(model__quantization="int8"), planned, EVERYTHING)
    assert chosen.quantization.value == "int8"

    without = replace(EVERYTHING, has_bitsandbytes=False)
    with pytest.raises(PrerequisiteError, match="bitsandbytes"):
        choose_precision(t4, settings(model__quantization="nf4"), planned, without)


@pytest.mark.parametrize("stored", ["nf4", "int8"])
def test_a_model_whose_files_need_bitsandbytes_is_refused_before_anything_is_loaded(
    stored: str,
) -> None:
    without = replace(EVERYTHING, has_bitsandbytes=False)
    planned = Choice(stored, "as the weights are stored")
    with pytest.raises(PrerequisiteError, match=f"stored in {stored}, which needs bitsandbytes"):
        choose_precision(machine("T4"), settings(), planned, without)


@pytest.mark.parametrize("values", [{"model__quantization": "nf4"}, {"model__dtype": "float16"}])
def test_all_weights_are_trained_in_float32_only(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"train\.method = full"):
        choose_precision(
            machine("T4"), settings(train__method="full", **values), PLANNED, EVERYTHING
        )


def test_unsloth_is_taken_on_cuda_where_it_is_installed() -> None:
    def chosen(gpu: str, **values: Any) -> str:
        return choose_trainer(machine(gpu), settings(**values), EVERYTHING).value

    assert chosen("L4") == "unsloth"
    assert chosen("L4", model__trainer="peft") == "peft"
    assert chosen("L4", train__method="full") == "peft"
    assert chosen("none") == "peft"
    assert chosen("none", model__trainer="unsloth") == "unsloth"
    with pytest.raises(UsageError):
        chosen("L4", model__trainer="unsloth", train__method="full")

    without = replace(EVERYTHING, has_unsloth=False)
    assert choose_trainer(machine("L4"), settings(), without) == Choice(
        "peft", "unsloth is not installed"
    )
    with pytest.raises(PrerequisiteError, match="not installed"):
        choose_trainer(machine("L4"), settings(model__trainer="unsloth"), without)


def test_a_search_above_a_threshold_takes_a_model_that_takes_our_cache() -> None:
    def chosen(**values: Any) -> str:
        asked = settings(sample__mode="dfs", **values)
        return choose_trainer(machine("L4"), asked, EVERYTHING).value

    assert chosen() == "peft"
    assert chosen(model__engine="vllm") == "unsloth"  # vLLM searches in a cache of its own
    assert chosen(model__engine="vllm", model__trainer="unsloth") == "unsloth"
    with pytest.raises(UsageError, match=r"with sample\.mode"):
        chosen(model__trainer="unsloth")
