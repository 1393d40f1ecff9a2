"""Random compositions are valid, different programs, the same for the same seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import same_grid
from appliance.learn.synth import HEADER, compose, families_of, random_composition, run_program

seeds = st.integers(0, 2**32)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_the_program_makes_the_pairs_and_does_something(seed: int) -> None:
    made = compose(np.random.default_rng(seed))
    assert made.program.startswith(HEADER + "def transform(grid):\n")
    for pair in made.pairs:
        assert np.array_equal(run_program(made.program, pair.input), pair.output)
        assert not same_grid(pair.input, pair.output)
    assert any(not same_grid(made.pairs[0].output, pair.output) for pair in made.pairs[1:])


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_the_same_generator_state_gives_the_same_program(seed: int) -> None:
    assert random_composition(np.random.default_rng(seed)) == random_composition(
        np.random.default_rng(seed)
    )


def test_programs_are_varied() -> None:
    rng = np.random.default_rng(1)
    assert len({random_composition(rng) for _ in range(200)}) > 150


def test_no_inputs_come_from_held_out_families() -> None:
    assert not any(family.is_held_out for family in families_of("train"))
