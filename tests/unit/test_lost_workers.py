"""Workers that do not start, and cards that vanish: in a simulation, with all else real.

The run goes on with plainer engines, with the other cards, or with the CPU, and says so.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.submission import read_submission, validate
from appliance.arc.task import TaskSet
from appliance.clock import VirtualClock
from appliance.commands.arguments import model_cards
from appliance.config import Layer
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.errors import EXIT_COVERAGE
from appliance.machine.imagined import imagined
from appliance.machine.machine import find_machine
from appliance.machine.software import EVERYTHING
from appliance.record.coverage import Coverage, coverage_of
from appliance.record.journal import Journal
from appliance.record.run_folder import open_run
from appliance.run import launch as launching
from appliance.run.launch import Launch, Planned, launch
from appliance.run.pool import Died, SubprocessPool
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.schedule.rate_check import FACT as CHECKED_RATE
from appliance.run.worker_life import START_LIMIT_S
from appliance.sizing.choice import Choice
from appliance.sizing.make_plan import make_plan
from appliance.sizing.plan import Plan
from appliance.sizing.plan_search import search_costs
from appliance.sizing.request import PlanRequest
from appliance.solve.messages import Job, Probed, SearchSetup, Setup
from tests.support.nvml_machines import nvml_of
from tests.support.run_world import (
    ToldTo,
    costs,
    memory_journal,
    orchestrator,
    run,
    settings,
    tasks,
)

VANISHES_S = 120.0
"""Two minutes after the start, the card is gone."""


def test_the_tasks_of_a_card_that_vanishes_go_to_the_others() -> None:
    done = run(tasks(20), budget_s=900, num_workers=2, faults={"device-death": VANISHES_S / 900})
    assert done.failure is None
    assert done.coverage.deep == 20
    assert done.submission_faults == ()

    # A second start shows that it is gone: three would take time from the others.
    given_up = [text for _, text in done.messages if "worker 1 is given up" in text]
    assert len(given_up) == 1 and "no device was found" in given_up[0]
    assert done.coverage.setbacks == {"a device worker was given up: no device was found": 1}
    assert done.coverage.without_gpu == 0


class UnlistedPool(FakePool):
    """The driver lists the card of its last worker no more, once that worker is lost."""

    def device_fault(self, worker: int) -> str:
        is_gone = worker == 1 and self._clock.now() >= VANISHES_S
        return "its GPU GPU-1 is not listed any more" if is_gone else ""


def test_nothing_is_held_against_the_tasks_of_a_card_that_is_gone() -> None:
    """They are on the rung where they were: it was not the memory that they need."""
    task_set, clock, told, chosen = tasks(20), VirtualClock(), list[str](), settings(900)
    true = ImaginedCosts(costs(task_set, step_s=0.05, view_s=0.1), chosen)
    pool = UnlistedPool(true, clock, num_workers=2, dies_at_s=VANISHES_S)
    journal = memory_journal(task_set)
    orchestrator(task_set, chosen, pool, clock, journal=journal, tell=told.append).run()

    (left,) = [text for text in told if "left to another device" in text]
    assert "its GPU GPU-1 is not listed any more" in left
    assert any("worker 1 is given up" in text for text in told)
    deep = [row for row in journal.stages() if row.stage == "deep" and row.round == 1]
    assert len(deep) == 20
    assert {(row.status, row.detail["rung"]) for row in deep} == {("done", 0)}


def plan_on(gpu: str, task_set: TaskSet, budget_s: float) -> Plan:
    """A plan with arc-mini on that machine."""
    return make_plan(
        PlanRequest(
            machine=imagined(find_machine({}), gpu),
            models=model_cards({EMBEDDED: model_dir(EMBEDDED)}),
            software=EVERYTHING,
            tasks=task_set,
            layers=(Layer("test", {"run.budget_s": budget_s}),),
            budget_s=budget_s,
        )
    )


class ProbedPool(FakePool):
    """Its workers answer a probe with nothing measured."""

    def submit(self, worker: int, job: Job) -> None:
        if job.stage == "probe":
            probed = Probed(job_id=job.job_id, tokens=100, prompt_tokens=100, rows=1)
            self.put(worker, self._clock.now() + 0.1, probed)
        else:
            super().submit(worker, job)


def imagined_pool(task_set: TaskSet, clock: VirtualClock, plans: Mapping[str, Plan]) -> Any:
    """What makes workers that only cost time, by the plan for their device; cards vanish."""

    def make(
        setups: Sequence[Setup | SearchSetup], environments: Sequence[Any], *, log_dir: Path
    ) -> ProbedPool:
        devices = [s for s in setups if isinstance(s, Setup)]
        plan = plans[devices[0].device]
        return ProbedPool(
            ImaginedCosts(
                PlannedCosts.of(plan, task_set).task_costs(),
                plan.settings,
                search=search_costs(task_set, math.inf),
            ),
            clock,
            num_workers=len(devices),
            num_searching=len(setups) - len(devices),
            dies_at_s=VANISHES_S if devices[0].device == "cuda" else math.inf,
        )

    return make


def test_without_any_card_left_the_cpu_goes_on_where_the_card_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget_s, task_set, clock, told = 1800.0, tasks(30, most_side=20), VirtualClock(), list[str]()
    on_gpu, on_cpu = plan_on("T4", task_set, budget_s), plan_on("none", task_set, budget_s)
    pool = imagined_pool(task_set, clock, {"cuda": on_gpu, "cpu": on_cpu})
    monkeypatch.setattr(launching, "SubprocessPool", pool)

    folder, journal, lock = open_run(tmp_path / "out", identity="i", is_fresh=False)
    journal.put_tasks(task_set)
    code = launch(
        Launch(
            tasks=task_set,
            source="world",
            planned=Planned(on_gpu, model_dir(EMBEDDED)),
            folder=folder,
            journal=journal,
            display=ToldTo(told.append),
            clock=clock,
            start_s=0.0,
            deadline_s=budget_s,
            on_cpu=lambda left_s: Planned(
                replace(on_cpu, time=replace(on_cpu.time, budget_s=left_s)), model_dir(EMBEDDED)
            ),
        )
    )
    coverage = coverage_of(journal)
    journal.close()
    lock.close()

    # The contract: valid, and below what was asked for.
    assert code == EXIT_COVERAGE
    assert validate(read_submission(folder.submission), task_set) == []
    assert VANISHES_S < clock.now() <= budget_s
    assert coverage.sampled == 30 and coverage.deep >= 15

    # The fault is named when it comes and at the end.
    assert any("no GPU is left" in text and "no device was found" in text for text in told)
    assert any(text.startswith("resumed: ") for text in told)
    assert coverage.without_gpu == 1
    assert any("no device was found" in line for line in coverage.lines())


def test_what_was_learnt_for_one_model_is_not_put_on_another(tmp_path: Path) -> None:
    task_set = tasks(3)
    folder, journal, lock = open_run(tmp_path / "out", identity="i", is_fresh=False)
    plan = plan_on("none", task_set, 600.0)

    def take_up(name: str) -> None:
        of_name = replace(plan, model=Choice(name, "for a test"))
        start = Launch(
            tasks=task_set,
            source="world",
            planned=Planned(of_name, model_dir(EMBEDDED)),
            folder=folder,
            journal=journal,
            display=ToldTo(lambda text: None),
            clock=VirtualClock(),
            start_s=0.0,
            deadline_s=600.0,
        )
        launching._take_up(start)

    take_up("large")
    (folder.adapters / "task0000").mkdir()
    journal.put_fact(CHECKED_RATE, {"rate": 1e-4})
    take_up("large")
    assert list(folder.adapters.iterdir()) and journal.fact(CHECKED_RATE)

    take_up("arc-mini")
    assert not list(folder.adapters.iterdir()) and journal.fact(CHECKED_RATE) is None
    journal.close()
    lock.close()


class StubbornPool(FakePool):
    """Its workers end in this way, or never get ready, as long as vLLM is among their engines."""

    def __init__(
        self, clock: VirtualClock, task_set: TaskSet, how: int | None, *, lives: int = 0
    ) -> None:
        """how: exit code, None for a hang. lives: first starts that go well."""
        true = ImaginedCosts(costs(task_set, step_s=0.02, view_s=0.05), settings(3600))
        super().__init__(true, clock, num_workers=1)
        self._clock_of_test, self._how, self._lives = clock, how, lives
        self.starts: list[str] = []
        self.engine = "vllm"

    def start(self, worker: int) -> None:
        self.starts.append(self.engine)
        super().start(worker)
        if self.engine == "vllm" and len(self.starts) > self._lives:
            self.kill(worker)
            if self._how is not None:
                at_s = self._clock_of_test.now() + 5.0
                self.put(worker, at_s, Died(self._how, "Fatal Python error: Aborted"))

    def make_plain(self, worker: int, *parts: str) -> str:
        was, self.engine = self.engine, "transformers"
        return "" if was == self.engine else f"transformers in place of {was}"


def stubborn(how: int | None, *, lives: int = 0) -> tuple[StubbornPool, list[str], Coverage]:
    task_set, clock, told = tasks(4), VirtualClock(), list[str]()
    pool, journal = StubbornPool(clock, task_set, how, lives=lives), memory_journal(task_set)
    orchestrator(task_set, settings(3600), pool, clock, journal=journal, tell=told.append).run()
    return pool, told, coverage_of(journal)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (-6, "was killed by SIGABRT (Fatal Python error: Aborted)"),
        (-11, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL, most likely by the system because memory ran out"),
        (1, "ended with exit code 1"),
        (None, f"was not ready after {START_LIMIT_S:.0f} s"),
    ],
)
def test_a_worker_that_is_lost_before_it_is_ready_starts_again_with_plain_engines(
    how: int | None, words: str
) -> None:
    pool, told, coverage = stubborn(how)
    assert pool.starts == ["vllm", "transformers"]
    assert coverage.deep == 4

    lines = [text for text in told if "it starts again with transformers in place of vllm" in text]
    assert len(lines) == 1 and words in lines[0]
    assert coverage.setbacks == {"transformers in place of vllm, because a worker did not start": 1}


def test_one_that_was_ready_before_gets_a_second_try_as_it_was() -> None:
    task_set, clock = tasks(4), VirtualClock()
    pool = StubbornPool(clock, task_set, -6, lives=1)
    submit: Callable[..., None] = pool.submit
    monkey_jobs = [0]

    def dies_once(worker: int, job: Any) -> None:
        monkey_jobs[0] += 1
        submit(worker, job)
        if monkey_jobs[0] == 1:
            pool.kill(worker)
            pool.put(worker, clock.now() + 1.0, Died(-11, ""))

    pool.submit = dies_once  # type: ignore[method-assign]
    orchestrator(task_set, settings(3600), pool, clock).run()
    assert pool.starts == ["vllm", "vllm", "vllm", "transformers"]


def setup_of(tmp_path: Path, **more: Any) -> Setup:
    paths = {name: str(tmp_path) for name in ("model_dir", "adapters_dir", "scratch_dir")}
    values = {"device": "cuda", "dtype": "float16", "autocast_dtype": None, "num_threads": 1}
    return Setup(settings=settings(60), **{**paths, **values, **more})


def test_plain_engines_stand_in_for_all_or_for_the_part_that_failed(tmp_path: Path) -> None:
    setup = setup_of(tmp_path, engine="vllm", trainer="unsloth")
    pool = SubprocessPool([setup], [{}], log_dir=tmp_path)
    assert pool.make_plain(0, "trainer") == "peft in place of unsloth"
    assert pool.make_plain(0) == "transformers in place of vllm"
    assert pool.make_plain(0) == ""


def test_a_card_that_nvml_lists_no_more_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml_of("T4x2, driver 580"))
    devices = ("GPU-1111-aa", "GPU-7777-aa")
    pool = SubprocessPool(
        [setup_of(tmp_path)] * 2,
        [{"CUDA_VISIBLE_DEVICES": device} for device in devices],
        log_dir=tmp_path,
    )
    assert pool.device_fault(0) == ""
    assert pool.device_fault(1) == "its GPU GPU-7777-aa is not listed any more"


def test_a_kill_from_outside_is_not_explained_by_the_last_line_of_the_log() -> None:
    killed = Died(-9, "INFO: 12 tokens/s")
    assert "SIGKILL" in killed.how and "memory" in killed.how and "tokens" not in killed.how
    assert "SIGTERM" in Died(-15, "INFO: 12 tokens/s").how
    assert Died(3, "a\nValueError: b").how == "ended with exit code 3 (ValueError: b)"
    assert Died(-99, "").how.startswith("was killed by signal 99")


def test_the_account_of_setbacks_begins_anew_with_each_process(tmp_path: Path) -> None:
    from appliance.record import setbacks

    journal = Journal(tmp_path / "journal.sqlite")
    setbacks.open_account(journal, ["a card", "a card"])
    setbacks.note_setback(journal, "vllm")
    setbacks.note_without_gpu(journal)
    assert setbacks.setbacks_of(journal) == {"a card": 2, "vllm": 1}
    assert setbacks.is_without_gpu(journal)

    setbacks.open_account(journal)
    assert setbacks.setbacks_of(journal) == {}
    assert not setbacks.is_without_gpu(journal)
    journal.close()
