"""Several workers on one card: each plans with its part of the memory and sees that card alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import Layer
from appliance.engine.folder.card import model_dir
from appliance.machine.gpu import GIB
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine, find_machine, split_cards
from appliance.machine.software import EVERYTHING
from appliance.record.run_folder import RunFolder
from appliance.run.workers import worker_plans
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.make_plan import make_plan
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest
from appliance.solve.messages import Setup
from tests.support.run_world import tasks


def two_cards() -> Machine:
    return imagined(find_machine({}), "T4x2")


def plan(workers_per_card: int, engine: str = "transformers") -> Plan:
    values = {
        "run.workers_per_card": workers_per_card,
        "model.engine": engine,
        "model.trainer": "peft",
    }
    layers = (Layer("test", values),)
    return make_plan(
        PlanRequest(two_cards(), (load_card("arc-mini"),), EVERYTHING, tasks(4), layers, 3600.0)
    )


def test_a_card_of_one_worker_is_as_it_was() -> None:
    assert split_cards(two_cards(), 1).gpus == two_cards().gpus


def test_the_parts_of_a_card_are_not_told_as_cards() -> None:
    alone, shared = plan(1), plan(2)
    assert alone.machine.summary().startswith("2 x T4 (14.6 GiB, capability 7.5)")
    assert shared.machine.summary().startswith("2 x T4 (14.6 GiB in 2 parts of 7.3 GiB, ")
    assert alone.workers.reason == "one per GPU, each with its own copy of the model"
    assert shared.workers.reason == "2 on each GPU, each with its own copy of the model"


def test_every_card_gets_its_workers_and_these_its_memory(tmp_path: Path) -> None:
    shared, alone = plan(2), plan(1)
    assert shared.room_gib <= alone.room_gib / 2

    workers = worker_plans(shared, model_dir=model_dir("arc-mini"), folder=RunFolder(tmp_path))
    cards = [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in workers]
    first, second = (g.uuid for g in two_cards().gpus)
    assert cards == [first, first, second, second]
    setups = [worker.setup for worker in workers if isinstance(worker.setup, Setup)]
    assert [setup.device for setup in setups] == ["cuda"] * 4
    types = {(setup.dtype, setup.autocast_dtype) for setup in setups}
    assert types == {("float16", "float16")}


def vllm_setup(workers_per_card: int, folder: Path) -> tuple[Plan, Setup]:
    """The plan with vLLM, and what each of its workers is told."""
    planned = plan(workers_per_card, "vllm")
    workers = worker_plans(planned, model_dir=model_dir("arc-mini"), folder=RunFolder(folder))
    (setup,) = {w.setup.model_dump_json(): w.setup for w in workers}.values()
    assert isinstance(setup, Setup)
    return planned, setup


def test_workers_that_share_a_card_are_told_the_size_of_their_cache(tmp_path: Path) -> None:
    """Each would else take for its own what the others grow by while it starts."""
    planned, setup = vllm_setup(2, tmp_path)
    assert setup.kv_cache_bytes is not None
    assert setup.kv_cache_bytes == pytest.approx(planned.sample.memory.kv_gib * GIB, abs=1)
    assert 2 * setup.memory_share <= planned.sample.gpu_memory_utilization.value + 1e-9
    assert 2 * (setup.kv_cache_bytes / GIB + planned.sample.memory.weights_gib) < 14.56

    _, alone = vllm_setup(1, tmp_path)
    assert alone.kv_cache_bytes is None
