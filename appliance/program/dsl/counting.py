"""Count cells, colours and objects; compare grids; show numbers as grids."""

from __future__ import annotations

import numpy as np

from .base import Colour, Grid, cells_of, checked, grid_of, legal, searched
from .colour import background as ground_of
from .colour import by_frequency, frequencies, least_common, most_common, palette
from .geometry import scale_up, tile
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
    counts, ranked = frequencies(grid, background), by_frequency(grid, background)
    if not counts:
        return checked(np.full((1, 1), background))

    out = np.full((len(counts), counts[ranked[0]]), background)
    for row, colour in enumerate(ranked):
        out[row, : counts[colour]] = colour

    return legal(out)


@searched(1)
def colour_column(grid: Grid, background: Colour = 0) -> Grid:
    """One column of the colours besides the background, the most frequent on top."""
    ranked = by_frequency(grid, background)
    if not ranked:
        raise ValueError("no colour besides the background")
    return np.array(ranked).reshape(-1, 1)


@searched(1)
def colour_row(grid: Grid, background: Colour = 0) -> Grid:
    """One row of the colours besides the background, the most frequent first."""
    return colour_column(grid, background).reshape(1, -1)


@searched(1)
def most_common_cell(grid: Grid) -> Grid:
    """One cell of the most frequent colour of all."""
    return np.full((1, 1), ground_of(grid))


@searched(1)
def most_common_colour_cell(grid: Grid, background: Colour = 0) -> Grid:
    """One cell of the most frequent colour besides the background."""
    return legal(np.full((1, 1), most_common(grid, background)))


@searched(1)
def least_common_cell(grid: Grid, background: Colour = 0) -> Grid:
    """One cell of the rarest colour besides the background."""
    return legal(np.full((1, 1), least_common(grid, background)))


@searched(1)
def count_bar(grid: Grid, background: Colour = 0) -> Grid:
    """One row with a cell for each object, all of the most frequent colour besides the background.

    Raises ValueError where there is no object.
    """
    return bar(num_objects(grid, background), most_common(grid, background))


@searched(1)
def count_stairs(grid: Grid, background: Colour = 0) -> Grid:
    """A square with a cell for each object on its diagonal, all of the most frequent colour.

    Raises ValueError where there is no object.
    """
    num = num_objects(grid, background)
    return stairs(num, most_common(grid, background), background)


@searched(1.5)
def scale_by_colours(grid: Grid, background: Colour = 0) -> Grid:
    """Scaled up by the number of colours besides the background. Raises ValueError for none."""
    return scale_up(grid, num_colours(grid, background))


@searched(1.5)
def tile_by_colours(grid: Grid, background: Colour = 0) -> Grid:
    """As many copies in rows and columns as there are colours besides the background.

    Raises ValueError where there is none.
    """
    num = num_colours(grid, background)
    return tile(grid, num, num)


@searched(2)
def scale_by_cells(grid: Grid, background: Colour = 0) -> Grid:
    """Scaled up by the number of cells unlike the background. Raises ValueError for none."""
    return scale_up(grid, num_cells(grid, background))


@searched(2)
def tile_by_cells(grid: Grid, background: Colour = 0) -> Grid:
    """As many copies in rows and columns as there are cells unlike the background.

    Raises ValueError where there is none.
    """
    num = num_cells(grid, background)
    return tile(grid, num, num)


@searched(1.5)
def sort_rows(grid: Grid, background: Colour = 0) -> Grid:
    """Rows with fewer cells unlike the background come first; equals keep their order."""
    cells = cells_of(grid)
    order = (cells != background).sum(axis=1).argsort(kind="stable")
    return grid_of(cells[order])


@searched(1.5)
def sort_cols(grid: Grid, background: Colour = 0) -> Grid:
    """Columns with fewer cells unlike the background come first; equals keep their order."""
    cells = cells_of(grid)
    order = (cells != background).sum(axis=0).argsort(kind="stable")
    return grid_of(cells[:, order])


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
