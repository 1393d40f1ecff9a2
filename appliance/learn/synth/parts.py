"""Connected parts of a grid, for rules that may not use the DSL, since they check it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.learn.synth.family import Cells


@dataclass(frozen=True, eq=False)
class Part:
    """One connected part."""

    where: NDArray[np.bool_]  # (height, width) of the whole grid, True at the cells of the part
    colour: int  # of its first cell in reading order

    @property
    def size(self) -> int:
        return int(self.where.sum())

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of its bounding box."""
        rows, cols = np.nonzero(self.where)
        return slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1)

    def is_full(self) -> bool:
        """Whether the part fills its box."""
        return bool(self.where[self.box].all())


def parts_of(cells: Cells, *, any_colour: bool = False) -> list[Part]:
    """Cells of one colour (or of any but 0) that are connected by sides or corners, in reading
    order.

    Every cell starts with its own number, and the smallest number spreads until nothing changes.
    """
    height, width = cells.shape
    far = cells.size
    kind = np.pad((cells != 0).astype(np.int64) if any_colour else cells, 1)
    number = np.pad(
        np.where(cells != 0, np.arange(far).reshape(cells.shape), far), 1, constant_values=far
    )
    inner = kind[1:-1, 1:-1]

    while True:
        best = number[1:-1, 1:-1].copy()
        for down in range(3):
            for across in range(3):
                window = slice(down, down + height), slice(across, across + width)
                best = np.where(
                    (kind[window] == inner) & (inner != 0), np.minimum(best, number[window]), best
                )
        if np.array_equal(best, number[1:-1, 1:-1]):
            break
        number[1:-1, 1:-1] = best

    return [Part(best == n, int(cells.ravel()[n])) for n in np.unique(best) if n < far]


def cut(cells: Cells, part: Part) -> Cells:
    """The box of the part with its own cells only."""
    kept: Cells = np.where(part.where, cells, 0)[part.box]
    return kept


def num_holes(part: Part) -> int:
    """Areas inside the part from which no path along sides of cells leads outside.

    That is 1 minus the Euler number, which Gray (1971) counts from the 2 x 2 windows with one cell,
    with three, and with two on a diagonal.
    """
    where = np.pad(part.where[part.box], 1).astype(np.int64)
    corners = where[:-1, :-1], where[:-1, 1:], where[1:, :-1], where[1:, 1:]

    filled = np.sum(corners, axis=0)
    diagonal = (filled == 2) & (corners[0] == corners[3])
    euler = int((filled == 1).sum() - (filled == 3).sum() - 2 * diagonal.sum()) // 4
    return 1 - euler
