"""The parts of our vocabularies: what their sums are, and that no token is missed or counted
twice."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given

from appliance.arc.grid import Grid, freeze
from appliance.learn.fast.parts import Parts, parts_of
from appliance.models import placed, tiny
from appliance.models.vocabularies import VOCABULARIES
from tests.support.strategies import grids

PLACED = parts_of("grid-tokens-v2")
COLUMNS, ROWS, ROW_END, NONE = 10, 40, 70, PLACED.num_parts
"""First part of the columns and of the rows, the part of a row's end, and the mark of no part."""

each_vocabulary = pytest.mark.parametrize("name", VOCABULARIES)


@each_vocabulary
def test_every_token_has_parts(name: str) -> None:
    parts, tokens = parts_of(name), VOCABULARIES[name].tokens
    assert parts.num_tokens == len(tokens)
    assert set(np.unique(parts.indices)) - {parts.num_parts} == set(range(parts.num_parts))
    assert len({tuple(row) for row in parts.indices.tolist()}) == len(tokens)


@each_vocabulary
def test_the_products_hold_every_token_once(name: str) -> None:
    parts = parts_of(name)
    of_products = [
        frozenset(members)
        for groups in parts.products
        for members in product(*(range(first, end) for first, end in groups))
    ]
    of_tokens = [frozenset(row) - {parts.num_parts} for row in parts.indices.tolist()]
    assert len(of_products) == len(of_tokens)
    assert set(of_products) == set(of_tokens)


@given(grids())
@example(freeze(np.full((30, 30), 9)))
def test_the_parts_of_a_grid_are_colours_columns_and_rows(grid: Grid) -> None:
    found = iter(PLACED.indices[placed.grid_ids(grid)].tolist())
    for r, row in enumerate(grid.tolist()):
        for c, colour in enumerate(row):
            assert next(found) == [colour, COLUMNS + c, ROWS + r]
        assert next(found) == [ROW_END, ROWS + r, NONE]
    assert list(found) == []


def test_marks_and_words_are_parts_of_their_own() -> None:
    marks, words = range(placed.FIRST_CELL), range(placed.FIRST_WORD, len(placed.TOKENS))
    rows = PLACED.indices[[*marks, *words]]
    assert np.array_equal(rows[:, 0], np.arange(ROW_END + 1, NONE))
    assert (rows[:, 1:] == NONE).all()
    assert len(tiny.TOKENS) == len(rows)  # what v1 has, its cells and its row end unused here


@each_vocabulary
def test_a_table_gives_back_the_vectors_that_made_it(name: str) -> None:
    """Or others with the same sums: what moves from all columns to all rows changes no token."""
    parts = parts_of(name)
    vectors = np.random.default_rng(0).normal(size=(parts.num_parts, 3)).astype(np.float32)
    table = parts.table(vectors)
    assert table.shape == (parts.num_tokens, 3)
    for token in (0, 17, parts.num_tokens - 1):
        own = [i for i in parts.indices[token].tolist() if i < parts.num_parts]
        assert np.allclose(table[token], vectors[own].sum(axis=0), atol=1e-6)

    again = parts.vectors(table)
    assert again.dtype == np.float32
    assert np.allclose(parts.table(again), table, atol=1e-5)
    assert np.linalg.norm(again) <= np.linalg.norm(vectors) * (1 + 1e-5)


def test_a_table_that_is_no_sum_gives_the_nearest_one() -> None:
    square = Parts(4, np.array([[0, 2], [0, 3], [1, 2], [1, 3]], dtype=np.int16), ())
    table = np.array([[1.0], [0.0], [0.0], [0.0]], dtype=np.float32)
    nearest = square.table(square.vectors(table))
    assert np.allclose(nearest[:, 0], [0.75, 0.25, 0.25, -0.25], atol=1e-6)
