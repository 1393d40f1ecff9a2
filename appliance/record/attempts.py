"""From candidates of all stages to the attempts of a submission, the most trusted stage first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from appliance.arc.grid import Grid, grid_key
from appliance.arc.vote import Candidate, Output, get_selector, is_proven, vote

STAGES = ("deep", "quick")
"""Most trusted first: attempts of a later stage only fill what the earlier ones leave open."""


def attempts_of(
    candidates: Mapping[str, Iterable[Candidate]], selector: str, *, num_attempts: int = 2
) -> dict[Output, tuple[Grid, ...]]:
    """Up to `num_attempts` distinct grids for every test output that has a candidate, best first.

    candidates: by stage. Raises UsageError for an unknown selector.
    """
    if get_selector(selector).parts_programs:
        pools = _with_programs_apart(candidates)
    else:
        pools = _in_order_of_trust(candidates)

    ranked: dict[Output, list[Grid]] = {}
    for pool in pools:
        for output, grids in vote(pool, selector=selector, num_attempts=num_attempts).items():
            ranked.setdefault(output, []).extend(grids)
    return {output: _distinct(grids)[:num_attempts] for output, grids in ranked.items()}


def _in_order_of_trust(candidates: Mapping[str, Iterable[Candidate]]) -> list[list[Candidate]]:
    others = [stage for stage in candidates if stage not in STAGES]
    return [list(candidates.get(stage, ())) for stage in (*STAGES, *others)]


def _with_programs_apart(candidates: Mapping[str, Iterable[Candidate]]) -> list[list[Candidate]]:
    """Programs that fit go before the grids of every stage, the other programs after them."""
    pools = _in_order_of_trust(candidates)
    # Only programs have a score on the demonstrations.
    programs = [c for pool in pools for c in pool if c.demo_score is not None]
    grids = [[c for c in pool if c.demo_score is None] for pool in pools]
    proven = [c for c in programs if is_proven(c)]
    partial = [c for c in programs if not is_proven(c)]

    return [proven, *grids, partial]


def _distinct(grids: Sequence[Grid]) -> tuple[Grid, ...]:
    first: dict[tuple[int, int, bytes], Grid] = {}
    for grid in grids:
        first.setdefault(grid_key(grid), grid)
    return tuple(first.values())
