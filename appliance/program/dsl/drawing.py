"""Draw lines, boxes and patterns; fill, grow and let cells fall. Nothing is drawn outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import (
    CORNERS,
    DOWN,
    SIDES,
    Colour,
    Direction,
    Grid,
    Mask,
    cells_of,
    grid_of,
    label,
    legal,
    searched,
    turns_to_down,
)


def canvas(height: int, width: int, colour: Colour = 0) -> Grid:
    """A grid of that size in one colour."""
    return legal(np.full((height, width), colour))


def checker(height: int, width: int, first: Colour, second: Colour) -> Grid:
    """A chequerboard that begins with the first colour."""
    rows, cols = np.indices((height, width))
    return legal(np.where((rows + cols) % 2 == 0, first, second))


def dot(grid: Grid, row: int, col: int, colour: Colour) -> Grid:
    """One cell takes the colour."""
    return rect(grid, row, col, 1, 1, colour)


def row_line(grid: Grid, row: int, colour: Colour) -> Grid:
    """A full row takes the colour."""
    return rect(grid, row, 0, 1, cells_of(grid).shape[1], colour)


def col_line(grid: Grid, col: int, colour: Colour) -> Grid:
    """A full column takes the colour."""
    return rect(grid, 0, col, cells_of(grid).shape[0], 1, colour)


def line(grid: Grid, row0: int, col0: int, row1: int, col1: int, colour: Colour) -> Grid:
    """A straight line of cells from one place to the other, both ends included."""
    num = max(abs(row1 - row0), abs(col1 - col0)) + 1
    rows = np.floor(np.linspace(row0, row1, num) + 0.5).astype(np.int64)
    cols = np.floor(np.linspace(col0, col1, num) + 0.5).astype(np.int64)
    return _dots(grid_of(grid), rows, cols, colour)


def ray(grid: Grid, row: int, col: int, direction: Direction, colour: Colour) -> Grid:
    """A line from the place in the direction to the edge, the place included."""
    steps = np.arange(max(cells_of(grid).shape))
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
    return legal(cells)


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
    rows, cols = cells_of(grid).shape
    return frame(grid, 0, 0, rows, cols, colour)


def stamp(grid: Grid, small: Grid, row: int, col: int, background: Colour = 0) -> Grid:
    """The small grid laid on, its upper left corner at the place; its background is see-through."""
    cells, part = grid_of(grid), cells_of(small)
    rows, cols = np.nonzero(part != background)
    inside = _inside(cells, rows + row, cols + col)
    cells[rows[inside] + row, cols[inside] + col] = part[rows[inside], cols[inside]]
    return legal(cells)


def flood(grid: Grid, row: int, col: int, colour: Colour) -> Grid:
    """The cell and all cells of its colour that are connected with it by sides take the colour."""
    cells = grid_of(grid)
    if not (0 <= row < cells.shape[0] and 0 <= col < cells.shape[1]):
        return cells

    numbers, _ = label(np.where(cells == cells[row, col], 0, -1), diagonal=False)
    cells[numbers == numbers[row, col]] = colour
    return legal(cells)


@searched(1, per_object=True, colour=(1,))
def fill_enclosed(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Background cells that cannot reach the edge by sides take the colour."""
    cells = cells_of(grid)
    empty = cells == background
    return legal(np.where(empty & ~_from_edge(empty), colour, cells))


@searched(1, per_object=True, colour=(1,))
def outline(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Background cells that touch another cell by side or corner take the colour."""
    cells = cells_of(grid)
    solid = cells != background
    tall = solid.copy()
    tall[1:] |= solid[:-1]
    tall[:-1] |= solid[1:]
    near = tall.copy()
    near[:, 1:] |= tall[:, :-1]
    near[:, :-1] |= tall[:, 1:]
    return legal(np.where(near & ~solid, colour, cells))


@searched(1, per_object=True)
def grow(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour of a side neighbour: of the one below, above, right or left.

    The first of these, in that order, that is not background.
    """
    cells = cells_of(grid)
    solid = cells != background
    out = np.full_like(cells, background)
    # From the last in order to the first, which lies on top.
    np.copyto(out[:, 1:], cells[:, :-1], where=solid[:, :-1])
    np.copyto(out[:, :-1], cells[:, 1:], where=solid[:, 1:])
    np.copyto(out[1:], cells[:-1], where=solid[:-1])
    np.copyto(out[:-1], cells[1:], where=solid[1:])
    np.copyto(out, cells, where=solid)
    return legal(out)


@searched(1.5, per_object=True)
def shrink(grid: Grid, background: Colour = 0) -> Grid:
    """Cells that have a background cell beside them become background."""
    cells = cells_of(grid)
    empty = cells == background
    near = empty.copy()
    near[1:] |= empty[:-1]
    near[:-1] |= empty[1:]
    near[:, 1:] |= empty[:, :-1]
    near[:, :-1] |= empty[:, 1:]
    return legal(np.where(near, background, cells))


@searched(1.5, direction=CORNERS)
@searched(1, direction=SIDES)
def extend(grid: Grid, direction: Direction, background: Colour = 0) -> Grid:
    """Each cell unlike the background leaves a trail in the direction, to the next or the edge."""
    return legal(_trail(cells_of(grid), direction, background))


@searched(1)
def connect(grid: Grid, background: Colour = 0) -> Grid:
    """Cells of equal colour with only background between them are joined; columns lie on top."""
    cells = cells_of(grid)
    out = cells.copy()
    _join(cells, out, background)
    _join(cells.T, out.T, background)
    return legal(out)


@searched(1, direction=SIDES)
def fall(grid: Grid, direction: Direction = DOWN, background: Colour = 0) -> Grid:
    """All cells unlike the background fall to that side and keep their order."""
    turns_to_down(direction)
    out = grid_of(grid)
    cells = _down(out, direction)
    order = (cells != background).argsort(axis=0, kind="stable")
    cells[:] = cells[order, np.arange(cells.shape[1])]
    return out


def _down(cells: Grid, direction: Direction) -> Grid:
    """The cells seen so that a side lies below, or a corner below on the right."""
    rows, cols = direction
    if not rows:
        cells, rows, cols = cells.T, cols, rows
    return cells[:: rows or 1, :: cols or 1]


def _slanted(cells: Grid, background: Colour) -> tuple[Grid, Grid]:
    """An array whose columns are the diagonals of the cells, and the view of the cells in it."""
    height, width = cells.shape
    if height == 1:
        out = cells.copy()
        return out, out

    # Without the first height - 1 cells, the rows are one cell shorter: each moves one to the left.
    out = np.full((height, width + height - 1), background)
    view = out.ravel()[height - 1 :][: height * (width + height - 2)].reshape(height, -1)[:, :width]
    view[:] = cells
    return out, view


def _trail(cells: Grid, direction: Direction, background: Colour) -> Grid:
    """The cells with, behind each one unlike the background, its trail in the direction."""
    if direction not in SIDES + CORNERS:
        raise ValueError(f"direction {direction}, expected one step to a side or a corner")

    out = cells.copy()
    view = _down(out, direction)
    lines, part = _slanted(view, background) if direction in CORNERS else (view, view)

    # Of each cell, the last row above it, or its own, that is not background.
    at = np.arange(len(lines))[:, None] * (lines != background)
    np.maximum.accumulate(at, axis=0, out=at)
    lines[:] = lines[at, np.arange(lines.shape[1])]
    view[:] = part
    return out


def _join(cells: Grid, out: Grid, background: Colour) -> None:
    """In the rows of `out`, fill the gaps between neighbours of equal colour."""
    rows, cols = (cells != background).nonzero()
    colours = cells[rows, cols]
    apart = (rows[1:] == rows[:-1]) & (colours[1:] == colours[:-1]) & (cols[1:] > cols[:-1] + 1)
    at = apart.nonzero()[0]
    for row, first, last, colour in zip(
        rows[at].tolist(),
        cols[at].tolist(),
        cols[at + 1].tolist(),
        colours[at].tolist(),
        strict=True,
    ):
        out[row, first + 1 : last] = colour


def _from_edge(free: Mask) -> Mask:
    """The free cells that are connected by sides with a free cell at the edge."""
    # One bit of a long number for each cell: a step to a neighbour, for all cells at once, is a
    # shift. A margin of one cell, not free, keeps the rows apart.
    height, width = free.shape
    stride = width + 1
    padded = np.zeros((height, stride), dtype=bool)
    padded[:, :width] = free
    bits = int.from_bytes(np.packbits(padded, bitorder="little").tobytes(), "little")
    padded[1:-1, 1:-2] = False
    reached = int.from_bytes(np.packbits(padded, bitorder="little").tobytes(), "little")

    before = 0
    while reached != before:
        before = reached
        reached |= reached << 1 | reached >> 1 | reached << stride | reached >> stride
        reached &= bits

    size = height * stride
    data = np.frombuffer(reached.to_bytes(-(-size // 8), "little"), dtype=np.uint8)
    found = np.unpackbits(data, count=size, bitorder="little").reshape(height, stride)
    return found[:, :width].astype(bool)


def _inside(cells: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Mask:
    inside: Mask = (rows >= 0) & (cols >= 0) & (rows < cells.shape[0]) & (cols < cells.shape[1])
    return inside


def _dots(cells: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64], colour: Colour) -> Grid:
    inside = _inside(cells, rows, cols)
    cells[rows[inside], cols[inside]] = colour
    return legal(cells)
