"""Measure objects and cells (a long file: one measure after another).

Comparing a field with a number gives a mask.

A field has the shape of the grid. Each cell of an object has the measure of its object, a cell
outside of all objects has 0. diagonal: whether cells that share only a corner are connected; mixed:
whether cells of different colours are. All raise ValueError where there is nothing to measure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    CORNERS,
    SIDES,
    Direction,
    F,
    Field,
    Grid,
    Object,
    cells_of,
    searched,
    turns_to_down,
)
from .object import Found, find
from .object import num_holes as holes_of


def _of_objects(function: F) -> F:
    """Marks a measure of objects of one colour."""
    return searched(1.5, diagonal=(True,))(searched(2, diagonal=(False,))(function))


def _of_shapes_too(function: F) -> F:
    """Marks a measure of objects of one colour and of those of many."""
    return searched(2, mixed=(True,))(_of_objects(function))


@_of_shapes_too
def areas(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Number of cells of the object."""
    found = _found(grid, diagonal, mixed)
    return found.spread(found.areas)


@_of_shapes_too
def ranks_from_large(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Place of the object's number of cells among all, 1 for the largest; equals share one."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_ranks(-found.areas))


@_of_shapes_too
def ranks_from_small(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Place of the object's number of cells among all, 1 for the smallest; equals share one."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_ranks(found.areas))


@_of_shapes_too
def where_largest(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects with the most cells, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread(1 + (found.areas == found.areas.max()))


@_of_shapes_too
def where_smallest(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects with the fewest cells, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread(1 + (found.areas == found.areas.min()))


@_of_shapes_too
def hole_counts(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """1 more than the number of holes of the object."""
    found = _found(grid, diagonal, mixed)
    return found.spread([1 + holes_of(obj) for obj in found.objects])


@_of_shapes_too
def shape_counts(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Number of objects with the same cells, colours aside, the object itself included."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_num_equal([(o.mask.shape, o.mask.tobytes()) for o in found.objects]))


@_of_shapes_too
def twin_counts(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Number of objects with the same cells and colours, the object itself included."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_num_equal([(o.grid.shape, o.grid.tobytes()) for o in found.objects]))


@_of_shapes_too
def heights(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Rows of the box of the object."""
    found = _found(grid, diagonal, mixed)
    return found.spread(found.heights)


@_of_shapes_too
def widths(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Columns of the box of the object."""
    found = _found(grid, diagonal, mixed)
    return found.spread(found.widths)


@_of_shapes_too
def where_at_edge(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects that have a cell at the edge of the grid, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread(2 - _is_inside(found))


@_of_objects
def where_full(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects that fill their box, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread(1 + (found.areas == found.heights * found.widths))


@_of_objects
def where_square(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects whose box is a square, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread(1 + (found.heights == found.widths))


@_of_shapes_too
def where_mirror_h(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects that are the same with left and right exchanged, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread([1 + bool((o.grid == o.grid[:, ::-1]).all()) for o in found.objects])


@_of_shapes_too
def where_mirror_v(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects that are the same with top and bottom exchanged, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread([1 + bool((o.grid == o.grid[::-1]).all()) for o in found.objects])


@_of_objects
def outline_corners(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Number of corners of the object's outline, holes included: 4 for a rectangle, 6 for an L."""
    found = _found(grid, diagonal, mixed)
    nums = []
    for obj in found.objects:
        # Around each point where four cells meet: one corner where one or three of them belong to
        # the object, two where two do that share only this point.
        part = _padded(obj.mask.astype(np.int64), 0)
        around = part[1:, 1:] + part[:-1, 1:] + part[1:, :-1] + part[:-1, :-1]
        crossed = (around == 2) & (part[1:, 1:] == part[:-1, :-1])
        nums.append(np.count_nonzero(around % 2) + 2 * np.count_nonzero(crossed))

    return found.spread(nums)


@_of_objects
def orientations(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """1 at objects with a square box, 2 at tall ones, 3 at wide ones."""
    found = _found(grid, diagonal, mixed)
    tall, wide = found.heights > found.widths, found.heights < found.widths
    return found.spread(1 + tall + 2 * wide)


@_of_shapes_too
def row_order(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Place of the object from the top, by its first row; equals share one."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_ranks(found.tops))


@_of_shapes_too
def col_order(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Place of the object from the left, by its first column; equals share one."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_ranks(found.lefts))


@searched(1.5)
def colour_counts(grid: Grid, diagonal: bool = True, mixed: bool = True) -> Field:
    """Number of different colours of the object."""
    found = _found(grid, diagonal, mixed)
    return found.spread((_colour_table(found) > 0).sum(axis=1))


@searched(1.5)
def main_colours(grid: Grid, diagonal: bool = True, mixed: bool = True) -> Field:
    """The most frequent colour of the object, the smaller one of equals."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_colour_table(found).argmax(axis=1))


@searched(1.5)
def minor_colours(grid: Grid, diagonal: bool = True, mixed: bool = True) -> Field:
    """The least frequent of the object's colours, the smaller one of equals."""
    found = _found(grid, diagonal, mixed)
    counts = _colour_table(found)
    return found.spread(np.where(counts > 0, counts, found.cells.size + 1).argmin(axis=1))


@_of_objects
def inner_colours(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """The most frequent colour in the box of the object besides 0 and its own; 0 for none."""
    found = _found(grid, diagonal, mixed)
    return found.spread(_inner_table(found).argmax(axis=1))


@_of_objects
def where_holding(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """2 at the objects with a cell of another colour in their box, 1 at the others."""
    found = _found(grid, diagonal, mixed)
    return found.spread(1 + _inner_table(found).any(axis=1))


@_of_objects
def near_colours(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """The most frequent colour of the cells that touch the object from outside, 0 for none.

    Background does not count; cells touch by sides and, if diagonal, by corners.
    """
    found = _found(grid, diagonal, mixed)
    labels, cells = _padded(found.labels, -1), _padded(found.cells, 0)
    directions = SIDES + CORNERS if diagonal else SIDES

    # (number of directions, height, width): the object and the colour that lie there.
    other = np.array([_beside(labels, *direction) for direction in directions])
    colour = np.array([_beside(cells, *direction) for direction in directions])

    touch = (found.labels >= 0) & (other >= 0) & (other != found.labels)
    keys = (found.labels * 10 + colour)[touch]
    counts = np.bincount(keys, minlength=len(found.objects) * 10).reshape(-1, 10)
    return found.spread(counts.argmax(axis=1))


@_of_objects
def rows_inside(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Row of each cell in the box of its object, counted from 1."""
    found = _found(grid, diagonal, mixed)
    rows = np.arange(1, found.cells.shape[0] + 1)[:, None]
    return (rows - found.spread(found.tops)) * (found.labels >= 0)


@_of_objects
def cols_inside(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Column of each cell in the box of its object, counted from 1."""
    found = _found(grid, diagonal, mixed)
    cols = np.arange(1, found.cells.shape[1] + 1)
    return (cols - found.spread(found.lefts)) * (found.labels >= 0)


@_of_objects
def checks_inside(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """1 and 2 by turns, like a chequerboard from the upper left corner of the object's box."""
    found = _found(grid, diagonal, mixed)
    rows = np.arange(found.cells.shape[0])[:, None] + np.arange(found.cells.shape[1])
    return (1 + (rows - found.spread(found.tops + found.lefts)) % 2) * (found.labels >= 0)


@_of_objects
def lattice_inside(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """1 and 2 by turns in the first, third ... row of the object's box, 3 and 4 in the others."""
    found = _found(grid, diagonal, mixed)
    rows = np.arange(found.cells.shape[0])[:, None] - found.spread(found.tops)
    cols = np.arange(found.cells.shape[1]) - found.spread(found.lefts)
    return np.where(found.labels >= 0, 1 + 2 * (rows % 2) + cols % 2, 0)


@searched(1.5)
def row_halves(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """1 in the upper half of the object's box, 3 in the lower one, 2 in a row in the middle."""
    found = _found(grid, diagonal, mixed)
    rows = np.arange(found.cells.shape[0])[:, None]
    beyond = 2 * rows + 1 - found.spread(2 * found.tops + found.heights)
    return np.where(found.labels >= 0, 2 + np.sign(beyond), 0)


@searched(1.5)
def col_halves(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """1 in the left half of the object's box, 3 in the right one, 2 in a column in the middle."""
    found = _found(grid, diagonal, mixed)
    beyond = 2 * np.arange(found.cells.shape[1]) + 1 - found.spread(2 * found.lefts + found.widths)
    return np.where(found.labels >= 0, 2 + np.sign(beyond), 0)


@searched(2, direction=SIDES)
def colours_ahead(grid: Grid, direction: Direction, diagonal: bool = False) -> Field:
    """The most frequent other colour that lies in the direction from the object's box, 0 for none.

    In its columns above or below it, in its rows on its left or right; background does not count.
    """
    turns_to_down(direction)
    found = _found(grid, diagonal, mixed=False)
    colours = []
    for obj in found.objects:
        rows, cols = slice(obj.row, obj.bottom + 1), slice(obj.col, obj.right + 1)
        if direction[0]:
            rows = slice(0, obj.row) if direction[0] < 0 else slice(obj.bottom + 1, None)
        else:
            cols = slice(0, obj.col) if direction[1] < 0 else slice(obj.right + 1, None)
        counts = np.bincount(found.cells[rows, cols].ravel(), minlength=10)
        counts[[0, obj.grid[obj.mask][0]]] = 0
        colours.append(counts.argmax())

    return found.spread(colours)


@searched(1.5)
@searched(2, mixed=(True,))
def rings_inside(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Steps of each cell of an object from the edge of its box: 1 at the edge."""
    found = _found(grid, diagonal, mixed)
    rows = np.arange(1, found.cells.shape[0] + 1)[:, None] - found.spread(found.tops)
    cols = np.arange(1, found.cells.shape[1] + 1) - found.spread(found.lefts)
    down = found.spread(found.heights + 1) - rows
    across = found.spread(found.widths + 1) - cols
    nearest = np.minimum(np.minimum(rows, down), np.minimum(cols, across))
    return np.where(found.labels >= 0, nearest, 0)


@_of_objects
def depths(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """Steps from each cell of an object to the nearest place outside of it: 1 at its rim.

    diagonal: whether objects are connected by corners, and steps may be diagonal.
    """
    found = _found(grid, diagonal, mixed)
    labels = _padded(found.labels, -1)

    depth = (labels >= 0).astype(np.int64)
    inner = labels >= 0
    while True:
        # A cell is one deeper where all cells around it are of its object and as deep.
        kept = inner[1:-1, 1:-1].copy()
        for down, across in SIDES + CORNERS if diagonal else SIDES:
            same = _beside(labels, down, across) == found.labels
            kept &= same & _beside(inner, down, across)
        if not kept.any():
            return depth[1:-1, 1:-1].copy()
        inner = _padded(kept, False)
        depth += inner


@searched(1.5)
def side_counts(grid: Grid) -> Field:
    """Number of side neighbours of each cell that are not 0."""
    return _neighbours(grid, SIDES)


@searched(1.5)
def near_counts(grid: Grid) -> Field:
    """Number of neighbours of each cell, by sides and corners, that are not 0."""
    return _neighbours(grid, SIDES + CORNERS)


@searched(1.5, diagonal=(True, False))
def distances(grid: Grid, diagonal: bool = True) -> Field:
    """Steps from each cell to the nearest one that is not 0; they may be diagonal, or not."""
    cells = cells_of(grid)
    rows, cols = np.nonzero(cells)
    if not rows.size:
        raise ValueError("no cell besides 0")

    down = abs(np.arange(cells.shape[0])[:, None] - rows)[:, None]
    across = abs(np.arange(cells.shape[1])[:, None] - cols)[None]
    steps = np.maximum(down, across) if diagonal else down + across
    return np.asarray(steps.min(axis=2))


@searched(1.5)
def middle_lines(grid: Grid) -> Field:
    """2 in the middle column of the grid, 3 in the middle row, 4 in both, 1 elsewhere.

    Of an even number of columns, or rows, two are in the middle.
    """
    rows, cols = (abs(2 * np.arange(num) + 1 - num) < 2 for num in cells_of(grid).shape)
    return np.asarray(1 + 2 * rows[:, None] + cols)


@searched(1.5)
def gap_areas(grid: Grid, diagonal: bool = False) -> Field:
    """Number of cells of the connected region of 0 that a cell belongs to; 0 at other cells."""
    found = _gaps(grid, diagonal)
    return found.spread(found.areas)


@searched(1.5)
def gap_ranks(grid: Grid, diagonal: bool = False) -> Field:
    """Place of a cell's region of 0 by its number of cells, 1 for the largest; equals share one."""
    found = _gaps(grid, diagonal)
    return found.spread(_ranks(-found.areas))


@searched(1.5, diagonal=(True, False))
def where_enclosed(grid: Grid, diagonal: bool = False) -> Field:
    """2 at regions of 0 that do not reach the edge of the grid, 1 at those that do."""
    found = _gaps(grid, diagonal)
    return found.spread(1 + _is_inside(found))


@searched(1.5)
def hole_kinds(grid: Grid) -> Field:
    """1 at regions of 0 that do not reach the edge, 2 at those that fill their box, 3 at squares.

    0 elsewhere.
    """
    found = _gaps(grid, diagonal=False)
    is_full = found.areas == found.heights * found.widths
    is_square = is_full & (found.heights == found.widths)
    return found.spread(_is_inside(found) * (1 + is_full + is_square))


@searched(1.5)
def hole_parities(grid: Grid) -> Field:
    """At regions of 0 that do not reach the edge 1 for an odd number of cells, 2 for an even one.

    0 elsewhere.
    """
    found = _gaps(grid, diagonal=False)
    return found.spread(_is_inside(found) * (2 - found.areas % 2))


@searched(1.5)
def corner_marks(grid: Grid, diagonal: bool = True, mixed: bool = True) -> Field:
    """1 to 4 at cells of 0 that touch the corners of each object's box from outside.

    1 at the upper left, 2 at the upper right, 3 at the lower left, 4 at the lower right.
    """
    found = _found(grid, diagonal, mixed)
    marks = _padded(np.zeros_like(found.cells), 0)
    ends, sides = found.tops + found.heights + 1, found.lefts + found.widths + 1
    for mark, rows in ((1, found.tops), (3, ends)):
        marks[rows, found.lefts] = mark
        marks[rows, sides] = mark + 1
    return np.where(found.cells == 0, marks[1:-1, 1:-1], 0)


@_of_shapes_too
def numbers(grid: Grid, diagonal: bool = True, mixed: bool = False) -> Field:
    """The number of the object in reading order, from 1 on."""
    found = _found(grid, diagonal, mixed)
    return found.labels + 1


def _found(grid: Grid, diagonal: bool, mixed: bool) -> Found:
    found = find(grid, diagonal, mixed)
    if not found.objects:
        raise ValueError("no object to measure: all cells are 0")
    return found


def _gaps(grid: Grid, diagonal: bool) -> Found:
    found = find((cells_of(grid) == 0).astype(np.int64), diagonal)
    if not found.objects:
        raise ValueError("no region to measure: no cell is 0")
    return found


def _is_inside(found: Found) -> NDArray[np.bool_]:
    """Whether the objects do not reach the edge of the grid."""
    height, width = found.cells.shape
    near = np.minimum(found.tops, found.lefts) == 0
    far = (found.tops + found.heights == height) | (found.lefts + found.widths == width)
    return np.asarray(~(near | far))


def _ranks(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 for the smallest value, 2 for the next one, and so on."""
    ranks: NDArray[np.int64] = np.searchsorted(np.unique(values), values) + 1
    return ranks


def _num_equal(values: Sequence[Hashable]) -> list[int]:
    """For each value, how often it occurs."""
    counts = Counter(values)
    return [counts[value] for value in values]


def _colour_table(found: Found) -> NDArray[np.int64]:
    """(number of objects, 10) cells of each colour."""
    inside = found.labels >= 0
    keys = found.labels[inside] * 10 + found.cells[inside]
    return np.bincount(keys, minlength=len(found.objects) * 10).reshape(-1, 10)


def _inner_table(found: Found) -> NDArray[np.int64]:
    """(number of objects, 10) cells of each colour in the box, besides 0 and the object's own."""
    return np.stack([_inner_counts(found.cells, obj) for obj in found.objects])


def _inner_counts(cells: Grid, obj: Object) -> NDArray[np.int64]:
    box = cells[obj.row : obj.row + obj.height, obj.col : obj.col + obj.width]
    counts = np.bincount(box.ravel(), minlength=10)
    counts[0] = 0
    counts[obj.grid[obj.mask][0]] = 0
    return counts


def _neighbours(grid: Grid, directions: Sequence[tuple[int, int]]) -> Field:
    filled = _padded(cells_of(grid) != 0, False).astype(np.int64)
    counts = np.zeros(cells_of(grid).shape, dtype=np.int64)
    for down, across in directions:
        counts += _beside(filled, down, across)
    return counts


def _padded(array: NDArray[Any], fill: Any) -> NDArray[Any]:
    """The array with a margin of one cell."""
    out = np.full((array.shape[0] + 2, array.shape[1] + 2), fill, dtype=array.dtype)
    out[1:-1, 1:-1] = array
    return out


def _beside(padded: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """For each cell inside the margin, the value that lies so many steps from it."""
    height, width = padded.shape
    return padded[1 + down : height - 1 + down, 1 + across : width - 1 + across]
