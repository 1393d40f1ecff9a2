"""The orchestrator with imagined workers: whatever breaks, a run ends in time and is valid."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from appliance.arc.task import TaskSet
from appliance.clock import VirtualClock
from appliance.errors import InputError
from appliance.record.journal import Journal
from appliance.run.jobs import views_of
from appliance.run.orchestrator import FURTHER_ROUNDS
from appliance.run.pool import Arrival
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.rehearsal.faults import NO_FAULTS, Faults, parse_faults
from appliance.run.rehearsal.rehearsal import Crew, Rehearsal, rehearse
from appliance.run.schedule.further_rounds import Gains
from appliance.run.schedule.schedule import DRAIN_S
from appliance.run.schedule.task_state import Assignment
from appliance.run.schedule.time_shares import LEAST_JOB_S
from appliance.run.worker_life import GRACE_S, START_LIMIT_S
from appliance.solve.messages import Failed, Job
from tests.support.run_world import costs, orchestrator, run, settings, tasks


def test_a_run_in_peace_trains_and_samples_every_task() -> None:
    done = run(tasks(12), budget_s=600)
    assert (done.coverage.quick, done.coverage.trained, done.coverage.deep) == (12, 12, 12)
    assert done.coverage.outputs_fallback == 0
    assert done.submission_faults == ()
    assert done.failure is None


def test_the_journal_tells_when_each_worker_was_ready_and_how_many_jobs_it_did(
    tmp_path: Path,
) -> None:
    resumed(tmp_path / "journal.sqlite", stop=0.0, seed=0)
    journal = Journal(tmp_path / "journal.sqlite")
    jobs = journal.fact("jobs")
    seconds = [journal.fact(f"worker-{worker}")["seconds"] for worker in jobs]
    journal.close()
    assert sorted(jobs) == ["0", "1"] and all(num_done > 0 for num_done in jobs.values())
    assert all(ready_s > 0 for ready_s in seconds)


def test_further_rounds_vote_with_the_first() -> None:
    done = run(tasks(6), budget_s=3000)
    assert done.coverage.again > 0
    assert done.coverage.deep == 6
    assert {s.is_again for s in done.spans if s.kind == "train"} == {False, True}


def test_time_is_used_up_while_votes_are_open() -> None:
    done = run(tasks(20), budget_s=300, step_s=0.5, view_s=0.5)
    assert 0.9 * 300 <= done.seconds <= 300


@pytest.mark.parametrize("num_tasks", [3, 7])
def test_no_device_is_idle_at_the_end_while_a_vote_is_open(num_tasks: int) -> None:
    """All tasks are soon done once, and most of the time goes to further rounds."""
    done = run(tasks(num_tasks), budget_s=400, num_workers=2, run__rounds=None)
    text = " ".join(message for _, message in done.messages)
    assert "further rounds: " in text
    assert "workers' time" in text
    if "nothing can be gained" not in text:
        assert done.seconds > 400 - 3.0 - DRAIN_S - LEAST_JOB_S - 0.5
        assert max(done.idle_shares()) < 0.02


def test_an_early_end_says_why(tmp_path: Path) -> None:
    done = run(tasks(3), budget_s=2000, run__rounds=2)
    text = " ".join(message for _, message in done.messages)
    assert "early: nothing can be gained: " in text
    assert "all rounds are done (run.rounds = 2)" in text


def test_what_further_rounds_gave_is_kept_over_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    counts = []
    for stop in (0.3, 0.3, 0.0):
        resumed(path, stop=stop, seed=0)
        journal = Journal(path)
        rounds = [r for r in journal.stages() if r.stage == "deep" and r.round > 1]
        gains = journal.fact(FURTHER_ROUNDS, Gains)
        journal.close()
        counts.append(gains.num)
        # Those that a stop cut off are not counted.
        assert gains.num == sum(r.status == "done" for r in rounds)
    assert counts == sorted(counts) and counts[0] < counts[-1]


@pytest.mark.parametrize(
    "fault",
    [
        "oom:1",
        "crash:0.3",
        "hang:0.2",
        "slow-start:1",
        "no-start:0.4",
        "device-death",
        "slow-disk:4",
        "sigterm",
    ],
)
def test_it_ends_in_time_with_a_valid_submission_under(fault: str) -> None:
    done = run(tasks(15), budget_s=1200, num_workers=3, faults=dict(parse_faults([fault]).rates))
    assert done.failure is None
    assert done.seconds <= 1200
    assert done.submission_faults == ()
    assert done.coverage.sampled >= 8


def test_everything_at_once_still_leaves_a_valid_submission_in_time() -> None:
    faults = dict(
        parse_faults(
            ["oom:0.3", "crash:0.2", "hang:0.1", "no-start:0.3", "device-death:0.3", "slow-disk:2"]
        ).rates
    )
    done = run(tasks(15), budget_s=2400, num_workers=3, faults=faults)
    assert done.seconds <= 2400
    assert done.submission_faults == ()


def test_a_device_that_dies_is_given_up_and_the_others_go_on() -> None:
    done = run(tasks(20), budget_s=900, num_workers=2, faults={"device-death": 0.2})
    assert done.failure is None
    assert any("worker 1 is given up" in text for _, text in done.messages)
    assert done.coverage.deep == 20


def test_a_single_device_that_dies_ends_the_run_with_its_reason_and_what_was_done() -> None:
    done = run(tasks(20), budget_s=900, num_workers=1, faults={"device-death": 0.5})
    assert done.failure is not None
    assert "no device was found" in done.failure
    assert done.seconds < 0.6 * 900
    assert done.coverage.sampled > 0
    assert done.submission_faults == ()


def test_a_worker_that_never_starts_is_tried_three_times() -> None:
    done = run(tasks(3), budget_s=3600, num_workers=1, faults={"no-start": 1.0})
    assert done.failure is not None
    assert 3 * START_LIMIT_S <= done.seconds <= 3 * START_LIMIT_S + 5
    assert done.coverage.outputs_fallback == done.coverage.num_outputs


def test_a_hang_costs_no_more_than_its_job_and_the_grace() -> None:
    done = run(tasks(4), budget_s=4000, num_workers=1, faults={"hang": 0.4}, seed=3)
    assert any("hung" in text for _, text in done.messages)
    assert done.coverage.sampled == 4
    lost = [s.seconds for s in done.spans if s.kind == "lost"]
    assert max(lost) < 4000 / 4 + GRACE_S + 60


def test_every_rung_of_the_ladder_is_told_and_the_task_still_answered() -> None:
    done = run(tasks(8), budget_s=2000, faults={"oom": 1.0})
    text = " ".join(message for _, message in done.messages)
    assert "gradient checkpointing on" in text
    assert "sampled untrained" in text
    assert done.coverage.sampled >= 5


def test_a_slow_disk_gets_fewer_writes_and_none_past_the_deadline() -> None:
    quick = run(tasks(30), budget_s=600)
    slow = run(tasks(30), budget_s=600, faults={"slow-disk": 20.0})
    assert slow.num_writes < quick.num_writes
    assert slow.seconds <= 600
    assert slow.coverage.outputs_fallback == 0


def test_a_signal_in_the_middle_keeps_the_candidates_of_jobs_that_were_cut_off(
    tmp_path: Path,
) -> None:
    task_set, chosen = tasks(5), settings(600)
    path = tmp_path / "journal.sqlite"
    true_costs = ImaginedCosts(costs(task_set, step_s=0.1, view_s=2.0), chosen, load_s=2.0)
    seen = set()
    for share in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        path.unlink(missing_ok=True)
        rehearse(
            task_set,
            Crew(chosen, true_costs, num_workers=2),
            budget_s=600,
            faults=Faults({"sigterm": share}),
            journal_path=path,
        )
        journal = Journal(path)
        seen |= {r.status for r in journal.stages()}
        journal.close()
    assert "partial" in seen


def resumed(path: Path, *, stop: float, seed: int) -> Rehearsal:
    task_set, chosen = tasks(8), settings(900)
    true_costs = ImaginedCosts(costs(task_set, step_s=0.05, view_s=0.2), chosen, load_s=2.0)
    return rehearse(
        task_set,
        Crew(chosen, true_costs, num_workers=2),
        budget_s=900,
        faults=Faults({"sigterm": stop}) if stop else NO_FAULTS,
        seed=seed,
        journal_path=path,
    )


@pytest.mark.parametrize("num_stops", [1, 3, 6])
def test_a_run_that_is_stopped_again_and_again_redoes_nothing_and_ends_whole(
    tmp_path: Path, num_stops: int
) -> None:
    path = tmp_path / "journal.sqlite"
    done_before: set[tuple[str, str]] = set()
    for number in range(num_stops):
        part = resumed(path, stop=0.01 * (number + 1), seed=number)
        touched = {(s.task_id, "quick") for s in part.spans if s.kind == "quick"}
        assert not touched & done_before
        journal = Journal(path)
        done_now = {(r.task_id, r.stage) for r in journal.stages() if r.status == "done"}
        journal.close()
        assert done_before <= done_now
        done_before = done_now
    whole = resumed(path, stop=0.0, seed=99)
    assert whole.coverage.deep == whole.coverage.quick == 8
    assert whole.submission_faults == ()


def test_what_a_round_gave_before_it_was_cut_off_stays(tmp_path: Path) -> None:
    def cut_rounds(path: Path) -> dict[tuple[str, int], list[tuple[object, ...]]]:
        db = sqlite3.connect(path)
        cut = "SELECT task_id, round FROM stages WHERE stage = 'deep' AND status = 'partial'"
        answers = "SELECT * FROM candidates WHERE task_id = ? AND stage = 'deep' AND round = ?"
        found = {key: db.execute(answers, key).fetchall() for key in db.execute(cut).fetchall()}
        db.close()
        return found

    was_cut = False
    for share in (0.1, 0.14, 0.18, 0.2, 0.22, 0.3):
        path = tmp_path / f"journal-{share}.sqlite"
        resumed(path, stop=share, seed=0)
        before = cut_rounds(path)
        resumed(path, stop=0.0, seed=1)
        assert before.items() <= cut_rounds(path).items()
        was_cut |= bool(before)
    assert was_cut


def test_a_finished_run_started_again_does_no_work(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    first = resumed(path, stop=0.0, seed=0)
    again = resumed(path, stop=0.0, seed=0)
    assert first.coverage == again.coverage
    assert again.seconds < 10
    assert {s.kind for s in again.spans} == {"load"}


def test_a_run_whose_adapters_stayed_behind_trains_the_next_round_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    resumed(path, stop=0.3, seed=0)
    journal = Journal(path)
    rounds = {r.task_id: r.round for r in journal.stages() if r.stage == "deep"}
    journal.close()
    went_on = resumed(path, stop=0.0, seed=1)
    work = [s for s in went_on.spans if s.kind in ("train", "sample")]
    kinds = {
        next((s.kind for s in work if s.task_id == t), "train")
        for t, number in rounds.items()
        if number % 2
    }
    assert kinds == {"train"}


class RefusingPool(FakePool):
    """Its workers cannot read the model."""

    def next_arrival(self, timeout_s: float) -> Arrival | None:
        return 0, Failed(job_id=-1, kind="input", message="config.json is not JSON")


def test_a_model_that_cannot_be_read_ends_the_run_at_once_as_bad_input() -> None:
    task_set, chosen, clock = tasks(2), settings(600), VirtualClock()
    true_costs = ImaginedCosts(costs(task_set, step_s=0.1, view_s=0.1), chosen)
    pool = RefusingPool(true_costs, clock, num_workers=1)
    with pytest.raises(InputError, match="not JSON"):
        orchestrator(task_set, chosen, pool, clock).run()
    assert clock.now() < 10


class RecordingPool(FakePool):
    """Keeps the jobs that it was given."""

    def __init__(self, true_costs: ImaginedCosts, clock: VirtualClock) -> None:
        super().__init__(true_costs, clock, num_workers=1)
        self.jobs: list[Job] = []

    def submit(self, worker: int, job: Job) -> None:
        self.jobs.append(job)
        super().submit(worker, job)


def recorded_jobs(task_set: TaskSet, *, budget_s: float, second_s: float) -> list[Job]:
    """The jobs of a whole run on one worker, where a step and a view take second_s each."""
    chosen, clock = settings(budget_s), VirtualClock()
    true_costs = ImaginedCosts(costs(task_set, step_s=second_s, view_s=second_s), chosen)
    pool = RecordingPool(true_costs, clock)
    orchestrator(task_set, chosen, pool, clock).run()
    return pool.jobs


def test_every_round_has_lessons_and_views_of_its_own() -> None:
    jobs = recorded_jobs(tasks(2), budget_s=900, second_s=0.01)
    for task_id in tasks(2).ids():
        deep = [j for j in jobs if j.stage == "deep" and j.tasks[0].task_id == task_id]
        assert len({j.seed for j in deep}) == len(deep)
        assert len({tuple(j.views) for j in deep}) == len(deep)


def test_only_a_further_round_leaves_out_the_view_that_its_adapter_has_answered() -> None:
    """A first round has an adapter already where its training left no time for answers."""

    def views(round_number: int, adapter_sha: str) -> list[str]:
        asked = tasks(1).tasks
        job = Assignment("deep", asked, 4, 9.0, 9.0, round=round_number, adapter_sha=adapter_sha)
        return views_of(job, settings(600))

    assert views(1, "kept") == views(1, "")
    same = views(1, "")[0]
    assert same in views(2, "")
    assert same not in views(2, "kept")
    assert len(views(2, "kept")) == len(views(2, "")) - 1


def test_no_job_may_run_past_the_end_of_the_work() -> None:
    jobs = recorded_jobs(tasks(2), budget_s=100, second_s=0.5)
    assert max(j.deadline_s for j in jobs) <= 100 - 3.0
    assert all(j.train_until_s <= j.deadline_s for j in jobs)
