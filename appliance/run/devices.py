"""Which workers a run gets: one per accelerator, or CPU workers that share the cores; each choice with its reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.config import Settings
from appliance.engine.environment import CPU, QUIET_AND_OFFLINE
from appliance.errors import PrerequisiteError
from appliance.machine.choice import Choice
from appliance.machine.machine import Machine
from appliance.solve.messages import Setup

NEEDED = ("torch", "transformers", "peft", "safetensors")
CAN_BFLOAT16 = (8, 0)


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


def plan_run(machine: Machine, settings: Settings, *, model_dir: Path, run_dir: Path) -> RunPlan:
    """The workers for this machine. `--workers` splits the cores of a machine without GPU."""
    choices: dict[str, Choice[Any]] = {"machine": Choice(machine.summary(), f"found by {machine.gpu_source}")}
    has_gpu = bool(machine.gpus)
    cores = machine.host.num_cores
    if has_gpu:
        num_workers = len(machine.gpus)
        choices["workers"] = Choice(num_workers, "one per visible GPU")
    else:
        num_workers = min(settings.run.workers, cores)
        choices["workers"] = Choice(num_workers, "no GPU: run.workers processes share the cores")
    num_threads = max(1, cores // num_workers)
    choices["threads"] = Choice(num_threads, f"{cores} cores over {num_workers} workers")
    dtype = _dtype(machine, settings)
    choices["dtype"] = dtype
    autocast = _autocast(machine, dtype.value)
    choices["autocast"] = autocast
    choices["engine"] = Choice(
        "transformers", "shares the trained model in memory; nothing to start or reload per task"
    )
    choices["trainer"] = Choice("peft", "plain torch loop, runs on every device")
    workers = []
    for index in range(num_workers):
        setup = Setup(
            settings=settings,
            model_dir=str(model_dir.resolve()),
            run_dir=str(run_dir.resolve()),
            device="cuda" if has_gpu else "cpu",
            dtype=dtype.value,
            autocast_dtype=autocast.value,
            num_threads=num_threads,
        )
        workers.append(WorkerPlan(setup, _environment(machine, index, num_threads)))
    return RunPlan(tuple(workers), choices)


def _dtype(machine: Machine, settings: Settings) -> Choice[str]:
    if settings.model.dtype != "auto":
        return Choice(settings.model.dtype, "set by model.dtype")
    if not machine.gpus:
        return Choice("float32", "CPU: weights in float32, matrices in the autocast type")
    capability = min(g.capability or (0, 0) for g in machine.gpus)
    if capability >= CAN_BFLOAT16:
        return Choice("bfloat16", f"compute capability {capability[0]}.{capability[1]} has bfloat16")
    return Choice("float32", f"compute capability {capability[0]}.{capability[1]} has no bfloat16; float16 in autocast")


def _autocast(machine: Machine, dtype: str) -> Choice[str | None]:
    if dtype != "float32":
        return Choice(None, "weights are stored in the type they compute in")
    if machine.gpus:
        return Choice("float16", "no bfloat16 on this card")
    if machine.host.can_bf16:
        return Choice("bfloat16", "this CPU multiplies bfloat16 natively")
    return Choice(None, "this CPU has no fast bfloat16")


def _environment(machine: Machine, index: int, num_threads: int) -> dict[str, str]:
    """Offline, quiet, its own device, its share of the threads."""
    environment = QUIET_AND_OFFLINE | CPU | {"OMP_NUM_THREADS": str(num_threads)}
    if machine.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = machine.gpus[index].uuid
    return environment
