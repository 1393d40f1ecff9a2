"""What the cell learner reads: a base grid for every output, and the values of pieces at its cells.

The base is the input where it has the shape of the output, else the cheapest piece of that shape
that shows anything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.program import dsl
from appliance.search.pieces import Group
from appliance.search.views import ColourView

MAX_COST = 2.0
MAX_PIECES = 150
"""The cheapest pieces are read, so many and no dearer."""

FEWEST_CELLS = 4
"""Outputs of fewer cells a demonstration say too little."""

Table = tuple[list[dsl.Grid], list[NDArray[np.int64]]]


def cell_table(view: ColourView, groups: list[Group]) -> Table | None:
    """Base grids and, for each, the pieces' values as (cells, pieces); tests come last.

    None where no grid is known to have the shape of the outputs.
    """
    num_train = len(view.outputs)
    shapes = tuple((g.shape[0], g.shape[1]) for g in view.inputs)

    if shapes[:num_train] == tuple(o.shape for o in view.outputs):
        bases = list(view.inputs)
        same = [g for g in groups if g.test_shapes == shapes[num_train:]]
        if not same:
            return bases, [np.zeros((g.size, 0), np.int64) for g in bases]
        return bases, [cells.T for cells in _cheap(same[0], bases)]

    if not groups:
        return None
    group = groups[0]
    sizes = [*(o.shape for o in view.outputs), *group.test_shapes]
    empty = [np.zeros(size, np.int64) for size in sizes]
    all_bases = zip(*(_rows(group, empty)), strict=True)
    for cells in all_bases:
        bases = [c.reshape(e.shape) for c, e in zip(cells, empty, strict=True)]
        if all(b.size > 1 and b.max() > 0 for b in bases):
            break
    else:
        return None

    if sum(b.size for b in bases[:num_train]) < FEWEST_CELLS * num_train:
        return None
    return bases, [cells.T for cells in _cheap(group, bases)]


def _rows(group: Group, bases: list[dsl.Grid]) -> list[NDArray[np.int64]]:
    """For each grid the cells of all pieces, (pieces, cells)."""
    cells = np.hstack([group.train, group.test]).astype(np.int64)
    return np.split(cells, np.cumsum([b.size for b in bases])[:-1], axis=1)


def _cheap(group: Group, bases: list[dsl.Grid]) -> list[NDArray[np.int64]]:
    num = min(MAX_PIECES, int((group.costs <= MAX_COST).sum()))
    return [rows[:num] for rows in _rows(group, bases)]
