"""A plan: every value of a run with its reason, and the memory and time that the run will take.

`appliance plan --json` prints a plan, `run/plan.json` of a submit holds it, and `simulate --json`
has it under `plan`: for one request it is one object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from appliance.config import Settings
from appliance.machine.machine import Machine
from appliance.sizing.choice import Choice
from appliance.sizing.costs.sample_memory import ASLEEP_GIB, SampleMemory
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.costs.train_memory import TrainMemory
from appliance.sizing.precision import Precision


@dataclass(frozen=True)
class TrainPlan:
    """Training at test time: how every task gets its adapter."""

    trainer: Choice[str]  # library that fine-tunes: peft or unsloth
    dtype: Choice[str]  # of products
    quantization: Choice[str]  # of base weights
    max_seq_tokens: Choice[int]
    full_finetune: Choice[bool]
    lora_rank: Choice[int]
    alpha: Choice[float]
    targets: Choice[str]  # matrices that get an adapter: all, or attention
    learning_rate: Choice[float]
    micro_batch: Choice[int]  # sequences of one pass
    rows_per_step: Choice[int]  # sequences of one optimizer step
    gradient_checkpointing: Choice[bool]
    fused_loss: Choice[bool]
    optimizer: Choice[str]
    attention: Choice[str]
    parallelism: Choice[str]
    device_share: Choice[float]  # part of a card's time in which it computes, while tasks train
    steps_per_task: Choice[int]  # that the time pays for
    max_steps: Choice[int]  # no task takes more
    program_learning_rate: Choice[float]  # of the adapters that write programs

    memory: TrainMemory  # peak on the fullest card
    fits: bool
    seconds_per_step: float  # at the longest length
    typical_seconds_per_step: float  # at the mean length of the tasks


@dataclass(frozen=True)
class SamplePlan:
    """Generating answers."""

    engine: Choice[str]  # vllm or transformers
    is_compared: bool  # the probe tries the other one as well, and the faster one samples
    serving: Choice[str]  # how the engine gets an adapter
    residency: Choice[str]  # shared, together or in turns with training
    gpu_memory_utilization: Choice[float]
    max_num_seqs: Choice[int]
    views: Choice[int]  # in a deep pass
    samples_per_view: Choice[int]

    memory: SampleMemory
    fits: bool
    tokens_per_second: float  # written by one worker at full batch, reading of prompts included
    prefill_tokens_per_second: float


@dataclass(frozen=True)
class SearchPlan:
    """Search for programs without a model, on cores of the host."""

    workers: Choice[int]  # processes, one core each
    seconds_per_task: Choice[float]  # most CPU seconds of a task
    is_first: Choice[bool]  # all tasks are searched before the model begins; else beside it

    total_s: float  # of the clock, for all tasks at their usual cost

    def to_settings(self) -> dict[str, Any]:
        """As `Plan.to_settings`."""
        return {
            "search.workers": self.workers.value,
            "search.seconds_per_task": self.seconds_per_task.value,
        }

    def to_json(self) -> dict[str, Any]:
        return {**_choices(self), "total_s": _rounded(self.total_s)}


@dataclass(frozen=True)
class TimePlan:
    """Where the seconds of the budget go; those of a pass are the mean task's, on one worker."""

    budget_s: float
    reserve_s: float  # kept free at the end
    load_s: float
    search_s: float  # of the clock, that search takes before the model begins
    quick_s: float
    train_s: float
    sample_s: float
    total_s: float  # of the whole run
    num_tasks: int
    num_tasks_within: int  # whose longest sequence is not cut

    @property
    def is_in_time(self) -> bool:
        """Whether all tasks are done within the budget, up to rounding."""
        return self.total_s <= self.budget_s * 1.001


@dataclass(frozen=True)
class Plan:
    """What will run with a model, on what, and for how long."""

    machine: Machine
    model: Choice[str]
    workers: Choice[int]
    threads: Choice[int]
    precision: Precision
    train: TrainPlan
    sample: SamplePlan
    time: TimePlan

    device: str  # the one with the least room, where they differ
    room_gib: float  # of one worker
    costs: Costs  # of each task, by the same model of the machine
    search: SearchPlan | None = None  # None: the run does not search
    notes: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)  # of the run that follows this plan
    given_keys: frozenset[str] = frozenset()  # of these settings, those that the user set

    @property
    def fits(self) -> bool:
        return self.train.fits and self.sample.fits

    @property
    def engine_gib(self) -> float:
        """What the sampling engine keeps of a worker's memory while training is at work."""
        memory, device = self.sample.memory, self.costs.device
        if self.sample.residency.value == "together":
            if device.is_gpu:
                return self.sample.gpu_memory_utilization.value * device.memory_gib
            return memory.weights_gib + memory.kv_gib
        if self.sample.residency.value == "in turns":
            return ASLEEP_GIB

        # Transformers samples weights that are stored in float32 from a copy in 16 bits.
        is_copied = self.precision.dtype.value == "float32" and self.precision.autocast.value
        if self.sample.engine.value == "transformers" and is_copied:
            return memory.weights_gib
        return 0.0

    @property
    def train_room_gib(self) -> float:
        """What that leaves to training."""
        return max(0.0, self.room_gib - self.engine_gib)

    def to_settings(self) -> dict[str, Any]:
        """The values that settings can hold, as dotted keys; what the user set goes over them."""
        train, sample = self.train, self.sample
        values: dict[str, Any] = {
            "train.rank": train.lora_rank.value,
            "train.alpha": train.alpha.value,
            "train.learning_rate": train.learning_rate.value,
            "train.max_steps": train.max_steps.value,
            "program.learning_rate": train.program_learning_rate.value,
            "sample.views": sample.views.value,
            "sample.samples_per_view": sample.samples_per_view.value,
            "run.workers": min(64, self.workers.value),
        }

        # There is no setting for rows of a step; as many tokens make the same rows.
        if step_tokens := self.costs.train.step_tokens:
            values["train.tokens_per_step"] = max(256, step_tokens)
        elif train.micro_batch.reason == "pinned":
            tokens = train.micro_batch.value * train.max_seq_tokens.value
            values["train.tokens_per_step"] = max(256, tokens)
        if self.machine.gpus:
            values["run.workers_per_card"] = self.costs.device.sharers
        if sample.samples_per_view.value > 1:
            # At temperature 0 all samples of a view would be the same.
            values["sample.temperature"] = 1.0
        return values | (self.search.to_settings() if self.search else {})

    def to_json(self) -> dict[str, Any]:
        """Plain values; each choice as {"value", "reason"}."""
        train, sample = _choices(self.train), _choices(self.sample)
        return {
            "machine": self.machine.to_json(),
            "model": self.model.to_json(),
            "device": self.device,
            "room_gib": round(self.room_gib, 3),
            "workers": self.workers.to_json(),
            "threads": self.threads.to_json(),
            "fits": self.fits,
            "precision": _choices(self.precision),
            "train": {
                "memory_gib": round(self.train.memory.memory_gib, 3),
                "context_gib": round(self.train.memory.context_gib, 3),
                "room_gib": round(self.train_room_gib, 3),
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
            "search": self.search.to_json() if self.search else None,
            "time": {f.name: _rounded(getattr(self.time, f.name)) for f in fields(self.time)},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class SearchOnlyPlan:
    """What will run without a model, on what, and for how long."""

    machine: Machine
    search: SearchPlan
    budget_s: float
    num_tasks: int
    notes: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)  # of the run that follows this plan

    def to_json(self) -> dict[str, Any]:
        """Those parts of `Plan.to_json` that need no model."""
        return {
            "machine": self.machine.to_json(),
            "search": self.search.to_json(),
            "time": {
                "budget_s": _rounded(self.budget_s),
                "total_s": _rounded(self.search.total_s),
                "num_tasks": self.num_tasks,
            },
            "notes": list(self.notes),
        }


AnyPlan = Plan | SearchOnlyPlan
"""The plan of any run."""


def _choices(part: TrainPlan | SamplePlan | SearchPlan | Precision) -> dict[str, Any]:
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {name: value.to_json() for name, value in values.items() if isinstance(value, Choice)}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, 3)
