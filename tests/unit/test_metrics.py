"""Figures agree with those that the prior code computes, and denominators never shrink."""

from collections import defaultdict

import pytest

from appliance.arc.grid import Grid, as_grid
from appliance.arc.metrics import (
    ProgramRun,
    correct_grids,
    grid_figures,
    pixel_similarity,
    program_task_figures,
    score_program,
    submission_scores,
    task_figures,
    vote_k,
)
from tests.support.cases import read_case

A, B, WIDE = as_grid([[1, 2]]), as_grid([[1, 3]]), as_grid([[1, 2, 3]])


def test_figures_of_the_prior_code() -> None:
    case = read_case("votes_and_metrics.json")
    solutions = {i: tuple(as_grid(g) for g in grids) for i, grids in case["truth"].items()}
    predictions: dict[str, list[list[Grid | None]]] = defaultdict(list)

    for c in case["candidates"]:
        outputs = predictions[c["task_id"]]
        outputs.extend([] for _ in range(c["idx"] + 1 - len(outputs)))
        outputs[c["idx"]].append(as_grid(c["grid"]) if c["grid"] else None)

    for task_id, expected in case["metrics_per_task"].items():
        assert task_figures(predictions[task_id], solutions[task_id]) == pytest.approx(
            expected, abs=1e-9
        )
    assert grid_figures(predictions, solutions) == pytest.approx(case["metrics_mean"], abs=1e-9)


def test_figures_of_one_output() -> None:
    assert task_figures([[A, B, None, WIDE]], [A]) == {
        "accuracy": 0.25,
        "correct_pixels": 0.375,
        "max_correct_pixels": 1.0,
        "correct_size": 0.5,
        "any_correct_size": 1.0,
        "pass_n": 1.0,
        "unanswered": 0.25,
    }


def test_what_was_never_predicted_counts_as_unanswered() -> None:
    figures = grid_figures({"x": [[A]]}, {"x": (A, A), "y": (A,)})
    assert figures["unanswered"] == 0.75
    assert figures["pass_n"] == 0.25


def test_vote_k_looks_at_the_first_k() -> None:
    assert vote_k({"x": [[B, A]]}, {"x": (A,)}, 1) == 0.0
    assert vote_k({"x": [[B, A]]}, {"x": (A,)}, 2) == 1.0


def test_the_two_scores_differ_in_their_denominator() -> None:
    solutions = {"x": (A, A, A), "y": (A,), "z": (A,)}
    scores = submission_scores({"x": [[A], [B], [B, None]], "y": [[B, A]]}, solutions)
    assert scores["by_output"] == pytest.approx(2 / 5)
    assert scores["by_task"] == pytest.approx((1 / 3 + 1 + 0) / 3)


def test_nothing_to_score_is_zero() -> None:
    assert submission_scores({}, {}) == {"by_output": 0.0, "by_task": 0.0}


def test_pixel_similarity_slides_over_unequal_shapes() -> None:
    ones = [[1, 1], [1, 1]]
    assert pixel_similarity(as_grid([[1]]), as_grid(ones)) == 0.25
    assert pixel_similarity(as_grid([[1] * 3] * 2), as_grid([[1] * 2] * 3)) == pytest.approx(4 / 9)
    assert pixel_similarity(as_grid([[5]]), as_grid(ones)) == 0.0
    assert pixel_similarity(A, B) == 0.5
    assert pixel_similarity(None, A) == 0.0


def test_program_figures_take_failures_as_zero() -> None:
    runs = [
        ProgramRun(True, [A], [A]),
        ProgramRun(True, [A], [A]),
        ProgramRun(True, [B], [A]),
        ProgramRun(True, [A], [None]),
        ProgramRun(False),
    ]
    figures = program_task_figures([score_program(r, [A], [A]) for r in runs])

    assert figures == pytest.approx(
        {
            "valid_code": 0.8,
            "valid_outputs": 0.6,
            "unique_outputs": 0.4,
            "train_pixel_similarity": 0.5,
            "train_correct_grids": 0.4,
            "train_pass_rate": 0.4,
            "train_pass@n": 1.0,
            "test_pixel_similarity": 0.6,
            "test_correct_grids": 0.6,
            "test_pass_rate": 0.6,
            "test_pass@n": 1.0,
            "pass_rate": 0.4,
            "pass@n": 1.0,
        }
    )


def test_no_program_is_a_task_of_zeros() -> None:
    assert set(program_task_figures([]).values()) == {0.0}


def test_outputs_that_are_missing_are_not_correct() -> None:
    assert correct_grids([A], [A, A]) == 0.5
    assert correct_grids([], [A]) == 0.0
    assert correct_grids([A, A], [A]) == 1.0
