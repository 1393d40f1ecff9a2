"""Cut a grid into parts that keep their places: boxes, insides of frames, panels, strips.

A part is an object whose own cells are those that are not 0. All raise ValueError where there is
nothing to cut, or where there would be more than 60 parts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .base import Grid, Object, cells_of, checked, searched
from .object import find, layers, piece

MAX_PARTS = 60


@searched(1, diagonal=(True,))
@searched(1.5, diagonal=(False,))
@searched(1.5, mixed=(True,))
def boxes(grid: Grid, diagonal: bool = True, mixed: bool = False) -> list[Object]:
    """The box of each object with all that the grid has in it, other objects too.

    diagonal: whether cells that share only a corner are connected; mixed: whether cells of
    different colours are.
    """
    found = find(grid, diagonal, mixed)
    spans = [(obj.row, obj.col, obj.height, obj.width) for obj in found.objects]
    return _parts(found.cells, spans)


@searched(1)
def layer_boxes(grid: Grid) -> list[Object]:
    """For each colour besides 0 the box of all its cells, with all that the grid has in it."""
    cells = cells_of(grid)
    return _parts(cells, [(obj.row, obj.col, obj.height, obj.width) for obj in layers(cells)])


@searched(1)
def insides(grid: Grid) -> list[Object]:
    """What is inside each rectangular frame of one colour, the frame left out."""
    found = find(grid, diagonal=False)
    spans = []
    for obj in found.objects:
        mask = obj.mask
        if min(mask.shape) > 2 and (
            mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()
        ):
            spans.append((obj.row + 1, obj.col + 1, obj.height - 2, obj.width - 2))

    return _parts(found.cells, spans)


@searched(1)
def panels(grid: Grid) -> list[Object]:
    """The parts between full lines of one colour, in reading order.

    The colour is the one with most full rows and columns, besides 0 if there is another.
    """
    cells = checked(grid)
    most, best = 0, 0
    line_rows, line_cols = _full_lines(cells), _full_lines(cells.T)
    for colour in np.unique(np.concatenate((line_rows, line_cols))).tolist():
        num = np.count_nonzero(line_rows == colour) + np.count_nonzero(line_cols == colour)
        if colour > 0 and num > most:
            most, best = int(num), colour

    rows, cols = _gaps(line_rows == best), _gaps(line_cols == best)
    if len(rows) * len(cols) < 2:
        raise ValueError("no full lines of one colour that cut the grid into parts")
    return _parts(cells, [(row, col, height, width) for row, height in rows for col, width in cols])


@searched(1, num=(2, 3, 4))
def strips_h(grid: Grid, num: int) -> list[Object]:
    """The grid cut into num equal parts, left to right."""
    cells = checked(grid)
    height, width = cells.shape
    if num < 2 or width % num:
        raise ValueError(f"{width} columns cannot be cut into {num} equal parts of two or more")
    part = width // num
    return _parts(cells, [(0, col, height, part) for col in range(0, width, part)])


@searched(1, num=(2, 3, 4))
def strips_v(grid: Grid, num: int) -> list[Object]:
    """The grid cut into num equal parts, top to bottom."""
    cells = checked(grid)
    height, width = cells.shape
    if num < 2 or height % num:
        raise ValueError(f"{height} rows cannot be cut into {num} equal parts of two or more")
    part = height // num
    return _parts(cells, [(row, 0, part, width) for row in range(0, height, part)])


@searched(1)
def squares(grid: Grid) -> list[Object]:
    """The grid cut along its longer side into squares."""
    height, width = cells_of(grid).shape
    if height > width:
        return strips_v(grid, height // width if height % width == 0 else 0)
    return strips_h(grid, width // height if width % height == 0 else 0)


@searched(1)
def halves_h(grid: Grid) -> list[Object]:
    """The left and the right half; the middle column of an odd number is left out."""
    cells = checked(grid)
    height, width = cells.shape
    half = width // 2
    return _parts(cells, [(0, 0, height, half), (0, width - half, height, half)])


@searched(1)
def halves_v(grid: Grid) -> list[Object]:
    """The upper and the lower half; the middle row of an odd number is left out."""
    cells = checked(grid)
    height, width = cells.shape
    half = height // 2
    return _parts(cells, [(0, 0, half, width), (height - half, 0, half, width)])


@searched(1)
def quarters(grid: Grid) -> list[Object]:
    """The four quarters, in reading order; middle lines of odd numbers are left out."""
    cells = checked(grid)
    height, width = cells.shape
    high, wide = height // 2, width // 2
    places = [(row, col) for row in (0, height - high) for col in (0, width - wide)]
    return _parts(cells, [(row, col, high, wide) for row, col in places])


@searched(1.5, num=(3,))
def blocks(grid: Grid, num: int) -> list[Object]:
    """The grid cut into num x num equal parts, in reading order."""
    cells = checked(grid)
    height, width = cells.shape
    if num < 2 or height % num or width % num:
        raise ValueError(f"{height} x {width} cells cannot be cut into {num} x {num} equal parts")
    high, wide = height // num, width // num
    places = [(row, col) for row in range(0, height, high) for col in range(0, width, wide)]
    return _parts(cells, [(row, col, high, wide) for row, col in places])


@searched(1.5)
def all_rows(grid: Grid) -> list[Object]:
    """Every row, top to bottom."""
    return strips_v(grid, cells_of(grid).shape[0])


@searched(1.5)
def all_cols(grid: Grid) -> list[Object]:
    """Every column, left to right."""
    return strips_h(grid, cells_of(grid).shape[1])


def _parts(cells: Grid, spans: Iterable[tuple[int, int, int, int]]) -> list[Object]:
    """One part for each top, left, height and width."""
    found = [
        piece(cells, top, left, height, width)
        for top, left, height, width in spans
        if height and width
    ]
    if not 0 < len(found) <= MAX_PARTS:
        raise ValueError(f"{len(found)} parts, expected 1 to {MAX_PARTS}")
    return found


def _full_lines(cells: Grid) -> NDArray[np.int64]:
    """The colour of each row that has only one; -1 for the other rows."""
    same = (cells == cells[:, :1]).all(axis=1)
    return np.where(same, cells[:, 0], -1)


def _gaps(is_line: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and length of each run of rows, or columns, that are no lines."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], is_line, [True]))))
    return [(int(a), int(b - a)) for a, b in edges.reshape(-1, 2)]
