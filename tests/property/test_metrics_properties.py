"""Figures stay between 0 and 1, and the sliding similarity is what sliding by hand gives."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import freeze
from appliance.arc.metrics import grid_figures, pixel_similarity, submission_scores

GRIDS = hnp.arrays(
    np.int8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)
).map(freeze)
PREDICTIONS = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.lists(GRIDS | st.none(), max_size=4), max_size=3),
    max_size=3,
)
SOLUTIONS = st.dictionaries(
    st.sampled_from("abc"), st.lists(GRIDS, min_size=1, max_size=3).map(tuple), min_size=1
)


def slide(a, b):
    best = 0
    for down in range(-b.shape[0] + 1, a.shape[0]):
        for right in range(-b.shape[1] + 1, a.shape[1]):
            best = max(
                best,
                sum(
                    a[r, c] == b[r - down, c - right]
                    for r in range(a.shape[0])
                    for c in range(a.shape[1])
                    if 0 <= r - down < b.shape[0] and 0 <= c - right < b.shape[1]
                ),
            )
    return best / (max(a.shape[0], b.shape[0]) * max(a.shape[1], b.shape[1]))


@settings(deadline=None)
@given(GRIDS, GRIDS)
def test_similarity_is_what_sliding_by_hand_gives(a, b):
    if a.shape != b.shape:
        assert pixel_similarity(a, b) == pytest.approx(slide(a, b))
    assert pixel_similarity(a, b) == pytest.approx(pixel_similarity(b, a))
    assert pixel_similarity(a, a) == 1.0


@settings(deadline=None)
@given(PREDICTIONS, SOLUTIONS)
def test_figures_are_shares_and_agree_with_the_score(predictions, solutions):
    figures = grid_figures(predictions, solutions)
    assert all(0.0 <= value <= 1.0 for value in figures.values())
    assert figures["accuracy"] <= figures["pass_n"] <= figures["any_correct_size"]
    assert submission_scores(predictions, solutions)["by_task"] == pytest.approx(figures["pass_n"])
