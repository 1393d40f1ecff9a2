"""What a cell's object looks like, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grid = NDArray[np.int64]
Columns = list[NDArray[Any]]

_ALL_EIGHT = np.ones((3, 3), bool)
NUM_BY_OBJECT = 18  # columns of each way to see objects; the own colours come after all of them
_MOST_OBJECTS = 120  # with more of them, shapes are not compared


def object_features(grid: Grid) -> Columns:
    """Of the cell's object, seen in four ways: one colour (4 and 8 neighbours), any, background."""
    one_four, one_eight = _one_coloured(grid, None), _one_coloured(grid, _ALL_EIGHT)
    mixed, empty = ndimage.label(grid, _ALL_EIGHT), ndimage.label(grid == 0)

    columns = []
    for labels, num in (one_four, one_eight, mixed, empty):
        columns += [*_measures(labels, num), *_touching(grid, labels, num, labels is empty[0])]

    return [*columns, *_own_colours(grid, *mixed)]


def _one_coloured(grid: Grid, ways: NDArray[np.bool_] | None) -> tuple[Grid, int]:
    """Labels of connected cells of one colour, 0 for the background, and how many there are."""
    labels, total = np.zeros(grid.shape, np.int64), 0
    for colour in np.unique(grid[grid != 0]):
        found, num = ndimage.label(grid == colour, ways)
        labels += np.where(found > 0, found + total, 0)
        total += num

    return labels, total


def _measures(labels: Grid, num: int) -> Columns:
    """Size, box, shape and the cell's place in the box; -1 where the cell is in no object."""
    row, col = map(np.asarray, np.indices(labels.shape))
    area = np.bincount(labels.ravel(), minlength=num + 1)[1:]
    top, bottom = _range(row, labels, num)
    left, right = _range(col, labels, num)
    tall, wide = bottom - top + 1, right - left + 1
    last_row, last_col = labels.shape[0] - 1, labels.shape[1] - 1
    touches = (top == 0) | (left == 0) | (bottom == last_row) | (right == last_col)
    largest, smallest = (area.max(), area.min()) if num else (0, 0)

    of_object = [
        area,
        tall,
        wide,
        np.maximum(tall, wide),
        tall * wide == area,
        touches,
        area == largest,
        area == smallest,
        np.unique(area, return_inverse=True)[1],
        _num_alike(labels, num, top, left),
        _num_holes(labels, num, area),
    ]
    columns = [_spread(value, labels) for value in of_object]
    places = [row - _spread(top, labels), _spread(bottom, labels) - row]
    places += [col - _spread(left, labels), _spread(right, labels) - col]
    return columns + [np.where(labels > 0, at, -1) for at in places]


def _spread(of_object: NDArray[Any], labels: Grid) -> Grid:
    """Each cell takes the value of its object; -1 where it has none."""
    values = np.full(len(of_object) + 1, -1)
    values[1:] = of_object
    return values[labels]


def _range(value: Grid, labels: Grid, num: int) -> tuple[Grid, Grid]:
    """The least and the most of a value over each object's cells."""
    least, most = np.full(num + 1, 99), np.full(num + 1, -1)
    np.minimum.at(least, labels.ravel(), value.ravel())
    np.maximum.at(most, labels.ravel(), value.ravel())
    return least[1:], most[1:]


def _num_alike(labels: Grid, num: int, top: Grid, left: Grid) -> Grid:
    """How many objects have each object's shape, itself among them."""
    if not 0 < num <= _MOST_OBJECTS:
        return np.zeros(num, np.int64)

    row, col = np.nonzero(labels)
    of_cell = labels[row, col] - 1
    order = np.argsort(of_cell, kind="stable")
    spots = ((row - top[of_cell]) * 64 + col - left[of_cell])[order]
    ends = np.cumsum(np.bincount(of_cell, minlength=num))
    keys = [part.tobytes() for part in np.split(spots, ends[:-1])]
    return np.array([keys.count(key) for key in keys])


def _num_holes(labels: Grid, num: int, area: Grid) -> Grid:
    """Background that each object encloses, counted by Euler: 1 - (corners - edges + cells)."""
    padded = np.pad(labels, 1)
    around = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])
    around.sort(axis=0)
    is_new = np.vstack([np.ones_like(around[:1], bool), around[1:] != around[:-1]])
    corners = np.bincount(around[is_new], minlength=num + 1)[1:]

    shared = np.zeros(num + 1, np.int64)
    for one, two in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        shared += np.bincount(one[one == two], minlength=num + 1)

    edges = 4 * area - shared[1:]
    return np.asarray(1 - (corners - edges + area))


def _touching(grid: Grid, labels: Grid, num: int, is_empty: bool) -> Columns:
    """Colours that touch the object's sides: the most, the first, how many."""
    size = int(grid.max()) + 1
    touched = np.zeros((num + 1) * size, np.int64)
    for axis in (0, 1):
        one, two = np.moveaxis(labels, axis, 0)[1:], np.moveaxis(labels, axis, 0)[:-1]
        one_colour, two_colour = np.moveaxis(grid, axis, 0)[1:], np.moveaxis(grid, axis, 0)[:-1]
        for mine, other, colour in ((one, two, two_colour), (two, one, one_colour)):
            is_border = (mine != other) & (mine > 0) & ((colour > 0) | is_empty)
            key = mine[is_border] * size + colour[is_border]
            touched += np.bincount(key, minlength=len(touched))

    table = touched.reshape(num + 1, size)
    has_any = table.any(1)
    values = [
        np.where(has_any, table.argmax(1), -1),
        np.where(has_any, (table > 0).argmax(1), -1),
        (table > 0).sum(1),
    ]
    return [value[labels] for value in values]


def _own_colours(grid: Grid, labels: Grid, num: int) -> Columns:
    """The most and the least frequent colour of a many-coloured object, and how many it has."""
    size = int(grid.max()) + 1
    own = np.bincount((labels * size + grid).ravel(), minlength=(num + 1) * size)
    own = own.reshape(num + 1, size)
    own[:, 0] = 0
    least = np.where(own > 0, own, 9999).argmin(1)
    return [value[labels] for value in (own.argmax(1), least, (own > 0).sum(1))]
