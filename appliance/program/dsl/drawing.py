"""Draw lines, boxes and patterns; fill, grow and let cells fall. Nothing is drawn outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import (
    COLOURS,
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
    seen_down,
    turns_to_down,
)
from .object import find


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


@searched(1.5, colour=COLOURS)
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


@searched(1.5, colour=(1,), diagonal=(True,))
@searched(1, per_object=True, colour=(1,))
def fill_enclosed(
    grid: Grid, colour: Colour, background: Colour = 0, diagonal: bool = False
) -> Grid:
    """Background cells that cannot reach the edge over background take the colour.

    diagonal: whether there are steps to the corners too, and not only to the sides.
    """
    cells = cells_of(grid)
    return legal(np.where(_enclosed(cells == background, diagonal), colour, cells))


@searched(1.5)
def enclosed(
    grid: Grid, colour: Colour = 1, background: Colour = 0, diagonal: bool = False
) -> Grid:
    """The colour at the cells that `fill_enclosed` fills, background elsewhere."""
    empty = cells_of(grid) == background
    return legal(np.where(_enclosed(empty, diagonal), colour, background))


@searched(1.5)
def outside(grid: Grid, colour: Colour = 1, background: Colour = 0, diagonal: bool = False) -> Grid:
    """The colour at background cells that can reach the edge over background, background elsewhere.

    diagonal: whether there are steps to the corners too, and not only to the sides.
    """
    empty = cells_of(grid) == background
    return legal(np.where(_from_edge(empty, diagonal), colour, background))


@searched(1)
def fill_own(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells that one object encloses take its colour; of several, the first one's."""
    cells = grid_of(grid)
    holes = _enclosed(cells == background, diagonal=False)
    if not holes.any():
        return legal(cells)

    found = find(cells, background=background)
    for number, obj in enumerate(found.objects):
        if found.areas[number] < 4 or min(obj.height, obj.width) < 3:
            continue
        box = slice(obj.row, obj.row + obj.height), slice(obj.col, obj.col + obj.width)
        inner = _enclosed(~obj.mask, diagonal=False) & holes[box]
        cells[box][inner] = obj.colour
        holes[box] &= ~inner

    return cells


@searched(1, diagonal=(True, False))
def fill_boxes(grid: Grid, diagonal: bool = True, background: Colour = 0) -> Grid:
    """Background cells in the box of an object take its colour; of several, the first one's.

    diagonal: whether cells that share only a corner are of one object.
    """
    cells = grid_of(grid)
    found = find(cells, diagonal, background=background)
    for number in (found.areas < found.heights * found.widths).nonzero()[0].tolist():
        obj = found.objects[number]
        part = cells[obj.row : obj.row + obj.height, obj.col : obj.col + obj.width]
        part[part == background] = obj.grid[obj.mask][0]

    return legal(cells)


@searched(1, per_object=True, colour=(1,))
def outline(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Background cells that touch another cell by side or corner take the colour."""
    cells = cells_of(grid)
    solid = cells != background
    near = _widened(solid)
    return legal(np.where(near & ~solid, colour, cells))


@searched(1, per_object=True, diagonal=(False, True))
def grow(grid: Grid, background: Colour = 0, diagonal: bool = False) -> Grid:
    """Background cells take the colour of a side neighbour: of the one below, above, right or left.

    The first of these, in that order, that is not background. diagonal: after these, of the one
    at the lower right, lower left, upper right or upper left corner.
    """
    cells = cells_of(grid)
    solid = cells != background
    out = np.full_like(cells, background)

    # From the last in order to the first, which lies on top.
    if diagonal:
        np.copyto(out[1:, 1:], cells[:-1, :-1], where=solid[:-1, :-1])
        np.copyto(out[1:, :-1], cells[:-1, 1:], where=solid[:-1, 1:])
        np.copyto(out[:-1, 1:], cells[1:, :-1], where=solid[1:, :-1])
        np.copyto(out[:-1, :-1], cells[1:, 1:], where=solid[1:, 1:])
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


@searched(1.5)
def rim(grid: Grid, background: Colour = 0) -> Grid:
    """Only cells that touch background or the edge by side or corner; others become background."""
    cells = cells_of(grid)
    near = _widened(cells == background)
    near[0] = near[-1] = near[:, 0] = near[:, -1] = True
    return legal(np.where(near, cells, background))


@searched(2)
def interior(grid: Grid, background: Colour = 0) -> Grid:
    """The outermost cells of the grid become background."""
    cells = grid_of(grid)
    cells[0] = cells[-1] = cells[:, 0] = cells[:, -1] = background
    return legal(cells)


@searched(2)
def largest_rectangle(grid: Grid, colour: Colour = 1, background: Colour = 0) -> Grid:
    """The colour on the largest rectangles that are empty, background elsewhere.

    Only rectangles of four cells or more.
    """
    empty = cells_of(grid) == background
    height, width = empty.shape

    # depth: number of empty cells from each cell upward. Where the cells of a row from one column
    # to another are at least so deep, a rectangle of that depth stands on them.
    depth = np.zeros((height, width), dtype=np.int64)
    depth[0] = empty[0]
    for row in range(1, height):
        np.multiply(depth[row - 1] + 1, empty[row], out=depth[row])

    common, best = depth, 4
    found: list[tuple[int, Grid]] = []
    for wide in range(1, width + 1):
        if wide > 1:
            common = np.minimum(common[:, :-1], depth[:, wide - 1 :])
        area = int(common.max()) * wide
        if area > best:
            found.clear()
            best = area
        if area == best:
            found.append((wide, common))

    out = np.full((height, width), background)
    for wide, common in found:
        rows, cols = (common * wide == best).nonzero()
        for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
            out[row + 1 - best // wide : row + 1, col : col + wide] = colour

    return legal(out)


@searched(2, period=(2, 3))
def stripes_h(grid: Grid, period: int = 2) -> Grid:
    """A grid of that size whose columns are 1, 2, ... up to the period, again and again."""
    height, width = cells_of(grid).shape
    return legal(np.tile(1 + np.arange(width) % _of_stripes(period), (height, 1)))


@searched(2, period=(2, 3))
def stripes_v(grid: Grid, period: int = 2) -> Grid:
    """A grid of that size whose rows are 1, 2, ... up to the period, again and again."""
    height, width = cells_of(grid).shape
    return legal((1 + np.arange(height) % _of_stripes(period)).repeat(width).reshape(height, width))


@searched(2, period=(2, 3))
def checkerboard(grid: Grid, period: int = 2) -> Grid:
    """A grid of that size whose rising diagonals are 1, 2, ... up to the period."""
    height, width = cells_of(grid).shape
    return legal(1 + np.add.outer(np.arange(height), np.arange(width)) % _of_stripes(period))


@searched(1, direction=SIDES)
def fall(grid: Grid, direction: Direction = DOWN, background: Colour = 0) -> Grid:
    """All cells unlike the background fall to that side and keep their order."""
    turns_to_down(direction)
    out = grid_of(grid)
    cells = seen_down(out, direction)
    order = (cells != background).argsort(axis=0, kind="stable")
    cells[:] = cells[order, np.arange(cells.shape[1])]
    return out


def _of_stripes(period: int) -> int:
    if period < 1:
        raise ValueError(f"a period of {period}, expected 1 or more")
    return period


def _widened(wanted: Mask) -> Mask:
    """The wanted cells and their neighbours by side or corner."""
    tall = wanted.copy()
    tall[1:] |= wanted[:-1]
    tall[:-1] |= wanted[1:]
    wide = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide


def _enclosed(free: Mask, diagonal: bool) -> Mask:
    return free & ~_from_edge(free, diagonal)


def _from_edge(free: Mask, diagonal: bool) -> Mask:
    """The free cells that are connected over free cells with one at the edge."""
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
        sides = reached << 1 | reached >> 1
        if diagonal:
            sides |= reached
            reached = sides | sides << stride | sides >> stride
        else:
            reached |= sides | reached << stride | reached >> stride
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
