"""With fewer workers than cards the least used ones are taken, never against CUDA_VISIBLE_DEVICES.

NVML is a fake, so no card is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config import Layer
from appliance.engine.environment import take_one_card
from appliance.engine.folder.card import model_dir
from appliance.machine.gpu import Gpu, find_gpus, least_used
from appliance.machine.machine import find_machine
from appliance.machine.software import EVERYTHING
from appliance.record.run_folder import RunFolder
from appliance.run.workers import worker_plans
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.make_plan import make_plan
from appliance.sizing.request import PlanRequest
from tests.support.nvml_machines import fake_nvml

FOUR = (
    {"name": "Tesla T4", "gib": 15, "used_gib": 6, "pids": (7,)},
    {"name": "Tesla T4", "gib": 15, "used_gib": 0.5, "pids": (8,)},
    {"name": "Tesla T4", "gib": 15, "used_gib": 0.5},
    {"name": "Tesla T4", "gib": 15, "used_gib": 3},
)


def indices(gpus: Iterable[Gpu]) -> list[int]:
    return [gpu.index for gpu in gpus]


def test_the_least_used_cards_are_those_with_little_memory_taken_and_few_processes() -> None:
    found = find_gpus(nvml=fake_nvml(*FOUR)).gpus
    assert indices(least_used(found, 1)) == [2]
    assert indices(least_used(found, 2)) == [1, 2]
    assert indices(least_used(found, 3)) == [1, 2, 3], "in CUDA's order"
    assert least_used(found, 4) == found


def test_no_card_is_chosen_against_cuda_visible_devices() -> None:
    found = find_gpus(visible="3,0", nvml=fake_nvml(*FOUR)).gpus
    assert indices(least_used(found, 1)) == [3]
    assert indices(least_used(found, 2)) == [3, 0]


@pytest.mark.parametrize(("visible", "taken"), [(None, "GPU-2222-aa"), ("0", "0"), ("", "")])
def test_a_training_takes_the_least_used_card_unless_one_was_assigned(
    visible: str | None, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back as it was
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = find_gpus(visible=visible, nvml=fake_nvml(*FOUR))
    take_one_card(replace(find_machine({}), gpus=found.gpus))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == taken


@pytest.mark.parametrize(("wanted", "chosen"), [(1, [2]), (2, [1, 2]), (4, [0, 1, 2, 3])])
def test_a_run_with_fewer_workers_than_cards_takes_the_least_used(
    wanted: int, chosen: list[int], tmp_path: Path
) -> None:
    machine = replace(find_machine({}), gpus=find_gpus(nvml=fake_nvml(*FOUR)).gpus)
    layers = (Layer("test", {"run.workers": wanted, "model.engine": "transformers"}),)
    cards = (load_card("arc-mini"),)
    plan = make_plan(PlanRequest(machine, cards, EVERYTHING, None, layers, 3600.0))
    assert plan.workers.value == wanted
    assert ("the least used of 4 cards" in plan.workers.reason) == (wanted < 4)

    started = worker_plans(plan, model_dir=model_dir("arc-mini"), folder=RunFolder(tmp_path))
    seen = [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in started]
    assert seen == [f"GPU-{index}{index}{index}{index}-aa" for index in chosen]


def test_a_run_that_names_no_number_takes_every_card() -> None:
    machine = replace(find_machine({}), gpus=find_gpus(nvml=fake_nvml(*FOUR)).gpus)
    cards = (load_card("arc-mini"),)
    plan = make_plan(PlanRequest(machine, cards, EVERYTHING, None, (), 3600.0))
    assert plan.workers.value == 4
