"""The figures of the table of bench.ttt, on candidates made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.arc.vote import Candidate
from bench.kept import require_trained
from bench.ttt import cells, figures_of


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
