"""Find symmetries and periods, make them, and repair what breaks them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .base import (
    COLOURS,
    DOWN,
    LEFT,
    RIGHT,
    SIDES,
    Colour,
    Direction,
    Grid,
    Mask,
    cells_of,
    checked,
    grid_of,
    legal,
    searched,
    seen_down,
    turns_to_down,
)
from .geometry import anti_transpose, flip_h, flip_v, rot90, rot180, rot270, transpose
from .object import layers

_SYMMETRIES: tuple[Callable[[Grid], Grid], ...] = (
    flip_h,
    flip_v,
    rot180,
    transpose,
    anti_transpose,
    rot90,
    rot270,
)


def is_mirror_h(grid: Grid) -> bool:
    """Whether the left half is the mirror image of the right half."""
    return bool(np.array_equal(cells_of(grid), flip_h(grid)))


def is_mirror_v(grid: Grid) -> bool:
    """Whether the top half is the mirror image of the bottom half."""
    return bool(np.array_equal(cells_of(grid), flip_v(grid)))


@searched(1, direction=SIDES)
def mirror(grid: Grid, direction: Direction) -> Grid:
    """The grid with its mirror image added on that side."""
    cells = cells_of(grid)
    turns_to_down(direction)
    if direction in (LEFT, RIGHT):
        parts = [cells, cells[:, ::-1]]
        return legal(np.concatenate(parts if direction == RIGHT else parts[::-1], axis=1))

    parts = [cells, cells[::-1]]
    return legal(np.concatenate(parts if direction == DOWN else parts[::-1], axis=0))


@searched(1)
def mirror_four(grid: Grid) -> Grid:
    """The grid and its mirror images to the right, below, and across the corner."""
    return mirror(mirror(grid, RIGHT), DOWN)


@searched(1)
def pinwheel(grid: Grid) -> Grid:
    """A square grid and its quarter turns around the lower right corner, clockwise."""
    cells = _square(grid)
    side = len(cells)
    out = np.empty((2 * side, 2 * side), dtype=np.int64)
    out[:side, :side], out[:side, side:] = cells, cells[::-1].T
    out[side:, :side], out[side:, side:] = cells.T[::-1], cells[::-1, ::-1]
    return legal(out)


@searched(1)
def pinwheel_back(grid: Grid) -> Grid:
    """A square grid and its quarter turns around the lower right corner, counter-clockwise."""
    return transpose(pinwheel(transpose(grid)))


@searched(1.5, direction=SIDES)
def mirror_shared(grid: Grid, direction: Direction) -> Grid:
    """Like `mirror`, but the line where both images meet is there only once."""
    height, width = cells_of(grid).shape
    both = mirror(grid, direction)
    return np.delete(both, height if direction[0] else width, axis=0 if direction[0] else 1)


@searched(1, per_object=True)
def symmetrize_h(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour of their mirror image, left to right."""
    cells = cells_of(grid)
    return _lay(cells, [cells[:, ::-1]], background)


@searched(1, per_object=True)
def symmetrize_v(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour of their mirror image, top to bottom."""
    cells = cells_of(grid)
    return _lay(cells, [cells[::-1]], background)


@searched(1, per_object=True)
def symmetrize_d(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells of a square grid take the colour of their mirror image at the diagonal."""
    cells = _square(grid)
    return _lay(cells, [cells.T], background)


@searched(1, per_object=True)
def symmetrize_turns(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells of a square grid take the colour found at their quarter turns."""
    cells = _square(grid)
    return _lay(cells, [cells[::-1].T, cells[::-1, ::-1], cells.T[::-1]], background)


@searched(1)
def symmetrize_both(grid: Grid, background: Colour = 0) -> Grid:
    """`symmetrize_h`, then `symmetrize_v`."""
    return symmetrize_v(symmetrize_h(grid, background), background)


@searched(1)
def symmetrize_half_turn(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour found at their half turn."""
    cells = cells_of(grid)
    return _lay(cells, [cells[::-1, ::-1]], background)


@searched(1)
def symmetrize_a(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells of a square grid take the colour mirrored at the other diagonal."""
    cells = _square(grid)
    return _lay(cells, [cells[::-1, ::-1].T], background)


@searched(1.5)
def symmetrize_around(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour of their mirror images around the middle of one colour.

    It is the first colour whose cells together have both mirrors. Raises ValueError for none.
    """
    cells = cells_of(grid)
    for obj in layers(cells, background):
        part = obj.grid
        if np.array_equal(part, part[:, ::-1]) and np.array_equal(part, part[::-1]):
            break
    else:
        raise ValueError("no colour whose cells have both mirrors")

    # A cell and its mirror image have a fixed sum of rows, or columns.
    rows, cols = np.nonzero(cells != background)
    down, across = obj.row + obj.bottom - rows, obj.col + obj.right - cols
    colours = cells[rows, cols]
    out = cells.copy()
    for to_rows, to_cols in ((rows, across), (down, cols), (down, across)):
        inside = (to_rows >= 0) & (to_cols >= 0)
        inside &= (to_rows < cells.shape[0]) & (to_cols < cells.shape[1])
        at = to_rows[inside], to_cols[inside]
        out[at] = np.where(out[at] == background, colours[inside], out[at])

    return out


@searched(1, hole=(0,))
def repair_symmetry(grid: Grid, hole: Colour) -> Grid:
    """Cells of the hole colour are filled in by every mirror or turn that all other cells obey."""
    cells = grid_of(grid)
    known = cells != hole
    if np.logical_and.reduce(known, axis=None):
        return cells

    for function in _SYMMETRIES:
        image = function(cells)
        if image.shape != cells.shape:
            continue

        broken = cells != image
        broken &= known
        broken &= image != hole
        if not np.logical_or.reduce(broken, axis=None):
            cells = np.where(known, cells, image)
            known = cells != hole

    return cells


@searched(1, hole=(0,))
@searched(1.5, hole=COLOURS)
def repair_mirrors(grid: Grid, hole: Colour) -> Grid:
    """Cells of the hole colour are filled in by mirrors, whose axes need not be in the middle.

    An upright and a level axis are found, if there are any: not far from the middle, two sides that
    nowhere disagree and agree in the most cells; and the diagonal of a square. A grid with more
    holes than other cells stays as it is.
    """
    cells = checked(grid)
    num_holes = np.count_nonzero(cells == hole)
    if not 0 < num_holes <= cells.size // 2:
        return cells

    before = None
    while num_holes and num_holes != before:  # what one axis fills in may tell more of the other
        for view in (cells, cells.T):
            turn = _mirror_of(view, hole)
            if turn is not None:
                at = np.arange(max(0, turn - len(view) + 1), min(len(view), turn + 1))
                view[at] = np.where(view[at] == hole, view[turn - at], view[at])

        if cells.shape[0] == cells.shape[1]:
            image = cells.T
            if ((cells == image) | (cells == hole) | (image == hole)).all():
                cells = np.where(cells == hole, image, cells)
        before, num_holes = num_holes, np.count_nonzero(cells == hole)

    return cells


def period_h(grid: Grid) -> int:
    """Columns after which the grid repeats itself; its width if it does not."""
    return _period(cells_of(grid).T)


def period_v(grid: Grid) -> int:
    """Rows after which the grid repeats itself; its height if it does not."""
    return _period(cells_of(grid))


@searched(1)
def unit(grid: Grid) -> Grid:
    """The smallest part that gives the grid when repeated, and cut off on the right and below."""
    cells = cells_of(grid)
    return cells[: _period(cells), : _period(cells.T)].copy()


def continue_pattern(grid: Grid, height: int, width: int) -> Grid:
    """The pattern of the grid continued to that size."""
    part = unit(grid)
    rows, cols = np.arange(height) % part.shape[0], np.arange(width) % part.shape[1]
    return legal(part[rows[:, None], cols])


@searched(1, hole=(0,))
@searched(1.5, hole=COLOURS)
def repair_tiling(grid: Grid, hole: Colour) -> Grid:
    """Cells of the hole colour are filled in, so that the smallest possible part tiles the grid."""
    cells = checked(grid)
    known = cells != hole
    rows, cols = known.nonzero()
    if rows.size == cells.size:
        return cells

    # A part can only tile the grid if its height alone and its width alone agree with the cells.
    heights, widths = _periods(cells, known), _periods(cells.T, known.T)
    sizes = [(r * c, r, c) for r in heights for c in widths if r * c <= rows.size]
    colours = cells[rows, cols]
    for size, period_rows, period_cols in sorted(sizes):
        # Each known cell of the grid puts its colour at its place in the part.
        place = rows % period_rows * period_cols + cols % period_cols
        part = np.full(size, -1)
        part[place] = colours

        if part.min() >= 0 and (part[place] == colours).all():
            down = np.arange(cells.shape[0])[:, None] % period_rows * period_cols
            return legal(part[down + np.arange(cells.shape[1]) % period_cols])

    return cells


@searched(1.5, hole=(0,))
@searched(1.5, hole=COLOURS)
def patch(grid: Grid, hole: Colour) -> Grid:
    """What belongs at the cells of the hole colour by `repair_mirrors` or else `repair_tiling`.

    The box of these cells as a grid. Raises ValueError where neither fills them all.
    """
    cells = checked(grid)
    rows, cols = np.nonzero(cells == hole)
    if not 0 < rows.size <= cells.size // 2:
        raise ValueError(f"{rows.size} cells of colour {hole}, expected some, and at most half")

    box = slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1)
    for repair in (repair_mirrors, repair_tiling):
        part = repair(cells, hole)[box]
        if (part != hole).all():
            return part.copy()
    raise ValueError(f"no mirror and no tiling tells all cells of colour {hole}")


@searched(2, direction=SIDES)
def go_on(grid: Grid, direction: Direction, background: Colour = 0) -> Grid:
    """A pattern that ends before the edge goes on up to it, with the smallest period that it has.

    Raises ValueError where the lines from the first to the last that is not empty have no period.
    """
    out = grid_of(grid)
    turns_to_down(direction)
    cells = seen_down(out, direction)
    filled = np.flatnonzero((cells != background).any(axis=1))
    if not filled.size:
        raise ValueError("no pattern: all cells are background")

    start, end = int(filled[0]), int(filled[-1]) + 1
    period = _period(cells[start:end].copy())
    if period == end - start:
        raise ValueError(f"the {period} lines of the pattern have no period")
    cells[end:] = cells[start + np.arange(end - start, len(cells) - start) % period]
    return legal(out)


def _period(cells: Grid) -> int:
    """Rows after which the cells repeat themselves; their number if they do not."""
    rows, data = len(cells), cells.tobytes()
    step = len(data) // rows
    return next(p for p in range(1, rows + 1) if data.startswith(data[p * step :]))


def _periods(cells: Grid, known: Mask) -> list[int]:
    """Numbers of rows after which the cells may repeat themselves, as far as they are known."""
    # agrees[p]: no known cell differs from a known one p rows below it.
    rows = len(cells)
    moved = _moved(cells, known, 0, rows - 1)
    differs = (moved != moved[0]) & (moved != 0) & known
    agrees = (~differs.reshape(rows, -1).any(axis=1)).tolist()
    return [p for p in range(1, rows + 1) if all(agrees[p::p])]


def _mirror_of(cells: Grid, hole: Colour) -> int | None:
    """The sum of each row's number and its mirror image's; None where the cells obey no mirror."""
    # At least three rows more than half of them must have their mirror image inside, but for the
    # mirror in the middle.
    known, upside_down = cells != hole, cells[::-1]
    most = max(0, (len(cells) + 1) // 2 - 3)
    moved = _moved(upside_down, known[::-1], most, most)
    both = (moved != 0) & known
    differs = both & (moved != (cells + 1).astype(np.uint8))
    agrees = ~differs.reshape(len(differs), -1).any(axis=1)

    # Moved down by p rows, row i of the upside-down cells is row last + p - i of the cells.
    num, at = max(((both[at].sum(), -at) for at in agrees.nonzero()[0].tolist()), default=(0, 0))
    return len(cells) - 1 + most + at if num else None


def _moved(cells: Grid, known: Mask, down: int, up: int) -> NDArray[np.uint8]:
    """The cells moved by `down` rows down, one less, ..., `up` rows up.

    (down + 1 + up, height, width), colours + 1, and 0 for what is not known.
    """
    rows, cols = cells.shape
    padded = np.zeros((down + rows + up, cols), dtype=np.uint8)
    np.multiply(cells + 1, known, out=padded[down : down + rows], casting="unsafe")
    shape, (row_step, step) = (down + 1 + up, rows, cols), padded.strides
    return np.ndarray(shape, np.uint8, padded, strides=(row_step, row_step, step))


def _square(grid: Grid) -> Grid:
    cells = cells_of(grid)
    if cells.shape[0] != cells.shape[1]:
        raise ValueError(f"a grid of {cells.shape[0]} x {cells.shape[1]} cells, expected a square")
    return cells


def _lay(cells: Grid, images: list[Grid], background: Colour) -> Grid:
    """Images laid under the cells one after the other."""
    for image in images:
        cells = np.where(cells == background, image, cells)
    return legal(cells)
