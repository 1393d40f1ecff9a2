"""Find objects, choose among them, move them, and paint them into grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .base import MAX_SIDE, Colour, Direction, Grid, Mask, Object, checked, components, grid_of
from .drawing import fill_enclosed


def objects(grid: Grid, diagonal: bool = True, background: Colour = 0) -> list[Object]:
    """Connected cells of one colour besides the background, in reading order of their first cell.

    diagonal: whether cells that share only a corner are connected.
    """
    cells = checked(grid)
    return _found(cells, np.where(cells == background, -1, cells), diagonal, background)


def shapes(grid: Grid, diagonal: bool = True, background: Colour = 0) -> list[Object]:
    """Connected cells of any colours but the background, in reading order of their first cell."""
    cells = checked(grid)
    return _found(cells, np.where(cells == background, -1, 0), diagonal, background)


def layers(grid: Grid, background: Colour = 0) -> list[Object]:
    """One object per colour besides the background, connected or not, in rising order of colour."""
    cells = checked(grid)
    places = [np.nonzero(cells == colour) for colour in np.unique(cells) if colour != background]
    return [_object(cells, rows, cols, background) for rows, cols in places]


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
    return bool(np.array_equal(first.mask, second.mask))


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
    inner = fill_enclosed(obj.mask.astype(np.int64), 2)
    return len(components(np.where(inner == 2, 0, -1), diagonal=False))


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
    cells = grid_of(grid)
    rows, cols = obj.cells()
    inside = (rows >= 0) & (cols >= 0) & (rows < cells.shape[0]) & (cols < cells.shape[1])
    cells[rows[inside], cols[inside]] = obj.grid[obj.mask][inside]
    return checked(cells)


def paint_all(grid: Grid, objects: list[Object]) -> Grid:
    """The objects laid on the grid one after the other."""
    for obj in objects:
        grid = paint(grid, obj)
    return checked(grid)


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


def _found(cells: Grid, labels: Grid, diagonal: bool, background: Colour) -> list[Object]:
    return [
        _object(cells, rows, cols, background)
        for rows, cols in components(labels, diagonal=diagonal)
    ]


def _object(
    cells: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64], background: Colour
) -> Object:
    row, col = int(rows.min()), int(cols.min())
    mask = np.zeros((int(rows.max()) - row + 1, int(cols.max()) - col + 1), dtype=bool)
    mask[rows - row, cols - col] = True
    part = cells[row : row + mask.shape[0], col : col + mask.shape[1]]
    return Object(row, col, checked(np.where(mask, part, background)), mask)


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
