"""What the plan expects of tasks, on which rung they begin, and what a probe changes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from appliance.arc.task import TaskSet
from appliance.clock import VirtualClock
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.machine import Machine, find_machine
from appliance.machine.software import Software
from appliance.record.journal import Journal
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.schedule.planned_costs import MISSED, PROBE_SHARE, PlannedCosts
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.task_costs import Probe
from appliance.sizing.costs.task_lengths import lengths_of
from appliance.sizing.make_plan import size
from appliance.sizing.memory_ladder import LAST_RUNG, ROOM
from appliance.sizing.request import SizingRequest
from appliance.solve.messages import Event, Failed, Job, Probed
from tests.support.run_world import memory_journal, orchestrator, settings, tasks

HOST = Host("CPU", 2, "affinity", 32 * GIB, "physical", 30 * GIB, ("avx2",))


def planned_costs_of(task_set: TaskSet, *, room_gib: float = 8.0, **values: object) -> PlannedCosts:
    card = load_card("arc-mini")
    machine: Machine = replace(find_machine({}), gpus=(), host=HOST)
    software = Software(engines=("transformers",))
    plan = size(
        machine, [card], SizingRequest(lengths_of(task_set, card), 600.0, software=software)
    )
    plan = replace(plan, settings=settings(600.0, **values), room_gib=room_gib)
    return PlannedCosts.of(plan, task_set)


def test_a_smaller_room_begins_further_down_the_ladder_and_the_longest_tasks_first() -> None:
    task_set = tasks(20, most_side=30)
    rungs = [
        planned_costs_of(task_set, room_gib=room).first_rungs()
        for room in (8.0, 1.0, 0.75, 0.6, 0.3)
    ]
    assert set(rungs[0].values()) == {0}
    assert set(rungs[-1].values()) == {LAST_RUNG}
    assert len(set(rungs[2].values()) | set(rungs[3].values())) > 1
    for more, less in itertools.pairwise(rungs):
        assert all(more[t] <= less[t] for t in more)


def test_a_first_rung_fits_and_the_one_above_does_not() -> None:
    planned = planned_costs_of(tasks(20, most_side=30), room_gib=0.75)
    for length in planned.lengths.values():
        rung = planned.first_rung(length)
        if rung < LAST_RUNG:
            assert planned.memory_gib(length, rung) <= ROOM * 0.75
        assert all(planned.memory_gib(length, r) > ROOM * 0.75 for r in range(rung))


def test_the_longest_task_is_probed_that_takes_a_small_part_of_the_time() -> None:
    planned = planned_costs_of(tasks(20, most_side=30))
    ample, scarce = planned.to_probe(1e6), planned.to_probe(100.0)
    assert ample == max(planned.lengths.values(), key=lambda t: t.lesson_tokens).task_id
    assert scarce is not None
    assert planned.probe_s(scarce) <= PROBE_SHARE * 100
    slow = replace(
        planned, costs=planned.costs.corrected_by(Probe(100, train_step_s=1e9, read_s=1e9))
    )
    slower = replace(
        slow, lengths={k: v for k, v in slow.lengths.items() if v.lesson_tokens > 2000}
    )
    assert slower.to_probe(1.0) is None


def test_a_probe_corrects_seconds_and_rungs() -> None:
    planned = planned_costs_of(tasks(20, most_side=30), room_gib=1.0)
    longest = max(planned.lengths.values(), key=lambda t: t.lesson_tokens)
    tokens = longest.lesson_tokens
    timed = planned.corrected_by(
        Probe(tokens, train_step_s=3 * planned.step_s(longest), gradient_checkpointing=True)
    )
    assert timed.step_s(longest) == pytest.approx(3 * planned.step_s(longest))
    measured = Probe(tokens, train_memory_gib=3.0)
    after = planned.corrected_by(measured)
    assert after.memory_gib(longest, 0) == pytest.approx(3.0)
    assert after.first_rung(longest) > planned.first_rung(longest)
    assert any("tasks begin at" in line for line in after.rung_lines())


def test_a_probe_that_ran_out_of_memory_moves_its_task_down() -> None:
    planned = planned_costs_of(tasks(20, most_side=30), room_gib=8.0)
    longest = max(planned.lengths.values(), key=lambda t: t.lesson_tokens)
    after = planned.after_running_out(longest.task_id)
    assert after.first_rung(longest) > planned.first_rung(longest) == 0


def test_a_probe_that_ran_out_of_memory_leaves_short_tasks_where_they_are() -> None:
    planned = planned_costs_of(tasks(20, most_side=30), room_gib=1.5)
    by_length = sorted(planned.lengths.values(), key=lambda t: t.lesson_tokens)
    shortest, longest = by_length[0], replace(by_length[-1], lesson_tokens=16000)
    planned = replace(
        planned,
        costs=replace(planned.costs, train=replace(planned.costs.train, max_seq_tokens=16384)),
        lengths={**planned.lengths, longest.task_id: longest},
    )
    rung = planned.first_rung(longest)
    assert planned.first_rung(shortest) == 0 < rung

    after = planned.after_running_out(longest.task_id)
    assert after.memory_gib(longest, rung) == pytest.approx(MISSED * 1.5)
    assert after.first_rung(longest) > rung
    assert after.first_rung(shortest) == 0


class ProbingPool(FakePool):
    """Answers the probe after a second with a given event; all other work is imagined."""

    def __init__(self, true_costs: ImaginedCosts, clock: VirtualClock, answer: Event) -> None:
        super().__init__(true_costs, clock, num_workers=2)
        self.clock = clock
        self.answer = answer
        self.probes: list[Job] = []
        self.others: list[Job] = []

    def submit(self, worker: int, job: Job) -> None:
        if job.stage != "probe":
            self.others.append(job)
            super().submit(worker, job)
            return
        self.probes.append(job)
        self.put(
            worker, self.clock.now() + 1.0, self.answer.model_copy(update={"job_id": job.job_id})
        )


def probed_run(answer: Event, *, room_gib: float = 8.0) -> tuple[ProbingPool, Journal, list[str]]:
    """The pool and the journal after a run of eight tasks, and what the run told."""
    task_set = tasks(8, most_side=20)
    planned = planned_costs_of(task_set, room_gib=room_gib)
    clock, chosen, journal = VirtualClock(), planned.settings, memory_journal(task_set)
    told: list[str] = []

    true_costs = ImaginedCosts(planned.task_costs(), chosen, load_s=2.0)
    pool = ProbingPool(true_costs, clock, answer)
    orchestrator(
        task_set,
        chosen,
        pool,
        clock,
        journal=journal,
        planned=planned,
        tell=told.append,
    ).run()
    return pool, journal, told


def test_one_worker_probes_once_and_what_it_found_is_told_and_journaled() -> None:
    answer = Probed(
        job_id=0,
        tokens=500,
        prompt_tokens=500,
        rows=2,
        train_step_s=5.0,
        train_memory_gib=2.0,
        read_s=0.5,
    )
    pool, journal, told = probed_run(answer)
    (job,) = pool.probes
    assert job.deadline_s > 20.0, "time to compile kernels; the run has 600 s"
    assert journal.fact("probe")["correction"]["train_time"] > 1
    assert any("a training step: 5 s measured" in line for line in told)
    assert any("memory in training: 2 GiB measured" in line for line in told)
    assert sum((r.stage, r.round, r.status) == ("deep", 1, "done") for r in journal.stages()) == 8


@pytest.mark.parametrize("faster", ["vllm", "transformers"])
def test_the_engine_that_was_faster_in_the_probe_samples_all_tasks(faster: str) -> None:
    other = {"vllm": "transformers", "transformers": "vllm"}[faster]
    answer = Probed(
        job_id=0,
        tokens=500,
        prompt_tokens=500,
        rows=2,
        read_s=0.5,
        batch_s={faster: 1.25, other: 4.0},
    )
    pool, journal, told = probed_run(answer)
    assert any(f"{faster} 1.25 s" in line and f"{faster} samples from" in line for line in told)
    assert journal.fact("probe")["batch_s"] == {faster: 1.25, other: 4.0}

    # The other worker began before the probe was over; the last job of the run knows.
    expected = "slower in the probe: transformers 1.25 s, vllm 4.00 s"
    assert pool.others[-1].plain_because == (expected if faster == "transformers" else "")


def test_a_comparison_of_engines_makes_a_probe_longer_and_is_planned_so() -> None:
    alone = planned_costs_of(tasks(8, most_side=20))
    task_id = next(iter(alone.lengths))
    assert replace(alone, is_compared=True).probe_s(task_id) > 2 * alone.probe_s(task_id) > 0


def test_a_probe_that_found_no_room_moves_tasks_down_and_work_goes_on() -> None:
    _, journal, told = probed_run(Failed(job_id=0, kind="memory", message="no room"))
    assert any("the probe failed at" in line and "no room" in line for line in told)
    assert any("tasks begin at" in line for line in told)
    rungs = [r.detail["rung"] for r in journal.stages() if (r.stage, r.round) == ("deep", 1)]
    assert len(rungs) == 8 and max(rungs) > 0
