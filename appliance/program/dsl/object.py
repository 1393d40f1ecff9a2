"""Find objects, describe them, and paint them into grids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    COLOURS,
    SIDES,
    Colour,
    Direction,
    Field,
    Grid,
    Object,
    cells_of,
    checked,
    components,
    grid_of,
    label,
    searched,
)


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of a grid, in reading order of their first cell, and what is measured on them.

    Every array is read-only, since all callers share it.
    """

    objects: tuple[Object, ...]
    cells: Grid  # (height, width) the grid itself
    labels: NDArray[np.int64]  # (height, width) number of the object of each cell, -1 outside
    tops: NDArray[np.int64]  # (number of objects,), and so the next four
    lefts: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    areas: NDArray[np.int64]  # cells

    def spread(self, values: Any) -> Field:
        """The value of its object at each cell, 0 outside of all objects."""
        measures = np.zeros(len(self.objects) + 1, dtype=np.int64)
        measures[:-1] = values
        return measures[self.labels]  # label -1 is the last one: 0


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


@searched(1.5, colour=COLOURS)
def touching(grid: Grid, colour: Colour, diagonal: bool = True) -> list[Object]:
    """The objects of other colours with a cell beside, above or below one of the colour.

    diagonal: whether cells that share only a corner are connected. Raises ValueError for none.
    """
    found = find(grid, diagonal)
    wanted = found.cells == colour
    near = np.zeros(wanted.shape, dtype=bool)
    near[1:] |= wanted[:-1]
    near[:-1] |= wanted[1:]
    near[:, 1:] |= wanted[:, :-1]
    near[:, :-1] |= wanted[:, 1:]

    numbers = np.unique(found.labels[near & ~wanted & (found.cells != 0)]).tolist()
    if not numbers:
        raise ValueError(f"no object beside a cell of colour {colour}")
    return [found.objects[number] for number in numbers]


@searched(1)
def largest(objects: list[Object]) -> Object:
    """The object with the most cells, the first one of equals."""
    return max(objects, key=lambda obj: obj.size)


@searched(1)
def smallest(objects: list[Object]) -> Object:
    """The object with the fewest cells, the first one of equals."""
    return min(objects, key=lambda obj: obj.size)


@searched(1, direction=SIDES)
def farthest(objects: list[Object], direction: Direction) -> Object:
    """The object whose box reaches farthest in the direction, the first one of equals."""
    return max(objects, key=lambda obj: reach(obj, direction))


def sort_size(objects: list[Object]) -> list[Object]:
    """The objects from small to large; equals keep their order."""
    return sorted(objects, key=lambda obj: obj.size)


@searched(1.5, direction=SIDES)
def sort_along(objects: list[Object], direction: Direction) -> list[Object]:
    """The objects in the order in which a walk in the direction meets them; equals keep theirs."""
    return sorted(objects, key=lambda obj: -reach(obj, (-direction[0], -direction[1])))


@searched(1.5, colour=COLOURS)
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


@searched(1.5)
def centres(grid: Grid, diagonal: bool = True) -> Grid:
    """The middle of the box of each object in its colour, 0 elsewhere: one, two or four cells."""
    found = find(grid, diagonal)
    out = np.zeros_like(found.cells)
    for obj in found.objects:
        down, across = (obj.height - 1) // 2, (obj.width - 1) // 2
        rows = slice(obj.row + down, obj.bottom - down + 1)
        cols = slice(obj.col + across, obj.right - across + 1)
        out[rows, cols] = obj.grid[obj.mask][0]

    return out


@searched(1.5)
def fill_layers(grid: Grid, background: Colour = 0) -> Grid:
    """Background cells in the box of all cells of a colour take it; of several, the first one."""
    cells = checked(grid)
    for obj in layers(cells, background):
        part = cells[obj.row : obj.bottom + 1, obj.col : obj.right + 1]
        part[part == background] = obj.grid[obj.mask][0]
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


def find(grid: Grid, diagonal: bool = True, mixed: bool = False, background: Colour = 0) -> Found:
    """The connected parts of a grid besides the background.

    diagonal: whether cells that share only a corner are connected. mixed: whether cells of
    different colours are.
    """
    cells = cells_of(grid)
    return _find(cells.tobytes(), cells.shape, bool(diagonal), bool(mixed), background)


def piece(cells: Grid, top: int, left: int, height: int, width: int) -> Object:
    """A part cut out of a grid of background 0; its own cells are those that are not 0."""
    part = cells[top : top + height, left : left + width].copy()
    return Object(top, left, part, part != 0)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The array, made read-only."""
    array.flags.writeable = False
    return array


# A search asks for the objects of one grid many times in a row; 512 grids are at most some 10 MB.
@lru_cache(maxsize=512)
def _find(
    content: bytes, shape: tuple[int, int], diagonal: bool, mixed: bool, background: Colour
) -> Found:
    cells = frozen(checked(np.frombuffer(content, dtype=np.int64).reshape(shape)))
    wanted = cells != background
    kinds = np.where(wanted, 0 if mixed else cells, -1)
    labels = label(kinds, diagonal=diagonal)[0] - 1
    parts = components(kinds, diagonal=diagonal)

    sizes = [len(rows) for rows, _ in parts]
    if parts:
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        rows = np.concatenate([rows for rows, _ in parts])
        cols = np.concatenate([cols for _, cols in parts])
        tops, lefts = np.minimum.reduceat(rows, starts), np.minimum.reduceat(cols, starts)
        heights = np.maximum.reduceat(rows, starts) - tops + 1
        widths = np.maximum.reduceat(cols, starts) - lefts + 1
    else:
        tops = lefts = heights = widths = np.zeros(0, dtype=np.int64)

    objects = []
    boxes = zip(tops.tolist(), lefts.tolist(), heights.tolist(), widths.tolist(), strict=True)
    for number, (top, left, height, width) in enumerate(boxes):
        box = slice(top, top + height), slice(left, left + width)
        mask = labels[box] == number
        part = np.where(mask, cells[box], background)
        objects.append(Object(top, left, frozen(part), frozen(mask)))

    areas = np.array(sizes, dtype=np.int64)
    for array in (labels, tops, lefts, heights, widths, areas):
        frozen(array)
    return Found(tuple(objects), cells, labels, tops, lefts, heights, widths, areas)


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


def reach(obj: Object, direction: Direction) -> int:
    """How far the box reaches in the direction; only differences between objects have a meaning."""
    down, across = direction
    row = obj.bottom if down > 0 else obj.row
    col = obj.right if across > 0 else obj.col
    return row * down + col * across
