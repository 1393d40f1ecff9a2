"""Count cells, colours and objects; compare grids; show numbers as grids."""

from __future__ import annotations

import numpy as np

from .base import Colour, Grid, cells_of, checked, grid_of, legal, searched
from .colour import by_frequency, colour_counts, palette
from .object import objects


def count(grid: Grid, colour: Colour) -> int:
    """Number of cells of that colour."""
    return int(np.count_nonzero(cells_of(grid) == colour))


def num_cells(grid: Grid, background: Colour = 0) -> int:
    """Number of cells unlike the background."""
    return int(np.count_nonzero(cells_of(grid) != background))


def num_colours(grid: Grid, background: Colour = 0) -> int:
    """Number of different colours besides the background."""
    return len(palette(grid, background))


def num_objects(grid: Grid, background: Colour = 0) -> int:
    """Number of objects of one colour."""
    return len(objects(grid, background=background))


def row_counts(grid: Grid, background: Colour = 0) -> list[int]:
    """For each row, its number of cells unlike the background."""
    return [int(n) for n in (cells_of(grid) != background).sum(axis=1)]


def col_counts(grid: Grid, background: Colour = 0) -> list[int]:
    """For each column, its number of cells unlike the background."""
    return [int(n) for n in (cells_of(grid) != background).sum(axis=0)]


def full_rows(grid: Grid, colour: Colour) -> list[int]:
    """Rows that have only that colour."""
    return [int(r) for r in np.flatnonzero((cells_of(grid) == colour).all(axis=1))]


def full_cols(grid: Grid, colour: Colour) -> list[int]:
    """Columns that have only that colour."""
    return [int(c) for c in np.flatnonzero((cells_of(grid) == colour).all(axis=0))]


def bar(num: int, colour: Colour) -> Grid:
    """One row of num cells of the colour."""
    return legal(np.full((1, num), colour))


def stairs(num: int, colour: Colour, background: Colour = 0) -> Grid:
    """A square with num cells of the colour on its diagonal."""
    return legal(np.where(np.eye(num, dtype=bool), colour, background))


def counter(num: int, height: int, width: int, colour: Colour, background: Colour = 0) -> Grid:
    """A grid of that size whose first num cells, in reading order, have the colour."""
    places = np.arange(height * width).reshape(height, width)
    return legal(np.where(places < num, colour, background))


@searched(1)
def histogram(grid: Grid, background: Colour = 0) -> Grid:
    """One bar from the left for each colour, as long as its number of cells, the longest first."""
    counts, ranked = colour_counts(grid, background), by_frequency(grid, background)
    if not counts:
        return checked(np.full((1, 1), background))

    out = np.full((len(counts), counts[ranked[0]]), background)
    for row, colour in enumerate(ranked):
        out[row, : counts[colour]] = colour

    return legal(out)


def most_common_grid(grids: list[Grid]) -> Grid:
    """The grid that occurs most often, the first one of equals."""
    return grid_of(max(grids, key=lambda grid: _num_equal(grid, grids)))


def odd_grid(grids: list[Grid]) -> Grid:
    """The grid that occurs least often, the first one of equals."""
    return grid_of(min(grids, key=lambda grid: _num_equal(grid, grids)))


def fullest(grids: list[Grid], background: Colour = 0) -> Grid:
    """The grid with the most cells unlike the background, the first one of equals."""
    return grid_of(max(grids, key=lambda grid: num_cells(grid, background)))


def emptiest(grids: list[Grid], background: Colour = 0) -> Grid:
    """The grid with the fewest cells unlike the background, the first one of equals."""
    return grid_of(min(grids, key=lambda grid: num_cells(grid, background)))


def _num_equal(grid: Grid, grids: list[Grid]) -> int:
    return sum(bool(np.array_equal(grid, other)) for other in grids)
