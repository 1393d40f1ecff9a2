"""Read, choose and change colours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import NUM_COLOURS, Colour, Grid, Mask, checked, grid_of


def palette(grid: Grid, background: Colour = 0) -> list[Colour]:
    """The colours of the grid in rising order, without the background."""
    return [int(c) for c in np.unique(grid_of(grid)) if c != background]


def background(grid: Grid) -> Colour:
    """The most frequent colour of all, the smaller one of equals."""
    return int(np.bincount(checked(grid).ravel()).argmax())


def most_common(grid: Grid, background: Colour = 0) -> Colour:
    """The most frequent colour besides the background, the smaller of equals.

    The background where there is no other colour.
    """
    cells = checked(grid)
    return max(
        palette(cells, background), key=lambda c: int((cells == c).sum()), default=background
    )


def least_common(grid: Grid, background: Colour = 0) -> Colour:
    """The rarest colour besides the background, the smaller of equals.

    The background where there is no other colour.
    """
    cells = checked(grid)
    return min(
        palette(cells, background), key=lambda c: int((cells == c).sum()), default=background
    )


def recolour(grid: Grid, old: Colour, new: Colour) -> Grid:
    """Cells of colour old become new."""
    cells = grid_of(grid)
    cells[cells == old] = new
    return checked(cells)


def swap(grid: Grid, first: Colour, second: Colour) -> Grid:
    """The two colours change places."""
    return map_colours(grid, {first: second, second: first})


def map_colours(grid: Grid, table: Mapping[Colour, Colour]) -> Grid:
    """Colours that are in the table become what it says, all at once."""
    cells = grid_of(grid)
    out = cells.copy()
    for old, new in table.items():
        out[cells == old] = new

    return checked(out)


def keep(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Only the cells of that colour; the others become background."""
    cells = grid_of(grid)
    return checked(np.where(cells == colour, cells, background))


def dye(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Every cell unlike the background takes the colour."""
    cells = grid_of(grid)
    return checked(np.where(cells == background, background, colour))


def invert(grid: Grid, colour: Colour, background: Colour = 0) -> Grid:
    """Background cells take the colour, all other cells become background."""
    cells = grid_of(grid)
    return checked(np.where(cells == background, colour, background))


def rank_colours(grid: Grid, background: Colour = 0) -> Grid:
    """The most frequent colour becomes 1, the next 2, and so on; of equals the smaller is first."""
    cells = checked(grid)
    ranked = sorted(palette(cells, background), key=lambda c: (-int((cells == c).sum()), c))
    return map_colours(cells, {c: 1 + i for i, c in enumerate(ranked[: NUM_COLOURS - 1])})


def mask_of(grid: Grid, colour: Colour) -> Mask:
    """True where the grid has that colour."""
    mask: Mask = grid_of(grid) == colour
    return mask


def paint_mask(grid: Grid, mask: Mask, colour: Colour) -> Grid:
    """Cells where the mask is True take the colour."""
    return checked(np.where(np.asarray(mask, dtype=bool), colour, grid_of(grid)))
