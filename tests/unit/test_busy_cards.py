"""Cards are kept busy: workers that share a card, rows of a step, and what the plan says of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.clock import parse_duration
from appliance.config import Layer
from appliance.engine.folder.card import model_dir
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.software import EVERYTHING
from appliance.record.run_folder import RunFolder
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.workers import worker_plans
from appliance.sizing.costs.device import Device, device_of_gpu
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.setups import TrainSetup
from appliance.sizing.costs.speed import train_busy_s, train_step_s
from appliance.sizing.make_plan import make_plan
from appliance.sizing.pins import Pins
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest
from appliance.sizing.variants.more_steps import USEFUL_STEPS
from appliance.solve.messages import Setup
from tests.support.run_world import tasks

HOST = Host("CPU", 8, "affinity", 64 * GIB, "physical", 60 * GIB, ("avx2",))
CPU = Machine((), HOST, Platform())


def plan_for(gpu: str, model: str, *, budget_s: float = 4 * 3600.0, **values: Any) -> Plan:
    """Of lengths like those of ARC-AGI-2. Keys of the settings have __ for their dot."""
    layers = (Layer("test", {key.replace("__", "."): value for key, value in values.items()}),)
    cards = (load_card(model),)
    return make_plan(PlanRequest(imagined(CPU, gpu), cards, EVERYTHING, None, layers, budget_s))


def per_card(plan: Plan) -> int:
    return plan.settings.run.workers_per_card


# Workers that share a card.


def test_a_small_model_on_a_large_card_gets_several_workers_and_the_plan_says_why() -> None:
    plan = plan_for("H100", "Qwen2.5-0.5B")
    alone = plan_for("H100", "Qwen2.5-0.5B", run__workers_per_card=1)
    assert plan.workers.value == per_card(plan) > 1
    assert "one alone would keep it at work for" in plan.workers.reason

    share, before = plan.train.device_share.value, alone.train.device_share.value
    assert 1.5 * before < share <= 1
    assert plan.to_json()["train"]["device_share"]["value"] == share
    assert plan.train.steps_per_task.value >= alone.train.steps_per_task.value
    assert plan.time.total_s < alone.time.total_s


def test_search_keeps_half_of_the_cores() -> None:
    with_search = plan_for("H100", "Qwen2.5-0.5B")
    without = plan_for("H100", "Qwen2.5-0.5B", strategy="transduction")
    assert per_card(with_search) == 2, "eight cores, of which workers take four"
    assert per_card(without) > 2


@pytest.mark.parametrize(
    ("gpu", "model"),
    [
        ("T4x2", "Qwen2.5-0.5B"),  # four cores
        ("L4x4", "Qwen3-4B"),  # no memory for two
        ("A6000", "Llama-3.1-8B"),
        ("H100", "arc-mini"),  # tiny: search makes more of the cores
    ],
)
def test_a_card_without_cores_or_memory_for_a_second_worker_has_one(gpu: str, model: str) -> None:
    plan = plan_for(gpu, model)
    assert per_card(plan) == 1
    assert plan.workers.reason == "one per GPU, each with its own copy of the model"


@pytest.mark.parametrize("values", [{"run__workers_per_card": 1}, {"run__workers": 1}])
def test_whoever_says_how_many_workers_gets_them(values: dict[str, Any]) -> None:
    plan = plan_for("H100", "Qwen2.5-0.5B", **values)
    assert plan.workers.value == per_card(plan) == 1


def test_a_shared_card_stands_once_in_the_json_with_all_of_its_memory() -> None:
    plan = plan_for("H100", "Qwen2.5-0.5B")
    (card,) = plan.to_json()["machine"]["gpus"]
    assert card["memory_gib"] == pytest.approx(79.11, abs=0.01)


def test_vllm_beside_another_is_told_the_size_of_its_cache(tmp_path: Path) -> None:
    """Two that start at once would each take the other's growth for its own."""

    def cache_bytes(workers_per_card: int) -> set[int | None]:
        plan = plan_for(
            "H100",
            "arc-mini",
            run__workers_per_card=workers_per_card,
            model__engine="vllm",
        )
        started = worker_plans(plan, model_dir=model_dir("arc-mini"), folder=RunFolder(tmp_path))
        setups = [w.setup for w in started if isinstance(w.setup, Setup)]
        assert len(setups) == workers_per_card
        return {setup.kv_cache_bytes for setup in setups}

    assert cache_bytes(1) == {None}
    (shared,) = cache_bytes(2)
    assert shared is not None and 0 < shared < 40 * GIB


def h100(sharers: int) -> Device:
    return device_of_gpu(imagined(CPU, "H100").gpus[0], sharers=sharers)


@pytest.mark.parametrize("model", ["arc-mini", "Qwen2.5-0.5B", "Qwen3-4B"])
def test_workers_together_never_do_more_than_the_card_can(model: str) -> None:
    card, setup = load_card(model), TrainSetup(trainer="unsloth", micro_batch=2)
    busy_s = train_busy_s(card, setup, h100(1), tokens=2000)
    alone_s = train_step_s(card, setup, h100(1), tokens=2000)

    step_s = alone_s
    for sharers in (2, 3, 4, 8):
        shared_s = train_step_s(card, setup, h100(sharers), tokens=2000)
        assert shared_s >= step_s, "one more worker makes no step faster"
        assert sharers * busy_s <= shared_s
        step_s = shared_s


# Rows of a step.


def test_rows_are_raised_where_a_step_hardly_takes_longer_and_the_run_follows() -> None:
    plan = plan_for("H100", "Qwen2.5-0.5B")
    raised = plan.settings.train.tokens_per_step
    assert raised > 1024 and "raised from 1024" in plan.train.rows_per_step.reason

    typical = 2000
    rows = plan.costs.train.rows(typical)
    assert rows > 1
    few = plan.costs.step_s(typical, rows=max(1, 1024 // typical))
    assert plan.costs.step_s(typical) <= 1.3 * few


def test_a_schedule_counts_the_rows_that_the_plan_counts() -> None:
    plan = plan_for("H100", "Qwen2.5-0.5B")
    task_set = tasks(6, most_side=20)
    planned = PlannedCosts.of(plan, task_set)
    for length in planned.lengths.values():
        counted = planned._setup(length, 0).micro_batch
        assert counted == plan.costs.train.rows(length.lesson_tokens)


@pytest.mark.parametrize("gpu", ["none", "T4"])
def test_a_device_that_computes_all_the_time_keeps_its_rows(gpu: str) -> None:
    plan = plan_for(gpu, "arc-mini" if gpu == "none" else "Qwen2.5-1.5B")
    assert plan.settings.train.tokens_per_step == 1024
    assert "raised" not in plan.train.rows_per_step.reason
    if gpu == "none":
        assert plan.train.device_share.value == 1.0


def test_a_plan_with_pins_is_of_one_worker_that_does_as_published() -> None:
    pinned = Pins.from_mapping({"max_seq_tokens": 1024})
    cards = (load_card("Qwen2.5-0.5B"),)
    plan = make_plan(
        PlanRequest(imagined(CPU, "H100"), cards, EVERYTHING, None, (), 4 * 3600.0, pinned)
    )
    assert plan.workers.value == 1 and plan.costs.device.sharers == 1
    assert plan.train.rows_per_step.value == 1


def test_whoever_says_the_tokens_of_a_step_gets_them() -> None:
    plan = plan_for("H100", "Qwen2.5-0.5B", train__tokens_per_step=512)
    assert plan.settings.train.tokens_per_step == 512
    assert "train.tokens_per_step = 512" in plan.train.rows_per_step.reason


# Too few steps.


def test_too_few_steps_are_warned_of_with_remedies_that_do_what_they_say() -> None:
    few = plan_for("T4x2", "Qwen2.5-7B")
    assert few.train.steps_per_task.value < USEFUL_STEPS
    (note,) = [n for n in few.notes if "training steps" in n]

    told = dict(re.findall(r"(--\S+ \S+)(?: \([^)]*\))? gives (\d+) steps", note))
    assert {key.split()[0] for key in told} >= {"--model", "--set", "--budget"}
    for remedy, steps in told.items():
        flag, value = remedy.split()
        if flag == "--model":
            again = plan_for("T4x2", value)
        elif flag == "--set":
            key, number = value.split("=")
            again = plan_for("T4x2", "Qwen2.5-7B", **{key: number})
        else:
            again = plan_for("T4x2", "Qwen2.5-7B", budget_s=parse_duration(value))
            assert again.train.steps_per_task.value >= USEFUL_STEPS
            assert not any("training steps" in n for n in again.notes)
        assert again.train.steps_per_task.value == int(steps) > few.train.steps_per_task.value


@pytest.mark.parametrize("values", [{"train__enabled": False}, {"train__max_steps": 4}])
def test_few_steps_that_are_asked_for_are_no_surprise(values: dict[str, Any]) -> None:
    plan = plan_for("H100", "Qwen2.5-0.5B", **values)
    assert not any("training steps" in n for n in plan.notes)


def test_a_card_in_use_by_others_is_not_shared_beyond_its_free_memory() -> None:
    machine = imagined(CPU, "H100")
    busy = replace(
        machine, gpus=tuple(replace(g, free_bytes=6 * GIB, other_pids=(7,)) for g in machine.gpus)
    )
    cards = (load_card("Qwen2.5-0.5B"),)
    plan = make_plan(PlanRequest(busy, cards, EVERYTHING, None, (), 4 * 3600.0))
    planned_gib = plan.train.memory.memory_gib + plan.train.memory.context_gib
    assert per_card(plan) * (planned_gib + plan.engine_gib) <= 6
