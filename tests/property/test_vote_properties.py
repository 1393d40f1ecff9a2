"""A vote is a function of the set of candidates, never of their order."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import Grid, as_grid, grid_key
from appliance.arc.vote import SELECTORS, Candidate, by_votes_then_logprob, vote
from appliance.run.schedule.ballot import Ballot

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
    assert 0.0 <= Ballot(candidates).margin() < 1.0


VOTERS = st.lists(
    st.builds(
        Candidate,
        st.just("a"),
        st.just(0),
        GRIDS,
        st.floats(-1e4, 0) | st.just(-math.inf),
        st.integers(0, 900),
        view=st.sampled_from(["", "v", "w"]),
        adapter=st.sampled_from("xy"),
        demo_score=SCORES,
        weight=st.sampled_from([None, None, None, 0.05, 0.3]),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(VOTERS)
def test_votes_that_are_counted_as_they_come_are_those_of_all_at_once(
    candidates: list[Candidate],
) -> None:
    ballot = Ballot()
    for number, candidate in enumerate(candidates, start=1):
        ballot.add(candidate)
        assert ballot.margin() == margin_of(candidates[:number])
        assert ballot.lead() == lead_of(candidates[:number])


def margin_of(candidates: Sequence[Candidate]) -> float:
    """As `Ballot.margin` says it, over a whole list."""
    written = [c for c in candidates if c.weight is None]
    best: dict[object, Candidate] = {}
    for number, c in enumerate(c for c in written if c.demo_score is None):
        voter = (c.view, c.adapter) if c.view else number
        if voter not in best or c.logprob > best[voter].logprob:
            best[voter] = c

    proven = [c for c in written if c.demo_score == 1.0 and c.grid is not None]
    asked = proven or [*best.values()] or written
    votes = Counter(grid_key(c.grid) for c in asked if c.grid is not None)
    first, second = ([n for _, n in votes.most_common(2)] + [0, 0])[:2]
    return (first - second) / (len(asked) + 1)


def lead_of(candidates: Sequence[Candidate]) -> float:
    ranked = by_votes_then_logprob(candidates)
    lead = ranked[0].mean_logprob() - ranked[1].mean_logprob() if len(ranked) > 1 else 0.0
    return lead if math.isfinite(lead) else 0.0
