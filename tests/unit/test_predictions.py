"""N predictions: how they are spread, and that a run gives neither more nor fewer."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.clock import VirtualClock
from appliance.config import Layer, Settings, resolve
from appliance.errors import UsageError
from appliance.machine.imagined import imagined
from appliance.machine.machine import find_machine
from appliance.machine.software import software_of
from appliance.predictions import (
    Spread,
    in_order,
    program_rounds,
    rounds_left,
    samples_of_views,
    spread,
)
from appliance.record.coverage import PREDICTIONS, coverage_of
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.schedule.schedule import Schedule
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.make_plan import make_plan, plan_run
from appliance.sizing.request import PlanRequest
from tests.support.run_world import costs, memory_journal, orchestrator, run, tasks


def settings(**values: object) -> Settings:
    given = {key.replace("__", "."): value for key, value in values.items()}
    return resolve([Layer("test", {"run.budget_s": 1000.0} | given)])


def spread_of(num: int, **values: object) -> Spread:
    given = {key.replace("__", "."): value for key, value in values.items()}
    return spread(settings(sample__predictions=num, **values), given.keys())


@pytest.mark.parametrize(
    ("num", "values", "expected"),
    [
        (1, {}, Spread(1, 1)),
        (96, {}, Spread(96, 1)),
        (8, {"sample__keep_colours": True}, Spread(8, 1)),
        (10, {"sample__keep_colours": True}, Spread(8, 2)),
        (10, {"sample__keep_orientation": True}, Spread(10, 1)),
        (10, {"sample__keep_colours": True, "sample__keep_orientation": True}, Spread(1, 10)),
        (10, {"sample__views": 4}, Spread(4, 3)),
        (4, {"sample__views": 16}, Spread(4, 1)),
        (10, {"sample__samples_per_view": 5, "sample__temperature": 0.7}, Spread(2, 5)),
    ],
)
def test_different_views_come_first(num: int, values: dict[str, object], expected: Spread) -> None:
    assert spread_of(num, **values) == expected
    found = samples_of_views(num, expected.num_views)
    assert (sum(found), max(found)) == (num, expected.samples_per_view)


def test_greedy_answers_that_would_be_the_same_are_refused() -> None:
    with pytest.raises(UsageError, match=r"8 views at sample\.temperature=0"):
        spread_of(10, sample__keep_colours=True, sample__temperature=0)
    assert spread_of(8, sample__keep_colours=True, sample__temperature=0) == Spread(8, 1)


@given(st.integers(1, 512), st.booleans(), st.integers(1, 40), st.integers(1, 64))
def test_rounds_of_programs_give_all_of_them(num: int, learns: bool, first: int, each: int) -> None:
    values = {"quick_samples": first, "samples_per_epoch": each, "learn": learns}
    given = {f"program.{key}": value for key, value in values.items()}
    chosen = settings(
        strategy="induction",
        sample__predictions=num,
        **{k.replace(".", "__"): v for k, v in given.items()},
    )
    rounds = program_rounds(chosen)
    assert sum(rounds) == num and min(rounds) > 0
    assert learns or len(rounds) == 1
    # The model learns before half of the programs, unless there is only one.
    assert not learns or num == 1 or sum(rounds[1:]) >= num // 2
    for done in range(num + 1):
        assert sum(rounds_left(rounds, done)) == num - done


@given(
    st.integers(1, 60),
    st.integers(1, 8),
    st.integers(1, 3),
    st.dictionaries(st.tuples(st.integers(0, 7), st.integers(0, 2)), st.integers(0, 9)),
)
def test_the_questions_complete_what_is_there(
    num: int, num_views: int, num_tests: int, some: dict[tuple[int, int], int]
) -> None:
    views = tuple(f"v{i}" for i in range(num_views))
    most = dict(zip(views, samples_of_views(num, num_views), strict=True))
    done = {
        (f"v{view}", test): min(count, most[f"v{view}"])
        for (view, test), count in some.items()
        if view < num_views and test < num_tests
    }
    there = Counter(done)
    for view, test_index, num_samples in in_order(num, views, num_tests, done):
        assert num_samples > 0
        there[view, test_index] += num_samples
    assert +there == +Counter({(v, t): most[v] for v in views for t in range(num_tests)})


def request(**values: object) -> PlanRequest:
    machine = imagined(find_machine(), "none")
    layer = Layer("test", {key.replace("__", "."): value for key, value in values.items()})
    return PlanRequest(
        machine=machine,
        models=(load_card("arc-mini"),),
        software=software_of(machine),
        tasks=tasks(3),
        layers=(layer,),
        budget_s=600.0,
    )


def test_the_plan_takes_views_samples_and_temperature_from_the_predictions() -> None:
    plan = make_plan(request(sample__predictions=10, sample__keep_colours=True))
    assert (plan.sample.views.value, plan.sample.samples_per_view.value) == (8, 2)
    assert plan.sample.views.reason == "set by sample.predictions"
    assert plan.settings.sample.temperature == 1.0
    assert plan.time.quick_s == 0
    greedy = make_plan(request(sample__predictions=10))
    assert (greedy.sample.views.value, greedy.settings.sample.temperature) == (10, 0.0)


def test_a_search_alone_makes_no_predictions() -> None:
    with pytest.raises(UsageError, match="without a model"):
        plan_run(request(sample__predictions=10, strategy="search"))


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "faults", [{}, {"crash": 0.2}, {"hang": 0.1}, {"oom": 0.3}, {"crash": 0.1, "oom": 0.2}]
)
def test_a_run_with_enough_time_gives_exactly_so_many(
    trains: bool, seed: int, faults: dict[str, float]
) -> None:
    task_set = tasks(6, seed)
    found = run(
        task_set,
        budget_s=20_000,
        faults=faults,
        seed=seed,
        is_planned=True,
        strategy="transduction",
        sample__predictions=10,
        sample__views=8,
        sample__samples_per_view=2,
        sample__temperature=1.0,
        train__enabled=trains,
    )
    asked = found.coverage.predictions_asked["grids"]
    assert asked == 10 * sum(len(task.test) for task in task_set)
    made = found.coverage.predictions["grids"]
    given_up = [text for _, text in found.messages if text.endswith("given up")]
    lost = sum(
        10 * len(task.test) for task in task_set if any(task.task_id in text for text in given_up)
    )
    assert asked - lost <= made <= asked
    assert faults or made == asked
    assert found.coverage.quick == 0
    assert bool(found.coverage.trained) == trains


@pytest.mark.parametrize("budget_s", [30, 45, 60, 90])
def test_a_run_that_is_cut_says_how_many_there_are(budget_s: float) -> None:
    task_set = tasks(8, 1)
    found = run(
        task_set,
        budget_s=budget_s,
        view_s=2.0,
        is_planned=True,
        sample__predictions=16,
        sample__views=16,
    )
    made = found.coverage.predictions["grids"]
    asked = found.coverage.predictions_asked["grids"]
    assert 0 < made <= asked
    assert f"predictions: {made} of {asked} grids" in found.coverage.lines()


def test_a_resumed_run_adds_only_what_lacks() -> None:
    task_set = tasks(4, 2)
    chosen = settings(sample__predictions=12, sample__views=12, strategy="transduction")
    journal = memory_journal(task_set)
    journal.put_fact("strategy", ["transduction"])
    journal.put_fact(PREDICTIONS, 12)
    true = ImaginedCosts(costs(task_set, step_s=0.02, view_s=1.5), chosen, load_s=1.0)

    made = []
    for end_s in (12.0, 25.0, 40.0, 1000.0):
        clock = VirtualClock()
        pool = FakePool(true, clock, num_workers=1)

        def is_over(clock: VirtualClock = clock, end_s: float = end_s) -> bool:
            return clock.now() >= end_s

        orchestrator(
            task_set,
            chosen,
            pool,
            clock,
            journal=journal,
            is_stopped=is_over,
        ).run()
        made.append(coverage_of(journal).predictions["grids"])

    per_output = Counter(
        (c.task_id, c.test_index) for found in journal.candidates().values() for c in found
    )
    outputs = [(task.task_id, i) for task in task_set for i in range(len(task.test))]
    assert per_output == dict.fromkeys(outputs, 12)
    assert made == sorted(made) and made[0] < made[-1]


def test_a_task_that_was_cut_waits_until_all_others_have_answers() -> None:
    task_set = tasks(3)
    schedule = Schedule(
        task_set,
        settings(sample__predictions=16, sample__views=16),
        end_s=1000,
        num_workers=1,
        costs=costs(task_set, step_s=0.01, view_s=0.1),
    )
    first = schedule.next(0.0)
    assert first is not None and first.stage == "deep"
    schedule.finished(first, [], seconds=5.0)
    seen = []
    for _ in range(2):
        job = schedule.next(5.0)
        assert job is not None and job.round == 1
        schedule.finished(job, [job.tasks[0].task_id], seconds=5.0)
        seen.append(job.tasks[0].task_id)
    again = schedule.next(5.0)
    assert again is not None and again.round == 2 and again.tasks == first.tasks
    schedule.finished(again, [again.tasks[0].task_id], seconds=5.0)
    assert schedule.next(5.0) is None
