"""From candidates of all stages to the attempts of a submission, the most trusted stage first.

Four kinds of grids meet in one order:

    proven   by programs of the model that fit all demonstrations
    sure     by a search without a model, with a weight above FIRST
    likely   the same, above SECOND
    others   of the model, by stage and vote; every grid of a search adds one vote

Training on a task can make a model worse at it. So a grid on which an earlier pass was of one mind
comes second among the others, and no later pass pushes it out.

The first attempt is proven, else sure, else the first of the others. Sure grids come next and after
them the likely ones, so neither is ever left out for a grid of the others.

A selector by chance keeps this order only between grids that are equally likely to be right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from appliance.arc.grid import Grid, grid_key, same_grid
from appliance.arc.vote import (
    FIRST,
    SECOND,
    Candidate,
    Output,
    Selector,
    Tally,
    by_weight,
    get_selector,
    group_by_output,
    is_proven,
    one_vote_each,
)
from appliance.record.confidence import by_chance, chances

STAGES = ("deep", "quick")
"""Most trusted first: attempts of a later stage fill what the earlier ones leave open, but for the
grids that it agreed on."""


def attempts_of(
    candidates: Mapping[str, Iterable[Candidate]], selector: str, *, num_attempts: int = 2
) -> dict[Output, tuple[Grid, ...]]:
    """Up to `num_attempts` distinct grids for every test output that has a candidate, best first.

    candidates: by stage. Raises UsageError for an unknown selector.
    """
    chosen = get_selector(selector)

    pools: dict[Output, list[list[Candidate]]] = defaultdict(list)
    for pool in _in_order_of_trust(candidates):
        for output, group in group_by_output(pool).items():
            pools[output].append(group)

    return {
        output: tuple(_ranked(pools[output], chosen)[:num_attempts]) for output in sorted(pools)
    }


def program_of(grid: Grid, candidates: Iterable[Candidate]) -> str:
    """The program of a search that gives this grid, the heaviest one; "" where there is none."""
    giving = [
        c
        for c in candidates
        if c.weight is not None and c.program and c.grid is not None and same_grid(c.grid, grid)
    ]
    return max(giving, key=lambda c: (c.weight or 0.0, c.program)).program if giving else ""


def _in_order_of_trust(candidates: Mapping[str, Iterable[Candidate]]) -> list[list[Candidate]]:
    others = [stage for stage in candidates if stage not in STAGES]
    return [list(candidates.get(stage, ())) for stage in (*STAGES, *others)]


def _ranked(pools: Sequence[Sequence[Candidate]], selector: Selector) -> list[Grid]:
    """All grids of one test output, best first.

    pools: its candidates by stage, the most trusted first.
    """
    found = by_weight(c for pool in pools for c in pool)
    sure = [t for t in found if t.weight > FIRST]
    likely = [t for t in found if SECOND < t.weight <= FIRST]

    written = [[c for c in pool if not c.is_searched] for pool in pools]
    proven, partial = [], []
    if selector.parts_programs:
        # Only programs have a score on the demonstrations.
        programs = [c for pool in written for c in pool if c.demo_score is not None]
        written = [[c for c in pool if c.demo_score is None] for pool in written]
        proven = selector.rank([c for c in programs if is_proven(c)])
        partial = selector.rank([c for c in programs if not is_proven(c)])

    others = _others(written, one_vote_each(found), selector)
    head = [*proven[:1], *sure] or others[:1]
    ranked = [*head, *likely, *proven[1:], *others, *partial]
    grids = _distinct(t.grid for t in ranked)
    if selector.by_chance:
        return by_chance(grids, chances(c for pool in pools for c in pool))
    return grids


def _others(
    written: Sequence[Sequence[Candidate]], searched: Sequence[Candidate], selector: Selector
) -> list[Tally]:
    """The model's grids stage by stage; a search votes in the first stage that has any."""
    pools = [list(pool) for pool in written if any(c.grid is not None for c in pool)] or [[]]
    pools[0] += searched
    ranked = [selector.rank(pool) for pool in pools]

    agreed = [
        best
        for pool, (best, *_) in zip(pools[1:], ranked[1:], strict=True)
        if best.votes == len(pool) > 1  # every answer, and more than one, is this grid
    ]
    return [*ranked[0][:1], *agreed, *ranked[0][1:], *(t for later in ranked[1:] for t in later)]


def _distinct(grids: Iterable[Grid]) -> list[Grid]:
    first: dict[tuple[int, int, bytes], Grid] = {}
    for grid in grids:
        first.setdefault(grid_key(grid), grid)
    return list(first.values())
