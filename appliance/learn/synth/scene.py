"""Building blocks of input samplers: colours, noise, random shapes, and places for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from appliance.learn.synth.family import Cells, Params, Rng

T = TypeVar("T")
Sampler = Callable[[Rng, Params], Cells]
"""Draws an input grid for a task with these parameters."""

_AROUND = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Steps to the four neighbours of a cell."""


def pick(rng: Rng, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


def between(rng: Rng, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(rng.integers(low, high + 1))


def colours(rng: Rng, num: int, *, without: Sequence[int] = ()) -> list[int]:
    """`num` different colours, never 0."""
    return [int(c) for c in rng.permutation([c for c in range(1, 10) if c not in without])[:num]]


def colour(rng: Rng, *, without: Sequence[int] = ()) -> int:
    return colours(rng, 1, without=without)[0]


def shuffled(rng: Rng, values: Sequence[T]) -> list[T]:
    return [values[int(i)] for i in rng.permutation(len(values))]


def blank(rng: Rng, low: int, high: int, *, square: bool = False) -> Cells:
    """An empty grid with sides from low to high."""
    height = between(rng, low, high)
    return np.zeros((height, height if square else between(rng, low, high)), dtype=np.int64)


def noise(
    rng: Rng, height: int, width: int, palette: Sequence[int], *, density: float = 1.0
) -> Cells:
    """Each cell gets a random colour of the palette with probability `density`, else 0.

    Every colour of the palette occurs, where there are cells enough.
    """
    cells = rng.choice(np.asarray(palette), size=(height, width))
    cells[rng.random((height, width)) >= density] = 0

    places = rng.permutation(height * width)[: len(palette)]
    cells.ravel()[places] = np.asarray(palette)[: len(places)]
    return cells.astype(np.int64)


def blob(rng: Rng, num_cells: int, palette: Sequence[int]) -> Cells:
    """A random shape of cells connected by sides, in random colours of the palette, cut to its
    box."""
    cells = {(0, 0)}
    while len(cells) < num_cells:
        row, col = pick(rng, sorted(cells))
        down, across = pick(rng, _AROUND)
        cells.add((row + down, col + across))

    rows, cols = np.array(sorted(cells)).T
    part = np.zeros((int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1), dtype=np.int64)
    part[rows - rows.min(), cols - cols.min()] = rng.choice(np.asarray(palette), size=num_cells)
    return part


def block(height: int, width: int, colour: int) -> Cells:
    return np.full((height, width), colour, dtype=np.int64)


def ring(height: int, width: int, colour: int, *, inside: int = 0) -> Cells:
    """The outline of a box, at least 3 x 3, filled with another colour."""
    part = block(height, width, colour)
    part[1:-1, 1:-1] = inside
    return part


def put(rng: Rng, grid: Cells, part: Cells, *, gap: int = 1, margin: int = 0) -> tuple[int, int]:
    """Lay the part at a random place on the grid; row and column of its first cell.

    At least `gap` cells around it are free, and it keeps `margin` cells from the edge. Raises
    ValueError when there is no such place.
    """
    taken = np.pad(grid != 0, gap)
    height, width = part.shape
    rows = range(margin, grid.shape[0] - height - margin + 1)
    cols = range(margin, grid.shape[1] - width - margin + 1)

    free = [
        (r, c)
        for r in rows
        for c in cols
        if not taken[r : r + height + 2 * gap, c : c + width + 2 * gap].any()
    ]
    if not free:
        raise ValueError("no room for another part")

    row, col = pick(rng, free)
    window = grid[row : row + height, col : col + width]
    window[part != 0] = part[part != 0]
    return row, col


def put_all(
    rng: Rng,
    grid: Cells,
    parts: Sequence[Cells],
    *,
    gap: int = 1,
    margin: int = 0,
    apart: bool = False,
) -> Cells:
    """The grid with all parts for which there is room.

    apart: no part reaches into the box of another. Raises ValueError when there is no room for the
    first two parts.
    """
    for index, part in enumerate(parts):
        try:
            # -1 fills the box of a part, so that nothing else is laid there.
            put(rng, grid, np.where(part == 0, -1, part) if apart else part, gap=gap, margin=margin)
        except ValueError:
            if index < 2:
                raise

    grid[grid < 0] = 0
    return grid


def noisy(
    low: int = 3,
    high: int = 10,
    *,
    num: int = 3,
    density: float = 0.7,
    square: bool = False,
    has: str = "",
) -> Sampler:
    """Grids of random cells in one to `num` colours, which include the parameters named in
    `has`."""

    def sample(rng: Rng, params: Params) -> Cells:
        given = _given(params, has)
        palette = given + colours(rng, between(rng, 0 if given else 1, num), without=given)
        height, width = blank(rng, low, high, square=square).shape
        return noise(rng, height, width, palette, density=pick(rng, (density, 0.5 + density / 2)))

    return sample


def blobs(
    low: int = 8,
    high: int = 14,
    *,
    num: tuple[int, int] = (2, 5),
    cells: tuple[int, int] = (2, 7),
    apart: bool = False,
    has: str = "",
) -> Sampler:
    """Separate shapes of one colour each, all of different sizes.

    In random colours, or in those of the parameters named in `has`.
    """

    def sample(rng: Rng, params: Params) -> Cells:
        palette = _given(params, has) or colours(rng, between(rng, 1, 4))
        sizes = shuffled(rng, range(cells[0], cells[1] + 1))[: between(rng, *num)]
        parts = [blob(rng, size, [palette[i % len(palette)]]) for i, size in enumerate(sizes)]
        return put_all(rng, blank(rng, low, high), parts, apart=apart)

    return sample


def dots(
    low: int = 6,
    high: int = 13,
    *,
    num: tuple[int, int] = (1, 4),
    one_colour: bool = False,
    has: str = "",
) -> Sampler:
    """Single cells that do not touch each other."""

    def sample(rng: Rng, params: Params) -> Cells:
        palette = _given(params, has) or colours(rng, 1 if one_colour else 4)
        parts = [block(1, 1, pick(rng, palette)) for _ in range(between(rng, *num))]
        return put_all(rng, blank(rng, low, high), parts)

    return sample


def _given(params: Params, has: str) -> list[int]:
    """The colours in the parameters of these names, which blanks separate."""
    found: list[int] = []
    for name in has.split():
        found += params[name] if isinstance(params[name], list) else [params[name]]
    return found


def nothing(rng: Rng) -> Params:
    """The parameters of a family that has none."""
    return {}


def some(**choices: Sequence[Any] | int) -> Callable[[Rng], Params]:
    """Parameters drawn one by one: from a sequence, or, for a number n, a list of n colours.

    n = 1 gives a colour instead of a list. No colour is drawn twice.
    """

    def params(rng: Rng) -> Params:
        drawn: dict[str, Any] = {}
        free = iter(colours(rng, 9))
        for name, values in choices.items():
            if not isinstance(values, int):
                drawn[name] = pick(rng, values)
            else:
                drawn[name] = next(free) if values == 1 else [next(free) for _ in range(values)]
        return drawn

    return params
