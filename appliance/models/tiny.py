"""The tiny vocabulary of arc-mini, called grid-tokens-v1.

It has one token for each cell, one for the end of a row, the marks between grids, and the words of
programs in the DSL. A document is

    <bos> (I input O output <eos>)*

where a grid is its cells row by row, with a newline after every row. A document with a program ends
in `P body <eos>`, the dedented body of `transform`, text as it is.

This module is the single source of the ids; the tokenizer in the model folder is built from it.
Words are only ever appended, because trained weights hold their ids.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from appliance.arc.grid import MAX_SIDE, Grid
from appliance.arc.places import templates_of, write_grid

SPLIT = r"    |[a-z_][A-Za-z_0-9]*|[A-Z][A-Z_]+|[\s\S]"
"""How text falls into tokens: an indentation, a name, or one character."""

_NAMES = """
CORNERS DOWN DOWN_LEFT DOWN_RIGHT LEFT RIGHT SIDES UP UP_LEFT UP_RIGHT a all and anti_transpose b
background bar best blocks border both bottom box c canvas cells centre checker col col_counts
col_line colour cols common_object connect continue_pattern count counter counts crop cross d def
diagonals dict difference dot dsl dye e either else emptiest enumerate erase extend f fall
farthest fill_enclosed first fit flip_h flip_v flood for found fractal frame from full_cols
full_rows fullest g grid grow h half height histogram hole i if import in index invert is is_line
is_mirror_h is_mirror_v is_rectangle is_square join_h join_v keep kept key lambda largest layers
least_common left len line map_colours map_objects mark marks mask_of max mirror mirror_four
mosaic most_common most_common_grid move neither not np num num_cells num_colours num_holes
num_objects obj objects odd_grid odd_object only_first only_one or other out outline overlay pad
paint paint_all paint_mask palette part parts pattern peel period_h period_v pinwheel place range
rank_colours ray recolour recolour_object rect repair_symmetry repair_tiling repeat return right
rings roll rot180 rot270 rot90 row row_counts row_line rows same_shape scale_down scale_h scale_up
scale_v second shapes shift shrink size slide smallest some sort_along sort_size sorted split_h
split_lines split_v squeeze stairs stamp step sum swap symmetrize_d symmetrize_h symmetrize_turns
symmetrize_v third tile top touches_edge transform transpose trim unit until_stable while whole
width with_colour zip
"""
"""Words of programs: the functions of the DSL, and what bodies name."""

PROGRAM_WORDS = (" ", "    ", *"!\"#%&'()*+,-./:<=>@[]^{|}~_", *_NAMES.split())
TOKENS = ("<pad>", "<bos>", "<eos>", "\n", "I", "O", *"0123456789", "P", *PROGRAM_WORDS)
"""The vocabulary; an id is a place in it."""

PAD, BOS, EOS, ROW_END, INPUT, OUTPUT, CELL_0 = range(7)
PROGRAM = TOKENS.index("P")
FIRST_WORD = PROGRAM + 1
_ID_OF = {token: i for i, token in enumerate(TOKENS)}

CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ 'P' if m['content'] == 'P' else 'I' + m['content'] + 'O' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + '<eos>' }}{% endif %}"
    "{% endfor %}"
)
"""Turns are grids as text: a user turn is an input (or P, which asks for a program)."""


TEMPLATES = templates_of(
    np.full((MAX_SIDE, MAX_SIDE), CELL_0, dtype=np.int32),
    np.full(MAX_SIDE, ROW_END, dtype=np.int32),
)
"""Ids of black grids, for `arc.places.write_grid`."""


def grid_ids(grid: Grid) -> NDArray[np.int32]:
    """Ids of one grid, shape (rows * (columns + 1),)."""
    ids = np.empty(grid.shape[0] * (grid.shape[1] + 1), dtype=np.int32)
    write_grid(ids, 0, grid, TEMPLATES)
    return ids


@lru_cache(maxsize=20_000)  # training asks for the same programs again and again; some 10 MB
def program_ids(body: str) -> NDArray[np.int32] | None:
    """Ids of a program's body (read-only), or None when a word of it is not in the vocabulary."""
    ids = [_ID_OF.get(token) for token in re.findall(SPLIT, body)]
    if None in ids:
        return None
    array = np.array(ids, dtype=np.int32)
    array.setflags(write=False)
    return array
