"""Put objects together: on each other, side by side, cell by cell, and as small overviews."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import MAX_SIDE, Grid, Object, check_size, legal, searched
from .choice import area, colours_in, fullness, main_colour, num_mirrors
from .object import find, frozen, lay, num_holes


@searched(1)
def compose(objects: list[Object]) -> Object:
    """All objects in one, at their places; later ones lie on top."""
    if not objects:
        raise ValueError("no objects to compose")

    top, left = min(obj.row for obj in objects), min(obj.col for obj in objects)
    height = max(obj.bottom for obj in objects) - top + 1
    width = max(obj.right for obj in objects) - left + 1
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"objects over {height} x {width} cells, at most {MAX_SIDE} a side")

    cells = np.zeros((height, width), dtype=np.int64)
    mask = np.zeros((height, width), dtype=bool)
    for obj in objects:
        row, col = obj.row - top, obj.col - left
        box = slice(row, row + obj.height), slice(col, col + obj.width)
        np.copyto(cells[box], obj.grid, where=obj.mask)
        mask[box] |= obj.mask

    return Object(top, left, cells, mask)


@searched(1, first_on_top=(False, True))
def stack(objects: list[Object], first_on_top: bool = False) -> Grid:
    """The objects, equal in size, laid on each other; see-through where they have no cell."""
    grids, masks = _stacked(objects)
    out = np.zeros(grids.shape[1:], dtype=np.int64)
    for at in reversed(range(len(grids))) if first_on_top else range(len(grids)):
        np.copyto(out, grids[at], where=masks[at])
    return out


@searched(1.5)
def nest(objects: list[Object]) -> Grid:
    """The objects laid on each other with their middles, on a grid as large as the largest ones."""
    if not objects:
        raise ValueError("no objects to nest")
    height, width = max(obj.height for obj in objects), max(obj.width for obj in objects)
    cells = np.zeros((height, width), dtype=np.int64)
    for obj in objects:
        lay(cells, replace(obj, row=(height - obj.height) // 2, col=(width - obj.width) // 2))
    return cells


@searched(1.5)
def share(objects: list[Object]) -> list[Object]:
    """Each of the objects, equal in size, with all of them laid on each other in its place."""
    cells = frozen(stack(objects))
    mask = frozen(cells != 0)
    return [Object(obj.row, obj.col, cells, mask) for obj in objects]


@searched(1)
def all_of(objects: list[Object]) -> Grid:
    """1 where all objects, equal in size, have a cell."""
    return _ones(_stacked(objects)[1].all(axis=0))


@searched(1)
def any_of(objects: list[Object]) -> Grid:
    """1 where at least one of the objects, equal in size, has a cell."""
    return _ones(_stacked(objects)[1].any(axis=0))


@searched(1)
def one_of(objects: list[Object]) -> Grid:
    """1 where exactly one of the objects, equal in size, has a cell."""
    return _ones(_stacked(objects)[1].sum(axis=0) == 1)


@searched(1)
def none_of(objects: list[Object]) -> Grid:
    """1 where none of the objects, equal in size, has a cell."""
    return _ones(~_stacked(objects)[1].any(axis=0))


@searched(1.5)
def only_in_first(objects: list[Object]) -> Grid:
    """1 where the first of the objects, equal in size, has a cell and no other one has."""
    masks = _stacked(objects)[1]
    return _ones(masks[0] & ~masks[1:].any(axis=0))


@searched(1.5)
def unlike(objects: list[Object]) -> Grid:
    """1 where the objects, equal in size, do not all have the same colour."""
    grids = _stacked(objects)[0]
    return _ones((grids != grids[0]).any(axis=0))


@searched(1.5)
def majority(objects: list[Object]) -> Grid:
    """At each cell the most frequent colour of objects of equal size; the smaller of equals."""
    grids = _stacked(objects)[0]
    counts = (grids == np.arange(10)[:, None, None, None]).sum(axis=1)
    return np.asarray(counts.argmax(axis=0))


@searched(1, gap=(0, 1))
def lay_row(objects: list[Object], gap: int = 0) -> Grid:
    """The objects in a row, level at the top, with gap empty columns between them."""
    return _in_row([obj.grid for obj in objects], gap)


@searched(1, gap=(0, 1))
def lay_col(objects: list[Object], gap: int = 0) -> Grid:
    """The objects one below the other, level on the left, with gap empty rows between them."""
    return _in_row([obj.grid.T for obj in objects], gap).T.copy()


@searched(1)
def compress(objects: list[Object]) -> Grid:
    """One cell for each object, in its main colour, in as many rows and columns as they occupy.

    Objects whose rows overlap share a row, and the same with columns; later ones lie on top.
    """
    return _overview(objects, [main_colour(obj) for obj in objects])


@searched(1.5, key=(area, fullness, colours_in, num_holes, num_mirrors))
def mark_most(objects: list[Object], key: Callable[[Object], float]) -> Grid:
    """Like `compress`, but 1 for the objects with the largest number and 0 for the others.

    Raises ValueError where all have the same number.
    """
    values = [key(obj) for obj in objects]
    if len(set(values)) < 2:
        raise ValueError(f"all {len(values)} objects have the same number: nothing to mark")
    return _overview(objects, [int(value == max(values)) for value in values])


@searched(1.5)
def paint_by(objects: list[Object]) -> Grid:
    """The largest box, its cells in the colours of the others, which are scaled up to its size.

    The others: the only other one that is not empty, or what `compress` makes of these. Raises
    ValueError where they do not fit.
    """
    pattern, small, down, across = _pattern_and_small(objects)
    return np.where(pattern != 0, small.repeat(down, axis=0).repeat(across, axis=1), 0)


@searched(1.5)
def stencil(objects: list[Object]) -> Grid:
    """What the largest box, scaled down to the size of the others, leaves of them.

    The others as in `paint_by`.
    """
    pattern, small, down, across = _pattern_and_small(objects)
    return np.where(pattern[::down, ::across] != 0, small, 0)


@searched(1.5)
def product(objects: list[Object]) -> Grid:
    """Of two objects, each cell of the more colourful one becomes the other one in that colour.

    Of equals, the second one's cells are taken.
    """
    if len(objects) != 2:
        raise ValueError(f"{len(objects)} objects, expected two")
    pattern, colours = (obj.grid for obj in sorted(objects, key=colours_in))
    height, width = (pattern.shape[axis] * colours.shape[axis] for axis in (0, 1))
    check_size(height, width)
    return legal(np.kron(colours, (pattern != 0).astype(np.int64)))


@searched(1.5, height=(1,), width=(3, 5))
@searched(1.5, height=(2, 3), width=(2, 3))
def tally(objects: list[Object], height: int, width: int) -> Grid:
    """A grid of that size with one cell for each object, in its main colour, in reading order."""
    if not 0 < height <= MAX_SIDE or not 0 < width <= MAX_SIDE or len(objects) > height * width:
        raise ValueError(f"{len(objects)} objects in a grid of {height} x {width} cells")
    out = np.zeros(height * width, dtype=np.int64)
    out[: len(objects)] = [main_colour(obj) for obj in objects]
    return out.reshape(height, width)


@searched(1)
def dots_h(objects: list[Object]) -> Grid:
    """A row of one cell for each object, in its main colour."""
    return tally(objects, 1, len(objects))


@searched(1)
def dots_v(objects: list[Object]) -> Grid:
    """A column of one cell for each object, in its main colour."""
    return tally(objects, len(objects), 1)


@searched(1.5)
def dots_d(objects: list[Object]) -> Grid:
    """A square with one cell for each object, in its main colour, on its diagonal."""
    return legal(np.diag(dots_h(objects)[0]))


@searched(1.5)
def object_bars(grid: Grid, diagonal: bool = True) -> Grid:
    """One bar from the left for each colour, as long as its number of objects, the longest first.

    Raises ValueError where all cells are 0.
    """
    counts = Counter(int(obj.grid[obj.mask][0]) for obj in find(grid, diagonal).objects)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        raise ValueError("no objects to count: all cells are 0")

    bars = np.zeros((len(ordered), ordered[0][1]), dtype=np.int64)
    for row, (colour, num) in enumerate(ordered):
        bars[row, :num] = colour
    return legal(bars)


def _stacked(objects: list[Object]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(number, height, width) grids and masks. Raises ValueError for one, or unequal sizes."""
    sizes = {obj.grid.shape for obj in objects}
    if len(objects) < 2 or len(sizes) > 1:
        raise ValueError(f"{len(objects)} objects of {len(sizes)} sizes, expected some of one size")
    return np.array([obj.grid for obj in objects]), np.array([obj.mask for obj in objects])


def _ones(where: Any) -> Grid:
    """1 where it is true, 0 elsewhere."""
    return np.asarray(where, dtype=np.int64)


def _in_row(grids: list[Grid], gap: int) -> Grid:
    width = sum(grid.shape[1] for grid in grids) + gap * (len(grids) - 1)
    if not grids or gap < 0 or width > MAX_SIDE:
        raise ValueError(f"{len(grids)} grids over {width} columns, expected 1 to {MAX_SIDE}")

    out = np.zeros((max(grid.shape[0] for grid in grids), width), dtype=np.int64)
    at = 0
    for grid in grids:
        out[: grid.shape[0], at : at + grid.shape[1]] = grid
        at += grid.shape[1] + gap
    return out


def _pattern_and_small(objects: list[Object]) -> tuple[Grid, Grid, int, int]:
    """The grid of the largest box, one of the others, and how much higher and wider the first is.

    Raises ValueError where these are no whole numbers.
    """
    filled = [obj for obj in objects if obj.mask.any()]
    if len(filled) < 2:
        raise ValueError(f"{len(filled)} objects that are not empty, expected two or more")
    pattern = max(filled, key=lambda obj: obj.mask.size)
    others = [obj for obj in filled if obj is not pattern]
    small = others[0].grid if len(others) == 1 else compress(others)

    down, row_rest = divmod(pattern.height, small.shape[0])
    across, col_rest = divmod(pattern.width, small.shape[1])
    if row_rest or col_rest or not down or not across:
        raise ValueError(f"a grid of {pattern.grid.shape} and a smaller one of {small.shape}")
    return pattern.grid, small, down, across


def _overview(objects: list[Object], colours: list[int]) -> Grid:
    if not objects:
        raise ValueError("no objects to show")
    rows = _bands([(obj.row, obj.bottom) for obj in objects])
    cols = _bands([(obj.col, obj.right) for obj in objects])

    out = np.zeros((max(rows) + 1, max(cols) + 1), dtype=np.int64)
    for row, col, colour in zip(rows, cols, colours, strict=True):
        out[row, col] = colour
    return legal(out)


def _bands(spans: list[tuple[int, int]]) -> list[int]:
    """For each span from first to last, the number of its band; overlapping spans share one."""
    order = sorted(range(len(spans)), key=lambda at: spans[at])
    bands = [0] * len(spans)
    band, reached = -1, min(first for first, _ in spans) - 1
    for at in order:
        if spans[at][0] > reached:
            band += 1
        reached = max(reached, spans[at][1])
        bands[at] = band
    return bands
