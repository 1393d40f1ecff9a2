"""Every encoder inverts itself on every legal grid, and survives any text."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.arc.encode import ENCODER_NAMES, ParseError, get_encoder
from appliance.arc.grid import Grid, freeze, grid_fault
from tests.support.strategies import grids

GRIDS = grids()
LEAVES = st.sampled_from(
    ["MinimalGridEncoder()", "GridWithSeparationEncoder(' ')", "GridWithSeparationEncoder('x')"]
)
WRAPPERS = st.tuples(
    st.lists(st.sampled_from(["RowNumberEncoder", "ReplaceNumberEncoder"]), max_size=2),
    st.sampled_from([[], ["GridShapeEncoder"], ["GridCodeBlockEncoder"]]),
    st.lists(st.sampled_from(["RowNumberEncoder", "ReplaceNumberEncoder"]), max_size=2),
).map(lambda parts: [*parts[0], *parts[1], *parts[2]])
EXPRESSIONS = st.tuples(WRAPPERS, LEAVES).map(
    lambda parts: "".join(f"{wrapper}(" for wrapper in parts[0]) + parts[1] + ")" * len(parts[0])
)


@settings(deadline=None)
@given(GRIDS, st.sampled_from(ENCODER_NAMES))
@example(freeze(np.zeros((1, 1))), "grid-tokens")
@example(freeze(np.full((30, 30), 9)), "grid-tokens-v2")
@example(freeze(np.full((30, 30), 9)), "colour-words")
def test_decode_inverts_encode(grid: Grid, name: str) -> None:
    encoder = get_encoder(name)
    text = encoder.encode(grid)
    assert np.array_equal(encoder.decode(text), grid)
    assert text.startswith(encoder.opening)


@settings(deadline=None)
@given(GRIDS, EXPRESSIONS)
def test_decode_inverts_encode_however_encoders_nest(grid: Grid, expression: str) -> None:
    encoder = get_encoder(expression)
    assert np.array_equal(encoder.decode(encoder.encode(grid)), grid)
    assert encoder.name == expression


@settings(deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text("0123456789 \n`gridshape:x|"),
        GRIDS.map(get_encoder("shape").encode),
        GRIDS.map(get_encoder("grid-tokens-v2").encode),
    ),
    st.data(),
)
def test_any_text_is_a_legal_grid_or_a_parse_error(text: str, data: st.DataObject) -> None:
    encoder = get_encoder(data.draw(st.sampled_from(ENCODER_NAMES)))
    cut = data.draw(st.integers(0, len(text)))
    with contextlib.suppress(ParseError):
        assert grid_fault(encoder.decode(encoder.opening + text[:cut])) is None


@settings(deadline=None)
@given(GRIDS, st.data())
def test_a_placed_token_lost_doubled_or_elsewhere_is_noticed(
    grid: Grid, data: st.DataObject
) -> None:
    encoder = get_encoder("grid-tokens-v2")
    text = encoder.encode(grid)
    i = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=0xF0000, max_codepoint=0xF0000 + 9030))

    changed = [text[: i + 1] + text[i:]]
    # A single row without its last cell is a legal, shorter row.
    if not (grid.shape[0] == 1 and 0 < i == grid.shape[1] - 1):
        changed.append(text[:i] + text[i + 1 :])
    if (ord(other) - 0xF0000) // 10 != (ord(text[i]) - 0xF0000) // 10:  # else another colour
        changed.append(text[:i] + other + text[i + 1 :])

    for wrong in changed:
        with pytest.raises(ParseError):
            encoder.decode(wrong)
