"""Fits of a single piece: as it is, or with its values mapped to colours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from appliance.search.fits.fit import Fit
from appliance.search.fits.targets import NUM_VALUES, Targets

TABLE_COST = 0.5
"""Of mapping values to colours at all."""

CHANGED_COST = 0.25
"""Of each value that is changed."""

UNSEEN_COST = 2.0
"""Where a test has values that no demonstration has: what they become is a guess."""

TRIVIAL_COST = 2.0
"""A dearer piece whose cells all become one colour fits by its shape alone, which proves little."""


def direct_fits(targets: Targets) -> Iterator[Fit]:
    """Exact ones first."""
    group = targets.group
    is_exact = targets.num_right == targets.num_cells
    for piece in np.flatnonzero(is_exact).tolist():
        yield Fit(targets.cost(piece), "exact", group.test[piece], targets.text(piece))

    fits = (targets.is_pure == (targets.totals > 0)).all(axis=1)
    for piece in np.flatnonzero(fits & ~is_exact).tolist():
        fit = _mapped(targets, piece)
        if fit is not None:
            yield fit


def _mapped(targets: Targets, piece: int) -> Fit | None:
    seen = targets.totals[piece] > 0
    values = np.flatnonzero(seen)
    colours = targets.colours[piece, values]
    base = targets.cost(piece)
    if len(set(colours.tolist())) == 1 and len(values) < 3 and base > TRIVIAL_COST:
        return None

    cells = targets.group.test[piece]
    if cells.max(initial=0) >= NUM_VALUES - 1:
        return None
    is_guess = bool((~seen[cells]).any())
    names = np.arange(NUM_VALUES, dtype=np.uint8)
    names[values] = colours

    table = {int(v): int(c) for v, c in zip(values, colours, strict=True) if v != c}
    cost = base + TABLE_COST + CHANGED_COST * len(table) + UNSEEN_COST * is_guess
    return Fit(cost, "colours", names[cells], f"map_colours({targets.text(piece)}, {table})")
