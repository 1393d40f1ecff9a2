"""Every place of a grid as a number: what a cell is called that knows where it stands.

A cell has the number (row * 30 + column) * 10 + colour, 0 to 8,999; the end of a row has the number
9,000 + row. A grid is the numbers of its cells row by row, with the row's end after every row. The
text of a number is one character of a private plane of Unicode.

Writing is the hot path of training data: a template for each width holds the numbers of a black
grid of 30 rows, so a grid is a piece of a template plus its colours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.arc.grid import MAX_SIDE, NUM_COLOURS, Grid, freeze

NUM_CELL_NUMBERS = MAX_SIDE * MAX_SIDE * NUM_COLOURS
NUM_NUMBERS = NUM_CELL_NUMBERS + MAX_SIDE  # cells and row ends: 9,030
FIRST_CHARACTER = 0xF0000
"""The character of number 0; it and the next 65,533 mean nothing to anybody else."""

Numbers = NDArray[np.int32]
Templates = tuple[Numbers, ...]
"""For each width from 0 to 30 the numbers of a black grid of 30 rows, shape (30 * (width + 1),)."""


def templates_of(black: Numbers, ends: Numbers) -> Templates:
    """The templates where black cells are called `black`, (30, 30), and row ends `ends`, (30,)."""
    templates = []
    for width in range(MAX_SIDE + 1):
        template = np.hstack([black[:, :width], ends[:, None]]).astype(np.int32).reshape(-1)
        template.setflags(write=False)
        templates.append(template)
    return tuple(templates)


def write_grid(out: Numbers, at: int, grid: NDArray[np.int8], templates: Templates) -> int:
    """Write a grid into `out` from place `at` on, and return the place after it."""
    num_rows, num_columns = grid.shape
    end: int = at + num_rows * (num_columns + 1)
    piece = out[at:end]
    piece[:] = templates[num_columns][: end - at]

    cells = piece.reshape(num_rows, num_columns + 1)[:, :num_columns]
    cells += grid
    return end


TEMPLATES = templates_of(
    np.arange(0, NUM_CELL_NUMBERS, NUM_COLOURS, dtype=np.int32).reshape(MAX_SIDE, MAX_SIDE),
    np.arange(NUM_CELL_NUMBERS, NUM_NUMBERS, dtype=np.int32),
)
"""Templates of the numbers themselves."""


def place_numbers(grid: Grid) -> Numbers:
    """The numbers of a grid, shape (rows * (columns + 1),)."""
    numbers = np.empty(grid.shape[0] * (grid.shape[1] + 1), dtype=np.int32)
    write_grid(numbers, 0, grid, TEMPLATES)
    return numbers


def grid_of_numbers(numbers: Numbers) -> Grid:
    """The grid of these numbers.

    Raises ValueError, saying what was found, unless every number is a cell or a row's end of the
    place where it stands.
    """
    # The first row's end tells the width, and with it what is due at every place.
    is_first_end = numbers[: MAX_SIDE + 1] == NUM_CELL_NUMBERS
    if not is_first_end.any():
        raise ValueError(f"no end of row 0 among the first {min(numbers.size, MAX_SIDE + 1)} marks")
    width = int(is_first_end.argmax())
    if width == 0:
        raise ValueError("row 0 is empty")
    if numbers.size > TEMPLATES[width].size:
        raise ValueError(f"more than {MAX_SIDE} rows")

    black = TEMPLATES[width][: numbers.size]
    colours = numbers - black
    is_wrong = (colours < 0) | (colours >= np.where(black < NUM_CELL_NUMBERS, NUM_COLOURS, 1))
    if is_wrong.any():
        first = int(is_wrong.argmax())
        due, found = (_called(int(n[first])) for n in (black, numbers))
        raise ValueError(f"{found} where {due} is due")

    num_rows, num_over = divmod(numbers.size, width + 1)
    if num_over:
        raise ValueError(f"row {num_rows} stops after {num_over} cells of {width}")
    return freeze(colours.reshape(num_rows, width + 1)[:, :width].astype(np.int8))


def _called(number: int) -> str:
    """A number in words."""
    if not 0 <= number < NUM_NUMBERS:
        return "something that is no place"
    if number >= NUM_CELL_NUMBERS:
        return f"the end of row {number - NUM_CELL_NUMBERS}"
    row, column = divmod(number // NUM_COLOURS, MAX_SIDE)
    return f"a cell of row {row}, column {column}"


def text_of_numbers(numbers: Numbers) -> str:
    """One character for each number."""
    return (numbers + FIRST_CHARACTER).astype("<u4").tobytes().decode("utf-32-le")


def numbers_of_text(text: str) -> Numbers:
    """The number of every character; below 0 for a character that stands for none."""
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return characters.astype(np.int32) - FIRST_CHARACTER
