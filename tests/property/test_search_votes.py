"""What a search found without a model, among the votes of a model: the place of every grid."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import Grid, as_grid, grid_key
from appliance.arc.vote import (
    FIRST,
    SECOND,
    SELECTORS,
    Candidate,
    by_weight,
    is_proven,
    least_weight,
)
from appliance.record.attempts import attempts_of
from appliance.run.schedule.ballot import Ballot

BY_ORDER = [name for name, selector in SELECTORS.items() if not selector.by_chance]
"""Selectors that keep to the order of sources. By chance, other grids may be likelier."""

COLOURS = range(5)
GRIDS = [as_grid([[c]]) for c in COLOURS]


def written(colour: int | None, logprob: float = -1.0, score: float | None = None) -> Candidate:
    """A grid of the model, or what a program of it gave."""
    grid = None if colour is None else GRIDS[colour]
    return Candidate("t", 0, grid, logprob, 1, demo_score=score)


def found(colour: int, weight: float, index: int = 0) -> Candidate:
    """An answer of the search."""
    return Candidate(
        "t", index, GRIDS[colour], 0.0, 0, method="search", program="p", demo_score=1.0,
        weight=weight,
    )  # fmt: skip


WRITTEN = st.builds(
    written,
    st.sampled_from([None, *COLOURS]),
    st.floats(-100, 0) | st.just(-math.inf),
    st.sampled_from([None, 0.5, 1.0]),
)
FOUND = st.builds(found, st.sampled_from(COLOURS), st.floats(1e-4, 0.4))
STAGES = st.fixed_dictionaries(
    {
        "search": st.lists(FOUND, max_size=8),
        "quick": st.lists(WRITTEN, max_size=6),
        "deep": st.lists(WRITTEN, max_size=6),
    }
)


def colours(stages: dict[str, list[Candidate]], selector: str = "programs-first") -> list[int]:
    """The attempts at the only output, as colours."""
    return [int(grid[0, 0]) for grid in attempts_of(stages, selector).get(("t", 0), ())]


@settings(deadline=None)
@given(STAGES, st.sampled_from(list(SELECTORS)), st.randoms(use_true_random=False))
def test_order_changes_nothing_and_no_attempt_is_lost(
    stages: dict[str, list[Candidate]], selector: str, rng: random.Random
) -> None:
    shuffled = {
        stage: rng.sample(stages[stage], len(stages[stage]))
        for stage in rng.sample(list(stages), len(stages))
    }
    attempts = colours(stages, selector)
    assert attempts == colours(shuffled, selector)

    offered = {grid_key(c.grid) for pool in stages.values() for c in pool if c.grid is not None}
    assert len(set(attempts)) == len(attempts) == min(2, len(offered))


@settings(deadline=None)
@given(STAGES, st.sampled_from(BY_ORDER))
def test_a_sure_answer_is_never_dropped(stages: dict[str, list[Candidate]], selector: str) -> None:
    attempts = colours(stages, selector)
    best = by_weight(stages["search"])
    proven = [c for pool in stages.values() for c in pool if is_proven(c)]
    is_proven_first = bool(proven) and SELECTORS[selector].parts_programs

    if best and best[0].weight > FIRST:
        assert colour_of(best[0].grid) in attempts[: 2 if is_proven_first else 1]
    if best and best[0].weight > SECOND:
        assert colour_of(best[0].grid) in attempts


def colour_of(grid: Grid) -> int:
    return int(grid[0, 0])


@pytest.mark.parametrize(
    ("searched", "deep", "attempts"),
    [
        # Sure: before the model's grids; two of them take both attempts.
        ([found(1, 0.06), found(1, 0.06)], [written(0), written(0)], [1, 0]),
        ([found(1, 0.4), found(2, 0.5)], [written(0), written(0)], [2, 1]),
        # Likely: the second attempt, the first where there is nothing else.
        ([found(1, 0.06)], [written(0), written(2)] * 3, [0, 1]),
        ([found(1, 0.06)], [], [1]),
        ([found(1, 0.08), found(2, 0.06)], [], [1, 2]),
        # One more vote: it decides between equals, and follows grids with as many votes.
        ([found(1, 0.02)], [written(0), written(1)], [1, 0]),
        ([found(1, 0.02)], [written(0), written(2)], [0, 2]),
        ([found(1, 0.01), found(1, 0.012)], [written(0)] * 2, [0, 1]),
        ([found(1, 0.02), found(2, 0.025)], [], [2, 1]),
        # Programs of the model that fit all demonstrations come first.
        ([found(1, 0.4), found(2, 0.5)], [written(0, score=1.0)], [0, 2]),
        ([found(1, 0.4)], [written(0, score=1.0), written(2, score=1.0)], [0, 1]),
        ([found(1, 0.06)], [written(0, score=1.0), written(2, score=1.0)], [0, 1]),
        ([found(1, 0.02)], [written(0, score=1.0), written(2, score=1.0)], [0, 2]),
        ([found(0, 0.9)], [written(0, score=1.0), written(2)], [0, 2]),
    ],
)
def test_the_place_of_a_searched_grid(
    searched: list[Candidate], deep: list[Candidate], attempts: Sequence[int]
) -> None:
    assert colours({"search": searched, "deep": deep}) == attempts


@pytest.mark.parametrize(
    ("quick", "deep", "attempts"),
    [
        # All of the quick pass said 1: training on the task cannot push it out.
        ([written(1)] * 2, [written(0)] * 5 + [written(2)] * 3, [0, 1]),
        ([written(1)] * 2, [written(0)] * 5 + [written(1)], [0, 1]),
        ([written(1)] * 2, [], [1]),
        # One answer agrees with nobody, and an answer that is no grid is another opinion.
        ([written(1)], [written(0)] * 5 + [written(2)] * 3, [0, 2]),
        ([written(1)] * 2 + [written(3)], [written(0)] * 5 + [written(2)] * 3, [0, 2]),
        ([written(1)] * 2 + [written(None)], [written(0)] * 5 + [written(2)] * 3, [0, 2]),
        ([written(1)] * 2, [written(0)] * 5, [0, 1]),
    ],
)
def test_what_the_plain_model_was_sure_of_is_not_lost_to_a_worse_adapter(
    quick: list[Candidate], deep: list[Candidate], attempts: Sequence[int]
) -> None:
    for selector in BY_ORDER:
        assert colours({"quick": quick, "deep": deep}, selector) == attempts


def test_how_sure_a_search_is_goes_by_its_least_sure_output() -> None:
    both = [found(1, 0.2), found(1, 0.2), found(2, 0.3), found(3, 0.15, index=1)]
    assert least_weight(2, both) == pytest.approx(0.15)
    assert least_weight(1, both[:3]) == pytest.approx(0.4)
    assert least_weight(3, both) == least_weight(1, []) == 0.0


def test_a_search_casts_no_doubt_on_the_votes_of_the_model() -> None:
    grids = [written(0)] * 4
    assert Ballot([*grids, found(1, 0.4)]).margin() == Ballot(grids).margin()
