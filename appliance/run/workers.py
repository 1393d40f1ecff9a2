"""Which workers a run gets: one per accelerator, or CPU workers that share the cores; each choice with its reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.arc.task import TaskSet
from appliance.config import Settings
from appliance.engine.environment import CACHES, CPU, QUIET_AND_OFFLINE, VLLM, VLLM_CPU
from appliance.errors import PrerequisiteError
from appliance.machine.machine import Machine
from appliance.record.run_folder import RunFolder
from appliance.run.engine_choice import choose_engine, usable_engines, vllm_setup
from appliance.sizing.choice import Choice
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.task_lengths import TaskLengths, lengths_of
from appliance.sizing.pins import Pins
from appliance.sizing.plan import Plan
from appliance.sizing.precision import choose_precision, choose_trainer
from appliance.sizing.request import SizingRequest
from appliance.sizing.sizing import size
from appliance.solve.messages import Setup

NEEDED = ("torch", "transformers", "peft", "safetensors")
PLANNED_SETTINGS = (
    "train.rank",
    "sample.views",
    "sample.samples_per_view",
    "sample.temperature",
    "run.workers",
)


@dataclass(frozen=True)
class WorkerPlan:
    """One worker's setup and what is laid over its environment."""

    setup: Setup
    environment: Mapping[str, str]


@dataclass(frozen=True)
class RunPlan:
    """workers: one entry each. choices: what was decided and why, for the screen and the run folder."""

    workers: tuple[WorkerPlan, ...]
    choices: Mapping[str, Choice[Any]]

    def as_json(self) -> dict[str, object]:
        return {name: choice.to_json() for name, choice in self.choices.items()}


def check_engine_installed() -> None:
    """Raises PrerequisiteError naming the packages that are not installed. Imports none of them."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise PrerequisiteError(
            f"not installed: {', '.join(missing)}",
            expected="the packages of requirements/cpu.txt or requirements/gpu.txt",
            remedy="make setup (or make setup TARGET=gpu)",
        )


def size_run(
    machine: Machine,
    offered: Mapping[str, Path],
    tasks: TaskSet,
    asked: Settings,
    *,
    budget_s: float,
) -> tuple[Plan, dict[str, Any]]:
    """Which of the models on offer (name: folder), what fits this machine, these tasks and this budget, and the settings that
    follow from it before the run begins; steps and time are decided task by task as measured times arrive.

    Raises InputError when a folder is no model.
    """
    cards = [
        load_card(str(folder)).model_copy(update={"name": name}) for name, folder in offered.items()
    ]
    lengths = {card.name: lengths_of(tasks, card) for card in cards}
    longest = max(lengths.values(), key=TaskLengths.longest)
    request = SizingRequest(
        longest, budget_s, _pins(asked, longest), usable_engines(machine, asked)
    )
    sizing = size(machine, cards, request)
    values = {key: value for key, value in sizing.to_settings().items() if key in PLANNED_SETTINGS}
    if (
        sizing.train.max_seq_tokens.value < lengths[sizing.model.value].longest()
    ):  # memory sets the limit, not the tasks
        values["train.max_seq_tokens"] = sizing.train.max_seq_tokens.value
    return sizing, values


def _pins(asked: Settings, lengths: TaskLengths) -> Pins:
    """What the settings leave no choice about, so that the plan is one of the run that follows."""
    tokens = min(asked.train.max_seq_tokens, lengths.longest())
    return Pins(
        dtype=None if asked.model.dtype == "auto" else asked.model.dtype,
        quantized_compute="native",
        quantization=None if asked.model.quantization == "auto" else asked.model.quantization,
        full_finetune=asked.train.method == "full",
        lora_targets="all",
        micro_batch=max(1, asked.train.tokens_per_step // tokens),
        steps_per_task=None if asked.train.enabled else 0,
    )


def plan_run(
    machine: Machine, settings: Settings, sizing: Plan, *, model_dir: Path, folder: RunFolder
) -> RunPlan:
    """The workers for this machine: one per visible GPU; without GPU `run.workers` processes share the cores."""
    engine = choose_engine(machine, settings, sizing)
    has_gpu = bool(machine.gpus)
    cores = machine.host.num_cores
    num_workers = len(machine.gpus) if has_gpu else min(settings.run.workers, cores)
    num_threads = max(1, cores // num_workers)
    precision = choose_precision(machine, settings, sizing.train.quantization)
    trainer = choose_trainer(machine, settings)
    is_planned = num_workers == sizing.workers.value
    choices: dict[str, Choice[Any]] = {
        "model": sizing.model,
        "machine": Choice(machine.summary(), f"GPUs found by {machine.gpu_source}"),
        "workers": sizing.workers if is_planned else Choice(num_workers, "set by run.workers"),
        "threads": Choice(num_threads, f"{cores} cores over {num_workers} workers"),
        "dtype": precision.dtype,
        "autocast": precision.autocast,
        "quantization": precision.quantization,
        "engine": engine,
        "trainer": trainer,
        "max_seq_tokens": _longest(settings, sizing),
        "views": _planned(settings.sample.views, sizing.sample.views, "sample.views"),
        "memory": Choice(
            f"{sizing.train.memory.memory_gib:.2f} GiB a worker in training",
            f"of {sizing.room_gib:.1f} GiB",
        ),
    }
    scratch_dir = folder.scratch.resolve()
    workers = []
    for index in range(num_workers):
        setup = Setup(
            settings=settings,
            model_dir=str(model_dir.resolve()),
            adapters_dir=str(folder.adapters.resolve()),
            scratch_dir=str(scratch_dir),
            device="cuda" if has_gpu else "cpu",
            dtype=precision.dtype.value,
            autocast_dtype=precision.autocast.value,
            quantization=precision.quantization.value,
            trainer=trainer.value,
            num_threads=num_threads,
            engine=engine.value,
            **(vllm_setup(settings, sizing, has_gpu=has_gpu) if engine.value == "vllm" else {}),
        )
        workers.append(WorkerPlan(setup, _environment(machine, index, num_threads, scratch_dir)))
    return RunPlan(tuple(workers), choices)


def _longest(settings: Settings, sizing: Plan) -> Choice[int]:
    planned = sizing.train.max_seq_tokens
    if settings.train.max_seq_tokens < planned.value:
        return Choice(settings.train.max_seq_tokens, "set by train.max_seq_tokens")
    return planned


def _planned(value: int, planned: Choice[int], key: str) -> Choice[int]:
    return planned if value == planned.value else Choice(value, f"set by {key}")


def _environment(
    machine: Machine, index: int, num_threads: int, scratch_dir: Path
) -> dict[str, str]:
    """Offline, quiet, its own device, its share of the threads, caches in the run's scratch."""
    caches = {name: str(scratch_dir / folder) for name, folder in CACHES.items()}
    environment = QUIET_AND_OFFLINE | CPU | VLLM | caches | {"OMP_NUM_THREADS": str(num_threads)}
    if machine.gpus:
        return environment | {"CUDA_VISIBLE_DEVICES": machine.gpus[index].uuid}
    return environment | VLLM_CPU
