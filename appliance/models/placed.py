"""The vocabulary of tokens that know their place, called grid-tokens-v2.

A cell's token says colour, column and row; a row's end says its row. In a stock model, which knows
positions in the text only, a cell's upper neighbour is then as easy to find as its left one.
Documents and chat template are those of `tiny`, and so are marks and words of programs:

    0 to 16          marks, newline and digits, as in `tiny`; the last two only in programs
    17 to 9,016      cells: 17 + (row * 30 + column) * 10 + colour
    9,017 to 9,046   row ends: 9,017 + row
    from 9,047       words of programs, only ever appended

The text of a cell or a row's end is its private character (`arc.places`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from appliance.arc.grid import MAX_SIDE, NUM_COLOURS, Grid
from appliance.arc.places import (
    FIRST_CHARACTER,
    NUM_CELL_NUMBERS,
    NUM_NUMBERS,
    templates_of,
    write_grid,
)
from appliance.models import tiny

NUM_CELL_TOKENS = NUM_CELL_NUMBERS  # 30 rows * 30 columns * 10 colours
FIRST_CELL = tiny.FIRST_WORD
FIRST_ROW_END = FIRST_CELL + NUM_CELL_TOKENS
FIRST_WORD = FIRST_ROW_END + MAX_SIDE

TOKENS = (
    *tiny.TOKENS[: tiny.FIRST_WORD],
    *(chr(FIRST_CHARACTER + number) for number in range(NUM_NUMBERS)),
    *tiny.PROGRAM_WORDS,
)
"""The vocabulary; an id is a place in it."""

TEMPLATES = templates_of(
    np.arange(FIRST_CELL, FIRST_ROW_END, NUM_COLOURS, dtype=np.int32).reshape(MAX_SIDE, MAX_SIDE),
    np.arange(FIRST_ROW_END, FIRST_WORD, dtype=np.int32),
)
"""Ids of black grids, for `arc.places.write_grid`."""


def grid_ids(grid: Grid) -> NDArray[np.int32]:
    """Ids of one grid, shape (rows * (columns + 1),)."""
    ids = np.empty(grid.shape[0] * (grid.shape[1] + 1), dtype=np.int32)
    write_grid(ids, 0, grid, TEMPLATES)
    return ids


@lru_cache(maxsize=20_000)  # as in `tiny`
def program_ids(body: str) -> NDArray[np.int32] | None:
    """Ids of a program's body (read-only), or None when a word of it is not in the vocabulary."""
    ids = tiny.program_ids(body)
    if ids is None:
        return None
    placed = np.where(ids < tiny.FIRST_WORD, ids, ids + np.int32(FIRST_WORD - tiny.FIRST_WORD))
    placed.setflags(write=False)
    return placed
