"""Turn, mirror, cut, scale and shift whole grids."""

from __future__ import annotations

import numpy as np

from .base import (
    LEFT,
    RIGHT,
    SIDES,
    UP,
    Colour,
    Direction,
    Grid,
    Mask,
    cells_of,
    check_size,
    checked,
    grid_of,
    legal,
    searched,
    turns_to_down,
)


def height(grid: Grid) -> int:
    """Number of rows."""
    return int(cells_of(grid).shape[0])


def width(grid: Grid) -> int:
    """Number of columns."""
    return int(cells_of(grid).shape[1])


@searched(1, per_object=True)
def rot90(grid: Grid) -> Grid:
    """A quarter turn clockwise."""
    return cells_of(grid)[::-1].T.copy()


@searched(1, per_object=True)
def rot180(grid: Grid) -> Grid:
    """A half turn."""
    return cells_of(grid)[::-1, ::-1].copy()


@searched(1, per_object=True)
def rot270(grid: Grid) -> Grid:
    """A quarter turn counter-clockwise."""
    return cells_of(grid).T[::-1].copy()


@searched(1, per_object=True)
def flip_h(grid: Grid) -> Grid:
    """Left and right change places."""
    return cells_of(grid)[:, ::-1].copy()


@searched(1, per_object=True)
def flip_v(grid: Grid) -> Grid:
    """Top and bottom change places."""
    return cells_of(grid)[::-1].copy()


@searched(1, per_object=True)
def transpose(grid: Grid) -> Grid:
    """Rows become columns: mirrored at the diagonal from the upper left."""
    return cells_of(grid).T.copy()


@searched(1, per_object=True)
def anti_transpose(grid: Grid) -> Grid:
    """Mirrored at the diagonal from the upper right."""
    return cells_of(grid)[::-1, ::-1].T.copy()


def crop(grid: Grid, row: int, col: int, height: int, width: int) -> Grid:
    """The part of that size from row and col on; what lies outside the grid is left out."""
    return checked(
        cells_of(grid)[max(0, row) : max(0, row + height), max(0, col) : max(0, col + width)]
    )


def fit(grid: Grid, height: int, width: int, fill: Colour = 0) -> Grid:
    """The grid brought to that size: cut, or filled up, on the right and at the bottom."""
    part = cells_of(grid)[:height, :width]
    missing = ((0, height - part.shape[0]), (0, width - part.shape[1]))
    return legal(np.pad(part, missing, constant_values=fill))


@searched(1.5)
def pad(grid: Grid, num: int = 1, fill: Colour = 0) -> Grid:
    """A margin of num cells added on all sides."""
    cells = cells_of(grid)
    if num < 0:
        raise ValueError(f"a margin of {num} cells, expected 0 or more")
    rows, cols = cells.shape
    check_size(rows + 2 * num, cols + 2 * num)
    out = np.full((rows + 2 * num, cols + 2 * num), fill)
    out[num : num + rows, num : num + cols] = cells
    return legal(out)


@searched(1.5, num=(1, 2, 3))
def corner(grid: Grid, num: int) -> Grid:
    """The upper left corner of num x num cells. Raises ValueError where the grid is smaller."""
    cells = cells_of(grid)
    if not 0 < num <= min(cells.shape):
        raise ValueError(f"a corner of {num} x {num} cells in {cells.shape[0]} x {cells.shape[1]}")
    return cells[:num, :num].copy()


@searched(1, per_object=True)
def peel(grid: Grid, num: int = 1) -> Grid:
    """A margin of num cells taken away from all sides."""
    cells = cells_of(grid)
    return checked(cells[num : cells.shape[0] - num, num : cells.shape[1] - num])


@searched(1, per_object=True)
def trim(grid: Grid, background: Colour = 0) -> Grid:
    """The smallest box that holds all cells unlike the background; an empty grid stays as it is."""
    cells = cells_of(grid)
    solid = cells != background
    rows = np.logical_or.reduce(solid, axis=1).nonzero()[0]
    if not rows.size:
        return grid_of(cells)
    cols = np.logical_or.reduce(solid, axis=0).nonzero()[0]
    return cells[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].copy()


@searched(1, per_object=True)
def squeeze(grid: Grid) -> Grid:
    """Rows and columns that repeat the one before are dropped."""
    cells = cells_of(grid)
    rows, cols = np.ones(cells.shape[0], dtype=bool), np.ones(cells.shape[1], dtype=bool)
    np.logical_or.reduce(cells[1:] != cells[:-1], axis=1, out=rows[1:])
    np.logical_or.reduce(cells[:, 1:] != cells[:, :-1], axis=0, out=cols[1:])
    return cells[rows].compress(cols, axis=1)


@searched(1.5, factor=(4,))
@searched(1, per_object=True, factor=(2, 3))
def scale_up(grid: Grid, factor: int) -> Grid:
    """Each cell becomes a square of factor x factor cells."""
    return scale_h(scale_v(grid, factor), factor)


@searched(1.5, factor=(2,))
def scale_h(grid: Grid, factor: int) -> Grid:
    """Each cell becomes factor cells wide."""
    cells = cells_of(grid)
    check_size(cells.shape[0], cells.shape[1] * factor)
    return legal(cells.repeat(factor, axis=1))


@searched(1.5, factor=(2,))
def scale_v(grid: Grid, factor: int) -> Grid:
    """Each cell becomes factor cells high."""
    cells = cells_of(grid)
    check_size(cells.shape[0] * factor, cells.shape[1])
    return legal(cells.repeat(factor, axis=0))


@searched(1.5, factor=(4,))
@searched(1, factor=(2, 3))
def scale_down(grid: Grid, factor: int) -> Grid:
    """Each square of factor x factor cells becomes its upper left cell."""
    if factor < 1:
        raise ValueError(f"factor {factor}, expected 1 or more")
    return cells_of(grid)[::factor, ::factor].copy()


@searched(1.5)
def unscale(grid: Grid, background: Colour = 0) -> Grid:
    """`trim`, then scaled down by the largest factor that loses nothing.

    Raises ValueError where there is none above 1.
    """
    cells = trim(grid, background)
    rows = np.flatnonzero((cells[1:] != cells[:-1]).any(axis=1)) + 1
    cols = np.flatnonzero((cells[:, 1:] != cells[:, :-1]).any(axis=0)) + 1
    factor = int(np.gcd.reduce(np.concatenate((rows, cols, cells.shape))))
    if factor == 1:
        raise ValueError("no factor above 1 by which the grid is scaled up")
    return cells[::factor, ::factor].copy()


@searched(1, rows=(1, 2, 3), cols=(1, 2, 3))
def tile(grid: Grid, rows: int, cols: int) -> Grid:
    """Copies of the grid laid out in that many rows and columns."""
    cells = cells_of(grid)
    height, width = cells.shape
    check_size(rows * height, cols * width)
    out = np.empty((rows, height, cols, width), dtype=np.int64)
    out[:] = cells[:, None, :]
    return legal(out.reshape(rows * height, cols * width))


@searched(1)
def scale_self(grid: Grid) -> Grid:
    """Each cell becomes as many cells high and wide as the grid is."""
    cells = cells_of(grid)
    return scale_h(scale_v(cells, cells.shape[0]), cells.shape[1])


@searched(1)
def tile_self(grid: Grid) -> Grid:
    """Copies of the grid, in as many rows and columns as it has itself."""
    cells = cells_of(grid)
    return tile(cells, *cells.shape)


@searched(1)
def trim_common(grid: Grid) -> Grid:
    """The smallest box that holds all cells unlike the most frequent colour."""
    cells = legal(cells_of(grid))
    return trim(cells, int(np.bincount(cells.ravel()).argmax()))


@searched(1)
def drop_empty_lines(grid: Grid, background: Colour = 0) -> Grid:
    """Rows and columns that have only background are dropped; an empty grid stays as it is."""
    cells = cells_of(grid)
    solid = cells != background
    rows, cols = solid.any(axis=1), solid.any(axis=0)
    if not rows.any():
        return grid_of(cells)
    return grid_of(cells[rows].compress(cols, axis=1))


@searched(1.5)
def drop_uniform_lines(grid: Grid) -> Grid:
    """Rows of one colour are dropped, then columns of one colour. Raises ValueError for no rest."""
    cells = cells_of(grid)
    cells = cells[(cells != cells[:, :1]).any(axis=1)]
    return grid_of(cells.compress((cells != cells[:1]).any(axis=0), axis=1))


@searched(2, direction=SIDES)
def shift(grid: Grid, direction: Direction, num: int = 1, fill: Colour = 0) -> Grid:
    """All cells num steps in the direction; those that leave are lost, fill comes in."""
    cells = cells_of(grid)
    (rows, cols), (down, across) = cells.shape, (direction[0] * num, direction[1] * num)
    out = np.full_like(cells, fill)
    kept = cells[max(0, -down) : max(0, rows - down), max(0, -across) : max(0, cols - across)]
    out[max(0, down) :, max(0, across) :][: kept.shape[0], : kept.shape[1]] = kept
    return legal(out)


@searched(1.5)
def make_room(grid: Grid, fill: Colour = 0) -> Grid:
    """A grid twice as high and wide, with this one in its upper left corner."""
    height, width = cells_of(grid).shape
    check_size(2 * height, 2 * width)
    return fit(grid, 2 * height, 2 * width, fill)


def roll(grid: Grid, direction: Direction, num: int = 1) -> Grid:
    """All cells num steps in the direction; those that leave come in again on the other side."""
    return np.roll(cells_of(grid), (direction[0] * num, direction[1] * num), axis=(0, 1))


@searched(1, direction=SIDES)
def half(grid: Grid, direction: Direction) -> Grid:
    """The half on that side; the middle line of an odd number is in neither half."""
    cells = cells_of(grid)
    turns_to_down(direction)
    rows, cols = cells.shape
    if direction in (LEFT, RIGHT):
        return checked(cells[:, : cols // 2] if direction == LEFT else cells[:, cols - cols // 2 :])
    return checked(cells[: rows // 2] if direction == UP else cells[rows - rows // 2 :])


def split_h(grid: Grid, num: int) -> list[Grid]:
    """The grid cut into num equal parts, left to right. Raises ValueError where it cannot be."""
    cells = cells_of(grid)
    if num < 1 or cells.shape[1] % num:
        raise ValueError(f"{cells.shape[1]} columns cannot be cut into {num} equal parts")
    return [grid_of(part) for part in np.split(cells, num, axis=1)]


def split_v(grid: Grid, num: int) -> list[Grid]:
    """The grid cut into num equal parts, top to bottom. Raises ValueError where it cannot be."""
    return [transpose(part) for part in split_h(transpose(grid), num)]


def split_lines(grid: Grid, colour: Colour) -> list[Grid]:
    """The parts between full rows and full columns of that colour, in reading order."""
    cells = cells_of(grid)
    rows = _runs((cells != colour).any(axis=1))
    cols = _runs((cells != colour).any(axis=0))
    return [grid_of(cells[top:bottom, left:right]) for top, bottom in rows for left, right in cols]


def _runs(wanted: Mask) -> list[tuple[int, int]]:
    """First and one past the last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
