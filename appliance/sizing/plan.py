"""A plan: every value that sizing chose, with its reason, and what memory and time it will take."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from appliance.sizing.choice import Choice
from appliance.sizing.costs.sample_memory import SampleMemory
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.costs.train_memory import TrainMemory


@dataclass(frozen=True)
class TrainPlan:
    """memory_gib: peak of tensors on the fullest card; context_gib comes on top. seconds_per_step: of one optimizer step at
    the longest length, typical_seconds_per_step at the mean length of the tasks."""

    trainer: Choice[str]
    dtype: Choice[str]
    quantization: Choice[str]
    max_seq_tokens: Choice[int]
    full_finetune: Choice[bool]
    lora_rank: Choice[int]
    lora_targets: Choice[str]
    micro_batch: Choice[int]
    gradient_checkpointing: Choice[bool]
    fused_loss: Choice[bool]
    optimizer: Choice[str]
    attention: Choice[str]
    parallelism: Choice[str]
    steps_per_task: Choice[int]
    memory: TrainMemory
    fits: bool
    seconds_per_step: float
    typical_seconds_per_step: float


@dataclass(frozen=True)
class SamplePlan:
    """tokens_per_second: written by one worker at full batch, the reading of prompts included."""

    engine: Choice[str]
    residency: Choice[str]
    gpu_memory_utilization: Choice[float]
    max_num_seqs: Choice[int]
    views: Choice[int]
    samples_per_view: Choice[int]
    memory: SampleMemory
    fits: bool
    tokens_per_second: float
    prefill_tokens_per_second: float


@dataclass(frozen=True)
class TimePlan:
    """Seconds of one worker: budget, what is kept free at the end, loading, and the mean task's share of each pass."""

    budget_s: float
    reserve_s: float
    load_s: float
    quick_s: float
    train_s: float
    sample_s: float
    total_s: float
    num_tasks: int
    num_tasks_within: int


@dataclass(frozen=True)
class Plan:
    model: Choice[str]
    workers: Choice[int]
    threads: Choice[int]
    train: TrainPlan
    sample: SamplePlan
    time: TimePlan
    device: str
    room_gib: float
    costs: Costs
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.train.fits and self.sample.fits

    def to_settings(self) -> dict[str, Any]:
        """The plan as dotted keys of the run's settings (see config.py), to be laid under what the user sets."""
        train, sample = self.train, self.sample
        setup = self.costs.train
        values: dict[str, Any] = {
            "model.engine": sample.engine.value,
            "model.trainer": train.trainer.value,
            "train.enabled": train.steps_per_task.value > 0,
            "train.method": "full" if train.full_finetune.value else "lora",
            "train.max_steps": max(1, train.steps_per_task.value),
            "train.max_seq_tokens": max(128, train.max_seq_tokens.value),
            "train.tokens_per_step": max(256, setup.micro_batch * setup.max_seq_tokens),
            "sample.views": sample.views.value,
            "sample.samples_per_view": sample.samples_per_view.value,
            "run.workers": min(64, self.workers.value),
        }
        if not train.full_finetune.value:
            values["train.rank"] = train.lora_rank.value
        if (
            self.costs.device.is_gpu
        ):  # on a CPU the engine decides between float32 and autocast by itself
            values["model.dtype"] = train.dtype.value
        if sample.samples_per_view.value > 1:
            values["sample.temperature"] = 1.0
        return values

    def to_json(self) -> dict[str, Any]:
        """Plain values; each choice as {"value", "reason"}."""
        train, sample = _choices(self.train), _choices(self.sample)
        return {
            "model": self.model.to_json(),
            "device": self.device,
            "room_gib": round(self.room_gib, 3),
            "workers": self.workers.to_json(),
            "threads": self.threads.to_json(),
            "fits": self.fits,
            "train": {
                "memory_gib": round(self.train.memory.memory_gib, 3),
                "context_gib": round(self.train.memory.context_gib, 3),
                "fits": self.train.fits,
                "seconds_per_step": round(self.train.seconds_per_step, 5),
                "typical_seconds_per_step": round(self.train.typical_seconds_per_step, 5),
                "memory_parts_gib": {
                    name: round(gib, 3) for name, gib in self.train.memory.parts.items()
                },
                **train,
            },
            "sample": {
                "memory_gib": round(self.sample.memory.memory_gib, 3),
                "fits": self.sample.fits,
                "kv_tokens": self.sample.memory.kv_tokens,
                "kv_gib": round(self.sample.memory.kv_gib, 3),
                "weights_gib": round(self.sample.memory.weights_gib, 3),
                "tokens_per_second": round(self.sample.tokens_per_second, 1),
                "prefill_tokens_per_second": round(self.sample.prefill_tokens_per_second, 1),
                **sample,
            },
            "time": {f.name: _rounded(getattr(self.time, f.name)) for f in fields(self.time)},
            "notes": list(self.notes),
        }


def _choices(part: TrainPlan | SamplePlan) -> dict[str, Any]:
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {name: value.to_json() for name, value in values.items() if isinstance(value, Choice)}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, 3)
