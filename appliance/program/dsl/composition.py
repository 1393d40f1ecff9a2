"""Put grids together, compare them cell by cell, and repeat functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .base import (
    LEFT,
    SIDES,
    UP,
    Colour,
    Direction,
    Grid,
    Mask,
    Object,
    cells_of,
    check_size,
    checked,
    legal,
    searched,
)
from .geometry import half
from .object import objects, paint_all


def overlay(grid: Grid, other: Grid, background: Colour = 0) -> Grid:
    """The other grid laid on the grid; its background cells are see-through."""
    below, above = _pair(grid, other)
    return legal(np.where(above == background, below, above))


def both(grid: Grid, other: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """The colour where both grids are unlike the background."""
    first, second = _pair(grid, other)
    return _painted((first != background) & (second != background), colour, background)


def either(grid: Grid, other: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """The colour where at least one of the grids is unlike the background."""
    first, second = _pair(grid, other)
    return _painted((first != background) | (second != background), colour, background)


def only_one(grid: Grid, other: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """The colour where exactly one of the grids is unlike the background."""
    first, second = _pair(grid, other)
    return _painted((first != background) ^ (second != background), colour, background)


def only_first(grid: Grid, other: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """The colour where the grid is unlike the background and the other is not."""
    first, second = _pair(grid, other)
    return _painted((first != background) & (second == background), colour, background)


def neither(grid: Grid, other: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """The colour where both grids have the background."""
    first, second = _pair(grid, other)
    return _painted((first == background) & (second == background), colour, background)


def difference(grid: Grid, other: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """The colour where the grids differ in any way."""
    first, second = _pair(grid, other)
    return _painted(first != second, colour, background)


def map_pairs(grid: Grid, other: Grid, table: Mapping[tuple[int, int], Colour]) -> Grid:
    """Cells become what the table says for the values of both grids there; others keep theirs."""
    first, second = _pair(grid, other)
    out = first.copy()
    for (one, two), colour in table.items():
        out[(first == one) & (second == two)] = colour

    return legal(out)


@searched(1, direction=(LEFT, UP))
def halves_both(
    grid: Grid, direction: Direction = LEFT, colour: Colour = 1, background: Colour = 0
) -> Grid:
    """The colour where both halves are unlike the background."""
    return both(*_halves(grid, direction), colour, background)


@searched(1, direction=(LEFT, UP))
def halves_either(
    grid: Grid, direction: Direction = LEFT, colour: Colour = 1, background: Colour = 0
) -> Grid:
    """The colour where at least one half is unlike the background."""
    return either(*_halves(grid, direction), colour, background)


@searched(1, direction=(LEFT, UP))
def halves_only_one(
    grid: Grid, direction: Direction = LEFT, colour: Colour = 1, background: Colour = 0
) -> Grid:
    """The colour where exactly one half is unlike the background."""
    return only_one(*_halves(grid, direction), colour, background)


@searched(1, direction=(LEFT, UP))
def halves_neither(
    grid: Grid, direction: Direction = LEFT, colour: Colour = 1, background: Colour = 0
) -> Grid:
    """The colour where both halves have the background."""
    return neither(*_halves(grid, direction), colour, background)


@searched(1, direction=SIDES)
def halves_only_first(
    grid: Grid, direction: Direction = LEFT, colour: Colour = 1, background: Colour = 0
) -> Grid:
    """The colour where the half on that side is unlike the background and the other is not."""
    return only_first(*_halves(grid, direction), colour, background)


@searched(1, direction=SIDES)
def halves_overlay(grid: Grid, direction: Direction = LEFT, background: Colour = 0) -> Grid:
    """The half on that side laid on the other one; its background cells are see-through."""
    above, below = _halves(grid, direction)
    return overlay(below, above, background)


def join_h(grids: list[Grid]) -> Grid:
    """The grids side by side, left to right."""
    return legal(np.hstack([cells_of(grid) for grid in grids]))


def join_v(grids: list[Grid]) -> Grid:
    """The grids one below the other."""
    return legal(np.vstack([cells_of(grid) for grid in grids]))


def mosaic(grids: list[Grid], num_cols: int) -> Grid:
    """The grids laid out in reading order, num_cols in a row."""
    return join_v([join_h(grids[i : i + num_cols]) for i in range(0, len(grids), num_cols)])


@searched(1)
def fractal(grid: Grid, background: Colour = 0) -> Grid:
    """Each cell becomes a copy of the whole grid, background cells an empty one."""
    cells = cells_of(grid)
    height, width = cells.shape
    check_size(height * height, width * width)
    blocks = (cells != background)[:, None, :, None]  # each cell before the cells of its copy
    out = np.where(blocks, cells[None, :, None, :], background)
    return legal(out.reshape(height * height, width * width))


def repeat(grid: Grid, function: Callable[[Grid], Grid], num: int) -> Grid:
    """The function done num times over."""
    for _ in range(num):
        grid = function(grid)
    return checked(grid)


def until_stable(grid: Grid, function: Callable[[Grid], Grid]) -> Grid:
    """The function done until it changes nothing any more, at most 100 times."""
    for _ in range(100):
        before, grid = grid, function(grid)
        if np.array_equal(before, grid):
            break

    return checked(grid)


def map_objects(grid: Grid, function: Callable[[Object], Object], background: Colour = 0) -> Grid:
    """The function done to each object of one colour; all painted on an empty grid of that size."""
    empty = np.full_like(cells_of(grid), background)
    return paint_all(empty, [function(obj) for obj in objects(grid, background=background)])


def _halves(grid: Grid, direction: Direction) -> tuple[Grid, Grid]:
    """The half on that side and the other one; a line in the middle is in neither."""
    return half(grid, direction), half(grid, (-direction[0], -direction[1]))


def _pair(grid: Grid, other: Grid) -> tuple[Grid, Grid]:
    first, second = cells_of(grid), cells_of(other)
    if first.shape != second.shape:
        raise ValueError(f"grids of shapes {first.shape} and {second.shape}, expected equal shapes")
    return first, second


def _painted(mask: Mask, colour: Colour, background: Colour) -> Grid:
    return legal(np.where(mask, colour, background))
