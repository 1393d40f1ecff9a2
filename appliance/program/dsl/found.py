"""The objects of a grid, found once and remembered: what the other themes about objects share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Colour, Field, Grid, Object, cells_of, checked, components, label


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
