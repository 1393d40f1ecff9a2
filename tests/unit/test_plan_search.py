"""The plan of a search without a model: workers, seconds, whether it goes first."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from appliance.arc.task import TaskSet
from appliance.commands import plan as plan_verb
from appliance.config import Layer
from appliance.errors import UsageError
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.software import EVERYTHING
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.make_plan import plan_run
from appliance.sizing.pins import Pins
from appliance.sizing.plan import AnyPlan, Plan, SearchOnlyPlan, SearchPlan
from appliance.sizing.plan_search import MOST_S, USUAL_S, search_costs
from appliance.sizing.request import PlanRequest
from appliance.sizing.view import plan_lines, print_plan
from tests.support.run_world import tasks

HOST = Host("CPU", 8, "affinity", 32 * GIB, "physical", 30 * GIB, ("avx2",))
CPU = Machine((), HOST, Platform())


def plan(
    task_set: TaskSet | None,
    *,
    strategy: str = "transduction,search",
    machine: Machine = CPU,
    budget_s: float = 600,
    pins: str = "",
    **values: object,
) -> AnyPlan:
    """Keys of settings with two underscores for the dot."""
    given = {key.replace("__", "."): value for key, value in values.items()}
    has_model = strategy != "search"
    return plan_run(
        PlanRequest(
            machine=machine,
            models=(load_card("arc-mini"),) if has_model else (),
            software=EVERYTHING,
            tasks=task_set,
            layers=(Layer("test", {"strategy": strategy} | given),),
            budget_s=budget_s,
            pins=Pins.parse([pins]),
        )
    )


def search_of(made: AnyPlan) -> SearchPlan:
    assert made.search is not None
    return made.search


def test_without_a_gpu_search_goes_first_on_all_cores_with_half_of_the_budget() -> None:
    made = plan(tasks(240))
    search = search_of(made)
    assert (search.workers.value, search.is_first.value) == (8, True)
    assert search.seconds_per_task.value == 0.5 * 600 * 8 / 240 < MOST_S

    # The model's share is what search leaves.
    alone = plan(tasks(240), strategy="transduction")
    assert isinstance(made, Plan) and isinstance(alone, Plan)
    assert alone.search is None and alone.time.search_s == 0
    assert made.time.search_s == search.total_s == 240 * USUAL_S / 8
    assert made.train.steps_per_task.value < alone.train.steps_per_task.value


def test_with_gpus_it_runs_beside_them_on_the_cores_that_they_leave() -> None:
    made = plan(tasks(100), machine=imagined(CPU, "L4x4"), budget_s=3600)
    search, cores = search_of(made), made.machine.host.num_cores
    assert (search.workers.value, search.is_first.value) == (cores - 8, False)
    assert search.seconds_per_task.value == 20

    assert isinstance(made, Plan)
    assert made.time.search_s == 0
    assert search.workers.value + made.workers.value * made.threads.value <= cores


def test_few_cores_beside_gpus_still_leave_one_worker() -> None:
    machine = imagined(CPU, "T4x2")
    small = replace(machine, host=replace(machine.host, num_cores=2))
    assert search_of(plan(tasks(9), machine=small)).workers.value == 1


def test_alone_it_takes_nearly_all_of_the_budget_and_needs_no_model() -> None:
    made = plan(tasks(2000), strategy="search")
    assert isinstance(made, SearchOnlyPlan)
    assert made.search.seconds_per_task.value == pytest.approx(0.85 * 600 * 8 / 2000, abs=0.01)
    assert made.search.total_s <= 600


@pytest.mark.parametrize(
    ("count", "budget_s", "seconds"), [(1, 600, MOST_S), (100, 600, MOST_S), (5000, 60, 0.5)]
)
def test_a_task_gets_neither_more_than_pays_nor_less_than_finds(
    count: int, budget_s: float, seconds: float
) -> None:
    search = search_of(plan(tasks(count), budget_s=budget_s))
    assert search.seconds_per_task.value == seconds
    assert search.total_s <= budget_s / 2


def test_workers_are_no_more_than_tasks_and_memory_allow() -> None:
    search = search_of(plan(tasks(3), strategy="search"))
    assert (search.workers.value, "3 tasks" in search.workers.reason) == (3, True)

    full = replace(CPU, host=replace(HOST, memory_free_bytes=5 * GIB // 2))
    search = search_of(plan(tasks(100), strategy="search", machine=full))
    assert (search.workers.value, "memory for 2" in search.workers.reason) == (2, True)


def test_what_the_user_set_is_kept_and_named() -> None:
    search = search_of(plan(tasks(50), search__workers=2, search__seconds_per_task=3.5))
    assert (search.workers.value, search.workers.reason) == (2, "set by search.workers")
    assert search.seconds_per_task.reason == "set by search.seconds_per_task"

    made = plan(tasks(50), pins="search_workers=1 search_seconds=2")
    assert search_of(made).workers.reason == search_of(made).seconds_per_task.reason == "pinned"
    assert (made.settings.search.workers, made.settings.search.seconds_per_task) == (1, 2.0)

    limited = search_of(plan(tasks(50), strategy="search", run__workers=2))
    assert (limited.workers.value, limited.workers.reason) == (2, "set by run.workers")


def test_the_settings_of_the_run_hold_what_was_planned() -> None:
    for strategy in ("search", "transduction,search"):
        made = plan(tasks(50), strategy=strategy)
        search = search_of(made)
        assert made.settings.search.workers == search.workers.value
        assert made.settings.search.seconds_per_task == search.seconds_per_task.value


def test_the_plan_is_shown_with_its_reasons() -> None:
    for strategy in ("search", "transduction,search"):
        made = plan(tasks(50), strategy=strategy)
        lines = "\n".join(plan_lines(made))
        assert "search workers: 8 (one a core (affinity))" in lines
        assert ("model: arc-mini" in lines) == (strategy != "search")

        page = StringIO()
        print_plan(made, Console(file=page, width=120))
        assert "seconds per task" in page.getvalue()
        assert ("training" in page.getvalue()) == (strategy != "search")


def test_costs_grow_with_the_cells_up_to_the_limit() -> None:
    task_set = tasks(20)
    costs = search_costs(task_set, 1000.0)
    large, small = (f(task_set, key=lambda t: t.num_cells()) for f in (max, min))
    assert costs[large.task_id] > costs[small.task_id] > 0
    assert max(search_costs(task_set, 0.01).values()) == 0.01


def test_plan_without_a_model_reads_none(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    plan_verb.add_arguments(parser)
    words = ["--gpu", "none", "--strategy", "search", "--model", "no/such/model", "--budget", "5m"]
    assert plan_verb.run(parser.parse_args([*words, "--json"])) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"machine", "search", "time", "notes"}
    assert found["time"]["num_tasks"] == 120
    assert set(found["search"]["workers"]) == {"value", "reason"}


def test_no_time_is_refused() -> None:
    with pytest.raises(UsageError, match="budget of 0"):
        plan(tasks(3), strategy="search", budget_s=0)
