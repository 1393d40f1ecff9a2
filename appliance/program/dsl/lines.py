"""Draw lines from cells: trails, joints, crosses; what lies in a line (long: one by one)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .base import (
    COLOURS,
    CORNERS,
    DOWN,
    DOWN_LEFT,
    DOWN_RIGHT,
    LEFT,
    RIGHT,
    SIDES,
    UP,
    UP_LEFT,
    UP_RIGHT,
    Colour,
    Direction,
    Field,
    Grid,
    Mask,
    cells_of,
    legal,
    searched,
    seen_down,
    turns_to_down,
)
from .geometry import shift
from .object import centres, find

_SETS = (
    (LEFT, RIGHT),
    (UP, DOWN),
    SIDES,
    CORNERS,
    (UP_LEFT, DOWN_RIGHT),
    (UP_RIGHT, DOWN_LEFT),
    (DOWN_LEFT, DOWN_RIGHT),
    (UP_LEFT, UP_RIGHT),
    SIDES + CORNERS,
)


@searched(1.5, direction=CORNERS)
@searched(1, direction=SIDES)
def extend(grid: Grid, direction: Direction, background: Colour = 0) -> Grid:
    """Each cell unlike the background leaves a trail in the direction, to the next or the edge."""
    return legal(_trail(cells_of(grid), direction, background))


@searched(1.5, directions=_SETS)
def extend_many(grid: Grid, directions: Sequence[Direction], background: Colour = 0) -> Grid:
    """Each cell unlike the background leaves trails in all the directions; the first lie on top."""
    cells = cells_of(grid)
    out = cells.copy()
    for direction in directions:
        out = np.where(out == background, _trail(cells, direction, background), out)

    return legal(out)


@searched(1.5)
def continue_lines(grid: Grid, background: Colour = 0) -> Grid:
    """Lines of one colour, one cell wide, go on over the background to the next cell or the edge.

    A line has two cells or more, in a row, a column or a diagonal.
    """
    cells = cells_of(grid)
    height, width = cells.shape
    out = cells.copy()
    steps, rows, cols = _line_ends(cells, background)
    for (down, across), row, col in zip(steps, rows, cols, strict=True):
        colour = cells[row, col]
        row, col = row + down, col + across
        while 0 <= row < height and 0 <= col < width and cells[row, col] == background:
            out[row, col] = colour
            row, col = row + down, col + across

    return legal(out)


@searched(1)
def connect(grid: Grid, background: Colour = 0) -> Grid:
    """Cells of equal colour with only background between them are joined; columns lie on top."""
    cells = cells_of(grid)
    out = cells.copy()
    _join(cells, out, background)
    _join(cells.T, out.T, background)
    return legal(out)


@searched(1)
def connect_h(grid: Grid, background: Colour = 0) -> Grid:
    """Cells of equal colour in a row, with only background between them, are joined."""
    out = cells_of(grid).copy()
    _join(out, out, background)
    return legal(out)


@searched(1)
def connect_v(grid: Grid, background: Colour = 0) -> Grid:
    """Cells of equal colour in a column, with only background between them, are joined."""
    out = cells_of(grid).copy()
    _join(out.T, out.T, background)
    return legal(out)


@searched(1.5)
def connect_diagonal(grid: Grid, background: Colour = 0) -> Grid:
    """Cells of equal colour on a diagonal, with only background between them, are joined."""
    cells = cells_of(grid)
    out = cells.copy()
    for step in (1, -1):
        lines, part = _slanted(cells[:, ::step], background)
        _join(lines.T, lines.T, background)
        np.copyto(out[:, ::step], part, where=part != background)

    return legal(out)


@searched(1)
def row_lines(grid: Grid, background: Colour = 0) -> Grid:
    """The background of each row takes the colour of the row's first other cell."""
    cells = cells_of(grid)
    solid = cells != background
    return legal(np.where(solid, cells, _first(cells, solid)[:, None]))


@searched(1)
def col_lines(grid: Grid, background: Colour = 0) -> Grid:
    """The background of each column takes the colour of the column's first other cell."""
    return row_lines(cells_of(grid).T, background).T.copy()


@searched(1)
def cross_lines(grid: Grid, background: Colour = 0) -> Grid:
    """`row_lines` and `col_lines` at once; columns lie on top."""
    cells = cells_of(grid)
    solid = cells != background
    across, down = _first(cells, solid)[:, None], _first(cells.T, solid.T)
    return legal(np.where(solid, cells, np.where(down != background, down, across)))


@searched(1.5)
def fill_rows(grid: Grid, background: Colour = 0) -> Grid:
    """Each row takes the colour of its first cell unlike the background."""
    cells = cells_of(grid)
    return legal(_first(cells, cells != background).repeat(cells.shape[1]).reshape(cells.shape))


@searched(1.5)
def fill_cols(grid: Grid, background: Colour = 0) -> Grid:
    """Each column takes the colour of its first cell unlike the background."""
    return fill_rows(cells_of(grid).T, background).T.copy()


@searched(2)
def empty_lines(grid: Grid, colour: Colour = 1, background: Colour = 0) -> Grid:
    """The colour where both the row and the column have only background, background elsewhere."""
    solid = cells_of(grid) != background
    taken = solid.any(axis=1)[:, None] | solid.any(axis=0)
    return legal(np.where(taken, background, colour))


@searched(2, num=(2, 3))
def empty_squares(grid: Grid, num: int, colour: Colour = 1, background: Colour = 0) -> Grid:
    """The colour at squares of num x num cells of background, background elsewhere.

    Squares that share cells with an earlier one, in reading order, are left out.
    """
    cells = cells_of(grid)
    if not 0 < num <= min(cells.shape):
        raise ValueError(f"squares of {num} x {num} cells in a grid of {cells.shape}")

    windows = np.lib.stride_tricks.sliding_window_view(cells == background, (num, num))
    out = np.full_like(cells, background)
    for row, col in np.argwhere(windows.all(axis=(2, 3))).tolist():
        part = out[row : row + num, col : col + num]
        if (part == background).all():
            part[:] = colour
    return legal(out)


@searched(2, direction=SIDES + CORNERS)
def look(grid: Grid, direction: Direction, background: Colour = 0) -> Grid:
    """Each cell becomes the first colour that is seen from it in the direction."""
    back = (-direction[0], -direction[1])
    return shift(_trail(cells_of(grid), back, background), back, fill=background)


@searched(1.5, colour=COLOURS)
def join_to(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Cells that face a cell of the colour, with only background between, are joined to it.

    The line has the colour of the other cell; columns lie on top.
    """
    cells = cells_of(grid)
    out = cells.copy()
    for view, part in ((out, cells), (out.T, cells.T)):
        for row, first, last, other, _ in _facing(part, colour, background):
            view[row, first + 1 : last] = other
    return legal(out)


@searched(1.5, colour=COLOURS)
def print_on(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Cells of the colour take that of the cell that they face, with only background between.

    Cells that touch do not face each other; columns lie on top.
    """
    cells = cells_of(grid)
    out = cells.copy()
    for view, part in ((out, cells), (out.T, cells.T)):
        for row, first, last, other, is_first in _facing(part, colour, background):
            view[row, first if is_first else last] = other
    return legal(out)


@searched(1.5)
def middles(grid: Grid, colour: Colour = 1, background: Colour = 0) -> Grid:
    """The colour midway between cells with only background between them; background elsewhere.

    In a row or a column, an odd number of cells apart.
    """
    cells = cells_of(grid)
    out = np.full_like(cells, background)
    for view, part in ((out, cells), (out.T, cells.T)):
        rows, cols = (part != background).nonzero()
        sums = cols[1:] + cols[:-1]
        apart = (rows[1:] == rows[:-1]) & (cols[1:] > cols[:-1] + 1) & (sums % 2 == 0)
        view[rows[1:][apart], sums[apart] // 2] = colour
    return legal(out)


@searched(1.5, directions=(*((corner,) for corner in CORNERS), CORNERS))
def corner_rays(grid: Grid, directions: Sequence[Direction], background: Colour = 0) -> Grid:
    """Rays from corners of the box of each object, away from it, up to the next cell or the edge.

    Raises ValueError for a direction that is no diagonal.
    """
    cells = cells_of(grid)
    out = cells.copy()
    for obj in find(cells, background=background).objects:
        for down, across in directions:
            if (down, across) not in CORNERS:
                raise ValueError(f"direction {(down, across)}, expected a diagonal")
            row = (obj.bottom if down > 0 else obj.row) + down
            col = (obj.right if across > 0 else obj.col) + across
            while (
                0 <= row < cells.shape[0]
                and 0 <= col < cells.shape[1]
                and cells[row, col] == background
            ):
                out[row, col] = obj.grid[obj.mask][0]
                row, col = row + down, col + across

    return out


@searched(1.5)
def centre_lines(grid: Grid) -> Grid:
    """Lines in the rows and columns through the middle of each object, in its colour.

    Up to the next middle or the edge; rows lie on top. 0 elsewhere, and at all cells of objects.
    """
    lines = extend_many(centres(grid), (LEFT, RIGHT, UP, DOWN))
    return np.where(cells_of(grid) == 0, lines, 0)


@searched(2, colour=COLOURS)
def elbow(grid: Grid, colour: Colour) -> Grid:
    """A line from the only cell of the colour along its row, then along the column of the other.

    In the colour, without both ends, on an empty grid. Raises ValueError where there is not one
    cell of the colour, and one of another besides 0.
    """
    cells = cells_of(grid)
    rows, cols = np.nonzero(cells)
    if len(rows) != 2 or np.count_nonzero(cells == colour) != 1 or colour == 0:
        raise ValueError(
            f"{len(rows)} cells besides 0, expected one of colour {colour} and another"
        )

    start = int(cells[rows[1], cols[1]] == colour)
    row, col = int(rows[start]), int(cols[1 - start])
    out = np.zeros_like(cells)
    out[row, cols.min() : cols.max() + 1] = colour
    out[rows.min() : rows.max() + 1, col] = colour
    out[rows, cols] = 0
    return legal(out)


@searched(1.5)
def grow_corners(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells that touch others only by a corner take the colour of one of these.

    Of the one at the lower right, lower left, upper right or upper left, the first in that order.
    """
    cells = cells_of(grid)
    padded = np.full((cells.shape[0] + 2, cells.shape[1] + 2), background)
    padded[1:-1, 1:-1] = cells
    sides = np.stack((padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]))
    free = (cells == background) & (sides == background).all(axis=0)

    out = cells.copy()
    for part in (padded[:-2, :-2], padded[:-2, 2:], padded[2:, :-2], padded[2:, 2:]):
        np.copyto(out, part, where=free & (part != background))
    return legal(out)


@searched(1.5, direction=SIDES)
def step_checks(grid: Grid, direction: Direction) -> Field:
    """1 and 2 by turns along the way in the direction, beginning anew at each cell that is not 0.

    0 up to the first of them.
    """
    turns_to_down(direction)
    cells = seen_down(cells_of(grid), direction)
    rows = np.arange(1, len(cells) + 1)[:, None]
    last = np.maximum.accumulate(rows * (cells != 0), axis=0)

    out = np.zeros(cells_of(grid).shape, dtype=np.int64)
    seen_down(out, direction)[:] = np.where(last > 0, 1 + (rows - last) % 2, 0)
    return out


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
    view = seen_down(out, direction)
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


def _facing(
    cells: Grid, colour: Colour, background: Colour
) -> Iterator[tuple[int, int, int, Colour, bool]]:
    """Pairs of neighbours in the rows, with background between them, one of them of the colour.

    Gives the row, both columns, the colour of the other one, and whether the first has the colour.
    """
    rows, cols = (cells != background).nonzero()
    colours = cells[rows, cols]
    is_wanted = colours == colour
    apart = (rows[1:] == rows[:-1]) & (cols[1:] > cols[:-1] + 1)
    for at in (apart & (is_wanted[1:] != is_wanted[:-1])).nonzero()[0].tolist():
        is_first = bool(is_wanted[at])
        other = int(colours[at + is_first])
        yield int(rows[at]), int(cols[at]), int(cols[at + 1]), other, is_first


def _first(cells: Grid, solid: Mask) -> Grid:
    """The first solid cell of each row; the first of all where there is none."""
    colours: Grid = cells[np.arange(len(cells)), solid.argmax(axis=1)]
    return colours


def _line_ends(cells: Grid, background: Colour) -> tuple[list[Direction], list[int], list[int]]:
    """Cells with one neighbour of their colour: the step away from it, their rows and columns."""
    height, width = cells.shape
    padded = np.full((height + 2, width + 2), background)
    padded[1:-1, 1:-1] = cells
    equal = np.stack(
        [
            padded[1 - down : 1 - down + height, 1 - across : 1 - across + width] == cells
            for down, across in SIDES + CORNERS
        ]
    )
    rows, cols = ((equal.sum(axis=0) == 1) & (cells != background)).nonzero()
    steps = equal[:, rows, cols].argmax(axis=0)
    return [(SIDES + CORNERS)[step] for step in steps.tolist()], rows.tolist(), cols.tolist()
