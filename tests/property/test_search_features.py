"""The features of a cell, against their definitions and on grids of any shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.search.cells import features
from appliance.search.cells.features import GROUPS, NUM_FEATURES, cell_features
from appliance.search.cells.learn import cell_answers
from appliance.search.cells.objects import NUM_BY_OBJECT, object_features

Grid = NDArray[np.int64]


@st.composite
def grids(draw: st.DrawFn, most: int = 30, colours: int = 10) -> Grid:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, most)), draw(st.integers(1, most))
    used = draw(st.integers(1, colours))
    return rng.integers(0, used, shape) * (
        rng.random(shape) < draw(st.sampled_from([0, 0.2, 0.6, 1]))
    )


@settings(max_examples=60, deadline=None)
@given(grids())
def test_any_grid_has_all_features(grid: Grid) -> None:
    table = cell_features(grid)
    assert table.shape == (grid.size, NUM_FEATURES)
    assert (table == cell_features(grid.astype(np.int8))).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (30, 30)])
@pytest.mark.parametrize("colour", [0, 9])
def test_a_uniform_grid_has_all_features(shape: tuple[int, int], colour: int) -> None:
    assert cell_features(np.full(shape, colour)).shape == (shape[0] * shape[1], NUM_FEATURES)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group.__name__))
@settings(max_examples=20, deadline=None)
@given(grid=grids(most=12))
def test_each_group_keeps_its_number_of_columns(group: features.Group, grid: Grid) -> None:
    columns = group(grid)
    assert len(columns) == len(group(np.zeros((1, 1), np.int64)))
    assert all(np.broadcast_shapes(column.shape, grid.shape) == grid.shape for column in columns)


@settings(max_examples=40, deadline=None)
@given(grids(most=9, colours=4))
def test_rays_see_the_first_colour(grid: Grid) -> None:
    columns = features.rays(grid)
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, 1), (1, -1), (-1, -1), (1, 1)]
    for number, (down, right) in enumerate(steps):
        for place in np.ndindex(grid.shape):
            row, col, far = place[0] + down, place[1] + right, 1
            while 0 <= row < grid.shape[0] and 0 <= col < grid.shape[1] and not grid[row, col]:
                row, col, far = row + down, col + right, far + 1
            is_inside = 0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]
            expected = (grid[row, col], far) if is_inside else (0, 0)
            assert columns[2 * number][place] == expected[0]
            assert columns[2 * number + 1][place] == expected[1]


@settings(max_examples=40, deadline=None)
@given(grids(most=4, colours=4), st.integers(2, 3), st.integers(1, 3))
def test_tiling_gives_back_a_tile_with_cells_erased(tile: Grid, down: int, right: int) -> None:
    whole = np.tile(tile + 1, (down, right))
    holed = whole.copy()
    holed[0, 0] = 0
    (found,) = features.tiling(holed)
    assert (found == whole).all()


def test_holes_of_objects_are_counted() -> None:
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]])
    two = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]])
    holes = 10  # its column, among the measures of one-coloured objects
    assert object_features(ring)[holes].tolist() == [
        [1, 1, 1, -1], [1, -1, 1, -1], [1, 1, 1, -1], [-1, -1, -1, 0],
    ]  # fmt: skip
    assert (object_features(two)[holes][two == 1] == 2).all()
    diagonal = object_features(ring)[NUM_BY_OBJECT + holes]
    assert diagonal[3, 3] == 1, "with 8 neighbours the lower right cell belongs to the ring"


@settings(max_examples=30, deadline=None)
@given(st.lists(grids(most=6), min_size=2, max_size=4), st.integers(0, 3))
def test_the_learner_answers_any_task(bases: list[Grid], num_pieces: int) -> None:
    rng = np.random.default_rng(0)
    outputs = [rng.permutation(base) for base in bases[:-1]]
    pieces = [rng.integers(0, 255, (base.size, num_pieces)) for base in bases]
    answers = cell_answers(bases, outputs, pieces)
    assert len(answers) == (3 if num_pieces else 2)

    seen = {int(colour) for output in outputs for colour in np.unique(output)}
    for answer in answers:
        assert answer.grids[0].shape == bases[-1].shape
        assert set(np.unique(answer.grids[0]).tolist()) <= seen
        assert 0 <= answer.share_left_out <= 1
        assert 0 <= answer.accuracy <= 1
