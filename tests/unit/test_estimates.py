"""Estimates against brute force, against exact expectations, and against published values."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.record.experiments.estimates import (
    bootstrap,
    chance_interval,
    paired_difference,
    pass_at,
    predictions_needed,
    share_interval,
    sign_test,
    wilson,
)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_is_the_share_of_sets_that_hold_a_right_one(
    is_right: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(is_right)))
    sets = list(combinations(is_right, k))
    share = sum(map(any, sets)) / len(sets)
    assert pass_at(k, len(is_right), sum(is_right)) == pytest.approx(share, abs=1e-12)


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 4, 16])
def test_the_estimates_are_unbiased(n: int, p: float) -> None:
    """Exactly: summed over every number of right predictions, with its chance."""
    chances = binomial(n, p)
    for k in range(1, n + 1):
        mean = sum(w * pass_at(k, n, c) for c, w in enumerate(chances))
        assert mean == pytest.approx(1 - (1 - p) ** k)

    mean = sum(w * predictions_needed(n, c) for c, w in enumerate(chances))
    # Of min(first right prediction, n + 1): it is more than j with chance (1 - p)^j.
    assert mean == pytest.approx(sum((1 - p) ** j for j in range(n + 1)))
    assert mean == pytest.approx((1 - (1 - p) ** (n + 1)) / p)


def test_they_are_unbiased_in_a_simulation_and_the_naive_ones_are_not() -> None:
    """Predictions are drawn one by one, for tasks of unlike difficulty."""
    rng = np.random.default_rng(7)
    n, k, num_draws = 16, 8, 20_000
    p = rng.beta(0.3, 1.0, num_draws)  # most tasks are seldom solved, some nearly always
    right = (rng.random((num_draws, n)) < p[:, None]).sum(axis=1)

    truth = float(np.mean(1 - (1 - p) ** k))
    estimate = np.mean([pass_at(k, n, int(c)) for c in right])
    naive = np.mean(1 - (1 - right / n) ** k)
    assert estimate == pytest.approx(truth, abs=0.01)
    assert naive < truth - 0.02

    needed = float(np.mean((1 - (1 - p) ** (n + 1)) / p))
    assert np.mean([predictions_needed(n, int(c)) for c in right]) == pytest.approx(
        needed, rel=0.02
    )
    solved = right > 0
    assert np.mean(n / right[solved]) < 0.7 * needed  # without those that were never solved


@given(st.integers(0, 6), st.integers(0, 6))
def test_the_sign_test_counts_the_falls_of_coins(num_more: int, num_less: int) -> None:
    num = num_more + num_less
    least = min(num_more, num_less)
    falls = [bin(coins).count("1") for coins in range(2**num)]
    as_uneven = sum(min(heads, num - heads) <= least for heads in falls)
    assert sign_test(num_more, num_less) == pytest.approx(min(1.0, as_uneven / 2**num))


def test_a_difference_is_told_task_by_task() -> None:
    found = paired_difference([1.0, 1.0, 0.0, 0.5], [0.0, 1.0, 1.0, 0.0])
    assert (found.mean, found.num_more, found.num_less, found.p_value) == (0.125, 2, 1, 1.0)
    low, high = found.interval
    assert low <= found.mean <= high


def test_intervals_are_the_published_ones() -> None:
    assert wilson(6, 16) == pytest.approx((0.1848, 0.6136), abs=2e-4)
    assert wilson(0, 80) == pytest.approx((0.0, 0.0458), abs=2e-4)
    # Clopper and Pearson's: the rule of three for no success, and R's binom.test(7, 20).
    assert chance_interval(20, 0) == pytest.approx((0.0, 0.1684), abs=2e-4)
    assert chance_interval(20, 7) == pytest.approx((0.1539, 0.5922), abs=2e-4)
    assert chance_interval(5, 5)[1] == 1.0


def test_the_interval_holds_the_mean_and_narrows_with_tasks() -> None:
    rng = np.random.default_rng(1)
    few, many = (rng.integers(0, 2, n).astype(float) for n in (20, 400))
    (a, b), (c, d) = share_interval(few), share_interval(many)
    assert a <= few.mean() <= b
    assert d - c < (b - a) / 2
    assert share_interval(np.zeros(80)) == wilson(0, 80)


def test_weights_count_as_if_a_task_stood_several_times() -> None:
    low, high = bootstrap([0.0, 1.0, 1.0], [3.0, 1.0, 1.0])
    assert 0.0 == low < 2 / 5 < high == 1.0
    assert bootstrap([0.2, 0.4, 0.9], [2.0, 2.0, 2.0]) == pytest.approx(bootstrap([0.2, 0.4, 0.9]))
