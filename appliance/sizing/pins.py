"""Pins: values that the user fixes before anything is sized (`plan --pin micro_batch=2`).

Also the setups of training and sampling that pins describe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.clock import LONGEST_S
from appliance.config import Settings
from appliance.errors import UsageError, shorten
from appliance.machine.catalogue import AMPERE, has_bfloat16
from appliance.names import did_you_mean
from appliance.predictions import spread
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
    """Values that are fixed. None leaves the choice to the plan.

    Those marked as a what-if describe trainings that were published elsewhere: no engine of ours
    does them, a plan that holds one says so, and `submit` has no setting for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # How weights are stored and multiplied.
    quantization: Literal["none", "nf4", "int8"] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    quantized_compute: Literal["float32", "native"] | None = None  # float32: a what-if

    # One training step.
    max_seq_tokens: int | None = Field(None, ge=16, le=1_000_000)
    micro_batch: int | None = Field(None, ge=1, le=1024)  # sequences of one pass
    tokens_per_step: int | None = Field(None, ge=256, le=1_000_000)  # of all sequences of a step
    gradient_checkpointing: bool | None = None
    # A what-if. True: Liger's kernels, for the loss and the layers. False: the logits of all tokens
    # are held. What our trainers do is neither: engine/training/cross_entropy.py.
    fused_loss: bool | None = None
    full_finetune: bool | None = None
    lora_rank: int | None = Field(None, ge=1, le=4096)
    lora_targets: Literal["attention", "all"] | None = None  # attention: a what-if
    optimizer: Literal["adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "sgd"] | None = None
    attention: Literal["flash", "sdpa", "eager"] | None = None  # flash, eager: what-ifs
    trainer: Literal["peft", "unsloth"] | None = None
    steps_per_task: int | None = Field(None, ge=0, le=100_000)

    # Sampling.
    engine: Literal["vllm", "transformers"] | None = None
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    views: int | None = Field(None, ge=1, le=512)
    samples_per_view: int | None = Field(None, ge=1, le=512)

    # The host.
    workers: int | None = Field(None, ge=1, le=64)
    threads: int | None = Field(None, ge=1, le=1024)

    # Search.
    search_workers: int | None = Field(None, ge=1, le=256)
    search_seconds: float | None = Field(None, gt=0, le=LONGEST_S)  # CPU seconds a task

    def what_ifs(self) -> tuple[str, ...]:
        """The pins that no engine performs, as `name=value`."""
        done_here = {
            "fused_loss": None,
            "lora_targets": "all",
            "optimizer": "adamw_torch_fused",
            "attention": "sdpa",
            "quantized_compute": "native",
        }
        given = {name: getattr(self, name) for name in done_here}
        return tuple(
            f"{name}={value}"
            for name, value in given.items()
            if value is not None and value != done_here[name]
        )

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> Pins:
        """Raises UsageError naming every bad value and every unknown key, with the nearest valid
        one."""
        known = list(Pins.model_fields)
        faults = []
        for key in values:
            if key not in known:
                faults.append(f"no pin {shorten(key)!r}{did_you_mean(key, known)}")

        tidy = {
            k: _SPELLINGS.get(k, {}).get(str(v).lower(), v) for k, v in values.items() if k in known
        }
        try:
            pins = Pins.model_validate(tidy)
        except ValidationError as fault:
            faults += [
                f"{e['loc'][0]}={shorten(str(e['input']))!r}: {e['msg']}" for e in fault.errors()
            ]

        if faults:
            raise UsageError(
                "; ".join(faults), expected="--pin key=value with key of " + ", ".join(known)
            )
        return pins

    @staticmethod
    def parse(assignments: Iterable[str]) -> Pins:
        """From "key=value" texts; a text may hold several, separated by commas or blanks."""
        values: dict[str, str] = {}
        for text in (part for a in assignments for part in a.replace(",", " ").split()):
            key, sign, value = text.partition("=")
            if not sign:
                raise UsageError(
                    f"--pin {shorten(text)!r} has no '='",
                    expected="--pin key=value",
                    remedy="such as micro_batch=2",
                )
            values[key.strip().replace("-", "_")] = value.strip()

        return Pins.from_mapping(values)


NO_PINS = Pins()
"""Everything is left to the plan."""


def pins_of_settings(settings: Settings, given: Collection[str]) -> tuple[Pins, dict[str, str]]:
    """What the settings leave no choice about, and for each such pin where it comes from.

    given: dotted keys that the user set; a default is no wish. Raises UsageError as `spread`.
    """
    model, train, sample = settings.model, settings.train, settings.sample
    views: object = sample.views if "sample.views" in given else None
    samples: object = sample.samples_per_view if "sample.samples_per_view" in given else None
    if sample.predictions is not None:
        found = spread(settings, given)
        views, samples = found.num_views, found.samples_per_view
    why = "sample.predictions" if sample.predictions is not None else None

    wishes: dict[str, tuple[str, object]] = {
        "dtype": ("model.dtype", _unless_auto(model.dtype)),
        "quantization": ("model.quantization", _unless_auto(model.quantization)),
        "engine": ("model.engine", _unless_auto(model.engine)),
        "trainer": ("model.trainer", _unless_auto(model.trainer)),
        "full_finetune": ("train.method", True if train.method == "full" else None),
        "steps_per_task": ("train.enabled", None if train.enabled else 0),
        "lora_rank": ("train.rank", train.rank if "train.rank" in given else None),
        "tokens_per_step": (
            "train.tokens_per_step",
            train.tokens_per_step if "train.tokens_per_step" in given else None,
        ),
        "views": (why or "sample.views", views),
        "samples_per_view": (why or "sample.samples_per_view", samples),
        "workers": ("run.workers", settings.run.workers if "run.workers" in given else None),
        "search_workers": ("search.workers", settings.search.workers),
        "search_seconds": ("search.seconds_per_task", settings.search.seconds_per_task),
    }

    wanted = {name: value for name, (_, value) in wishes.items() if value is not None}
    sources = {name: f"set by {wishes[name][0]}" for name in wanted}
    return Pins.model_validate(wanted), sources


def settings_of_pins(pins: Pins) -> dict[str, object]:
    """The same pins as dotted keys of the settings, for a run that shall follow them.

    Precision and trainer of a what-if stay out: our engines may not be able to do them together.
    """
    if pins.what_ifs():
        pins = pins.model_copy(update={"dtype": None, "quantization": None, "trainer": None})

    steps = pins.steps_per_task
    values: dict[str, object] = {
        "model.dtype": pins.dtype,
        "model.quantization": pins.quantization,
        "model.engine": pins.engine,
        "model.trainer": pins.trainer,
        "train.method": None if pins.full_finetune is None else _method(pins.full_finetune),
        "train.rank": pins.lora_rank,
        "train.tokens_per_step": pins.tokens_per_step,
        "train.enabled": None if steps is None else steps > 0,
        "train.max_steps": steps or None,
        "sample.views": pins.views,
        "sample.samples_per_view": pins.samples_per_view,
        "run.workers": pins.workers,
        "search.workers": pins.search_workers,
        "search.seconds_per_task": pins.search_seconds,
    }
    return {key: value for key, value in values.items() if value is not None}


def _unless_auto(value: str) -> str | None:
    return None if value == "auto" else value


def _method(is_full: bool) -> str:
    return "full" if is_full else "lora"


def native_dtype(device: Device) -> str:
    """The 16-bit type that the device multiplies fast, float32 where there is none."""
    if not device.is_gpu:
        return "bfloat16" if device.tflops_16 > device.tflops_32 else "float32"
    return "bfloat16" if has_bfloat16(device.capability) else "float16"


def train_setup(card: ModelCard, device: Device, pins: Pins) -> TrainSetup:
    """The training that the pins describe; what they leave open is as in the published runs.

    Those took checkpointing, a fused loss, rank 32 on attention, and FlashAttention from capability
    8.0. What a run of ours does stands in fit_training.py.
    """
    if pins.attention is not None:
        attention = pins.attention
    elif device.is_gpu and device.capability >= AMPERE:
        attention = "flash"
    else:
        attention = "sdpa" if card.has_fused_attention else "eager"

    checkpoints = pins.gradient_checkpointing
    is_liger = device.is_gpu if pins.fused_loss is None else pins.fused_loss
    return TrainSetup(
        dtype=pins.dtype or native_dtype(device),
        quantization=pins.quantization or "none",
        max_seq_tokens=pins.max_seq_tokens or min(8192, card.max_positions),
        micro_batch=pins.micro_batch or 1,
        gradient_checkpointing=device.is_gpu if checkpoints is None else checkpoints,
        fused_loss=is_liger,
        fused_layers=is_liger,
        full_finetune=bool(pins.full_finetune),
        lora_rank=pins.lora_rank or 32,
        all_linear=card.is_tiny if pins.lora_targets is None else pins.lora_targets == "all",
        optimizer=pins.optimizer or "adamw_torch_fused",
        attention=attention,
        trainer=(pins.trainer or "peft") if device.is_gpu else "peft",
        quantized_compute=pins.quantized_compute or "float32",
        is_packed=not device.is_gpu,
    )


def sample_setup(card: ModelCard, device: Device, pins: Pins) -> SampleSetup:
    """The sampling that the pins describe; by default vLLM with nine tenths of the memory."""
    return SampleSetup(
        engine=pins.engine or "vllm",
        dtype=pins.dtype or native_dtype(device),
        quantization=pins.quantization or "none",
        max_seq_tokens=pins.max_seq_tokens or min(8192, card.max_positions),
        share=pins.gpu_memory_utilization or 0.9,
        samples_per_prompt=pins.samples_per_view or 1,
    )
