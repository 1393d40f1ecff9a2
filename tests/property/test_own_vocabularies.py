"""Ids of our own vocabularies are what tokenizer and chat template give for the same grids."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.arc.encode import get_encoder
from appliance.arc.grid import Grid, freeze
from appliance.arc.places import write_grid
from appliance.arc.prompt import get_style
from appliance.engine.tokens import Codec
from appliance.learn.data.styles import StyleWriter, TinyWriter
from appliance.models import placed, tiny
from appliance.models.vocabularies import VOCABULARIES, Vocabulary
from tests.support.strategies import grids

OWN = st.sampled_from([*VOCABULARIES.values()])
SMALL = grids(max_side=9)
PAIRS = st.lists(st.tuples(SMALL, SMALL), min_size=2, max_size=5)


def ids_of(grid: Grid, vocabulary: Vocabulary) -> list[int]:
    ids = np.zeros(grid.shape[0] * (grid.shape[1] + 1), dtype=np.int32)
    assert write_grid(ids, 0, grid, vocabulary.templates) == ids.size
    return [int(i) for i in ids]


@cache
def codec_of(name: str) -> Codec:
    pytest.importorskip("transformers")
    from appliance.learn.new_model import tokenizer

    return Codec(tokenizer(VOCABULARIES[name]))


def test_ids_of_the_second_vocabulary_stay() -> None:
    """Trained weights hold them."""
    assert placed.TOKENS[: placed.FIRST_CELL] == tiny.TOKENS[: tiny.FIRST_WORD]
    assert placed.TOKENS[placed.FIRST_WORD :] == tiny.PROGRAM_WORDS
    assert (placed.FIRST_CELL, placed.FIRST_ROW_END, placed.FIRST_WORD) == (17, 9017, 9047)
    assert len(set(placed.TOKENS)) == len(placed.TOKENS) == 9288


@settings(deadline=None)
@given(grids())
@example(freeze(np.full((30, 30), 9)))
def test_a_placed_token_says_colour_column_and_row(grid: Grid) -> None:
    ids = iter(placed.grid_ids(grid))
    for r, row in enumerate(grid.tolist()):
        for c, colour in enumerate(row):
            assert next(ids) == 17 + (r * 30 + c) * 10 + colour
        assert next(ids) == 9017 + r
    assert list(ids) == []


@settings(deadline=None)
@given(grids(), OWN)
@example(freeze(np.full((30, 30), 9)), VOCABULARIES["grid-tokens-v2"])
def test_the_ids_of_a_grid_are_those_of_its_text(grid: Grid, vocabulary: Vocabulary) -> None:
    text = get_encoder(vocabulary.encoder).encode(grid)
    ids = ids_of(grid, vocabulary)
    assert "".join(vocabulary.tokens[i] for i in ids) == text

    codec = codec_of(vocabulary.name)
    assert codec.ids(text) == tuple(ids)
    assert codec.text(tuple(ids)) == text


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=lambda v: v.name)
def test_the_ids_of_a_program_are_those_of_its_text(vocabulary: Vocabulary) -> None:
    body = "row = 10\nif row == 10:\n    return flip_h(grid)\nreturn dict(a=[3])\n"
    ids = vocabulary.program_ids(body)
    assert ids is not None
    assert codec_of(vocabulary.name).ids(body) == tuple(int(i) for i in ids)
    assert "".join(vocabulary.tokens[i] for i in ids) == body

    assert vocabulary.program_ids("return wobble(grid)") is None
    assert vocabulary.program_ids(chr(0xF0000)) is None


@settings(deadline=None)
@given(PAIRS, OWN)
def test_a_document_is_the_lesson_that_the_chat_template_gives(
    pairs: list[tuple[Grid, Grid]], vocabulary: Vocabulary
) -> None:
    rng = np.random.default_rng(0)
    codec, style = codec_of(vocabulary.name), get_style(vocabulary.name)
    slow = StyleWriter(style, get_encoder(vocabulary.encoder), codec).write(
        pairs, "", max_tokens=2000, rng=rng
    )
    assert slow is not None

    fast = TinyWriter(vocabulary).write(pairs, "", max_tokens=len(slow), rng=rng)
    assert fast is not None
    assert np.array_equal(fast.ids, slow.ids)
    assert np.array_equal(fast.is_target, slow.is_target)
