"""Figures stay between 0 and 1, and the sliding similarity is what sliding by hand gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import Grid
from appliance.arc.metrics import grid_figures, pixel_similarity, submission_scores
from tests.support.strategies import grids

GRIDS = grids(max_side=6, num_colours=4)
PREDICTIONS = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.lists(GRIDS | st.none(), max_size=4), max_size=3),
    max_size=3,
)
SOLUTIONS = st.dictionaries(
    st.sampled_from("abc"), st.lists(GRIDS, min_size=1, max_size=3).map(tuple), min_size=1
)


def slide(a: Grid, b: Grid) -> float:
    """The similarity as its definition says: the best overlap of all ways to lay b over a."""
    best = 0
    for down in range(-b.shape[0] + 1, a.shape[0]):
        for right in range(-b.shape[1] + 1, a.shape[1]):
            num_equal = sum(
                int(a[r, c] == b[r - down, c - right])
                for r in range(a.shape[0])
                for c in range(a.shape[1])
                if 0 <= r - down < b.shape[0] and 0 <= c - right < b.shape[1]
            )
            best = max(best, num_equal)

    height, width = max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1])
    return best / int(height * width)


@settings(deadline=None)
@given(GRIDS, GRIDS)
def test_similarity_is_what_sliding_by_hand_gives(a: Grid, b: Grid) -> None:
    if a.shape != b.shape:
        assert pixel_similarity(a, b) == pytest.approx(slide(a, b))
    assert pixel_similarity(a, b) == pytest.approx(pixel_similarity(b, a))
    assert pixel_similarity(a, a) == 1.0


@settings(deadline=None)
@given(PREDICTIONS, SOLUTIONS)
def test_figures_are_shares_and_agree_with_the_score(
    predictions: dict[str, list[list[Grid | None]]], solutions: dict[str, tuple[Grid, ...]]
) -> None:
    figures = grid_figures(predictions, solutions)
    assert all(0.0 <= value <= 1.0 for value in figures.values())
    assert figures["accuracy"] <= figures["pass_n"] <= figures["any_correct_size"]
    assert submission_scores(predictions, solutions)["by_task"] == pytest.approx(figures["pass_n"])
