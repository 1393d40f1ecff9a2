"""Mosaics: outputs that are copies of a grid side by side, each turned or mirrored in its own way.

Which way is read off the demonstrations, block by block, so it needs no enumeration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from appliance.program import dsl
from appliance.search.calls import GRID, Call

MAX_BLOCKS = 36

COST = 1.0
WAY_COST = 0.25
"""Of each further way in which a copy is turned or mirrored."""

Way = tuple[str, Callable[[dsl.Grid], dsl.Grid]]


def _empty(grid: dsl.Grid) -> dsl.Grid:
    return np.zeros_like(grid)


# The text of a copy, with {0} for the grid, and the copy. The first one that fits is taken.
WAYS: tuple[Way, ...] = (
    ("{0}", lambda grid: grid),
    ("dye({0}, 0)", _empty),
    ("flip_h({0})", dsl.flip_h),
    ("flip_v({0})", dsl.flip_v),
    ("rot180({0})", dsl.rot180),
    ("transpose({0})", dsl.transpose),
    ("rot90({0})", dsl.rot90),
    ("rot270({0})", dsl.rot270),
    ("anti_transpose({0})", dsl.anti_transpose),
)


def mosaic_calls(values: Sequence[dsl.Grid], outputs: Sequence[dsl.Grid]) -> Iterator[Call]:
    """The call that makes the outputs of all demonstrations from these grids, if there is one.

    values: of the demonstrations first, maybe of tests after them.
    """
    shape = _blocks(values, outputs)
    if shape is None:
        return

    num_rows, num_cols = shape
    ways = []
    for row in range(num_rows):
        for col in range(num_cols):
            parts = [_part(out, shape, row, col) for out in outputs]
            way = next((w for w in WAYS if _fits(w, values, parts)), None)
            if way is None:
                return
            ways.append(way)

    def run(grid: dsl.Grid, _: dsl.Grid) -> dsl.Grid:
        return dsl.mosaic([copy(grid) for _, copy in ways], num_cols)

    texts = [text for text, _ in ways]
    cost = COST + WAY_COST * (len(set(texts)) - 1)
    text = f"mosaic([{', '.join(texts)}], {num_cols})"
    yield Call("mosaic", GRID, GRID, cost, cost, text, run)


def _blocks(values: Sequence[dsl.Grid], outputs: Sequence[dsl.Grid]) -> tuple[int, int] | None:
    """Rows and columns of blocks, where they are the same in every demonstration."""
    shapes = set()
    for grid, out in zip(values, outputs, strict=False):
        if out.shape[0] % grid.shape[0] or out.shape[1] % grid.shape[1]:
            return None
        shapes.add((out.shape[0] // grid.shape[0], out.shape[1] // grid.shape[1]))

    shape = shapes.pop()
    return shape if not shapes and 1 < shape[0] * shape[1] <= MAX_BLOCKS else None


def _part(out: dsl.Grid, shape: tuple[int, int], row: int, col: int) -> dsl.Grid:
    height, width = out.shape[0] // shape[0], out.shape[1] // shape[1]
    return out[row * height : (row + 1) * height, col * width : (col + 1) * width]


def _fits(way: Way, values: Sequence[dsl.Grid], parts: Sequence[dsl.Grid]) -> bool:
    return all(np.array_equal(way[1](g), part) for g, part in zip(values, parts, strict=False))
