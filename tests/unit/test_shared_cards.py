"""Several workers on one card: each plans with its part of the memory and sees that card alone."""

from __future__ import annotations

from pathlib import Path

from appliance.config import Layer, Settings, resolve
from appliance.engine.model_folder import model_dir
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine, find_machine, split_cards
from appliance.record.run_folder import RunFolder
from appliance.run.workers import plan_run, size_run
from tests.support.run_world import tasks

ARC_MINI = {"arc-mini": model_dir("arc-mini")}


def settings(workers_per_card: int) -> Settings:
    values = {
        "run.workers_per_card": workers_per_card,
        "model.engine": "transformers",
        "model.trainer": "peft",
    }
    return resolve([Layer("test", values)])


def two_cards(workers_per_card: int) -> Machine:
    return split_cards(imagined(find_machine({}), "T4x2"), workers_per_card)


def test_a_card_of_one_worker_is_as_it_was() -> None:
    assert two_cards(1).gpus == imagined(find_machine({}), "T4x2").gpus


def test_every_card_gets_its_workers_and_these_its_memory(tmp_path: Path) -> None:
    asked, machine = settings(2), two_cards(2)
    sizing, _ = size_run(machine, ARC_MINI, tasks(4), asked, budget_s=3600)
    alone, _ = size_run(two_cards(1), ARC_MINI, tasks(4), settings(1), budget_s=3600)
    assert sizing.room_gib <= alone.room_gib / 2
    plan = plan_run(
        machine, asked, sizing, model_dir=ARC_MINI["arc-mini"], folder=RunFolder(tmp_path)
    )
    cards = [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in plan.workers]
    first, second = (g.uuid for g in imagined(find_machine({}), "T4x2").gpus)
    assert cards == [first, first, second, second]
    assert {worker.setup.device for worker in plan.workers} == {"cuda"}
    assert {(worker.setup.dtype, worker.setup.autocast_dtype) for worker in plan.workers} == {
        ("float16", "float16")
    }
