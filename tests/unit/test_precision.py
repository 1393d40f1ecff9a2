"""In which numbers a model is stored and multiplied on which card, and which trainer is taken."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.config import Layer, Settings, resolve
from appliance.errors import PrerequisiteError, UsageError
from appliance.machine.machine import Machine, find_machine, imagined
from appliance.sizing import precision
from appliance.sizing.choice import Choice
from appliance.sizing.precision import choose_precision, choose_trainer

PLANNED = Choice("none", "fits")


def settings(**values: Any) -> Settings:
    return resolve(
        [Layer("test", {key.replace("__", "."): value for key, value in values.items()})]
    )


def machine(gpu: str) -> Machine:
    return imagined(find_machine({}), gpu)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that count as installed."""
    names = {"unsloth", "bitsandbytes"}
    monkeypatch.setattr(precision, "version_of", lambda name: "1.0" if name in names else None)
    return names


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
    chosen = choose_precision(machine(gpu), settings(**values), PLANNED)
    assert (chosen.dtype.value, chosen.autocast.value, chosen.quantization.value) == (
        dtype,
        autocast,
        "none",
    )
    assert all(c.reason for c in (chosen.dtype, chosen.autocast, chosen.quantization))


def test_a_cpu_multiplies_bfloat16_where_it_can() -> None:
    here = machine("none")
    chosen = choose_precision(here, settings(), PLANNED)
    assert (chosen.dtype.value, chosen.autocast.value) == (
        "float32",
        "bfloat16" if here.host.can_bf16 else None,
    )


def test_the_plans_quantisation_is_taken_unless_the_user_says_otherwise(
    installed: set[str],
) -> None:
    planned = Choice("nf4", "else it does not fit")
    assert choose_precision(machine("T4"), settings(), planned).quantization == planned
    assert (
        choose_precision(
            machine("T4"), settings(model__quantization="int8"), planned
        ).quantization.value
        == "int8"
    )
    installed.remove("bitsandbytes")
    fallen = choose_precision(machine("T4"), settings(), planned).quantization
    assert fallen.value == "none" and "not installed" in fallen.reason
    with pytest.raises(PrerequisiteError, match="bitsandbytes"):
        choose_precision(machine("T4"), settings(model__quantization="nf4"), planned)


@pytest.mark.parametrize("values", [{"model__quantization": "nf4"}, {"model__dtype": "float16"}])
def test_all_weights_are_trained_in_float32_only(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"train\.method = full"):
        choose_precision(machine("T4"), settings(train__method="full", **values), PLANNED)


def test_unsloth_is_taken_on_cuda_where_it_is_installed(installed: set[str]) -> None:
    assert choose_trainer(machine("L4"), settings()).value == "unsloth"
    assert choose_trainer(machine("L4"), settings(model__trainer="peft")).value == "peft"
    assert choose_trainer(machine("L4"), settings(train__method="full")).value == "peft"
    assert choose_trainer(machine("none"), settings()).value == "peft"
    assert choose_trainer(machine("none"), settings(model__trainer="unsloth")).value == "unsloth"
    with pytest.raises(UsageError):
        choose_trainer(machine("L4"), settings(model__trainer="unsloth", train__method="full"))
    installed.remove("unsloth")
    without = choose_trainer(machine("L4"), settings())
    assert (without.value, without.reason) == ("peft", "unsloth is not installed")
    with pytest.raises(PrerequisiteError, match="not installed"):
        choose_trainer(machine("L4"), settings(model__trainer="unsloth"))
