"""A vote is a function of the set of candidates, never of their order."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import Grid, as_grid, grid_key
from appliance.arc.vote import SELECTORS, Candidate, margin, vote

GRIDS = st.sampled_from([None, *(as_grid([[c]]) for c in range(4))])
SCORES = st.sampled_from([None, 0.0, 0.5, 1.0])
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.sampled_from("ab"),
        st.integers(0, 1),
        GRIDS,
        st.floats(-1e4, 0) | st.just(-math.inf),
        st.integers(0, 900),
        program=st.text(max_size=5),
        demo_score=SCORES,
        view_scores=st.lists(st.floats(-1e4, 0) | st.just(-math.inf), max_size=3).map(tuple),
    ),
    max_size=25,
)
NAMES = st.sampled_from(list(SELECTORS))


def keys(
    voted: Mapping[tuple[str, int], Sequence[Grid]],
) -> dict[tuple[str, int], list[tuple[int, int, bytes]]]:
    """The attempts of each output as values that can be compared and counted."""
    return {output: [grid_key(g) for g in grids] for output, grids in voted.items()}


@settings(deadline=None)
@given(CANDIDATES, NAMES, st.randoms(use_true_random=False))
def test_order_of_candidates_changes_nothing(
    candidates: list[Candidate], selector: str, rng: random.Random
) -> None:
    shuffled = rng.sample(candidates, len(candidates))
    assert keys(vote(candidates, selector=selector)) == keys(vote(shuffled, selector=selector))


@settings(deadline=None)
@given(CANDIDATES, NAMES)
def test_attempts_are_distinct_and_as_many_as_there_are_grids(
    candidates: list[Candidate], selector: str
) -> None:
    for output, attempts in keys(vote(candidates, selector=selector)).items():
        offered = {
            grid_key(c.grid)
            for c in candidates
            if (c.task_id, c.test_index) == output and c.grid is not None
        }
        assert len(set(attempts)) == len(attempts) == min(2, len(offered))
        assert set(attempts) <= offered


@settings(deadline=None)
@given(CANDIDATES)
def test_margin_is_a_share(candidates: list[Candidate]) -> None:
    assert 0.0 <= margin(candidates) < 1.0
