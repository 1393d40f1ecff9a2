"""Fits of two pieces: what a cell becomes follows from its values in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from appliance.search.fits.fit import Fit
from appliance.search.fits.targets import NUM_VALUES, Targets

MAX_PIECES = 200
"""The cheapest ones; every two of them are tried."""

MAX_DISTINCT = 12
"""Pieces with more values than this are left out."""

MAX_FITS = 60

PAIR_COST = 1.0
KEY_COST = 0.12
"""Of each pair of values."""

FEW_KEYS = 14
CELLS_A_KEY = 12
"""A table of more keys than these, and with fewer cells a key, only repeats what it saw."""

UNSEEN_COST, UNSEEN_SHARE_COST = 1.5, 3.0
"""Where a test has pairs that no demonstration has, and for the share of such cells."""

NO_COLOUR = 255


def pair_fits(targets: Targets, is_late: Callable[[], bool]) -> Iterator[Fit]:
    group = targets.group
    is_small = ((targets.totals > 0).sum(axis=1) <= MAX_DISTINCT) & (
        group.train.max(axis=1, initial=0) < NUM_VALUES
    )
    chosen = np.flatnonzero(is_small)[:MAX_PIECES]

    # The values of each piece, numbered from 0.
    numbered = [_numbered(group.train[i], group.test[i]) for i in chosen]
    num_found = 0
    for right in range(len(chosen)):
        if is_late():
            return
        for left in range(right):
            fit = _pair(
                targets, int(chosen[left]), int(chosen[right]), numbered[left], numbered[right]
            )
            if fit is not None:
                yield fit
                num_found += 1
                if num_found >= MAX_FITS:
                    return


Numbered = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]


def _numbered(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> Numbered:
    values, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    return places[: len(train)], places[len(train) :], values


def _pair(targets: Targets, one: int, two: int, first: Numbered, second: Numbered) -> Fit | None:
    """The table of two pieces, if the demonstrations agree on it."""
    (train_1, test_1, values_1), (train_2, test_2, values_2) = first, second
    num = len(values_2)
    if len(values_1) == 1 or num == 1:
        return None

    keys = train_1 * num + train_2
    table = np.full(len(values_1) * num, NO_COLOUR, np.uint8)
    table[keys] = targets.outputs
    if (table[keys] != targets.outputs).any():
        return None

    num_keys = int((table != NO_COLOUR).sum())
    if num_keys > FEW_KEYS and num_keys * CELLS_A_KEY > targets.num_cells:
        return None

    # Pairs of values that no demonstration has stay as the better one of the two pieces.
    if targets.num_right[two] > targets.num_right[one]:
        one, two = two, one
    found = table[test_1 * num + test_2]
    is_guess = found == NO_COLOUR
    cells = np.where(is_guess, targets.group.test[one], found)

    cost = targets.cost(one, two) + PAIR_COST + KEY_COST * num_keys
    if is_guess.any():
        cost += UNSEEN_COST + UNSEEN_SHARE_COST * float(is_guess.mean())
    return Fit(cost, "pairs", cells, _text(targets, one, two))


def _text(targets: Targets, one: int, two: int) -> str:
    """The table without the pairs that keep the first one's value."""
    train = targets.group.train
    seen = np.unique(np.stack([train[one], train[two], targets.outputs]), axis=1).T
    table = ", ".join(f"({a}, {b}): {c}" for a, b, c in seen.tolist() if a != c)
    return f"map_pairs({targets.text(one)}, {targets.text(two)}, {{{table}}})"
