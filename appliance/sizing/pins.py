"""Pins: values that the user fixes before anything is sized (`plan --pin micro_batch=2`), and the setups they make."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.errors import UsageError
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import SampleSetup, TrainSetup

_SPELLINGS = {
    "dtype": {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32"},
    "quantization": {
        "4bit": "nf4",
        "4-bit": "nf4",
        "int4": "nf4",
        "8bit": "int8",
        "8-bit": "int8",
        "null": "none",
    },
    "optimizer": {
        "adamw": "adamw_torch_fused",
        "adamw_torch": "adamw_torch_fused",
        "adamw_bnb_8bit": "adamw_8bit",
    },
    "fused_loss": {"liger": "true", "none": "false"},
    "gradient_checkpointing": {"unsloth": "true"},
}
"""Other spellings of the same value, as users of the engines write them."""


class Pins(BaseModel):
    """None leaves the choice to the plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantization: Literal["none", "nf4", "int8"] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    max_seq_tokens: int | None = Field(None, ge=16, le=1_000_000)
    micro_batch: int | None = Field(None, ge=1, le=1024)
    gradient_checkpointing: bool | None = None
    fused_loss: bool | None = None
    lora_rank: int | None = Field(None, ge=1, le=4096)
    lora_targets: Literal["attention", "all"] | None = None
    full_finetune: bool | None = None
    optimizer: Literal["adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "sgd"] | None = None
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    attention: Literal["flash", "sdpa", "eager"] | None = None
    quantized_compute: Literal["float32", "native"] | None = None
    trainer: Literal["peft", "unsloth"] | None = None
    engine: Literal["vllm", "transformers"] | None = None
    views: int | None = Field(None, ge=1, le=512)
    samples_per_view: int | None = Field(None, ge=1, le=512)
    steps_per_task: int | None = Field(None, ge=0, le=100_000)
    threads: int | None = Field(None, ge=1, le=1024)

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> Pins:
        """Raises UsageError naming every unknown key, with the nearest valid one, and every bad value."""
        known = list(Pins.model_fields)
        faults = []
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                faults.append(f"no pin {key!r} (nearest: {near[0]})")
        tidy = {
            k: _SPELLINGS.get(k, {}).get(str(v).lower(), v) for k, v in values.items() if k in known
        }
        try:
            pins = Pins.model_validate(tidy)
        except ValidationError as fault:
            faults += [f"{e['loc'][0]}={e['input']!r}: {e['msg']}" for e in fault.errors()]
        if faults:
            raise UsageError(
                "; ".join(faults), expected="--pin key=value with key of " + ", ".join(known)
            )
        return pins

    @staticmethod
    def parse(assignments: Iterable[str]) -> Pins:
        """From "key=value" texts; a text may hold several, parted by commas or blanks."""
        values: dict[str, str] = {}
        for text in (part for a in assignments for part in a.replace(",", " ").split()):
            key, sign, value = text.partition("=")
            if not sign:
                raise UsageError(
                    f"--pin {text!r} has no '='",
                    expected="--pin key=value",
                    remedy="such as micro_batch=2",
                )
            values[key.strip().replace("-", "_")] = value.strip()
        return Pins.from_mapping(values)


NO_PINS = Pins()


def native_dtype(device: Device) -> str:
    """The 16-bit type that the device multiplies fast, float32 where there is none."""
    if not device.is_gpu:
        return "bfloat16" if device.tflops_16 > device.tflops_32 else "float32"
    return "bfloat16" if device.capability >= (8, 0) else "float16"


def native_attention(card: ModelCard, device: Device) -> str:
    if device.is_gpu and device.capability >= (8, 0):
        return "flash"
    return "sdpa" if card.has_fused_attention else "eager"


def train_setup(card: ModelCard, device: Device, pins: Pins) -> TrainSetup:
    """The setup of the pins; what they leave open is as in the published runs: checkpointing, fused loss, rank 32."""
    full = bool(pins.full_finetune)
    return TrainSetup(
        dtype=pins.dtype or native_dtype(device),
        quantization=pins.quantization or "none",
        max_seq_tokens=pins.max_seq_tokens or min(8192, card.max_positions),
        micro_batch=pins.micro_batch or 1,
        gradient_checkpointing=device.is_gpu
        if pins.gradient_checkpointing is None
        else pins.gradient_checkpointing,
        fused_loss=device.is_gpu if pins.fused_loss is None else pins.fused_loss,
        full_finetune=full,
        lora_rank=pins.lora_rank or 32,
        all_linear=card.is_tiny if pins.lora_targets is None else pins.lora_targets == "all",
        optimizer=pins.optimizer or "adamw_torch_fused",
        attention=pins.attention or native_attention(card, device),
        trainer=(pins.trainer or "peft") if device.is_gpu else "peft",
        quantized_compute=pins.quantized_compute or "float32",
        is_packed=not device.is_gpu,
    )


def sample_setup(card: ModelCard, device: Device, pins: Pins) -> SampleSetup:
    return SampleSetup(
        engine=pins.engine or "vllm",
        dtype=pins.dtype or native_dtype(device),
        quantization=pins.quantization or "none",
        max_seq_tokens=pins.max_seq_tokens or min(8192, card.max_positions),
        share=pins.gpu_memory_utilization or 0.9,
        samples_per_prompt=pins.samples_per_view or 1,
    )
