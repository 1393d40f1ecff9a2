"""Hypothesis strategies that several property tests use."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from appliance.arc.grid import Grid, freeze


def grids(max_side: int = 30, num_colours: int = 10) -> st.SearchStrategy[Grid]:
    """Legal grids; large ones are mostly of one colour, which is much faster to draw."""
    colours = st.integers(0, num_colours - 1)
    sides = st.integers(1, max_side)
    return hnp.arrays(np.int8, st.tuples(sides, sides), elements=colours, fill=colours).map(freeze)
