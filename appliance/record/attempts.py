"""From candidates of all stages to the attempts of the submission: what the adapted model says first, then the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from appliance.arc.grid import Grid, grid_key
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate, Output, is_proven, vote

STAGES = ("deep", "quick")
"""Most trusted first: attempts of a later stage only fill what the earlier ones leave open. All rounds of a stage vote as
one. Under the default selector programs stand apart: those that fit all demonstrations go before all stages, whichever they
come from, and those that do not come after all of them."""
_PROVEN = "proven"


def attempts_of(
    candidates: Mapping[str, Iterable[Candidate]], selector: str, *, num_attempts: int = 2
) -> dict[Output, tuple[Grid, ...]]:
    """Up to `num_attempts` distinct grids for every test output that has a candidate, best first."""
    pooled: dict[str, list[Candidate]] = {_PROVEN: [], **{stage: [] for stage in STAGES}}
    partial: list[Candidate] = []
    for stage, found in candidates.items():
        pool = pooled.setdefault(stage, [])
        for c in found:
            apart = selector == DEFAULT_SELECTOR and c.demo_score is not None
            (pool if not apart else pooled[_PROVEN] if is_proven(c) else partial).append(c)
    pooled["partial"] = partial
    ranked: dict[Output, list[Grid]] = {}
    for found in pooled.values():
        for output, grids in vote(found, selector=selector, num_attempts=num_attempts).items():
            ranked.setdefault(output, []).extend(grids)
    return {output: _distinct(grids)[:num_attempts] for output, grids in ranked.items()}


def _distinct(grids: Sequence[Grid]) -> tuple[Grid, ...]:
    first: dict[tuple[int, int, bytes], Grid] = {}
    for grid in grids:
        first.setdefault(grid_key(grid), grid)
    return tuple(first.values())
