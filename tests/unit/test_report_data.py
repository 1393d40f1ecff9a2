"""What the page of a run says: votes in words, programs in steps, who worked when."""

from __future__ import annotations

import ast
import tomllib

import pytest

from appliance.arc.grid import Grid, as_grid
from appliance.arc.vote import Candidate
from appliance.program.steps import MOST_STEPS, steps_of
from appliance.record.journal import StageRow
from appliance.record.legs import Legs
from appliance.report.explain import GUESS, explained
from appliance.report.run_data import TaskRecord, losses_of, packed
from appliance.report.timeline import Span, spans_of
from tests.support.cases import REPOSITORY

ONE, TWO, THREE = (as_grid([[cell]]) for cell in (1, 2, 3))
HEADER = "from dsl import *\n\n\ndef transform(grid):\n"


def model(grid: Grid, view: str, *, is_trained: bool = True, score: float = -1.0) -> Candidate:
    adapter = "sha" if is_trained else ""
    return Candidate("t", 0, grid, -1.0, 4, view, adapter=adapter, view_scores=(score,))


def search(grid: Grid, weight: float, program: str = "p") -> Candidate:
    return Candidate("t", 0, grid, 0.0, 0, method="search", program=program, weight=weight)


def program(grid: Grid, score: float) -> Candidate:
    return Candidate(
        "t", 0, grid, -1.0, 4, "v", method="induction", program="code", demo_score=score
    )


def test_votes_of_the_trained_and_of_the_plain_model_are_told_apart() -> None:
    answers = [
        model(ONE, "a"),
        model(ONE, "b"),
        model(TWO, "c", score=-9.0),
        model(TWO, "d", is_trained=False, score=-9.0),
        model(TWO, "e", is_trained=False, score=-9.0),
    ]
    (first, second), others = explained([ONE, TWO], answers, "programs-first")
    told = "2 of 3 answers of the model after training, under 2 views of the task."
    assert first.words[0] == told
    assert second.words[:2] == (
        "1 of 3 answers of the model after training.",
        "All 2 answers of the plain model, under 2 views of the task.",
    )
    assert (first.votes, second.votes) == ("2 of 5", "3 of 5")
    assert "The model gives it a probability of 0.37 over 2 views." in first.words
    # The second has more votes: the page says why it is second all the same.
    assert "puts it first" in first.words[-1] and "more votes" in first.words[-1]
    assert "puts it second" in second.words[-1] and "more votes" not in second.words[-1]
    assert others == []


def test_programs_and_searches_say_why_they_go_first() -> None:
    answers = [program(ONE, 1.0), program(TWO, 0.5), search(THREE, 0.4), search(TWO, 0.01, "")]
    (first, second), (third,) = explained([ONE, THREE], answers, "programs-first")
    assert first.words == (
        "One program of the model, right on every demonstration.",
        "Programs that fit every demonstration go before all other answers.",
    )
    assert second.words[0] == "Found without a model, by a program: weight 0.40 (sure)."
    assert "goes before the votes of a model" in second.words[1]
    assert (first.program, second.program, third.program) == ("code", "p", "code")
    assert [e.source for e in (first, second, third)] == ["program", "search", "plain"]
    assert third.words[0] == "One program of the model, right on 50% of the demonstrations."


def test_an_attempt_that_nothing_answered_is_a_guess() -> None:
    (first,), others = explained([ONE], [], "programs-first")
    assert (first.words, first.chance, first.source) == ((GUESS,), None, "guess")
    assert others == []


@pytest.mark.parametrize(
    ("answers", "solved", "state"),
    [
        ((ONE, TWO), None, "partly"),
        ((ONE, ONE), None, "solved"),
        ((TWO, TWO), None, "missed"),
        ((), True, "solved"),
        ((), False, "missed"),
        ((), None, "guess"),
    ],
)
def test_the_state_of_a_task(answers: tuple[Grid, ...], solved: bool | None, state: str) -> None:
    entry = {"attempt_1": [[1]], "attempt_2": [[3]]}
    record = TaskRecord("t", None, [entry, entry], [], [], answers, solved)
    assert record.state() == state


def test_a_program_is_shown_call_by_call_and_line_by_line() -> None:
    body = "    original, grid = grid, swap(grid, background(grid), 0)\n    return flip_h(grid)\n"
    steps = steps_of(HEADER + body)
    assert [(step.code, step.is_line) for step in steps] == [
        ("background(grid)", False),
        ("swap(grid, background(grid), 0)", False),
        ("original, grid = (grid, swap(grid, background(grid), 0))", True),
        ("return flip_h(grid)", True),
    ]
    assert "return _as_picture(grid)" in steps[2].source
    for step in steps:
        ast.parse(step.source)


@pytest.mark.parametrize(
    "source", ["", "def (", "x = 1", "def other(grid):\n    return grid\n", "\0"]
)
def test_what_is_no_program_has_no_steps(source: str) -> None:
    assert steps_of(source) == []


def test_what_may_run_never_or_often_is_no_step_of_its_own() -> None:
    choice = "    out = [f(c) for c in grid] if g(grid) else h(grid)\n"
    body = f"{choice}    for c in grid:\n        out = k(c)\n    return out\n"
    codes = [step.code for step in steps_of(HEADER + body)]
    assert codes == [
        "out = [f(c) for c in grid] if g(grid) else h(grid)",
        "for c in grid:\n    out = k(c)",
        "return out",
    ]
    assert len(steps_of(HEADER + "    grid = f(grid)\n" * 30)) == MOST_STEPS


def test_a_worker_trains_and_samples_in_the_time_of_its_deep_job() -> None:
    rows = [
        StageRow("a", "quick", "done", 5.0, {"worker": 0}, at_s=110.0),
        StageRow("b", "quick", "done", 5.0, {"worker": 0}, at_s=110.1),
        StageRow("a", "train", "done", 30.0, {}, at_s=160.0),
        StageRow("a", "deep", "done", 40.0, {"worker": 1}, at_s=160.0),
        StageRow("b", "search", "done", 7.0, {"worker": 2}, at_s=120.0),
        StageRow("c", "quick", "done", 5.0),  # of an older journal: nobody knows when
    ]
    spans = spans_of(rows, Legs(((100.0, 160.0),)))
    assert [(s.lane, s.kind, s.task_ids) for s in spans] == [
        (0, "quick", ("a", "b")),
        (2, "search", ("b",)),
        (1, "train", ("a",)),
        (1, "sample", ("a",)),
    ]
    assert [(round(s.from_s), round(s.until_s)) for s in spans] == [
        (0, 10), (13, 20), (20, 50), (50, 60),
    ]  # fmt: skip


def test_without_the_workers_what_ran_at_the_same_time_has_rows_of_its_own() -> None:
    rows = [
        StageRow("a", "deep", "done", 10.0, {}, at_s=10.0),
        StageRow("b", "deep", "done", 10.0, {}, at_s=15.0),
        StageRow("c", "deep", "done", 10.0, {}, at_s=20.0),
    ]
    spans = spans_of(rows, Legs(((0.0, 20.0),)))
    assert [(s.lane, s.task_ids) for s in spans] == [(0, ("a",)), (1, ("b",)), (0, ("c",))]


def test_the_night_between_two_starts_is_not_drawn() -> None:
    rows = [
        StageRow("a", "deep", "done", 10.0, {"worker": 0}, at_s=10.0),
        StageRow("b", "deep", "done", 10.0, {"worker": 0}, at_s=50_010.0),
    ]
    spans = spans_of(rows, Legs(((0.0, 10.0), (50_000.0, 50_010.0))))
    assert spans == [
        Span(0, "sample", 0.0, 10.0, ("a",)), Span(0, "sample", 10.0, 20.0, ("b",)),
    ]  # fmt: skip


def test_losses_of_rounds_of_learning_from_programs_make_one_curve() -> None:
    epochs = [
        {"num_steps": 5, "loss_before": 2.0, "loss_after": 1.0},
        {"num_steps": 0, "reason": "no time was left"},
        {"num_steps": 4, "loss_before": 0.9, "loss_after": 0.5},
    ]
    (curve,) = losses_of([StageRow("a", "programs", "done", 9.0, {"epochs": epochs})])
    assert curve["points"] == [[0, 2.0], [5, 1.0], [5, 0.9], [9, 0.5]]


def test_a_grid_is_rows_of_digits() -> None:
    assert packed(as_grid([[1, 2], [3, 0]])) == "12/30"


def test_the_files_of_the_page_go_into_every_package() -> None:
    """All files beside the Python, so that a wheel, an image and Kaggle have them."""
    root = REPOSITORY / "appliance"
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = told["tool"]["setuptools"]["package-data"]["appliance"]
    packed = {path for pattern in patterns for path in root.glob(pattern)}
    page = {p for p in (root / "report/page").iterdir() if p.suffix in (".js", ".css", ".html")}
    assert len(page) == 3 and page <= packed
