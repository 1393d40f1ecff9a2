"""The tiny vocabulary of arc-mini: one token a cell, one a row end, and four marks.

A document is  <bos> (I input O output <eos>)*  where a grid is its cells row by row with a newline after every row.
This module is the single source of the ids; the tokenizer in the model folder is built from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.arc.grid import Grid

TOKENS = ("<pad>", "<bos>", "<eos>", "\n", "I", "O", *"0123456789")
PAD, BOS, EOS, ROW_END, INPUT, OUTPUT, CELL_0 = range(7)

CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ 'I' + m['content'] + 'O' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + '<eos>' }}{% endif %}"
    "{% endfor %}"
)


def grid_ids(grid: Grid) -> NDArray[np.int32]:
    """Ids of one grid, shape (rows * (columns + 1),)."""
    ids = np.full((grid.shape[0], grid.shape[1] + 1), ROW_END, dtype=np.int32)
    ids[:, :-1] = grid
    ids[:, :-1] += CELL_0
    return ids.reshape(-1)
