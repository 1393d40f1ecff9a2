"""Give colours other names, so that one program fits grids of different colours, and back."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from .base import NUM_COLOURS, Colour, Grid, checked


def to_ranks(grid: Grid, fixed: Collection[Colour] = ()) -> Grid:
    """Colours renamed by how frequent they are: the most frequent becomes 1, the next 2, and so on.

    0 stays 0; where the grid has no 0, its most frequent colour becomes 0. Fixed colours keep their
    name. Every colour gets a name of its own, so that `from_ranks` can undo it.
    """
    cells = checked(grid)
    return _ranks(cells, fixed)[cells]


def from_ranks(grid: Grid, original: Grid, fixed: Collection[Colour] = ()) -> Grid:
    """The grid with the names of colours that the original had before `to_ranks`."""
    names = np.argsort(_ranks(checked(original), fixed))
    return checked(names[checked(grid)])


def _ranks(cells: Grid, fixed: Collection[Colour]) -> NDArray[np.int64]:
    """The new name of each colour, 0 to 9."""
    counts = np.bincount(cells.ravel(), minlength=NUM_COLOURS)
    order = [int(c) for c in np.argsort(-counts, kind="stable") if c not in fixed]
    if counts[0] and 0 in order:
        order = [0, *(c for c in order if c != 0)]

    names = np.arange(NUM_COLOURS)
    names[order] = sorted(order)
    return names
