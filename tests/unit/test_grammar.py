"""Patterns match exactly what the encoder writes for the shapes they allow."""

from __future__ import annotations

import re

import numpy as np
import pytest

from appliance.arc.encode import get_encoder
from appliance.arc.grid import Grid, freeze
from appliance.arc.task import Pair, Task
from appliance.seeds import generator
from appliance.solve.grammar import answer_pattern

ENCODERS = (
    "grid-tokens",
    "MinimalGridEncoder()",
    "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
)


def grid(rows: int, columns: int, seed: int = 0) -> Grid:
    return freeze(generator("grammar", seed).integers(0, 10, (rows, columns)).astype(np.int8))


def task(*pairs: tuple[tuple[int, int], tuple[int, int]], test: tuple[int, int]) -> Task:
    return Task("t", tuple(Pair(grid(*a), grid(*b)) for a, b in pairs), (grid(*test),))


SAME = task(((2, 3), (2, 3)), ((4, 5), (4, 5)), test=(6, 7))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_agreed_shape_is_the_only_one_that_matches(name: str) -> None:
    encoder = get_encoder(name)
    pattern = answer_pattern("shape", SAME, 0, encoder)
    assert pattern is not None
    for rows, columns in ((6, 7), (7, 6), (6, 6), (1, 1)):
        text = encoder.encode(grid(rows, columns, rows)).removeprefix(encoder.opening)
        assert bool(re.fullmatch(pattern, text)) is ((rows, columns) == (6, 7))


@pytest.mark.parametrize("name", ENCODERS[:2])
def test_every_rectangle_matches_and_nothing_else(name: str) -> None:
    encoder = get_encoder(name)
    pattern = answer_pattern("rectangular", SAME, 0, encoder)
    assert pattern is not None
    for rows, columns in ((1, 1), (30, 30), (3, 17), (1, 30)):
        assert re.fullmatch(pattern, encoder.encode(grid(rows, columns)))

    ragged = (
        encoder.encode(grid(3, 4))
        + ("" if encoder.encode(grid(1, 1)).endswith("\n") else "\n")
        + "012"
    )
    assert not re.fullmatch(pattern, ragged)
    assert not re.fullmatch(pattern, encoder.encode(grid(1, 2)) + "x")


def test_a_text_that_is_not_row_after_row_has_no_pattern_for_all_rectangles() -> None:
    assert answer_pattern("rectangular", SAME, 0, get_encoder(ENCODERS[2])) is None


def test_no_grammar_no_pattern() -> None:
    assert answer_pattern("none", SAME, 0, get_encoder("grid-tokens")) is None
