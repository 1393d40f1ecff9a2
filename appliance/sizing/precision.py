"""How weights are stored and multiplied, and which library trains them, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.config import Settings
from appliance.errors import PrerequisiteError, UsageError
from appliance.machine.catalogue import has_bfloat16
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.software import Software
from appliance.sizing.choice import Choice
from appliance.sizing.costs.sample_memory import PACKED_BYTES


@dataclass(frozen=True)
class Precision:
    """The number formats of a run."""

    dtype: Choice[str]  # of stored weights
    autocast: Choice[str | None]  # of products; None where the weights' own type is meant
    quantization: Choice[str]  # of the base weights


def choose_precision(
    machine: Machine, settings: Settings, planned_quantization: Choice[str], software: Software
) -> Precision:
    """Raises UsageError for settings that exclude each other, PrerequisiteError when bitsandbytes
    is asked for, or the model's files need it, and it is missing."""
    dtype = _dtype(machine, settings)
    platform = machine.platform
    quantization = _quantization(settings, planned_quantization, software, platform)

    trains_all = settings.train.enabled and settings.train.method == "full"
    if trains_all and quantization.value != "none":
        raise UsageError(
            f"train.method = full with base weights in {quantization.value}",
            expected="an adapter on quantised weights, or all weights unquantised",
            remedy="--set train.method=lora, or --set model.quantization=none",
        )
    if trains_all and dtype.value == "float16":
        raise UsageError(
            "train.method = full with model.dtype = float16",
            expected="weights in float32, which are multiplied in float16 all the same",
            remedy="leave model.dtype at auto",
        )

    return Precision(dtype, _autocast(machine, settings, dtype.value), quantization)


def choose_trainer(machine: Machine, settings: Settings, software: Software) -> Choice[str]:
    """unsloth on CUDA where it is installed, else peft.

    Raises PrerequisiteError when unsloth is asked for and missing, UsageError when it cannot do
    what is asked.
    """
    asked = settings.model.trainer
    if asked == "peft":
        return Choice("peft", "set by model.trainer")

    # Transformers searches above a threshold with a cache of ours, which unsloth's models refuse.
    may_search = settings.sample.mode == "dfs" and settings.model.engine != "vllm"

    if asked == "unsloth":
        if not software.has_unsloth:
            raise PrerequisiteError(
                "model.trainer = unsloth, which is not installed",
                expected="the package unsloth",
                remedy="install it as pinned in requirements/gpu.txt, or --trainer peft",
            )
        if settings.train.method == "full":
            raise UsageError(
                "unsloth trains adapters", expected="train.method = lora", remedy="--trainer peft"
            )
        if may_search:
            raise UsageError(
                "model.trainer = unsloth with sample.mode = dfs",
                expected="a model of peft where Transformers searches above a threshold",
                remedy="--trainer peft, or --engine vllm",
            )
        return Choice("unsloth", "set by model.trainer")

    if settings.train.method == "full":
        return Choice("peft", "all weights are trained; unsloth trains adapters")
    if not machine.gpus:
        return Choice(
            "peft", "on a CPU unsloth took 1.5 times its CPU time (2026-11-21, arc-mini, rank 16)"
        )
    if not software.has_unsloth:
        return Choice("peft", "unsloth is not installed")
    if may_search:
        return Choice("peft", "sample.mode = dfs by Transformers needs it; --engine vllm does not")
    return Choice(
        "unsloth",
        "its kernels are made for CUDA; peft replaces it if its check at the start fails",
    )


def _dtype(machine: Machine, settings: Settings) -> Choice[str]:
    if settings.model.dtype != "auto":
        return Choice(settings.model.dtype, "set by model.dtype")
    if not machine.gpus:
        return Choice("float32", "CPU: weights in float32, matrices in the autocast type")
    if settings.train.method == "full":
        return Choice("float32", "all weights are trained: small steps would be lost in 16 bits")

    capability = _capability(machine)
    if has_bfloat16(capability):
        has = "has bfloat16"
    else:
        has = "has no bfloat16; adapters are in float32, the loss is scaled"
    return Choice(_short(capability), f"compute capability {capability[0]}.{capability[1]} {has}")


def _autocast(machine: Machine, settings: Settings, dtype: str) -> Choice[str | None]:
    if dtype != "float32":
        return Choice(dtype, "adapters are in float32, products in the type of the weights")
    if settings.model.dtype == "float32":
        return Choice(None, "model.dtype asks for float32")
    if machine.gpus:
        return Choice(_short(_capability(machine)), "what this card multiplies fast")
    return Choice("bfloat16" if machine.host.can_bf16 else None, machine.host.bf16_reason)


def _quantization(
    settings: Settings, planned: Choice[str], software: Software, platform: Platform
) -> Choice[str]:
    asked, is_there = settings.model.quantization, software.has_bitsandbytes
    if asked not in ("auto", "none") and not is_there:
        raise PrerequisiteError(
            f"model.quantization = {asked} without bitsandbytes",
            expected="the package bitsandbytes",
            remedy=f"{platform.to_install('engines')}, or --set model.quantization=none",
        )
    # Without the package the plan packs nothing, so the files of the model are packed.
    if planned.value in PACKED_BYTES and not is_there:
        raise PrerequisiteError(
            f"the model's weights are stored in {planned.value}, which needs bitsandbytes",
            expected="the package bitsandbytes, or weights that are not quantised",
            remedy=f"{platform.to_install('engines')}, or another --model",
        )
    if asked != "auto":
        return Choice(asked, "set by model.quantization")
    return planned


def _short(capability: tuple[int, int]) -> str:
    return "bfloat16" if has_bfloat16(capability) else "float16"


def _capability(machine: Machine) -> tuple[int, int]:
    """Of the weakest card; an unknown one counts as old."""
    return min(g.capability or (0, 0) for g in machine.gpus)
