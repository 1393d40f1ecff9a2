"""Move objects, let them slide and meet, send trails out, and copy them to other places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    COLOURS,
    CORNERS,
    DOWN,
    LEFT,
    MAX_SIDE,
    RIGHT,
    SIDES,
    UP,
    Colour,
    Direction,
    Grid,
    Mask,
    Object,
    checked,
    searched,
)  # fmt: skip
from .choice import colours_in
from .object import Found, erase, find, lay, reach

MAX_COPIES = 12
"""Among more shapes nobody looks for parts of one, and it would take long."""

_RAYS = (*((side,) for side in SIDES), (LEFT, RIGHT), (UP, DOWN), SIDES, CORNERS)


def move(obj: Object, direction: Direction, num: int = 1) -> Object:
    """The object num steps in the direction."""
    return replace(obj, row=obj.row + direction[0] * num, col=obj.col + direction[1] * num)


def place(obj: Object, row: int, col: int) -> Object:
    """The object with the upper left corner of its box at the place."""
    return replace(obj, row=row, col=col)


def slide(grid: Grid, obj: Object, direction: Direction, background: Colour = 0) -> Object:
    """An object of the grid, moved in the direction until it meets another cell or the edge."""
    free = erase(grid, obj, background) == background
    for _ in range(MAX_SIDE):
        moved = move(obj, direction)
        if not _fits(free, moved):
            break
        obj = moved

    return obj


@searched(1, direction=SIDES)
@searched(1.5, direction=SIDES, mixed=(True,))
def slide_objects(
    grid: Grid, direction: Direction = DOWN, diagonal: bool = True, mixed: bool = False
) -> Grid:
    """Each object slides until it meets another cell or the edge, those near that side first.

    diagonal: whether cells that share only a corner make one object; mixed: whether cells of
    different colours do.
    """
    if direction not in SIDES + CORNERS:
        raise ValueError(f"direction {direction}, expected one of the eight")
    found = _objects(grid, diagonal, mixed)
    order = sorted(found.objects, key=lambda obj: -reach(obj, direction))
    return _slid(found.cells, [(obj, direction) for obj in order])


@searched(1, colour=COLOURS)
@searched(1.5, colour=COLOURS, mixed=(True,))
def gather_to(grid: Grid, colour: Colour, diagonal: bool = True, mixed: bool = False) -> Grid:
    """Each object slides towards the cells of the colour that it faces, until it meets something.

    It faces them where they share one of its rows or columns; the nearest ones count, and an
    object that faces none stays. Objects that have the colour stay too.
    """
    found = _objects(grid, diagonal, mixed)
    wanted = found.cells == colour
    if not wanted.any():
        raise ValueError(f"no cell of colour {colour} to gather to")

    moves = []
    for obj in found.objects:
        if not (obj.grid == colour).any():
            distance, direction = _way_to(wanted, obj)
            moves.append((distance, obj, direction))

    moves.sort(key=lambda item: item[0])
    return _slid(found.cells, [(obj, direction) for _, obj, direction in moves])


@searched(1.5, keep_rest=(True, False))
def gather_own(grid: Grid, keep_rest: bool = True, diagonal: bool = True) -> Grid:
    """Each object slides towards the largest one of its own colour, if it faces it.

    The rest stays, or is lost: objects that face none, and those of a colour with single cells
    only.
    """
    found = _objects(grid, diagonal, mixed=False)
    largest: dict[int, int] = {}  # of each colour, the number of its largest object
    for number, obj in enumerate(found.objects):
        best = largest.setdefault(obj.colour, number)
        if found.areas[number] > found.areas[best]:
            largest[obj.colour] = number

    moves = []
    for number, obj in enumerate(found.objects):
        if number != largest[obj.colour]:
            distance, direction = _way_to(found.labels == largest[obj.colour], obj)
            moves.append((distance, obj, direction))

    moves.sort(key=lambda item: item[0])
    cells = found.cells
    if not keep_rest:
        lost = [obj for _, obj, direction in moves if direction is None]
        lost += [found.objects[n] for n in largest.values() if found.areas[n] == 1]
        cells = cells.copy()
        for obj in lost:
            cells[obj.cells()] = 0
    return _slid(cells, [(obj, direction) for _, obj, direction in moves])


@searched(1.5, colour=COLOURS, directions=_RAYS)
def shoot(grid: Grid, colour: Colour, directions: Sequence[Direction]) -> Grid:
    """Each cell of the colour sends a ray over cells of 0, up to the next cell or the edge."""
    ground = _Ground(checked(grid))
    at = ground.of_colour(colour)
    if not at.size or colour == 0:
        raise ValueError(f"no cell of colour {colour}, or 0, to send rays from")

    for direction in directions:
        ground.send(at, direction)
    return ground.grid()


@searched(1.5, away=(True, False))
def trail(grid: Grid, away: bool = True) -> Grid:
    """Each shape of two colours leaves a trail of its smaller part, away from the larger one.

    If not away, it runs the other way, and comes out behind the larger part. It runs over cells of
    0, up to the next cell or the edge.
    """
    found = _objects(grid, diagonal=True, mixed=True)
    ground = _Ground(found.cells)
    for obj in found.objects:
        colours = obj.grid[obj.mask]
        counts = np.bincount(colours)
        two = counts.nonzero()[0]
        if len(two) != 2 or counts[two[0]] == counts[two[1]]:
            continue

        is_small = colours == two[counts[two].argmin()]
        down, across = (_side(places, is_small) * (1 if away else -1) for places in obj.cells())
        if down or across:
            at = ground.at(obj)
            ground.send(at[is_small], (down, across), through=at)

    return ground.grid()


@searched(1.5, colour=COLOURS)
@searched(2, colour=COLOURS, keep_first=(False,))
def stamp_at(grid: Grid, colour: Colour, keep_first: bool = True) -> Grid:
    """The largest shape copied to every mark: a cell of the colour, or a shape as large as itself.

    If one cell of the largest shape has the colour, this cell is laid on single cells, else its
    middle is. keep_first: whether it also stays where it was. Raises ValueError where there is
    nothing to copy, or no place to copy it to.
    """
    found = _objects(grid, diagonal=True, mixed=True)
    others = [obj for obj in found.objects if (obj.grid[obj.mask] != colour).any()]
    pattern = max(others, key=lambda obj: obj.size, default=None)
    if pattern is None or pattern.size == 1:
        raise ValueError("no shape of two cells or more to copy")

    places = np.nonzero(pattern.grid == colour)
    down, across = (pattern.height - 1) // 2, (pattern.width - 1) // 2
    if len(places[0]) == 1:
        down, across = int(places[0][0]), int(places[1][0])

    cells = checked(grid) if keep_first else erase(grid, pattern)
    num_marks = 0
    for mark in found.objects:
        is_cell, is_large = mark.mask.size == 1, mark.grid.shape == pattern.grid.shape
        if (is_cell or is_large) and (mark.grid[mark.mask] == colour).all():
            row, col = (mark.row - down, mark.col - across) if is_cell else (mark.row, mark.col)
            lay(cells, replace(pattern, row=row, col=col))
            num_marks += 1

    if not num_marks:
        raise ValueError(f"no mark of colour {colour} to copy the largest shape to")
    return cells


@searched(1.5, direction=SIDES)
@searched(2, direction=SIDES, gap=(1,))
@searched(2, direction=CORNERS)
def repeat_objects(
    grid: Grid, direction: Direction, gap: int = 0, diagonal: bool = True, mixed: bool = True
) -> Grid:
    """Each object copied in the direction again and again up to the edge, gap cells between copies.

    Copies lie below everything that is there already.
    """
    if gap < 0 or direction not in SIDES + CORNERS:
        raise ValueError(f"gap {gap} in direction {direction}, expected 0 or more in one of eight")

    found = _objects(grid, diagonal, mixed)
    cells = np.zeros_like(found.cells)
    for obj in found.objects:
        down, across = direction[0] * (obj.height + gap), direction[1] * (obj.width + gap)
        for num in range(1, MAX_SIDE):
            copy = replace(obj, row=obj.row + down * num, col=obj.col + across * num)
            if not _meets(cells, copy):
                break
            lay(cells, copy)

    return np.where(found.cells != 0, found.cells, cells)


@searched(2)
def complete_copies(grid: Grid) -> Grid:
    """Each shape that is a part of the most colourful one is completed to a copy of that.

    The copy may be turned or mirrored: the first way in which all cells of the part agree counts.
    Raises ValueError where the most colourful shape has one colour, or no part is found.
    """
    found = _objects(grid, diagonal=True, mixed=True)
    pattern = max(found.objects, key=lambda obj: (colours_in(obj), obj.size))
    if colours_in(pattern) < 2 or len(found.objects) > MAX_COPIES:
        raise ValueError(f"{len(found.objects)} shapes, or no shape of two colours")

    turned = [np.rot90(cells, num) for cells in (pattern.grid, pattern.grid.T) for num in range(4)]
    cells = checked(grid)
    num_copies = 0
    for obj in found.objects:
        way = None if obj is pattern else _part_of(obj, turned)
        if way is not None:
            whole, row, col = way
            lay(cells, Object(obj.row - row, obj.col - col, whole, whole != 0))
            num_copies += 1

    if not num_copies:
        raise ValueError("no shape that is a part of the most colourful one")
    return cells


@searched(2, colour=COLOURS, direction=SIDES)
def move_colour(grid: Grid, colour: Colour, direction: Direction, num: int = 1) -> Grid:
    """All cells of the colour num steps in the direction, over other cells; 0 where they were."""
    cells = checked(grid)
    rows, cols = np.nonzero(cells == colour)
    if not rows.size or colour == 0:
        raise ValueError(f"no cell of colour {colour}, or 0, to move")

    cells[rows, cols] = 0
    rows, cols = rows + direction[0] * num, cols + direction[1] * num
    inside = (rows >= 0) & (cols >= 0) & (rows < cells.shape[0]) & (cols < cells.shape[1])
    cells[rows[inside], cols[inside]] = colour
    return cells


def _objects(grid: Grid, diagonal: bool, mixed: bool) -> Found:
    found = find(grid, diagonal, mixed)
    if not found.objects:
        raise ValueError("no object: all cells are 0")
    return found


def _part_of(obj: Object, wholes: list[Grid]) -> tuple[Grid, int, int] | None:
    """The first of the grids in which the object's cells are found, and the place of its box."""
    colours = obj.grid[obj.mask]
    for whole in wholes:
        if whole.shape[0] >= obj.height and whole.shape[1] >= obj.width:
            windows = np.lib.stride_tricks.sliding_window_view(whole, obj.grid.shape)
            places = np.argwhere((windows[:, :, obj.mask] == colours).all(axis=2))
            if len(places):
                return whole, int(places[0][0]), int(places[0][1])
    return None


class _Ground:
    """A grid with a margin that nothing enters, as one flat array: a step is one number."""

    def __init__(self, cells: Grid) -> None:
        height, self._width = int(cells.shape[0]) + 2, int(cells.shape[1]) + 2
        self._flat = np.full(height * self._width, -1)
        self._inner = self._flat.reshape(height, self._width)[1:-1, 1:-1]
        self._inner[:] = cells
        self._free = self._flat == 0  # of the grid as it was given

    def grid(self) -> Grid:
        return self._inner.copy()

    def at(self, obj: Object) -> NDArray[np.int64]:
        """Places of the object's cells."""
        rows, cols = obj.mask.nonzero()
        at: NDArray[np.int64] = (rows + 1 + obj.row) * self._width + (cols + 1 + obj.col)
        return at

    def of_colour(self, colour: Colour) -> NDArray[np.int64]:
        """Places of the cells of the colour."""
        return np.flatnonzero(self._flat == colour)

    def slide(self, obj: Object, direction: Direction) -> None:
        """Slides an object of the grid until it meets a cell or the margin."""
        step = direction[0] * self._width + direction[1]
        at = self.at(obj)
        self._flat[at] = 0

        ahead = at + step
        while not np.count_nonzero(self._flat[ahead]):
            at, ahead = ahead, ahead + step
        self._flat[at] = obj.grid[obj.mask]

    def send(
        self, at: NDArray[np.int64], direction: Direction, through: NDArray[np.int64] | None = None
    ) -> None:
        """Sends rays from places, in their colours, over cells that were free at first.

        through: places that the rays pass without a change.
        """
        step = direction[0] * self._width + direction[1]
        if step == 0:
            raise ValueError("direction (0, 0) leads nowhere")
        free, colours = self._free, self._flat[at]
        if through is not None:
            kept, free = self._flat[through], free.copy()
            free[through] = True

        while at.size:
            at = at + step
            goes_on = free[at]
            at, colours = at[goes_on], colours[goes_on]
            self._flat[at] = colours

        if through is not None:
            self._flat[through] = kept


def _slid(cells: Grid, moves: list[tuple[Object, Direction | None]]) -> Grid:
    """The objects of a grid slid one after the other."""
    ground = _Ground(cells)
    for obj, direction in moves:
        if direction is not None:
            ground.slide(obj, direction)
    return ground.grid()


def _way_to(wanted: Mask, obj: Object) -> tuple[int, Direction | None]:
    """How far, and in which direction, the object faces the nearest wanted cells; None if none."""
    ways: list[tuple[int, Direction | None]] = []
    spans: tuple[tuple[Any, int, int, Direction, Direction], ...] = (
        (wanted[max(0, obj.row) : obj.bottom + 1].any(axis=0), obj.col, obj.right, LEFT, RIGHT),
        (wanted[:, max(0, obj.col) : obj.right + 1].any(axis=1), obj.row, obj.bottom, UP, DOWN),
    )
    for hits, start, end, back, ahead in spans:
        before = np.flatnonzero(hits[:start])
        after = np.flatnonzero(hits[end + 1 :])
        if before.size:
            ways.append((start - int(before[-1]), back))
        if after.size:
            ways.append((int(after[0]) + 1, ahead))

    return min(ways, key=lambda way: way[0], default=(0, None))


def _side(places: NDArray[np.int64], is_part: Mask) -> int:
    """1 or -1 where a part lies further on, or further back, than the rest; else 0.

    Half a cell is not enough: a part often lies a little off the middle.
    """
    part, whole = places[is_part], places.sum()
    rest = (whole - part.sum()) / (places.size - part.size)
    difference = part.sum() / part.size - rest
    return int(difference > 0.5) - int(difference < -0.5)


def _meets(cells: Grid, obj: Object) -> bool:
    """Whether a part of the box lies in the grid."""
    inside_rows = obj.row < cells.shape[0] and obj.bottom >= 0
    return inside_rows and obj.col < cells.shape[1] and obj.right >= 0


def _fits(free: Mask, obj: Object) -> bool:
    if obj.row < 0 or obj.col < 0 or obj.bottom >= free.shape[0] or obj.right >= free.shape[1]:
        return False
    return bool(free[obj.cells()].all())
