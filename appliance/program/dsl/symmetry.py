"""Find symmetries and periods, make them, and repair what breaks them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .base import DOWN, LEFT, RIGHT, Colour, Direction, Grid, checked, grid_of, turns_to_down
from .geometry import anti_transpose, flip_h, flip_v, rot90, rot180, rot270, transpose

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
    return bool(np.array_equal(grid_of(grid), flip_h(grid)))


def is_mirror_v(grid: Grid) -> bool:
    """Whether the top half is the mirror image of the bottom half."""
    return bool(np.array_equal(grid_of(grid), flip_v(grid)))


def mirror(grid: Grid, direction: Direction) -> Grid:
    """The grid with its mirror image added on that side."""
    cells = grid_of(grid)
    turns_to_down(direction)
    if direction in (LEFT, RIGHT):
        parts = [cells, flip_h(cells)]
        return checked(np.hstack(parts if direction == RIGHT else parts[::-1]))

    parts = [cells, flip_v(cells)]
    return checked(np.vstack(parts if direction == DOWN else parts[::-1]))


def mirror_four(grid: Grid) -> Grid:
    """The grid and its mirror images to the right, below, and across the corner."""
    return mirror(mirror(grid, RIGHT), DOWN)


def pinwheel(grid: Grid) -> Grid:
    """A square grid and its quarter turns around the lower right corner, clockwise."""
    cells = grid_of(grid)
    if cells.shape[0] != cells.shape[1]:
        raise ValueError(f"a grid of {cells.shape[0]} x {cells.shape[1]} cells, expected a square")
    return checked(np.block([[cells, rot90(cells)], [rot270(cells), rot180(cells)]]))


def symmetrize_h(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour of their mirror image, left to right."""
    return _lay(grid_of(grid), [flip_h(grid)], background)


def symmetrize_v(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells take the colour of their mirror image, top to bottom."""
    return _lay(grid_of(grid), [flip_v(grid)], background)


def symmetrize_d(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells of a square grid take the colour of their mirror image at the diagonal."""
    return _lay(grid_of(grid), [transpose(grid)], background)


def symmetrize_turns(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells of a square grid take the colour found at their quarter turns."""
    return _lay(grid_of(grid), [rot90(grid), rot180(grid), rot270(grid)], background)


def repair_symmetry(grid: Grid, hole: Colour) -> Grid:
    """Cells of the hole colour are filled in by every mirror or turn that all other cells obey."""
    cells = grid_of(grid)
    for function in _SYMMETRIES:
        image = function(cells)
        if image.shape != cells.shape:
            continue
        if ((cells == image) | (cells == hole) | (image == hole)).all():
            cells = np.where(cells == hole, image, cells)

    return cells


def period_h(grid: Grid) -> int:
    """Columns after which the grid repeats itself; its width if it does not."""
    cells = grid_of(grid)
    width = int(cells.shape[1])
    return next(
        p for p in range(1, width + 1) if np.array_equal(cells[:, p:], cells[:, : width - p])
    )


def period_v(grid: Grid) -> int:
    """Rows after which the grid repeats itself; its height if it does not."""
    return period_h(transpose(grid))


def unit(grid: Grid) -> Grid:
    """The smallest part that gives the grid when repeated, and cut off on the right and below."""
    return grid_of(grid_of(grid)[: period_v(grid), : period_h(grid)])


def continue_pattern(grid: Grid, height: int, width: int) -> Grid:
    """The pattern of the grid continued to that size."""
    part = unit(grid)
    rows, cols = np.arange(height) % part.shape[0], np.arange(width) % part.shape[1]
    return checked(part[rows][:, cols])


def repair_tiling(grid: Grid, hole: Colour) -> Grid:
    """Cells of the hole colour are filled in, so that the smallest possible part tiles the grid."""
    cells = grid_of(grid)
    known = cells != hole
    sizes = [(r, c) for r in range(1, cells.shape[0] + 1) for c in range(1, cells.shape[1] + 1)]
    for period_rows, period_cols in sorted(sizes, key=lambda size: (size[0] * size[1], size)):
        # `place` numbers the cells of the part; each known cell of the grid puts its colour there.
        across = np.arange(cells.shape[1]) % period_cols
        place = np.add.outer(np.arange(cells.shape[0]) % period_rows * period_cols, across)
        part = np.full(period_rows * period_cols, -1)
        part[place[known]] = cells[known]

        tiled = part[place]
        if (part >= 0).all() and (tiled[known] == cells[known]).all():
            return checked(tiled)

    return cells


def _lay(cells: Grid, images: list[Grid], background: Colour) -> Grid:
    """Images laid under the cells one after the other."""
    for image in images:
        if image.shape != cells.shape:
            raise ValueError(
                f"a grid of {cells.shape[0]} x {cells.shape[1]} cells, expected a square"
            )
        cells = np.where(cells == background, image, cells)

    return checked(cells)
