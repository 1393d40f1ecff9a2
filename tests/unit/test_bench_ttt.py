"""The intervals of the table of bench.ttt, and its figures on candidates made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.arc.vote import Candidate
from bench.kept import require_trained
from bench.ttt import cells, figures_of, interval, wilson


def test_wilson_is_the_published_interval() -> None:
    assert wilson(6, 16) == pytest.approx((0.1848, 0.6136), abs=2e-4)
    assert wilson(0, 80) == pytest.approx((0.0, 0.0458), abs=2e-4)


def test_the_interval_holds_the_mean_and_narrows_with_tasks() -> None:
    rng = np.random.default_rng(1)
    few, many = (rng.integers(0, 2, n).astype(float) for n in (20, 400))
    (a, b), (c, d) = interval(few, is_share=True), interval(many, is_share=True)
    assert a <= few.mean() <= b
    assert d - c < (b - a) / 2
    assert interval(np.zeros(80), is_share=True) == wilson(0, 80)


def test_figures_take_the_deep_pass_and_vote_over_all() -> None:
    right, wrong = (np.full((1, 1), colour, dtype=np.int8) for colour in (1, 2))
    found = {
        "quick": [Candidate("a", 0, wrong, -1.0, 3)],
        "deep": [Candidate("a", 0, wrong, -1.0, 3), Candidate("a", 0, right, -0.5, 3)],
    }
    figures = figures_of(found, {"a": (right,), "b": (right,)}, minutes=2.0)

    assert figures["a"]["accuracy"] == 0.5
    assert (figures["a"]["vote_1"], figures["a"]["vote_2"]) == (1.0, 1.0)
    assert figures["b"]["pass_n"] == 0.0
    assert len(list(cells([figures, figures]))) == 6


def test_a_row_of_which_nothing_was_trained_is_refused_with_the_reason() -> None:
    require_trained("a", [None, "no time"])
    with pytest.raises(SystemExit, match=r"^b: nothing was trained, so .*: no time$"):
        require_trained("b", ["no time", "no lesson fits", "no time"])
    with pytest.raises(SystemExit, match="no task came to training"):
        require_trained("c", [])
