"""Find objects, choose among them, move them, and paint them into grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .base import (
    MAX_SIDE,
    Colour,
    Direction,
    Grid,
    Mask,
    Object,
    cells_of,
    checked,
    grid_of,
    searched,
)
from .found import find


@searched(1, diagonal=(True,))
@searched(1.5, diagonal=(False,))
def objects(grid: Grid, diagonal: bool = True, background: Colour = 0) -> list[Object]:
    """Connected cells of one colour besides the background, in reading order of their first cell.

    diagonal: whether cells that share only a corner are connected. The arrays of the objects are
    read-only.
    """
    return list(find(grid, diagonal, False, background).objects)


@searched(1, diagonal=(True,))
@searched(1.5, diagonal=(False,))
def shapes(grid: Grid, diagonal: bool = True, background: Colour = 0) -> list[Object]:
    """Connected cells of any colours but the background, in reading order of their first cell."""
    return list(find(grid, diagonal, True, background).objects)


@searched(1)
def layers(grid: Grid, background: Colour = 0) -> list[Object]:
    """One object per colour besides the background, connected or not, in rising order of colour."""
    cells = checked(grid)
    found = []
    for colour in np.flatnonzero(np.bincount(cells.ravel())).tolist():
        if colour == background:
            continue
        mask = cells == colour
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        mask = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].copy()
        part = np.where(mask, colour, background)
        found.append(Object(int(rows[0]), int(cols[0]), part, mask))

    return found


def largest(objects: list[Object]) -> Object:
    """The object with the most cells, the first one of equals."""
    return max(objects, key=lambda obj: obj.size)


def smallest(objects: list[Object]) -> Object:
    """The object with the fewest cells, the first one of equals."""
    return min(objects, key=lambda obj: obj.size)


def farthest(objects: list[Object], direction: Direction) -> Object:
    """The object whose box reaches farthest in the direction, the first one of equals."""
    return max(objects, key=lambda obj: _reach(obj, direction))


def sort_size(objects: list[Object]) -> list[Object]:
    """The objects from small to large; equals keep their order."""
    return sorted(objects, key=lambda obj: obj.size)


def sort_along(objects: list[Object], direction: Direction) -> list[Object]:
    """The objects in the order in which a walk in the direction meets them; equals keep theirs."""
    return sorted(objects, key=lambda obj: -_reach(obj, (-direction[0], -direction[1])))


def with_colour(objects: list[Object], colour: Colour) -> list[Object]:
    """Those objects that have mostly that colour."""
    return [obj for obj in objects if obj.colour == colour]


def odd_object(objects: list[Object]) -> Object:
    """The object whose shape occurs least often, the first one of equals."""
    return min(objects, key=lambda obj: sum(same_shape(obj, other) for other in objects))


def common_object(objects: list[Object]) -> Object:
    """The object whose shape occurs most often, the first one of equals."""
    return max(objects, key=lambda obj: sum(same_shape(obj, other) for other in objects))


def same_shape(first: Object, second: Object) -> bool:
    """Whether both have the same cells, colours and places aside."""
    same_size = first.mask.shape == second.mask.shape
    return same_size and first.mask.tobytes() == second.mask.tobytes()


def is_rectangle(obj: Object) -> bool:
    """Whether the object fills its box."""
    return bool(obj.mask.all())


def is_square(obj: Object) -> bool:
    """Whether the object fills its box and the box is a square."""
    return is_rectangle(obj) and obj.height == obj.width


def is_line(obj: Object) -> bool:
    """Whether the object is a straight row or column of at least two cells."""
    return is_rectangle(obj) and min(obj.height, obj.width) == 1 and obj.size > 1


def num_holes(obj: Object) -> int:
    """Number of connected enclosed areas inside the object."""
    if min(obj.mask.shape) < 3:
        return 0

    # With a margin, everything outside the object is one part, and each hole is another.
    outside = np.ones((obj.height + 2, obj.width + 2), dtype=np.int64)
    outside[1:-1, 1:-1] -= obj.mask
    return len(find(outside, diagonal=False).objects) - 1


def touches_edge(grid: Grid, obj: Object) -> bool:
    """Whether the object has a cell at the edge of the grid."""
    height, width = grid_of(grid).shape
    return obj.row <= 0 or obj.col <= 0 or obj.bottom >= height - 1 or obj.right >= width - 1


def recolour_object(obj: Object, colour: Colour) -> Object:
    """The object with all its cells in the colour."""
    return replace(obj, grid=checked(np.where(obj.mask, colour, obj.grid)))


def move(obj: Object, direction: Direction, num: int = 1) -> Object:
    """The object num steps in the direction."""
    return replace(obj, row=obj.row + direction[0] * num, col=obj.col + direction[1] * num)


def place(obj: Object, row: int, col: int) -> Object:
    """The object with the upper left corner of its box at the place."""
    return replace(obj, row=row, col=col)


def box(obj: Object) -> Object:
    """The whole box of the object, filled with its colour."""
    return replace(obj, grid=np.full_like(obj.grid, obj.colour), mask=np.ones_like(obj.mask))


def paint(grid: Grid, obj: Object) -> Grid:
    """The object laid on the grid; cells outside are left out."""
    return paint_all(grid, [obj])


def paint_all(grid: Grid, objects: list[Object]) -> Grid:
    """The objects laid on the grid one after the other."""
    cells = checked(grid)
    for obj in objects:
        lay(cells, obj)
    return cells


@searched(0)
def cut(obj: Object) -> Grid:
    """The box of the object as a grid of its own."""
    return obj.grid.copy()


@searched(0.5)
def on_empty(obj: Object, grid: Grid) -> Grid:
    """The object alone, at its place, on an empty grid of the size of the one given."""
    return on_empty_all([obj], grid)


@searched(0.5)
def on_empty_all(objects: list[Object], grid: Grid) -> Grid:
    """The objects at their places on an empty grid of the size of the one given."""
    cells = np.zeros(cells_of(grid).shape, dtype=np.int64)
    for obj in objects:
        lay(cells, obj)
    return cells


def erase(grid: Grid, obj: Object, background: Colour = 0) -> Grid:
    """The cells of the object become background."""
    return paint(grid, recolour_object(obj, background))


def slide(grid: Grid, obj: Object, direction: Direction, background: Colour = 0) -> Object:
    """An object of the grid, moved in the direction until it meets another cell or the edge."""
    free = erase(grid, obj, background) == background
    for _ in range(MAX_SIDE):
        moved = move(obj, direction)
        if not _fits(free, moved):
            break
        obj = moved

    return obj


def lay(cells: Grid, obj: Object) -> None:
    """Paints the object into the cells themselves; what lies outside is left out."""
    top, left = max(0, obj.row), max(0, obj.col)
    inside = (
        slice(top - obj.row, cells.shape[0] - obj.row),
        slice(left - obj.col, cells.shape[1] - obj.col),
    )
    if obj.row < cells.shape[0] and obj.col < cells.shape[1]:
        mask = obj.mask[inside]
        part = cells[top : top + mask.shape[0], left : left + mask.shape[1]]
        np.copyto(part, obj.grid[inside], where=mask)


def _reach(obj: Object, direction: Direction) -> int:
    """How far the box reaches in the direction; only differences between objects have a meaning."""
    down, across = direction
    row = obj.bottom if down > 0 else obj.row
    col = obj.right if across > 0 else obj.col
    return row * down + col * across


def _fits(free: Mask, obj: Object) -> bool:
    if obj.row < 0 or obj.col < 0 or obj.bottom >= free.shape[0] or obj.right >= free.shape[1]:
        return False
    return bool(free[obj.cells()].all())
