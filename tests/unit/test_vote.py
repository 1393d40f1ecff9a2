"""Votes: the prior counts, programs ranked by their demonstrations, attempts that differ."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import pytest

from appliance.arc.grid import Grid, as_grid, to_lists
from appliance.arc.vote import Candidate, get_selector, vote
from appliance.errors import UsageError
from appliance.run.schedule.ballot import Ballot
from tests.support.cases import read_case

GridLists = list[list[int]]
A, B, C, D = as_grid([[1]]), as_grid([[2]]), as_grid([[3, 3]]), as_grid([[4]])


def grid_candidate(
    grid: Grid | None, logprob: float = -1.0, num_tokens: int = 1, test_index: int = 0
) -> Candidate:
    return Candidate("t", test_index, grid, logprob, num_tokens)


def program(grid: Grid, demo_score: float, chars: int = 10) -> Candidate:
    return Candidate(
        "t", 0, grid, -1.0, 1, method="induction", program="x" * chars, demo_score=demo_score
    )


def first(candidates: list[Candidate], selector: str = "votes-then-logprob") -> list[GridLists]:
    """The attempts at the first test output of the only task."""

    return [to_lists(g) for g in vote(candidates, selector=selector)["t", 0]]


def test_votes_of_the_prior_code() -> None:
    case = read_case("votes_and_metrics.json")
    candidates = [
        Candidate(
            c["task_id"],
            c["idx"],
            as_grid(c["grid"]) if c["grid"] else None,
            c["cumulative_logprob"],
            c["n_tokens"],
        )
        for c in case["candidates"]
    ]
    ours: dict[str, list[dict[str, GridLists]]] = defaultdict(list)
    for (task_id, _), grids in vote(candidates).items():
        lists = [*map(to_lists, grids), [], []]
        ours[task_id].append({"attempt_1": lists[0], "attempt_2": lists[1]})

    assert ours == case["votes"]


def test_candidates_are_equal_by_value_grids_included() -> None:
    assert grid_candidate(A) == grid_candidate(as_grid([[1]])) != grid_candidate(B)
    assert len({grid_candidate(A), grid_candidate(as_grid([[1]])), grid_candidate(None)}) == 2


def test_votes_come_before_log_probability() -> None:
    candidates = [grid_candidate(A, -0.01), grid_candidate(B, -9.0), grid_candidate(B, -9.0)]
    assert first(candidates) == [[[2]], [[1]]]
    assert first(candidates, "logprob-only") == [[[1]], [[2]]]


def test_the_product_over_views_ranks_scored_answers_before_others() -> None:
    def scored(grid: Grid, *scores: float) -> Candidate:
        return replace(grid_candidate(grid, -0.5), view_scores=scores)

    seen_often = [scored(A, -2.0, -6.0), scored(A, -2.0, -6.0)]
    likely = [scored(B, -3.0, -3.0)]
    assert first([*seen_often, *likely, grid_candidate(C)], "product-of-views") == [[[2]], [[1]]]
    assert first([*seen_often, *likely, grid_candidate(C)], "votes-then-logprob")[0] == [[1]]
    assert first([grid_candidate(C), grid_candidate(A), grid_candidate(A)], "product-of-views")[
        0
    ] == [[1]]
    assert first([*seen_often, *likely, grid_candidate(C)], "programs-first") == [[[2]], [[1]]]


def test_the_four_ways_to_put_views_together_each_choose_another_grid() -> None:
    def scored(grid: Grid, *probabilities: float) -> Candidate:
        logs = tuple(map(math.log, probabilities))
        return replace(grid_candidate(grid, -0.5), view_scores=logs)

    even = scored(A, 0.2, 0.2, 0.2)  # product 0.008, mean 0.2, median 0.2
    spoken_for = scored(B, 0.6, 0.1, 0.1)  # product 0.006, mean 0.267, median 0.1
    doubted = scored(C, 0.001, 0.3, 0.25)  # product 0.000075, mean 0.184, median 0.25
    # Votes and mean of logs: A 1 - 1.61, B 1 - 1.71, C 1 - 3.17, D 3 - 3.00.
    voted = [scored(D, 0.05, 0.05, 0.05)] * 3
    candidates = [even, spoken_for, doubted, *voted]

    assert first(candidates, "product-of-views") == [[[1]], [[2]]]
    assert first(candidates, "mean-of-views") == [[[2]], [[1]]]
    assert first(candidates, "median-of-views") == [[[3, 3]], [[1]]]
    assert first(candidates, "nvarc") == [[[4]], [[1]]]


def test_the_median_of_two_views_lies_between_them() -> None:
    wide = replace(grid_candidate(A), view_scores=(-1.0, -4.0))  # -2.5
    close = replace(grid_candidate(B), view_scores=(-2.4, -2.4))
    assert first([wide, close], "median-of-views") == [[[2]], [[1]]]


@pytest.mark.parametrize("selector", ["mean-of-views", "median-of-views", "nvarc"])
def test_what_no_view_scored_goes_by_votes(selector: str) -> None:
    ruled_out = replace(grid_candidate(A), view_scores=(-math.inf, -math.inf))
    many = [grid_candidate(B)] * 5
    assert first([ruled_out, *many], selector) == [[[2]], [[1]]]
    assert first([grid_candidate(A), *many], selector) == [[[2]], [[1]]]


def test_one_view_rules_a_grid_out_of_a_product_but_not_of_a_mean() -> None:
    ruled_out = replace(grid_candidate(A), view_scores=(-0.1, -math.inf))
    likely = replace(grid_candidate(B), view_scores=(-2.0, -2.0))
    assert first([ruled_out, likely], "product-of-views") == [[[2]], [[1]]]
    assert first([ruled_out, likely], "mean-of-views") == [[[1]], [[2]]]


def test_log_probability_is_per_token() -> None:
    assert first([grid_candidate(A, -4.0, 1), grid_candidate(B, -8.0, 4)]) == [[[2]], [[1]]]


def test_summed_probability_weighs_voters() -> None:
    candidates = [grid_candidate(A, math.log(0.5)), *[grid_candidate(B, math.log(0.3))] * 2]
    assert first(candidates, "sum-probability")[0] == [[2]]
    assert first([grid_candidate(A, -5000.0), grid_candidate(B, -5001.0)], "sum-probability")[
        0
    ] == [[1]]


def test_what_could_not_be_read_has_no_vote() -> None:
    assert vote([grid_candidate(None)] * 3) == {("t", 0): ()}


def test_test_outputs_are_voted_apart() -> None:
    voted = vote([grid_candidate(A), grid_candidate(B, test_index=1)])
    assert {output: [to_lists(g) for g in grids] for output, grids in voted.items()} == {
        ("t", 0): [[[1]]],
        ("t", 1): [[[2]]],
    }


@pytest.mark.parametrize("logprob", [math.nan, -math.inf])
@pytest.mark.parametrize(
    "selector", ["votes-then-logprob", "logprob-only", "sum-probability", "programs-first"]
)
def test_a_broken_log_probability_loses_and_breaks_nothing(selector: str, logprob: float) -> None:
    assert first([grid_candidate(A, logprob), grid_candidate(B)], selector) == [[[2]], [[1]]]


def test_programs_rank_by_demonstrations_then_votes_then_length() -> None:
    candidates = [
        program(A, 0.5),
        program(A, 0.5),
        program(B, 1.0, chars=50),
        program(C, 1.0, chars=40),
    ]

    assert first(candidates, "demonstrations") == [[[3, 3]], [[2]]]
    assert first([*candidates, program(B, 1.0, chars=90)], "demonstrations") == [[[2]], [[3, 3]]]


def test_a_grid_of_a_higher_level_does_not_take_the_second_attempt_too() -> None:
    assert first([program(A, 1.0), program(A, 0.5), program(B, 0.2)], "demonstrations") == [
        [[1]],
        [[2]],
    ]


def test_combined_programs_that_fit_come_first_and_the_rest_last() -> None:
    candidates = [program(B, 1.0), *[grid_candidate(A)] * 9, program(C, 0.5)]
    assert [to_lists(g) for g in vote(candidates)["t", 0]] == [[[2]], [[1]]]
    assert [to_lists(g) for g in vote([program(B, 0.5), grid_candidate(A)])["t", 0]] == [
        [[1]],
        [[2]],
    ]


def test_combined_attempts_are_distinct_and_filled() -> None:
    candidates = [
        program(A, 1.0),
        grid_candidate(A),
        grid_candidate(A),
        program(A, 0.5),
        program(B, 0.1),
    ]

    assert [to_lists(g) for g in vote(candidates)["t", 0]] == [[[1]], [[2]]]


def test_a_misspelt_selector_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean votes-then-logprob"):
        get_selector("votes-then-logprobs")


def test_margin_grows_with_agreement_and_with_evidence() -> None:
    assert (
        Ballot([]).margin()
        == Ballot([grid_candidate(None)]).margin()
        == Ballot([grid_candidate(A), grid_candidate(B)]).margin()
        == 0.0
    )

    lone, agreed, many = (Ballot([grid_candidate(A)] * n).margin() for n in (1, 8, 100))
    assert 0 < lone < agreed < many < 1
    assert Ballot([grid_candidate(A)] * 6 + [grid_candidate(B)] * 2).margin() < agreed
    assert Ballot([grid_candidate(A)] * 6 + [grid_candidate(None)] * 2).margin() < agreed


def test_margin_asks_proven_programs_alone_where_there_are_any() -> None:
    disputed = [grid_candidate(B), grid_candidate(C)] * 4
    assert (
        Ballot([program(A, 1.0)] * 8 + disputed).margin()
        == Ballot([program(A, 1.0)] * 8).margin()
        > 0.8
    )
