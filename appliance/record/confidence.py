"""How likely a grid is right, judged by where it comes from.

A *source* shares out what it has among the grids of a test output: a search its weights, a model
the probabilities of the grids that it scored, or its votes. What a grid gets against what all
others get are its odds. A curve for each source says what these are worth; the curves are learnt on
tasks with known answers, and `python -m bench.confidence` writes them to confidence.json.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from appliance.arc.grid import Grid, grid_key
from appliance.arc.vote import Candidate, Tally, is_proven, tally

CURVES_FILE = Path(__file__).with_name("confidence.json")

REST = {"search": 0.1, "programs": 1.0, "scores": 0.01, "votes": 1.0}
"""The sources, and what each gives to no grid at all: with little evidence the odds are low.

search      without a model; shares are summed weights
programs    of a model, that fit all demonstrations; shares are their numbers
scores      grids of a model; shares are mean probabilities over views
votes       grids of a model that were not scored; shares are votes
"""

LEAST = 1e-30
"""Share of a grid that a model holds to be impossible."""

MOST_LOG_ODDS = 50.0
"""No claim is surer."""

Key = tuple[int, int, bytes]
"""Of a grid, as `grid_key` gives it."""


class Claim(NamedTuple):
    """That a grid is right."""

    source: str
    log_odds: float


@dataclass(frozen=True)
class Curve:
    """What a source's odds are worth."""

    bias: float
    slope: float  # at least 0: it never falls

    def odds(self, log_odds: float) -> float:
        return math.exp(min(self.bias + self.slope * log_odds, MOST_LOG_ODDS))


def chances(
    candidates: Iterable[Candidate], curves: Mapping[str, Curve] | None = None
) -> dict[Key, float]:
    """For each grid of one test output that has a claim, the chance that it is right.

    The odds of all claims to it add up. Its chance is their part in the odds of all grids, and of
    1 for that none of them is right. curves: by source; None: those that ship.
    """
    curves = shipped_curves() if curves is None else curves
    odds = {
        key: math.fsum(curves[c.source].odds(c.log_odds) for c in claims if c.source in curves)
        for key, claims in claims_of(candidates).items()
    }
    total = 1 + math.fsum(odds.values())
    return {key: part / total for key, part in odds.items()}


def by_chance(grids: Iterable[Grid], likely: Mapping[Key, float]) -> list[Grid]:
    """The likeliest first; those that are equally likely stay in their order."""
    return sorted(grids, key=lambda grid: -likely.get(grid_key(grid), 0.0))


def claims_of(candidates: Iterable[Candidate]) -> dict[Key, list[Claim]]:
    """All that speaks for each grid of one test output.

    The plain model and the trained one each make claims of their own. Programs that miss a
    demonstration make none.
    """
    pool = list(candidates)
    written = [c for c in pool if not c.is_searched and c.demo_score is None]
    claims = [
        *_shared("search", [(t, t.weight) for t in tally(c for c in pool if c.is_searched)]),
        *_shared("programs", [(t, t.votes) for t in tally(c for c in pool if is_proven(c))]),
        *_of_model([c for c in written if c.adapter]),
        *_of_model([c for c in written if not c.adapter]),
    ]

    by_grid: dict[Key, list[Claim]] = defaultdict(list)
    for key, claim in claims:
        by_grid[key].append(claim)
    return by_grid


def _of_model(written: Sequence[Candidate]) -> list[tuple[Key, Claim]]:
    tallies = tally(written)
    scored = [t for t in tallies if t.view_scores()]
    others = [t for t in tallies if not t.view_scores()]
    # Answers that are no grid are votes for none of these, and so are votes for scored grids.
    elsewhere = len(written) - sum(t.votes for t in others)
    return [
        *_shared("scores", [(t, math.exp(min(0.0, t.mean_view_score()))) for t in scored]),
        *_shared("votes", [(t, t.votes) for t in others], elsewhere),
    ]


def _shared(
    source: str, shares: Sequence[tuple[Tally, float]], elsewhere: float = 0.0
) -> list[tuple[Key, Claim]]:
    """One source's claims. elsewhere: what it gives to grids that are not among these."""
    rest = REST[source]
    total = math.fsum(share for _, share in shares) + elsewhere + rest
    return [
        # Of a huge share the rounded total leaves nothing.
        (
            grid_key(entry.grid),
            Claim(source, math.log(max(share, LEAST) / max(total - share, rest))),
        )
        for entry, share in shares
    ]


@cache
def shipped_curves() -> Mapping[str, Curve]:
    """By source."""
    curves = json.loads(CURVES_FILE.read_text(encoding="utf-8"))["curves"]
    return {source: Curve(curve["bias"], curve["slope"]) for source, curve in curves.items()}
