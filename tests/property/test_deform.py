"""A deformed task is still a task: legal grids, the same change for every pair, no cell lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.arc.grid import MAX_SIDE, NUM_COLOURS
from appliance.learn.data.deform import KINDS, deform

seeds = st.integers(0, 2**32 - 1)


def grid(rng: np.random.Generator, limit: int = 7) -> np.ndarray:
    return rng.integers(0, NUM_COLOURS, rng.integers(1, limit + 1, 2)).astype(np.int8)


@given(seeds)
def test_one_side_changes_and_grids_stay_legal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(grid(rng, 30), grid(rng, 30)) for _ in range(3)]
    new = deform(pairs, rng)
    for side in (0, 1):
        assert all(
            g[side].dtype == np.int8 and 0 <= g[side].min() <= g[side].max() < NUM_COLOURS
            for g in new
        )
        assert all(max(g[side].shape) <= MAX_SIDE for g in new)

    kept = [
        all(np.array_equal(a[side], b[side]) for a, b in zip(pairs, new, strict=True))
        for side in (0, 1)
    ]
    assert any(kept)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds)
def test_no_two_grids_become_one(kind: str, seed: int) -> None:
    """What differed before differs after, so that the rule can still be a function of its input."""
    rng = np.random.default_rng(seed)
    apply = KINDS[kind][0](rng)
    a = grid(rng, 4)

    for row, column in np.ndindex(a.shape):
        b = a.copy()
        b[row, column] = (b[row, column] + 1) % NUM_COLOURS
        assert not np.array_equal(apply(a), apply(b))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds)
def test_a_kind_is_the_same_for_every_grid_and_changes_some(kind: str, seed: int) -> None:
    apply = KINDS[kind][0](np.random.default_rng(seed))
    probe = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert np.array_equal(apply(probe), apply(probe.copy()))
    assert not np.array_equal(apply(probe), probe)


@given(seeds)
def test_the_same_seed_deforms_alike(seed: int) -> None:
    pairs = [(grid(np.random.default_rng(i)), grid(np.random.default_rng(i + 9))) for i in range(3)]
    once, again = (deform(pairs, np.random.default_rng(seed)) for _ in range(2))
    assert all(
        np.array_equal(x, y)
        for a, b in zip(once, again, strict=True)
        for x, y in zip(a, b, strict=True)
    )
