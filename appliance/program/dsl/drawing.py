"""Draw lines, boxes and patterns; fill, grow and let cells fall. Nothing is drawn outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import (
    CORNERS,
    DOWN,
    LEFT,
    RIGHT,
    SIDES,
    UP,
    Colour,
    Direction,
    Grid,
    Mask,
    checked,
    components,
    grid_of,
    turns_to_down,
)
from .geometry import shift


def canvas(height: int, width: int, colour: Colour = 0) -> Grid:
    """A grid of that size in one colour."""
    return checked(np.full((height, width), colour))


def checker(height: int, width: int, first: Colour, second: Colour) -> Grid:
    """A chequerboard that begins with the first colour."""
    rows, cols = np.indices((height, width))
    return checked(np.where((rows + cols) % 2 == 0, first, second))


def dot(grid: Grid, row: int, col: int, colour: Colour) -> Grid:
    """One cell takes the colour."""
    return rect(grid, row, col, 1, 1, colour)


def row_line(grid: Grid, row: int, colour: Colour) -> Grid:
    """A full row takes the colour."""
    return rect(grid, row, 0, 1, grid_of(grid).shape[1], colour)


def col_line(grid: Grid, col: int, colour: Colour) -> Grid:
    """A full column takes the colour."""
    return rect(grid, 0, col, grid_of(grid).shape[0], 1, colour)


def line(grid: Grid, row0: int, col0: int, row1: int, col1: int, colour: Colour) -> Grid:
    """A straight line of cells from one place to the other, both ends included."""
    num = max(abs(row1 - row0), abs(col1 - col0)) + 1
    rows = np.floor(np.linspace(row0, row1, num) + 0.5).astype(np.int64)
    cols = np.floor(np.linspace(col0, col1, num) + 0.5).astype(np.int64)
    return _dots(grid_of(grid), rows, cols, colour)


def ray(grid: Grid, row: int, col: int, direction: Direction, colour: Colour) -> Grid:
    """A line from the place in the direction to the edge, the place included."""
    steps = np.arange(max(grid_of(grid).shape))
    return _dots(grid_of(grid), row + steps * direction[0], col + steps * direction[1], colour)


def cross(grid: Grid, row: int, col: int, colour: Colour) -> Grid:
    """The full row and the full column through the place take the colour."""
    return row_line(col_line(grid, col, colour), row, colour)


def diagonals(grid: Grid, row: int, col: int, colour: Colour) -> Grid:
    """Both diagonals through the place take the colour."""
    for direction in CORNERS:
        grid = ray(grid, row, col, direction, colour)
    return grid


def rect(grid: Grid, row: int, col: int, height: int, width: int, colour: Colour) -> Grid:
    """A filled box of that size, its upper left corner at the place."""
    cells = grid_of(grid)
    cells[max(0, row) : max(0, row + height), max(0, col) : max(0, col + width)] = colour
    return checked(cells)


def frame(grid: Grid, row: int, col: int, height: int, width: int, colour: Colour) -> Grid:
    """The outline of a box of that size, its upper left corner at the place."""
    for top, left, rows, cols in (
        (row, col, 1, width),
        (row + height - 1, col, 1, width),
        (row, col, height, 1),
        (row, col + width - 1, height, 1),
    ):
        grid = rect(grid, top, left, rows, cols, colour)

    return grid


def border(grid: Grid, colour: Colour) -> Grid:
    """The outermost cells of the grid take the colour."""
    rows, cols = grid_of(grid).shape
    return frame(grid, 0, 0, rows, cols, colour)


def stamp(grid: Grid, small: Grid, row: int, col: int, background: Colour = 0) -> Grid:
    """The small grid laid on, its upper left corner at the place; its background is see-through."""
    cells, part = grid_of(grid), grid_of(small)
    rows, cols = np.nonzero(part != background)
    inside = _inside(cells, rows + row, cols + col)
    cells[rows[inside] + row, cols[inside] + col] = part[rows[inside], cols[inside]]
    return checked(cells)


def flood(grid: Grid, row: int, col: int, colour: Colour) -> Grid:
    """The cell and all cells of its colour that are connected with it by sides take the colour."""
    cells = grid_of(grid)
    if not (0 <= row < cells.shape[0] and 0 <= col < cells.shape[1]):
        return cells

    for rows, cols in components(np.where(cells == cells[row, col], 0, -1), diagonal=False):
        if ((rows == row) & (cols == col)).any():
            cells[rows, cols] = colour

    return checked(cells)


def fill_enclosed(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Background cells that cannot reach the edge by sides take the colour."""
    cells = grid_of(grid)
    bottom, right = cells.shape[0] - 1, cells.shape[1] - 1
    for rows, cols in components(np.where(cells == background, 0, -1), diagonal=False):
        if rows.min() > 0 and cols.min() > 0 and rows.max() < bottom and cols.max() < right:
            cells[rows, cols] = colour

    return checked(cells)


def outline(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Background cells that touch another cell by side or corner take the colour."""
    cells = grid_of(grid)
    near = np.zeros(cells.shape, dtype=bool)
    for direction in SIDES + CORNERS:
        near |= shift(cells, direction, fill=background) != background

    return checked(np.where(near & (cells == background), colour, cells))


def grow(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour of a side neighbour: of the one below, above, right or left.

    The first of these, in that order, that is not background.
    """
    cells = grid_of(grid)
    out = cells.copy()
    for direction in (UP, DOWN, LEFT, RIGHT):
        out = np.where(out == background, shift(cells, direction, fill=background), out)

    return checked(out)


def shrink(grid: Grid, background: Colour = 0) -> Grid:
    """Cells that have a background cell beside them become background."""
    cells = grid_of(grid)
    out = cells.copy()
    for direction in SIDES:
        inside = shift(np.ones_like(cells), direction) == 1
        out[inside & (shift(cells, direction) == background)] = background

    return checked(out)


def extend(grid: Grid, direction: Direction, background: Colour = 0) -> Grid:
    """Each cell unlike the background leaves a trail in the direction, to the next or the edge."""
    cells = grid_of(grid)
    for _ in range(max(cells.shape) - 1):
        cells = np.where(cells == background, shift(cells, direction, fill=background), cells)
    return checked(cells)


def connect(grid: Grid, background: Colour = 0) -> Grid:
    """Cells of equal colour with only background between them are joined; columns lie on top."""
    cells = grid_of(grid)
    out = cells.copy()
    for one, other in ((LEFT, RIGHT), (UP, DOWN)):
        there, back = extend(cells, one, background), extend(cells, other, background)
        out = np.where((cells == background) & (there == back) & (there != background), there, out)

    return checked(out)


def fall(grid: Grid, direction: Direction = DOWN, background: Colour = 0) -> Grid:
    """All cells unlike the background fall to that side and keep their order."""
    turns = turns_to_down(direction)
    cells = np.rot90(grid_of(grid), turns)
    order = np.argsort(cells != background, axis=0, kind="stable")
    return grid_of(np.rot90(np.take_along_axis(cells, order, axis=0), -turns))


def _inside(cells: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Mask:
    inside: Mask = (rows >= 0) & (cols >= 0) & (rows < cells.shape[0]) & (cols < cells.shape[1])
    return inside


def _dots(cells: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64], colour: Colour) -> Grid:
    inside = _inside(cells, rows, cols)
    cells[rows[inside], cols[inside]] = colour
    return checked(cells)
