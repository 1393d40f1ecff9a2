"""What a cell of a grid looks like, in numbers: its surroundings, its place, its object.

Each group of features is a short function `(grid) -> list of arrays that broadcast to the grid's
shape`. Colour 0 is the background. All features are whole numbers, and a grid of any shape has the
same ones in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .objects import object_features

Grid = NDArray[np.int64]
Columns = list[NDArray[Any]]
Group = Callable[[Grid], Columns]

_OUTSIDE = 11  # stands for a cell beyond the edge; no colour
_COLOURS = range(1, 10)
_ALL_EIGHT = np.ones((3, 3), bool)


def cell_features(grid: NDArray[Any]) -> NDArray[np.int16]:
    """All features of each cell, in reading order: (cells, NUM_FEATURES)."""
    cells = np.ascontiguousarray(grid, np.int64)
    columns = [column for group in GROUPS for column in group(cells)]
    table = np.empty((len(columns), *cells.shape), np.int16)
    for place, column in enumerate(columns):
        table[place] = column

    return np.ascontiguousarray(table.reshape(len(columns), -1).T)


def neighbourhood(grid: Grid) -> Columns:
    """Colours up to two cells away; how many of the 4 and of the 8 neighbours are not 0."""
    height, width = grid.shape
    padded = np.pad(grid, 2, constant_values=_OUTSIDE)

    def moved(row: int, col: int) -> Grid:
        return padded[2 + row : 2 + row + height, 2 + col : 2 + col + width]

    steps = [(row, col) for row in range(-2, 3) for col in range(-2, 3)]
    near = [step for step in steps if abs(step[0]) + abs(step[1]) <= 2]
    corners = [step for step in steps if abs(step[0]) == abs(step[1]) == 2]

    is_full = np.pad(grid != 0, 1).astype(np.int64)
    in_row = is_full[:, :-2] + is_full[:, 1:-1] + is_full[:, 2:]
    num_nine = in_row[:-2] + in_row[1:-1] + in_row[2:]
    middle = is_full[1:-1, 1:-1]
    num_four = is_full[:-2, 1:-1] + is_full[2:, 1:-1] + is_full[1:-1, :-2] + is_full[1:-1, 2:]
    return [*(moved(*step) for step in near + corners), num_four, num_nine - middle]


def place(grid: Grid) -> Columns:
    """Distances to the sides, to the nearest side and the diagonals; checkers and thirds."""
    row, col = np.indices(grid.shape)
    up, left = grid.shape[0] - 1 - row, grid.shape[1] - 1 - col
    to_row, to_col = np.minimum(row, up), np.minimum(col, left)
    sides = [row, col, up, left, to_row, to_col, np.minimum(to_row, to_col)]
    return [*sides, row - col, row - left, row % 2, col % 2, (row + col) % 2, row % 3, col % 3]


def lines(grid: Grid) -> Columns:
    """The cell's row, then its column: what it holds, where it stands among the others."""
    return [*_rows(grid), *(column.T for column in _rows(grid.T))]


def _rows(grid: Grid) -> Columns:
    is_full = grid != 0
    first, last, most = grid[:, :1], grid[:, -1:], grid.max(1, keepdims=True)
    is_one_colour = (grid == first).all(1, keepdims=True)
    num_equal = (grid[:, None] == grid[None]).all(2).sum(1)[:, None]
    nth_full = is_full.any(1).cumsum()[:, None]
    num_full = is_full.sum(1, keepdims=True)
    held = [(grid == colour).any(1, keepdims=True) for colour in _COLOURS]
    line = is_one_colour & (first > 0)
    return [num_full, is_one_colour, line, most, first, last, num_equal, nth_full, *held]


def rays(grid: Grid) -> Columns:
    """The first colour seen in each of 8 directions, how far it is; where opposite ones agree."""
    views: list[tuple[Callable[[Grid], Grid], Callable[[Grid], Grid]]] = [
        (lambda g: g, lambda g: g),
        (lambda g: g[::-1], lambda g: g[::-1]),
        (lambda g: g.T, lambda g: g.T),
        (lambda g: g.T[::-1], lambda g: g[::-1].T),
        (_slanted, _upright(grid)),
        (lambda g: _slanted(g)[::-1], lambda g: _upright(grid)(g[::-1])),
        (lambda g: _slanted(g[:, ::-1]), lambda g: _upright(grid)(g)[:, ::-1]),
        (lambda g: _slanted(g[:, ::-1])[::-1], lambda g: _upright(grid)(g[::-1])[:, ::-1]),
    ]
    seen = [[back(found) for found in _seen_above(view(grid))] for view, back in views]
    colours = [colour for colour, _ in seen]
    between = [one * (one == two) for one, two in zip(colours[::2], colours[1::2], strict=True)]
    num_seen = [sum(colour != 0 for colour in colours[:num]) for num in (4, 8)]
    return [*(found for pair in seen for found in pair), *between, *map(np.asarray, num_seen)]


def _seen_above(grid: Grid) -> tuple[Grid, Grid]:
    """The nearest colour above each cell and its distance in rows; 0 where there is none."""
    row = np.arange(grid.shape[0])[:, None]
    last_full = np.maximum.accumulate(np.where(grid != 0, row, -1), axis=0)
    above = np.vstack([np.full((1, grid.shape[1]), -1), last_full[:-1]])
    colour = np.take_along_axis(grid, np.maximum(above, 0), 0) * (above >= 0)
    return colour, (row - above) * (above >= 0)


def _slanted(grid: Grid) -> Grid:
    """Row r moved r cells to the right, so that what was up and to the right is straight above."""
    height, width = grid.shape
    wide = np.pad(grid, ((0, 0), (0, height)))
    return wide.ravel()[: height * (width + height - 1)].reshape(height, -1)


def _upright(grid: Grid) -> Callable[[Grid], Grid]:
    """The way back from `_slanted` to the grid's shape."""
    row, col = np.indices(grid.shape)
    return lambda slanted: slanted[row, row + col]


def whole_grid(grid: Grid) -> Columns:
    """How frequent the cell's colour is, the grid's most and least frequent, how many it has."""
    num = np.bincount(grid.ravel(), minlength=12)
    rank = np.argsort(np.argsort(-num, kind="stable"))
    num[0] = 0
    full = np.flatnonzero(num)
    least = full[num[full].argmin()] if len(full) else 0
    return [rank[grid], *map(np.asarray, (num.argmax(), least, len(full)))]


def nearest(grid: Grid) -> Columns:
    """Distance, colour and offset of the nearest cell that is no background."""
    if not grid.any():
        return [np.zeros((), np.int64)] * 4

    distance, (rows, cols) = ndimage.distance_transform_cdt(
        grid == 0, metric="chessboard", return_indices=True
    )
    row, col = np.indices(grid.shape)
    return [distance, grid[rows, cols], rows - row, cols - col]


def images(grid: Grid) -> Columns:
    """The colours at the cell's mirror images, and the first of them that is no background."""
    turned = [grid[:, ::-1], grid[::-1], grid[::-1, ::-1]]
    is_square = grid.shape[0] == grid.shape[1]
    first = grid
    for image in turned:
        first = np.where(first != 0, first, image)

    return [*turned, grid.T if is_square else np.zeros((), np.int64), first]


def tiling(grid: Grid) -> Columns:
    """The colours of the smallest tile that repeats all over the grid, background taken as unknown.

    0 where no tile smaller than the grid does.
    """
    height, width = grid.shape
    unknown = int(grid.max()) + 1
    high, low = grid, np.where(grid == 0, unknown, grid)

    def folded(array: Grid, num: int, fold: np.ufunc, neutral: int) -> Grid:
        """Rows that are equal modulo `num`, made one."""
        whole = np.full((-(-len(array) // num) * num, array.shape[1]), neutral)
        whole[: len(array)] = array
        made: Grid = fold.reduce(whole.reshape(-1, num, array.shape[1]), axis=0)
        return made

    # A tile that agrees with itself still does when it is made longer to the whole height or width,
    # so only those sides are paired that pass alone.
    def passing(high: Grid, low: Grid) -> dict[int, tuple[Grid, Grid]]:
        tiles = {}
        for num in range(1, len(high) + 1):
            pair = folded(high, num, np.maximum, 0), folded(low, num, np.minimum, unknown)
            if not ((pair[0] != pair[1]) & (pair[0] != 0)).any():
                tiles[num] = pair
        return tiles

    tall, wide = passing(high, low), passing(high.T, low.T)
    sides = sorted((rows * cols, rows, cols) for rows in tall for cols in wide)
    for area, rows, cols in sides:
        if area == height * width or area > np.count_nonzero(grid):
            break
        most = folded(tall[rows][0].T, cols, np.maximum, 0).T
        least = folded(tall[rows][1].T, cols, np.minimum, unknown).T
        if most.all() and (most == least).all():
            return [np.tile(most, (-(-height // rows), -(-width // cols)))[:height, :width]]

    return [np.zeros((), np.int64)]


def enclosed(grid: Grid) -> Columns:
    """Whether the cell is background that cannot reach the edge in steps to 4, to 8 neighbours."""
    return [_enclosed(grid == 0, ways) for ways in (None, _ALL_EIGHT)]


def _enclosed(is_empty: NDArray[np.bool_], ways: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    labels, num = ndimage.label(is_empty, ways)
    is_inside = np.ones(num + 1, bool)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1], 0):
        is_inside[side] = False

    inside: NDArray[np.bool_] = is_inside[labels]
    return inside


GROUPS: tuple[Group, ...] = (
    neighbourhood,
    place,
    lines,
    rays,
    whole_grid,
    nearest,
    object_features,
    images,
    tiling,
    enclosed,
)

NUM_FEATURES = sum(len(group(np.zeros((1, 1), np.int64))) for group in GROUPS)
