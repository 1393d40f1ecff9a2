"""Measure objects, choose among them, sort them, and change each of them.

A key is a function that gives a number for an object: `most(objects(grid), fullness)`. Functions
that choose raise ValueError where all objects have the same number, or where there is only one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .base import NUM_COLOURS, Grid, Object, checked, searched
from .object import find, num_holes, same_shape, touches_edge

MAX_OBJECTS = 60
"""Among more than so many nobody chooses, and it would take long."""


def area(obj: Object) -> int:
    """Number of cells."""
    return int(np.count_nonzero(obj.mask))


def box_area(obj: Object) -> int:
    """Number of cells of its box."""
    return int(obj.mask.size)


def fullness(obj: Object) -> float:
    """The part of its box that the object fills, from 0 to 1."""
    return area(obj) / box_area(obj)


def top(obj: Object) -> int:
    """First row of its box."""
    return obj.row


def left(obj: Object) -> int:
    """First column of its box."""
    return obj.col


def long_side(obj: Object) -> int:
    """The larger one of its height and width."""
    return max(obj.height, obj.width)


def main_colour(obj: Object) -> int:
    """The most frequent colour of its cells, the smaller one of equals, 0 for no cells."""
    return int(np.bincount(obj.grid[obj.mask], minlength=1).argmax())


def minor_area(obj: Object) -> int:
    """Number of cells that do not have its most frequent colour."""
    counts = np.bincount(obj.grid[obj.mask], minlength=1)
    return int(counts.sum() - counts.max())


def colours_in(obj: Object) -> int:
    """Number of different colours of its cells."""
    return int(np.count_nonzero(np.bincount(obj.grid[obj.mask])))


def parts_in(obj: Object) -> int:
    """Number of connected parts of one colour that it is made of."""
    return len(find(obj.grid).objects)


def num_mirrors(obj: Object) -> int:
    """Number of mirrors that leave it as it is: left and right, top and bottom, both diagonals."""
    cells = obj.grid
    images = [cells[:, ::-1], cells[::-1]]
    if cells.shape[0] == cells.shape[1]:
        images += [cells.T, cells[::-1, ::-1].T]
    content = cells.tobytes()
    return sum(image.tobytes() == content for image in images)


def same_grid(first: Object, second: Object) -> bool:
    """Whether both have the same cells and colours, places aside."""
    return same_size(first, second) and first.grid.tobytes() == second.grid.tobytes()


def same_colour(first: Object, second: Object) -> bool:
    """Whether the most frequent colour of both is the same."""
    return main_colour(first) == main_colour(second)


def same_size(first: Object, second: Object) -> bool:
    """Whether the boxes of both have the same size."""
    return first.grid.shape == second.grid.shape


# What a search tries: `largest` and `smallest` stand for `area`.
_KEYS = (
    box_area, fullness, top, left, long_side, main_colour, minor_area, colours_in, parts_in,
    num_holes, num_mirrors,
)  # fmt: skip
_ALL_KEYS = (area, *_KEYS)
_SAME = (same_shape, same_grid, same_colour, same_size)


@searched(1, key=_KEYS)
def most(objects: list[Object], key: Callable[[Object], float]) -> Object:
    """The object with the largest number, the first one of equals."""
    values = _values(objects, key)
    return objects[values.index(max(values))]


@searched(1, key=_KEYS)
def least(objects: list[Object], key: Callable[[Object], float]) -> Object:
    """The object with the smallest number, the first one of equals."""
    values = _values(objects, key)
    return objects[values.index(min(values))]


@searched(1, same=_SAME)
def most_alike(objects: list[Object], same: Callable[[Object, Object], bool]) -> Object:
    """The object that most objects are the same as, the first one of equals."""
    values = _num_alike(objects, same)
    return objects[values.index(max(values))]


@searched(1, same=_SAME)
def least_alike(objects: list[Object], same: Callable[[Object, Object], bool]) -> Object:
    """The object that fewest objects are the same as, the first one of equals."""
    values = _num_alike(objects, same)
    return objects[values.index(min(values))]


@searched(1)
def first(objects: list[Object]) -> Object:
    """The first object. Raises ValueError for none."""
    return _at(objects, 0)


@searched(1.5)
def second(objects: list[Object]) -> Object:
    """The second object. Raises ValueError for fewer."""
    return _at(objects, 1)


@searched(2)
def third(objects: list[Object]) -> Object:
    """The third object. Raises ValueError for fewer."""
    return _at(objects, 2)


@searched(1)
def last(objects: list[Object]) -> Object:
    """The last object. Raises ValueError for none."""
    return _at(objects, len(objects) - 1)


@searched(1.5, key=_ALL_KEYS)
def with_most(objects: list[Object], key: Callable[[Object], float]) -> list[Object]:
    """The objects with the largest number."""
    values = _values(objects, key)
    highest = max(values)
    return [obj for obj, value in zip(objects, values, strict=True) if value == highest]


@searched(1.5, key=_ALL_KEYS)
def with_least(objects: list[Object], key: Callable[[Object], float]) -> list[Object]:
    """The objects with the smallest number."""
    values = _values(objects, key)
    lowest = min(values)
    return [obj for obj, value in zip(objects, values, strict=True) if value == lowest]


@searched(1.5, key=_ALL_KEYS)
def without_most(objects: list[Object], key: Callable[[Object], float]) -> list[Object]:
    """All objects but those with the largest number."""
    values = _values(objects, key)
    highest = max(values)
    return [obj for obj, value in zip(objects, values, strict=True) if value != highest]


@searched(1.5, key=_ALL_KEYS)
def without_least(objects: list[Object], key: Callable[[Object], float]) -> list[Object]:
    """All objects but those with the smallest number."""
    values = _values(objects, key)
    lowest = min(values)
    return [obj for obj, value in zip(objects, values, strict=True) if value != lowest]


@searched(1.5, same=_SAME)
def with_twins(objects: list[Object], same: Callable[[Object, Object], bool]) -> list[Object]:
    """The objects that another object is the same as."""
    values = _num_alike(objects, same)
    return [obj for obj, value in zip(objects, values, strict=True) if value > 1]


@searched(1.5, same=_SAME)
def without_twins(objects: list[Object], same: Callable[[Object, Object], bool]) -> list[Object]:
    """The objects that no other object is the same as."""
    values = _num_alike(objects, same)
    return [obj for obj, value in zip(objects, values, strict=True) if value == 1]


@searched(1.5, same=_SAME)
def distinct(objects: list[Object], same: Callable[[Object, Object], bool]) -> list[Object]:
    """The objects without those that an earlier one is the same as."""
    _check_number(objects)
    kept: list[Object] = []
    for obj in objects:
        if not any(same(other, obj) for other in kept):
            kept.append(obj)
    return kept


@searched(1.5)
def at_edge(objects: list[Object], grid: Grid) -> list[Object]:
    """The objects that have a cell at the edge of the grid. Raises ValueError for all or none."""
    return _some([obj for obj in objects if touches_edge(grid, obj)], objects)


@searched(1.5)
def off_edge(objects: list[Object], grid: Grid) -> list[Object]:
    """The objects that have no cell at the edge of the grid. Raises ValueError for all or none."""
    return _some([obj for obj in objects if not touches_edge(grid, obj)], objects)


@searched(1, key=_ALL_KEYS)
@searched(1, key=_ALL_KEYS, descending=(True,))
def sort_by(
    objects: list[Object], key: Callable[[Object], float], descending: bool = False
) -> list[Object]:
    """The objects by their number, the smallest first or, if descending, last; stable."""
    values = _values(objects, key)
    order = sorted(range(len(values)), key=lambda at: -values[at] if descending else values[at])
    return [objects[at] for at in order]


def each(objects: list[Object], function: Callable[[Grid], Grid]) -> list[Object]:
    """The function done to the grid of each object, the upper left corner at the same place.

    The cells of the new objects are those that are not 0.
    """
    _check_number(objects)
    changed = []
    for obj in objects:
        cells = checked(function(obj.grid))
        changed.append(Object(obj.row, obj.col, cells, cells != 0))
    return changed


@searched(1.5)
def fill_each(objects: list[Object]) -> list[Object]:
    """The whole box of each object, filled with its main colour."""
    _check_number(objects)
    return [
        replace(obj, grid=np.full_like(obj.grid, main_colour(obj)), mask=np.ones_like(obj.mask))
        for obj in objects
    ]


@searched(1.5)
def number_each(objects: list[Object]) -> list[Object]:
    """The first object in colour 1, the second in colour 2, and so on."""
    return [_in_colour(obj, number) for number, obj in enumerate(objects, start=1)]


@searched(1.5, key=(area, num_holes, colours_in, long_side))
def rank_each(objects: list[Object], key: Callable[[Object], float]) -> list[Object]:
    """The objects with the largest number in colour 1, those with the next one in 2, and so on."""
    values = _values(objects, key)
    ranks = {value: rank for rank, value in enumerate(sorted(set(values), reverse=True), start=1)}
    return [_in_colour(obj, ranks[value]) for obj, value in zip(objects, values, strict=True)]


def _check_number(objects: list[Object]) -> None:
    if not 0 < len(objects) <= MAX_OBJECTS:
        raise ValueError(f"{len(objects)} objects, expected 1 to {MAX_OBJECTS}")


def _values(objects: list[Object], key: Callable[[Object], float]) -> list[float]:
    """The number of each object. Raises ValueError where all are equal."""
    _check_number(objects)
    return _unequal([key(obj) for obj in objects])


def _num_alike(objects: list[Object], same: Callable[[Object, Object], bool]) -> list[float]:
    """For each object, how many are the same, itself included. ValueError where all are equal."""
    _check_number(objects)
    kinds: list[list[int]] = []  # numbers of the objects that are the same
    for number, obj in enumerate(objects):
        for kind in kinds:
            if same(objects[kind[0]], obj):
                kind.append(number)
                break
        else:
            kinds.append([number])

    counts = {number: len(kind) for kind in kinds for number in kind}
    return _unequal([counts[number] for number in range(len(objects))])


def _unequal(values: list[float]) -> list[float]:
    if min(values) == max(values):
        raise ValueError(
            f"all {len(values)} objects have the number {values[0]}: nothing to choose"
        )
    return values


def _at(objects: list[Object], place: int) -> Object:
    if not 0 <= place < len(objects):
        raise ValueError(f"{len(objects)} objects, expected at least {place + 1}")
    return objects[place]


def _some(kept: list[Object], objects: list[Object]) -> list[Object]:
    if not 0 < len(kept) < len(objects):
        raise ValueError(f"{len(kept)} of {len(objects)} objects are meant, expected some")
    return kept


def _in_colour(obj: Object, colour: int) -> Object:
    if colour >= NUM_COLOURS:
        raise ValueError(f"colour {colour}, expected at most {NUM_COLOURS - 1}")
    return replace(obj, grid=np.where(obj.mask, colour, obj.grid))
