"""Programs in a run: journal, votes, coverage, figures, shares of time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from appliance.arc.grid import as_grid
from appliance.arc.task import Pair, Task, TaskSet
from appliance.arc.vote import Candidate
from appliance.clock import VirtualClock
from appliance.config import Layer, RunSettings, Settings, resolve
from appliance.record.attempts import attempts_of
from appliance.record.coverage import coverage_of
from appliance.record.figures import program_figures
from appliance.record.journal import Journal
from appliance.run.ledger import Ledger, Outcome
from appliance.run.schedule.ballot import Ballot
from appliance.run.schedule.measured_costs import Forecast
from appliance.run.schedule.schedule import Schedule
from appliance.run.schedule.task_state import Assignment, TaskState
from appliance.run.schedule.time_shares import Shares
from appliance.solve.messages import EpochMessage, ProgramMessage, Wrote
from tests.support import run_world

ONE, TWO, THREE, FOUR = (as_grid([[n]]) for n in (1, 2, 3, 4))
TASK = Task("t", (Pair(ONE, TWO), Pair(TWO, THREE)), (THREE,))


def program(answer: str, score: float, grid: object = FOUR, outcome: str = "ok") -> ProgramMessage:
    return run_world.program(
        answer, view="f0r0-0123456789", score=score, grid=grid, outcome=outcome
    )


def grid_candidate(grid: object) -> Candidate:
    return Candidate("t", 0, grid, -1.0, 2)  # type: ignore[arg-type]


def settings(**values: object) -> Settings:
    return resolve([Layer("test", {"run.budget_s": 100} | values)])


def test_the_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.put_tasks([TASK])
    ledger = Ledger(
        TaskSet("x", (TASK,)),
        journal,
        selector="programs-first",
        clock=VirtualClock(),
        write=lambda _: None,
    )
    assignment = Assignment("deep", (TASK,), 1, 10.0, 10.0)
    found = [
        program("right", 1.0),
        program("half", 0.5, TWO),
        program("bad", 0.0, None, "error"),
        program("right", 1.0),
    ]
    wrote = Wrote(
        job_id=1,
        task_id="t",
        seconds=3.0,
        is_agreed=True,
        epochs=[
            EpochMessage(num_picked=2, num_programs=4, num_fit=2, reason="no valid program yet")
        ],
    )
    candidates = [grid_candidate(ONE), *(c for p in found for c in p.candidates())]
    whole = Outcome("done", candidates=candidates, programs=found, wrote=wrote)
    ledger.put(assignment, TASK, whole)
    assert journal.programs("t") == {"deep": found}
    assert [k.answer for k in ledger.known_programs("t", 5)] == ["right", "half"]
    assert [k.answer for k in ledger.known_programs("t", 1)] == ["right"]
    (row,) = [r for r in journal.stages() if r.stage == "programs"]
    assert row.detail["is_agreed"] and row.detail["epochs"][0]["num_fit"] == 2
    coverage = coverage_of(journal)
    assert (coverage.programs_written, coverage.programs_valid, coverage.programs_fit) == (4, 3, 1)
    assert (
        "tasks with a program that fits all demonstrations: 1 (3 of 4 programs gave grids; "
        "learnt from those of 0 tasks)" in coverage.lines()
    )
    assert coverage.shortfalls(RunSettings(min_trained_share=1.0), train_enabled=True) == []
    first = Outcome("done", candidates=candidates[:1], programs=found[:1])
    ledger.put(assignment, TASK, first)
    assert journal.programs("t") == {"deep": found[:1]}
    journal.close()


def learning(*epochs: EpochMessage, is_agreed: bool = False) -> Outcome:
    wrote = Wrote(job_id=1, task_id="t", seconds=3.0, is_agreed=is_agreed, epochs=list(epochs))
    found = [program("right", 1.0)]
    return Outcome(
        "done", candidates=found[0].candidates(), programs=found, wrote=wrote, seconds=3.0
    )


OFF = EpochMessage(
    num_picked=0, num_programs=4, num_fit=2, reason="learning is off", cause="result"
)
NONE_YET = EpochMessage(
    num_picked=0, num_programs=4, num_fit=0, reason="no valid program yet", cause="result"
)
LEARNT = EpochMessage(num_picked=2, num_programs=4, num_fit=2, num_steps=7)
LATE = EpochMessage(num_picked=2, num_programs=0, num_fit=0, reason="no time", cause="time")


@pytest.mark.parametrize(
    ("outcome", "trained", "reasons", "is_short"),
    [
        (learning(NONE_YET, LEARNT), 1, {}, False),
        (learning(LEARNT, LATE), 1, {}, False),
        (learning(OFF), 0, {"learning is off": 1}, True),
        (learning(NONE_YET, NONE_YET), 0, {"no valid program yet": 1}, True),
        (learning(LATE), 0, {"no time": 1}, True),
        (learning(), 0, {"no time was left to learn": 1}, True),
        (learning(is_agreed=True), 0, {}, False),
    ],
)
def test_learning_from_programs_counts_as_training_where_no_grids_are_written(
    outcome: Outcome, trained: int, reasons: dict[str, int], is_short: bool
) -> None:
    journal = Journal(Path(":memory:"))
    journal.put_tasks([TASK])
    journal.put_fact("strategy", ["induction"])
    ledger = Ledger(
        TaskSet("x", (TASK,)),
        journal,
        selector="programs-first",
        clock=VirtualClock(),
        write=lambda _: None,
    )
    ledger.put(Assignment("deep", (TASK,), 1, 10.0, 10.0), TASK, outcome)

    coverage = coverage_of(journal)
    assert (coverage.trained, coverage.learnt) == (trained, trained)
    assert coverage.untrained_reasons == reasons
    faults = coverage.shortfalls(RunSettings(min_trained_share=1.0), train_enabled=True)
    assert bool(faults) == is_short

    # Where grids are written as well, their training is what counts.
    journal.put_fact("strategy", ["transduction", "induction"])
    assert coverage_of(journal).trained == 0
    assert coverage_of(journal).learnt == trained


def test_a_program_of_a_trained_model_shows_that_it_was_trained() -> None:
    """The quick pass may learn from all tasks at once, and tells of no epoch."""
    journal = Journal(Path(":memory:"))
    journal.put_tasks([TASK])
    journal.put_fact("strategy", ["induction"])
    found = [program("right", 1.0).model_copy(update={"adapter": "abc"})]
    ledger = Ledger(
        TaskSet("x", (TASK,)),
        journal,
        selector="programs-first",
        clock=VirtualClock(),
        write=lambda _: None,
    )
    ledger.put(Assignment("quick", (TASK,), 1, 10.0, 10.0), TASK, Outcome("done", programs=found))
    assert coverage_of(journal).trained == 1


def test_programs_that_fit_go_before_every_stage_and_the_others_after_all() -> None:
    quick = [grid_candidate(ONE), *program("p", 1.0, FOUR).candidates()]
    deep = [*program("q", 0.5, TWO).candidates(), grid_candidate(THREE)]
    voted = attempts_of({"quick": quick, "deep": deep}, "programs-first", num_attempts=4)
    assert [int(g[0, 0]) for g in voted["t", 0]] == [4, 3, 1, 2]
    assert [int(g[0, 0]) for g in attempts_of({"deep": deep}, "programs-first")["t", 0]] == [3, 2]


def test_wrong_programs_are_no_doubt_about_the_grids() -> None:
    grids = [grid_candidate(ONE)] * 4
    wrong = [c for n in range(9) for c in program(str(n), 0.0, FOUR).candidates()]
    assert Ballot([*grids, *wrong]).margin() == Ballot(grids).margin()


def test_the_figures_of_programs_are_those_of_the_prior_work() -> None:
    found = [program("right", 1.0), program("half", 0.5, TWO), program("", 0.0, None, "no_code")]
    figures = program_figures(found, {"t": (FOUR,)})
    assert (
        figures["valid_code"]
        == figures["valid_outputs"]
        == figures["unique_outputs"]
        == pytest.approx(2 / 3)
    )
    assert figures["train_correct_grids"] == pytest.approx(0.5) and figures[
        "train_pass_rate"
    ] == pytest.approx(1 / 3)
    assert figures["pass_rate"] == pytest.approx(1 / 3) and figures["pass@n"] == 1.0
    assert figures["test_pixel_similarity"] == pytest.approx(1 / 3)


def test_a_share_is_split_between_programs_and_grids() -> None:
    task_set = TaskSet("x", (TASK,))
    both = settings(strategy="both", **{"program.share": 0.4})
    assignment = Schedule(task_set, both, end_s=101.5, num_workers=1)
    assignment.mark_done("t", "quick")
    job = assignment.next(0.0)
    assert job is not None and job.stage == "deep"
    assert job.program_s == pytest.approx(40.0) and 0 < job.train_s <= 60.0 * both.train.max_share
    for strategy, share in (("transduction", 0.0), ("both", 0.4), ("induction", 1.0)):
        chosen = settings(strategy=strategy)
        shares = Shares(chosen, Forecast([TASK], chosen))
        assert shares.program_share == share
        assert shares.least_s(TaskState(TASK)) > 0
        assert shares.train_s(TaskState(TASK), 10.0, None) == (
            0.0 if strategy == "induction" else 6.5
        )
        assert shares.ample_s(TaskState(TASK)) == math.inf


def writing_s(strategy: str, share: float) -> tuple[float, set[str]]:
    found = run_world.run(
        run_world.tasks(6),
        budget_s=300,
        is_planned=True,
        strategy=strategy,
        program__share=share,
        run__rounds=1,
    )
    return sum(s.seconds for s in found.spans if s.kind == "programs"), {
        s.kind for s in found.spans
    }


def test_a_rehearsal_writes_programs_as_long_as_its_share_says() -> None:
    little, much = writing_s("both", 0.1), writing_s("both", 0.5)
    assert 0 < 2 * little[0] < much[0] and {"train", "sample"} <= much[1]
    alone = writing_s("induction", 0.1)
    assert alone[0] > much[0] and not alone[1] & {"train", "sample"}
