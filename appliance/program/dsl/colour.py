"""Read, choose and change colours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import (
    COLOURS,
    NUM_COLOURS,
    Colour,
    Grid,
    Mask,
    cells_of,
    grid_of,
    legal,
    searched,
)


def palette(grid: Grid, background: Colour = 0) -> list[Colour]:
    """The colours of the grid in rising order, without the background."""
    return [c for c in sorted(set(cells_of(grid).ravel().tolist())) if c != background]


def background(grid: Grid) -> Colour:
    """The most frequent colour of all, the smaller one of equals."""
    return int(np.bincount(legal(cells_of(grid)).ravel()).argmax())


def most_common(grid: Grid, background: Colour = 0) -> Colour:
    """The most frequent colour besides the background, the smaller of equals.

    The background where there is no other colour.
    """
    counts = frequencies(grid, background)
    return max(counts, key=counts.__getitem__, default=background)


def least_common(grid: Grid, background: Colour = 0) -> Colour:
    """The rarest colour besides the background, the smaller of equals.

    The background where there is no other colour.
    """
    counts = frequencies(grid, background)
    return min(counts, key=counts.__getitem__, default=background)


def recolour(grid: Grid, old: Colour, new: Colour) -> Grid:
    """Cells of colour old become new."""
    cells = grid_of(grid)
    cells[cells == old] = new
    return legal(cells)


@searched(1.5, first=(0,), second=COLOURS)
def swap(grid: Grid, first: Colour, second: Colour) -> Grid:
    """The two colours change places."""
    return map_colours(grid, {first: second, second: first})


def map_colours(grid: Grid, table: Mapping[Colour, Colour]) -> Grid:
    """Colours that are in the table become what it says, all at once."""
    cells = cells_of(grid)
    out = cells.copy()
    for old, new in table.items():
        out[cells == old] = new

    return legal(out)


@searched(1, colour=COLOURS)
def keep(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Only the cells of that colour; the others become background."""
    cells = cells_of(grid)
    return legal(np.where(cells == colour, cells, background))


@searched(1, colour=COLOURS)
def drop(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Cells of that colour become background."""
    return recolour(grid, colour, background)


@searched(1)
def keep_most_common(grid: Grid, background: Colour = 0) -> Grid:
    """Only the cells of the most frequent colour besides the background."""
    return keep(grid, most_common(grid, background), background)


@searched(1)
def keep_least_common(grid: Grid, background: Colour = 0) -> Grid:
    """Only the cells of the rarest colour besides the background."""
    return keep(grid, least_common(grid, background), background)


@searched(1.5)
def keep_solid(grid: Grid, background: Colour = 0) -> Grid:
    """Only cells that lie in a square of 2 x 2 cells of one colour; background elsewhere."""
    cells = cells_of(grid)
    first = cells[1:, 1:]
    same = (first == cells[:-1, 1:]) & (first == cells[1:, :-1]) & (first == cells[:-1, :-1])

    kept = np.zeros(cells.shape, dtype=bool)
    for part in (kept[1:, 1:], kept[:-1, 1:], kept[1:, :-1], kept[:-1, :-1]):
        part |= same
    return legal(np.where(kept, cells, background))


@searched(1.5, colour=(1,))
def dye(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Every cell unlike the background takes the colour."""
    return legal(np.where(cells_of(grid) == background, background, colour))


@searched(1.5, per_object=True)
def unify(grid: Grid, background: Colour = 0) -> Grid:
    """Every cell unlike the background takes the most frequent colour besides it."""
    return dye(grid, most_common(grid, background), background)


@searched(1.5, per_object=True, colour=(1,))
@searched(1.5, colour=COLOURS)
def invert(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Background cells take the colour, all other cells become background."""
    return legal(np.where(cells_of(grid) == background, colour, background))


@searched(2)
def rank_colours(grid: Grid, background: Colour = 0) -> Grid:
    """The most frequent colour becomes 1, the next 2, and so on; of equals the smaller is first."""
    table = np.arange(NUM_COLOURS)
    for rank, colour in enumerate(by_frequency(grid, background)[: NUM_COLOURS - 1]):
        table[colour] = 1 + rank

    return table[cells_of(grid)]


def mask_of(grid: Grid, colour: Colour) -> Mask:
    """True where the grid has that colour."""
    mask: Mask = cells_of(grid) == colour
    return mask


def paint_mask(grid: Grid, mask: Mask, colour: Colour) -> Grid:
    """Cells where the mask is True take the colour."""
    return legal(np.where(np.asarray(mask, dtype=bool), colour, cells_of(grid)))


def frequencies(grid: Grid, background: Colour = 0) -> dict[Colour, int]:
    """Number of cells of each colour besides the background, in rising order of colour."""
    counts = np.bincount(legal(cells_of(grid)).ravel()).tolist()
    return {colour: num for colour, num in enumerate(counts) if num and colour != background}


def by_frequency(grid: Grid, background: Colour = 0) -> list[Colour]:
    """The colours besides the background, the most frequent first, of equals the smaller one."""
    counts = frequencies(grid, background)
    return sorted(counts, key=lambda colour: -counts[colour])
