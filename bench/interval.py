"""How sure a mean over tasks is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_DRAWS = 2000
"""Sets of tasks that are drawn for one interval."""


def bootstrap(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean over tasks, by bootstrap. values: one for each task.

    It is the middle 95 % of the means of NUM_DRAWS sets of as many tasks, drawn with replacement.
    The draws are the same every time.
    """
    draws = np.random.default_rng(0).choice(values, (NUM_DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
