"""Views: whatever a view does to a grid, its name alone undoes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from appliance.arc.grid import freeze, same_grid
from appliance.arc.task import Pair, Task
from appliance.arc.view import D8, IDENTITY, View, most_views, random_view, sampling_views
from tests.support.strategies import grids

views = st.builds(
    View,
    flip=st.booleans(),
    turns=st.integers(0, 3),
    colours=st.permutations(range(10)).map(tuple),
    order=st.integers(0, 6).flatmap(lambda n: st.permutations(range(n))).map(tuple),
)


@given(grids(), views)
def test_a_view_is_undone_by_its_name(grid: np.ndarray, view: View) -> None:
    assert same_grid(View.parse(view.name).invert(view.apply(grid)), grid)


@given(grids())
def test_the_identity_changes_nothing(grid: np.ndarray) -> None:
    assert same_grid(IDENTITY.apply(grid), grid)


def test_d8_has_eight_different_geometries() -> None:
    grid = freeze(np.arange(6).reshape(2, 3))
    assert len({view.apply(grid).tobytes() + bytes(view.apply(grid).shape) for view in D8}) == 8


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_a_random_view_shows_every_demonstration_once(seed: int, num_pairs: int) -> None:
    pairs = tuple(
        Pair(freeze(np.full((1, 1), i)), freeze(np.full((1, 2), i))) for i in range(num_pairs)
    )
    task = Task("t", pairs, (pairs[0].input,))
    view = random_view(np.random.default_rng(seed), num_pairs, keep_colours=True)
    shown = view.apply_task(task)
    assert sorted(int(p.input[0, 0]) for p in shown.train) == list(range(num_pairs))


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_sampling_views_begin_with_the_identity_and_go_round_d8(seed: int, num_views: int) -> None:
    found = sampling_views(np.random.default_rng(seed), num_views, 3)
    assert len(found) == num_views
    assert found[0] == IDENTITY
    assert len({(v.flip, v.turns) for v in found}) == min(8, num_views)


@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans(), st.booleans())
def test_what_is_kept_stays_in_every_view(
    seed: int, num_views: int, keeps_colours: bool, keeps_orientation: bool
) -> None:
    kept = {"keep_colours": keeps_colours, "keep_orientation": keeps_orientation}
    found = sampling_views(np.random.default_rng(seed), num_views, 3, **kept)
    drawn = [random_view(np.random.default_rng(seed + i), 3, **kept) for i in range(num_views)]
    for view in [*found, *drawn]:
        assert not keeps_colours or view.colours == IDENTITY.colours
        assert not keeps_orientation or (view.flip, view.turns) == (False, 0)

    most = most_views(**kept)
    different = {(v.flip, v.turns, v.colours) for v in found}
    assert len(found) == (1 if most == 1 else num_views)
    assert len(different) == min(num_views, most or num_views)


@given(views)
def test_an_order_of_another_length_is_refused(view: View) -> None:
    pair = Pair(freeze(np.zeros((1, 1))), freeze(np.zeros((1, 1))))
    task = Task("t", (pair,) * 7, (pair.input,))
    assume(view.order)
    with pytest.raises(ValueError, match="orders"):
        view.apply_task(task)


@given(views)
def test_without_an_order_demonstrations_keep_their_places(view: View) -> None:
    pairs = tuple(Pair(freeze(np.full((1, 1), i)), freeze(np.full((1, 1), i))) for i in range(7))
    unordered = replace(view, order=())
    shown = unordered.apply_task(Task("t", pairs, (pairs[0].input,))).train
    assert [p.input for p in shown] == [unordered.apply(p.input) for p in pairs]
