"""The types of the DSL: grids, masks, fields, objects, directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.int64]
Mask = NDArray[np.bool_]
Field = NDArray[np.int64]  # of a grid's shape; measures such as an area, which may exceed 9
Colour = int
Direction = tuple[int, int]

MAX_SIDE = 30
NUM_COLOURS = 10

UP, DOWN, LEFT, RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)
UP_LEFT, UP_RIGHT, DOWN_LEFT, DOWN_RIGHT = (-1, -1), (-1, 1), (1, -1), (1, 1)
SIDES = (UP, DOWN, LEFT, RIGHT)
CORNERS = (UP_LEFT, UP_RIGHT, DOWN_LEFT, DOWN_RIGHT)


@dataclass(frozen=True, eq=False)
class Object:
    """Cells that belong together, cut out of a grid."""

    row: int  # of the upper left corner of its box; may lie outside the grid after a move
    col: int
    grid: Grid  # (height, width) colours of the box, background where the object has no cell
    mask: Mask  # (height, width), True at the cells of the object

    @property
    def height(self) -> int:
        return int(self.grid.shape[0])

    @property
    def width(self) -> int:
        return int(self.grid.shape[1])

    @property
    def bottom(self) -> int:
        """Last row of the box."""
        return self.row + self.height - 1

    @property
    def right(self) -> int:
        """Last column of the box."""
        return self.col + self.width - 1

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.mask.sum())

    @property
    def colour(self) -> Colour:
        """The most frequent colour of its cells, the smaller one of equals."""
        return int(np.bincount(self.grid[self.mask]).argmax())

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the middle of the box, rounded up and to the left."""
        return self.row + (self.height - 1) // 2, self.col + (self.width - 1) // 2

    def cells(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the cells, as places in the whole grid."""
        rows, cols = np.nonzero(self.mask)
        return rows + self.row, cols + self.col


@dataclass(frozen=True)
class Form:
    """One way in which a search may call a function; see `searched`."""

    cost: float
    # For each argument after the first, by name, the values that are tried.
    choices: Mapping[str, Sequence[Any]]
    is_per_object: bool  # may also be done to the grid of each object of a list


F = TypeVar("F", bound=Callable[..., Any])

FORMS: dict[Callable[..., Any], list[Form]] = {}
"""The functions that a search may use."""

COLOURS = ("colours",)
"""Stands for the colours of the task at hand, as the values of an argument."""


def searched(
    cost: float, *, per_object: bool = False, **choices: Sequence[Any]
) -> Callable[[F], F]:
    """Marks a function as one that a search for programs may use.

    cost: what the call adds to the cost of a program: 1 for a common function, 2 for a rare one; a
        program's weight is 0.5 to the power of its cost. choices: for each argument after the first
        the values that are tried; arguments that are left out keep their default, and one named
        `grid` is the input. A function may be marked more than once, with other choices.
    """

    def mark(function: F) -> F:
        FORMS.setdefault(function, []).append(Form(cost, choices, per_object))
        return function

    return mark


def grid_of(value: Any) -> Grid:
    """A fresh grid with the cells of an array or of nested lists.

    Raises ValueError for what is not a 2-D array of integers.
    """
    array = np.array(value)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "iub":
        raise ValueError(f"not a grid: {array.dtype} of shape {array.shape}, expected 2-D integers")
    return array.astype(np.int64, order="C")


def checked(array: NDArray[Any]) -> Grid:
    """A fresh legal grid: 1 to 30 a side, colours 0 to 9. Raises ValueError for any other array."""
    grid = grid_of(array)
    if max(grid.shape) > MAX_SIDE:
        raise ValueError(
            f"a grid of {grid.shape[0]} x {grid.shape[1]} cells, at most {MAX_SIDE} a side"
        )
    if grid.min() < 0 or grid.max() >= NUM_COLOURS:
        raise ValueError(
            f"colours from {grid.min()} to {grid.max()}, expected 0 to {NUM_COLOURS - 1}"
        )

    return grid


def turns_to_down(direction: Direction) -> int:
    """Quarter turns counter-clockwise that bring a side to the bottom.

    Raises ValueError for a diagonal.
    """
    turns = {DOWN: 0, LEFT: 1, UP: 2, RIGHT: 3}
    if direction not in turns:
        raise ValueError(f"direction {direction}, expected UP, DOWN, LEFT or RIGHT")
    return turns[direction]


def components(
    labels: Grid, *, diagonal: bool
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and columns of each set of connected cells of one label, in reading order.

    labels: (height, width), at least 0; -1 marks cells that belong to no set.
    diagonal: whether cells that share only a corner are connected.
    """
    # One flat list of Python ints with a margin of -1: there are no bounds to check, and a list is
    # read faster than an array, cell by cell.
    height, width = labels.shape
    stride = width + 2
    padded = np.full((height + 2, stride), -1)
    padded[1:-1, 1:-1] = labels
    left = padded.ravel().tolist()
    steps = [1, -1, stride, -stride]
    if diagonal:
        steps += [stride + 1, stride - 1, 1 - stride, -1 - stride]

    found = []
    for start in range(stride, len(left) - stride):
        label = left[start]
        if label < 0:
            continue

        left[start] = -1
        places = [start]
        for at in places:  # grows while it is walked
            for step in steps:
                if left[at + step] == label:
                    left[at + step] = -1
                    places.append(at + step)

        rows, cols = np.divmod(np.array(places), stride)
        found.append((rows - 1, cols - 1))

    return found
