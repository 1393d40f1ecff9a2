"""The table of main jobs that the check runs, and which of them this machine cannot do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from appliance.arc.task import TaskSet
from appliance.config import Layer
from appliance.machine.gpu import Gpu
from appliance.machine.machine import Machine
from appliance.machine.software import EVERYTHING
from appliance.sizing.costs.model_card import SHIPPED
from appliance.sizing.make_plan import make_plan
from appliance.sizing.request import PlanRequest
from bench.gpu_check.model import CARD_OF
from bench.gpu_check.seconds import SLACK

ARC_MINI = "arc-mini"

JOB: dict[str, Any] = {
    "train.max_steps": 20,
    "train.rank": 16,
    "train.min_seconds": 5,
    "train.check": "skip",  # of learning rates; it trains no other way than a task does
    "sample.views": 4,
    "sample.quick_views": 1,
    "run.rounds": 1,
}
"""Settings of every main job."""


@dataclass(frozen=True)
class Case:
    """A main job; "auto" is what the plan chooses."""

    name: str
    model: str  # arc-mini, or a shape of a random model (model.SHAPES)
    usual_s: float  # that it takes
    engine: str = "auto"
    trainer: str = "auto"
    dtype: str = "auto"
    quantization: str = "auto"
    cells: int = 1200  # of its tasks, about: lessons of a good thousand tokens, as in a competition
    is_shared: bool = False  # a worker on every card; two workers where there is only one card

    def settings(self) -> dict[str, Any]:
        """Of `appliance submit`, by their dotted names. What the plan chooses is left to it."""
        values = {
            "model.engine": self.engine,
            "model.trainer": self.trainer,
            "model.dtype": self.dtype,
            "model.quantization": self.quantization,
        }
        return JOB | {name: value for name, value in values.items() if value != "auto"}


# In the order of their importance: where a card is slow, what falls off the end matters least. The
# seconds are for a large card and a host of 16 cores. On that of an H200 a worker with vLLM was
# ready after 98 s with empty caches, one with unsloth after 28 s, and a run of the 0.5B with
# Transformers took 75 s (docs/results/gpu.md); the others are estimates. So few tasks do not repay
# vLLM's start, so it is asked for by name. Tasks of the 4B are small, so that slow cards get to the
# end of them; their lessons are packed into rows as long as before.
ON_CUDA = (
    Case("arc-mini, vllm, cold", ARC_MINI, 130, engine="vllm", trainer="peft"),
    Case("arc-mini, vllm, warm", ARC_MINI, 90, engine="vllm", trainer="peft"),
    Case("Qwen3 0.5B, bfloat16", "0.5B", 120, engine="vllm", dtype="bfloat16", quantization="none"),
    Case("Qwen3 0.5B, float16", "0.5B", 100, engine="vllm", dtype="float16", quantization="none"),
    Case("Qwen3 0.5B, nf4, vllm", "0.5B", 110, engine="vllm", quantization="nf4"),
    Case("Qwen3 0.5B, nf4, transformers", "0.5B", 55, engine="transformers", quantization="nf4"),
    Case("Qwen3 0.5B, several workers", "0.5B", 60, trainer="peft", is_shared=True),
    Case("arc-mini, transformers", ARC_MINI, 20, engine="transformers", trainer="peft"),
    Case("arc-mini, unsloth", ARC_MINI, 60, engine="transformers", trainer="unsloth"),
    Case("Qwen3 4B, bfloat16", "4B", 120, dtype="bfloat16", quantization="none", cells=150),
    Case("Qwen3 4B, nf4", "4B", 120, quantization="nf4", cells=150),
)

ON_CPU_S = 200.0
"""Usual seconds of a case on two busy cores, with room: nothing is measured there."""

ON_CPU = tuple(
    replace(
        case,
        name=case.name.replace("0.5B", "small"),
        model=case.model.replace("0.5B", "small"),
        usual_s=ON_CPU_S,
        cells=100,
    )
    for case in ON_CUDA
    if case.model != "4B"
)

CASES = {"cuda": ON_CUDA, "cpu": ON_CPU}

MODULE_NAMES = {"vllm_bnb_plugin": "vllm-bnb-plugin, which holds weights in nf4 in vLLM,"}
"""How people are told of a module whose name says too little."""


def tasks_of(case: Case, tasks: TaskSet, num_tasks: int) -> TaskSet:
    """The tasks of the case: those next to its size. Fewer where the source has fewer."""
    by_size = sorted(tasks, key=lambda t: (abs(t.num_cells() - case.cells), t.task_id))
    ids = [t.task_id for t in by_size if len(t.train) > 2]
    return tasks.select(tuple(ids[:num_tasks]))


def why_skipped(case: Case, machine: Machine, installed: Collection[str], tasks: TaskSet) -> str:
    """Why this machine cannot do the case at all; "" where it should.

    machine: with cards for the cases on CUDA, without one for those on a CPU. installed: names of
    modules. tasks: of the case.
    """
    for module in needed(case):
        if module not in installed:
            return f"{MODULE_NAMES.get(module, module)} is not installed"

    if not machine.gpus:
        return ""
    return _lack_of_card(case, machine.gpus[0]) or _lack_of_room(case, machine, tasks)


def needed(case: Case) -> list[str]:
    """Modules that the case is nothing without."""
    is_nf4, is_vllm = case.quantization == "nf4", case.engine == "vllm"
    modules = {
        "vllm": is_vllm,
        "unsloth": case.trainer == "unsloth",
        "bitsandbytes": is_nf4,
        "vllm_bnb_plugin": is_nf4 and is_vllm,
    }
    return [name for name, is_needed in modules.items() if is_needed]


VLLM_FROM = (7, 0)
"""Oldest compute capability that vLLM has kernels for (sizing/pick_engine.py)."""

BFLOAT16_FROM = (8, 0)
"""Oldest compute capability that multiplies in bfloat16. Source: NVIDIA, CUDA C Programming Guide,
arithmetic instructions."""


def _lack_of_card(case: Case, gpu: Gpu) -> str:
    """What the card's architecture cannot do of the case."""
    capability = gpu.capability or gpu.spec.capability
    has = f"and {gpu.name} has {'.'.join(map(str, capability))}"
    if case.engine == "vllm" and capability < VLLM_FROM:
        return f"vLLM needs compute capability 7.0, {has}"
    if capability >= BFLOAT16_FROM:
        return ""
    if case.dtype == "bfloat16":
        return f"bfloat16 needs compute capability 8.0, {has}"
    if case.quantization == "nf4" and case.engine == "vllm":
        return f"vLLM multiplies weights in nf4 in bfloat16; it needs capability 8.0, {has}"
    return ""


def _lack_of_room(case: Case, machine: Machine, tasks: TaskSet) -> str:
    """What the plan of the case has no room or no time for."""
    if case.model not in CARD_OF:
        return ""
    budget_s = SLACK * case.usual_s
    request = PlanRequest(
        machine=replace(machine, gpus=machine.gpus[:1]),
        models=(SHIPPED[CARD_OF[case.model]],),
        software=EVERYTHING,
        tasks=tasks,
        layers=(Layer("gpu-check", case.settings()),),
        budget_s=budget_s,
    )
    plan = make_plan(request)
    name = machine.gpus[0].name
    if not plan.train.fits:
        need_gib, room_gib = plan.train.memory.memory_gib, plan.room_gib
        return (
            f"by the plan it trains in {need_gib:.1f} GiB, and {name} has room for {room_gib:.1f}"
        )
    if not plan.train.steps_per_task.value:
        return f"by the plan {name} has no time for a step of training in {budget_s:.0f} s"
    return ""
