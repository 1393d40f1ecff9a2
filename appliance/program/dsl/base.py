"""The types of the DSL: grids, masks, fields, objects, directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
        return int(np.count_nonzero(self.mask))

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


_INT64 = np.dtype(np.int64)


def grid_of(value: Any) -> Grid:
    """A fresh grid with the cells of an array or of nested lists.

    Raises ValueError for what is not a 2-D array of integers.
    """
    return cells_of(value).copy()


def cells_of(value: Any) -> Grid:
    """The cells of an array or of nested lists, to be read only: a proper array is itself.

    Raises ValueError for what is not a 2-D array of integers.
    """
    # The search asks a million times, and nearly always with a proper array.
    if type(value) is np.ndarray and value.dtype is _INT64 and value.ndim == 2 and value.size:
        return value

    array = np.array(value)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "iub":
        raise ValueError(f"not a grid: {array.dtype} of shape {array.shape}, expected 2-D integers")
    return array.astype(np.int64, order="C")


def checked(array: NDArray[Any]) -> Grid:
    """A fresh legal grid: 1 to 30 a side, colours 0 to 9. Raises ValueError for any other array."""
    return legal(grid_of(array))


def legal(array: NDArray[Any]) -> Grid:
    """`checked` for an array that nobody else holds: it is given back itself if it can be."""
    grid = cells_of(array)
    check_size(*grid.shape)

    # A negative colour is a very large one without its sign: one look finds both kinds.
    if np.maximum.reduce(grid.view(np.uint64), axis=None) >= NUM_COLOURS:
        raise ValueError(
            f"colours from {grid.min()} to {grid.max()}, expected 0 to {NUM_COLOURS - 1}"
        )

    return grid


def check_size(height: int, width: int) -> None:
    """Raises ValueError for a grid that would be too large, before it is made."""
    if height > MAX_SIDE or width > MAX_SIDE:
        raise ValueError(f"a grid of {height} x {width} cells, at most {MAX_SIDE} a side")


def turns_to_down(direction: Direction) -> int:
    """Quarter turns counter-clockwise that bring a side to the bottom.

    Raises ValueError for a diagonal.
    """
    turns = {DOWN: 0, LEFT: 1, UP: 2, RIGHT: 3}
    if direction not in turns:
        raise ValueError(f"direction {direction}, expected UP, DOWN, LEFT or RIGHT")
    return turns[direction]


def seen_down(cells: Grid, direction: Direction) -> Grid:
    """The cells seen so that a side lies below, or a corner below on the right."""
    rows, cols = direction
    if not rows:
        cells, rows, cols = cells.T, cols, rows
    return cells[:: rows or 1, :: cols or 1]


def components(
    labels: Grid, *, diagonal: bool
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and columns of each set of connected cells of one label, in reading order.

    labels: (height, width), at least 0; -1 marks cells that belong to no set.
    diagonal: whether cells that share only a corner are connected.
    The arrays are shared between calls, so they cannot be written to.
    """
    return list(_known(labels, diagonal).places())


def label(labels: Grid, *, diagonal: bool) -> tuple[NDArray[np.int64], int]:
    """The number of the set that each cell belongs to, and how many sets there are.

    Takes what `components` takes; the sets are numbered from 1 on in its order, and 0 is no set.
    The array is shared between calls, so it cannot be written to.
    """
    known = _known(labels, diagonal)
    return known.numbers, known.count


@dataclass(eq=False)
class _Components:
    """The components of one array of labels."""

    numbers: NDArray[np.int64]  # (height, width), see `label`
    count: int
    _places: list[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None

    def places(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """See `components`; made when it is first asked for."""
        if self._places is None:
            flat = self.numbers.ravel()
            order = flat.argsort(kind="stable")
            rows, cols = np.divmod(order, self.numbers.shape[1])
            rows.flags.writeable = cols.flags.writeable = False

            ends = np.bincount(flat).cumsum().tolist()
            cuts = [slice(a, b) for a, b in pairwise(ends)]
            self._places = [(rows[cut], cols[cut]) for cut in cuts]

        return self._places


# Many functions ask for the components of the same few grids, one after the other.
_KNOWN: dict[tuple[tuple[int, ...], bytes, bool], _Components] = {}
_MOST_KNOWN = 512


def _known(labels: Grid, diagonal: bool) -> _Components:
    labels = np.asarray(labels, dtype=np.int64)
    key = (labels.shape, labels.tobytes(), diagonal)
    found = _KNOWN.get(key)
    if found is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        found = _KNOWN[key] = _found(labels, diagonal)
    return found


def _found(labels: Grid, diagonal: bool) -> _Components:
    # Cells are joined to runs along the rows, then runs to sets: there are far fewer runs than
    # cells, and numpy finds all runs and all pairs of neighbours at once. A margin of -1 on the
    # right ends every run with its row.
    height, width = labels.shape
    stride = width + 1
    padded = np.full((height, stride), -1)
    padded[:, :width] = labels
    flat = padded.ravel()

    starts = np.empty(flat.size, dtype=bool)
    starts[0] = True
    np.not_equal(flat[1:], flat[:-1], out=starts[1:])
    run = starts.cumsum() - 1

    pairs = _touching(flat, starts, run, stride, diagonal)
    first = list(range(int(run[-1]) + 1))  # of each run, another of its set that comes earlier
    for one, other in pairs:
        while first[one] != one:
            one = first[one]
        while first[other] != other:
            other = first[other]
        if one < other:
            first[other] = one
        else:
            first[one] = other

    count = 0
    number = [0] * len(first)
    for at, colour in enumerate(flat[starts].tolist()):
        if colour >= 0:
            if first[at] == at:
                count += 1
                number[at] = count
            else:
                number[at] = number[first[at]]

    numbers = np.array(number)[run].reshape(height, stride)[:, :width].copy()
    numbers.flags.writeable = False
    return _Components(numbers, count)


def _touching(
    flat: NDArray[np.int64], starts: Mask, run: NDArray[np.int64], stride: int, diagonal: bool
) -> Iterator[tuple[int, int]]:
    """Pairs of runs of one label, one above the other, each at the first cell where they touch."""
    wanted = flat[:-stride] >= 0
    below = (flat[:-stride] == flat[stride:]) & (starts[:-stride] | starts[stride:]) & wanted
    steps = [(below, stride)]

    if diagonal:  # only where one run ends and the other begins: elsewhere one lies below the other
        ends = starts[1:]
        right = flat[: -stride - 1] == flat[stride + 1 :]
        right &= ends[:-stride] & starts[stride + 1 :] & wanted[:-1]
        left = flat[:-stride] == flat[stride - 1 : -1]
        left &= starts[:-stride] & starts[stride:] & wanted
        steps += [(right, stride + 1), (left, stride - 1)]

    for found, step in steps:
        at = found.nonzero()[0]
        yield from zip(run[at].tolist(), run[at + step].tolist(), strict=True)
