"""Mosaics that are read off the outputs."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.program import dsl
from appliance.search.mosaics import mosaic_calls

GRIDS = [np.array([[1, 2], [0, 3]]), np.array([[4, 0], [5, 5]]), np.array([[7, 8], [9, 0]])]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda g: np.hstack([g, g[:, ::-1]]), "mosaic([{0}, flip_h({0})], 2)"),
        (lambda g: np.vstack([g, g[::-1]]), "mosaic([{0}, flip_v({0})], 1)"),
        (
            lambda g: np.block([[g, 0 * g], [0 * g, g]]),
            "mosaic([{0}, dye({0}, 0), dye({0}, 0), {0}], 2)",
        ),
    ],
)
def test_copies_are_turned_as_the_demonstrations_show(make: object, text: str) -> None:
    assert callable(make)
    outputs = [make(grid) for grid in GRIDS[:2]]
    (call,) = mosaic_calls(GRIDS, outputs)

    assert call.text == text
    assert np.array_equal(call.run(GRIDS[2], GRIDS[2]), make(GRIDS[2]))
    names = {name: getattr(dsl, name) for name in dsl.__all__} | {"grid": GRIDS[2]}
    assert np.array_equal(eval(call.text.format("grid"), names), make(GRIDS[2]))


@pytest.mark.parametrize(
    "outputs",
    [
        [np.ones((4, 2), int), np.ones((2, 4), int)],  # not laid out alike
        [np.ones((3, 2), int)] * 2,  # no whole copies
        [grid.copy() for grid in GRIDS[:2]],  # a single copy is no mosaic
        [np.hstack([g, g + 1]) for g in GRIDS[:2]],  # no copy at all
    ],
)
def test_what_is_no_mosaic_gives_no_call(outputs: list[np.ndarray]) -> None:
    assert not list(mosaic_calls(GRIDS, outputs))
