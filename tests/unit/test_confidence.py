"""The chance that a grid is right, from all that speaks for it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from appliance.arc.grid import Grid, as_grid, grid_key
from appliance.arc.vote import Candidate
from appliance.record.attempts import attempts_of
from appliance.record.confidence import Curve, chances, claims_of, shipped_curves

A, B, C = as_grid([[1]]), as_grid([[2]]), as_grid([[3]])
PLAIN = {name: Curve(0.0, 1.0) for name in ("search", "programs", "scores", "votes")}
"""Odds are worth what they are."""


def written(grid: Grid | None, adapter: str = "", *views: float) -> Candidate:
    return Candidate(
        "t", 0, grid, -1.0, 1, adapter=adapter, view_scores=tuple(map(math.log, views))
    )


def found(grid: Grid, weight: float, method: str = "search") -> Candidate:
    return Candidate("t", 0, grid, 0.0, 0, method=method, demo_score=1.0, weight=weight)


def program(grid: Grid, score: float) -> Candidate:
    return Candidate("t", 0, grid, -1.0, 1, method="induction", program="p", demo_score=score)


def odds_of(candidates: list[Candidate], grid: Grid) -> dict[str, float]:
    return {c.source: math.exp(c.log_odds) for c in claims_of(candidates).get(grid_key(grid), ())}


def test_votes_are_odds_against_all_other_answers_and_one_more() -> None:
    pool = [written(A), written(A), written(B), written(None)]
    assert odds_of(pool, A) == {"votes": pytest.approx(2 / 3)}
    assert odds_of(pool, B) == {"votes": pytest.approx(1 / 4)}
    assert odds_of([written(A)] * 16, A) == {"votes": pytest.approx(16)}


def test_the_plain_and_the_trained_model_each_make_a_claim() -> None:
    pool = [written(A), written(A), written(A, "adapter"), written(B, "adapter")]
    claims = claims_of(pool)[grid_key(A)]
    assert [c.source for c in claims] == ["votes", "votes"]
    assert [math.exp(c.log_odds) for c in claims] == pytest.approx([1 / 2, 2 / 1])


def test_scored_grids_share_what_their_probabilities_leave() -> None:
    pool = [written(A, "adapter", 0.4, 0.1), written(B, "adapter", 0.1), written(C, "adapter")]
    assert odds_of(pool, A) == {"scores": pytest.approx(0.2 / 0.11)}  # the geometric mean
    assert odds_of(pool, B) == {"scores": pytest.approx(0.1 / 0.21)}
    assert odds_of(pool, C) == {"votes": pytest.approx(1 / 3)}  # two votes went to scored grids


def test_weights_of_programs_and_of_cells_add_up() -> None:
    pool = [found(A, 0.2), found(A, 0.05, "cells"), found(B, 0.07)]
    assert odds_of(pool, A) == {"search": pytest.approx(0.25 / 0.17)}
    assert odds_of([found(A, 1e30)], A) == {"search": pytest.approx(1e30 / 0.1)}


def test_only_programs_that_fit_make_a_claim() -> None:
    pool = [program(A, 1.0), program(A, 1.0), program(B, 1.0), program(C, 0.5)]
    assert odds_of(pool, A) == {"programs": pytest.approx(2 / 2)}
    assert odds_of(pool, C) == {}


def test_odds_of_a_grid_add_up_and_are_divided_by_those_of_all() -> None:
    # A: votes 2/2 and weight 0.2/0.1; B: votes 1/3. Together 3.333, and 1 for none of them.
    pool = [written(A), written(A), written(B), found(A, 0.2)]
    likely = chances(pool, PLAIN)
    assert likely[grid_key(A)] == pytest.approx(3 / (1 + 3 + 1 / 3))
    assert likely[grid_key(B)] == pytest.approx((1 / 3) / (1 + 3 + 1 / 3))


def test_a_curve_says_what_odds_are_worth() -> None:
    curves = {"votes": Curve(math.log(3), 2.0)}  # 3 x odds^2
    likely = chances([written(A), written(A), found(B, 0.5)], curves)
    assert likely[grid_key(A)] == pytest.approx(12 / 13)
    assert likely[grid_key(B)] == 0  # nobody knows what its source is worth


def test_an_impossible_grid_has_no_chance_and_breaks_nothing() -> None:
    pool = [replace(written(A), view_scores=(-math.inf,)), written(B)]
    likely = chances(pool, PLAIN)
    assert 0 <= likely[grid_key(A)] < 1e-20 < likely[grid_key(B)]
    assert chances([]) == chances([written(None)]) == {}


def test_the_curves_that_ship_know_every_source_and_never_fall() -> None:
    curves = shipped_curves()
    assert set(curves) == set(PLAIN)
    assert all(curve.slope >= 0 for curve in curves.values())
    assert curves["search"].odds(3.0) > 10 > 1 > curves["search"].odds(-3.0)


def test_by_chance_a_doubtful_search_follows_a_sure_model_and_leads_an_unsure_one() -> None:
    searched = [found(C, 0.12), found(B, 0.11), found(as_grid([[4]]), 0.1)]  # each above FIRST
    sure = [written(A, "adapter", 0.9)] * 15 + [written(B, "adapter", 0.001)]
    unsure = [written(A, "adapter", 0.001)] * 3 + [written(B, "adapter", 0.0001)]

    def attempts(selector: str, deep: list[Candidate]) -> list[int]:
        voted = attempts_of({"search": searched, "deep": deep}, selector)["t", 0]
        return [int(grid[0, 0]) for grid in voted]

    assert attempts("programs-first", sure) == attempts("programs-first", unsure) == [3, 2]
    assert attempts("confidence", sure)[0] == 1
    assert attempts("confidence", unsure) == [3, 2]


def test_claims_do_not_depend_on_the_order_of_candidates() -> None:
    pool = [written(A, "x", 0.3), written(B, "x", 0.1), found(A, 0.1), found(B, 0.7), written(C)]
    assert chances(pool) == chances(pool[::-1])
