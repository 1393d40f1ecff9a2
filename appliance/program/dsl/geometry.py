"""Turn, mirror, cut, scale and shift whole grids."""

from __future__ import annotations

import numpy as np

from .base import LEFT, RIGHT, UP, Colour, Direction, Grid, Mask, checked, grid_of, turns_to_down


def height(grid: Grid) -> int:
    """Number of rows."""
    return int(grid_of(grid).shape[0])


def width(grid: Grid) -> int:
    """Number of columns."""
    return int(grid_of(grid).shape[1])


def rot90(grid: Grid) -> Grid:
    """A quarter turn clockwise."""
    return grid_of(np.rot90(grid_of(grid), -1))


def rot180(grid: Grid) -> Grid:
    """A half turn."""
    return grid_of(np.rot90(grid_of(grid), 2))


def rot270(grid: Grid) -> Grid:
    """A quarter turn counter-clockwise."""
    return grid_of(np.rot90(grid_of(grid)))


def flip_h(grid: Grid) -> Grid:
    """Left and right change places."""
    return grid_of(grid_of(grid)[:, ::-1])


def flip_v(grid: Grid) -> Grid:
    """Top and bottom change places."""
    return grid_of(grid_of(grid)[::-1])


def transpose(grid: Grid) -> Grid:
    """Rows become columns: mirrored at the diagonal from the upper left."""
    return grid_of(grid_of(grid).T)


def anti_transpose(grid: Grid) -> Grid:
    """Mirrored at the diagonal from the upper right."""
    return grid_of(grid_of(grid)[::-1, ::-1].T)


def crop(grid: Grid, row: int, col: int, height: int, width: int) -> Grid:
    """The part of that size from row and col on; what lies outside the grid is left out."""
    return checked(
        grid_of(grid)[max(0, row) : max(0, row + height), max(0, col) : max(0, col + width)]
    )


def fit(grid: Grid, height: int, width: int, fill: Colour = 0) -> Grid:
    """The grid brought to that size: cut, or filled up, on the right and at the bottom."""
    part = grid_of(grid)[:height, :width]
    missing = ((0, height - part.shape[0]), (0, width - part.shape[1]))
    return checked(np.pad(part, missing, constant_values=fill))


def pad(grid: Grid, num: int = 1, fill: Colour = 0) -> Grid:
    """A margin of num cells added on all sides."""
    return checked(np.pad(grid_of(grid), num, constant_values=fill))


def peel(grid: Grid, num: int = 1) -> Grid:
    """A margin of num cells taken away from all sides."""
    cells = grid_of(grid)
    return checked(cells[num : cells.shape[0] - num, num : cells.shape[1] - num])


def trim(grid: Grid, background: Colour = 0) -> Grid:
    """The smallest box that holds all cells unlike the background; an empty grid stays as it is."""
    cells = grid_of(grid)
    rows, cols = np.nonzero(cells != background)
    if not rows.size:
        return cells
    return grid_of(cells[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1])


def squeeze(grid: Grid) -> Grid:
    """Rows and columns that repeat the one before are dropped."""
    cells = grid_of(grid)
    rows = np.concatenate(([True], (cells[1:] != cells[:-1]).any(axis=1)))
    cols = np.concatenate(([True], (cells[:, 1:] != cells[:, :-1]).any(axis=0)))
    return grid_of(cells[rows][:, cols])


def scale_up(grid: Grid, factor: int) -> Grid:
    """Each cell becomes a square of factor x factor cells."""
    return scale_h(scale_v(grid, factor), factor)


def scale_h(grid: Grid, factor: int) -> Grid:
    """Each cell becomes factor cells wide."""
    return checked(np.repeat(grid_of(grid), factor, axis=1))


def scale_v(grid: Grid, factor: int) -> Grid:
    """Each cell becomes factor cells high."""
    return checked(np.repeat(grid_of(grid), factor, axis=0))


def scale_down(grid: Grid, factor: int) -> Grid:
    """Each square of factor x factor cells becomes its upper left cell."""
    if factor < 1:
        raise ValueError(f"factor {factor}, expected 1 or more")
    return grid_of(grid_of(grid)[::factor, ::factor])


def tile(grid: Grid, rows: int, cols: int) -> Grid:
    """Copies of the grid laid out in that many rows and columns."""
    return checked(np.tile(grid_of(grid), (rows, cols)))


def shift(grid: Grid, direction: Direction, num: int = 1, fill: Colour = 0) -> Grid:
    """All cells num steps in the direction; those that leave are lost, fill comes in."""
    cells = grid_of(grid)
    (rows, cols), (down, across) = cells.shape, (direction[0] * num, direction[1] * num)
    out = np.full_like(cells, fill)
    kept = cells[max(0, -down) : max(0, rows - down), max(0, -across) : max(0, cols - across)]
    out[max(0, down) :, max(0, across) :][: kept.shape[0], : kept.shape[1]] = kept
    return checked(out)


def roll(grid: Grid, direction: Direction, num: int = 1) -> Grid:
    """All cells num steps in the direction; those that leave come in again on the other side."""
    return grid_of(np.roll(grid_of(grid), (direction[0] * num, direction[1] * num), axis=(0, 1)))


def half(grid: Grid, direction: Direction) -> Grid:
    """The half on that side; the middle line of an odd number is in neither half."""
    cells = grid_of(grid)
    turns_to_down(direction)
    rows, cols = cells.shape
    if direction in (LEFT, RIGHT):
        return checked(cells[:, : cols // 2] if direction == LEFT else cells[:, cols - cols // 2 :])
    return checked(cells[: rows // 2] if direction == UP else cells[rows - rows // 2 :])


def split_h(grid: Grid, num: int) -> list[Grid]:
    """The grid cut into num equal parts, left to right. Raises ValueError where it cannot be."""
    cells = grid_of(grid)
    if num < 1 or cells.shape[1] % num:
        raise ValueError(f"{cells.shape[1]} columns cannot be cut into {num} equal parts")
    return [grid_of(part) for part in np.split(cells, num, axis=1)]


def split_v(grid: Grid, num: int) -> list[Grid]:
    """The grid cut into num equal parts, top to bottom. Raises ValueError where it cannot be."""
    return [transpose(part) for part in split_h(transpose(grid), num)]


def split_lines(grid: Grid, colour: Colour) -> list[Grid]:
    """The parts between full rows and full columns of that colour, in reading order."""
    cells = grid_of(grid)
    rows = _runs((cells != colour).any(axis=1))
    cols = _runs((cells != colour).any(axis=0))
    return [grid_of(cells[top:bottom, left:right]) for top, bottom in rows for left, right in cols]


def _runs(wanted: Mask) -> list[tuple[int, int]]:
    """First and one past the last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
