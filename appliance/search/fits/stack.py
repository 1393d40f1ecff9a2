"""Fits of a stack: see-through pieces on top of each other, and one below that fills the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from appliance.search.fits.fit import Fit
from appliance.search.fits.targets import Targets

MAX_PIECES = 500
MAX_TOPS = 15
MAX_DEPTH = 6

LAYER_COST = 0.5
COST_WEIGHT = 0.05
"""A piece that costs 1 more must cover this share of the open cells more."""


def stack_fits(targets: Targets, is_late: Callable[[], bool]) -> Iterator[Fit]:
    train = targets.group.train[:MAX_PIECES]
    is_right = train == targets.outputs
    is_shown = train != 0
    is_wrong = is_shown & ~is_right

    # The top piece shows wherever it is coloured, so it must be right there.
    sizes = is_shown.sum(axis=1)
    order = np.argsort(-sizes, kind="stable")
    tops = [int(i) for i in order if sizes[i] and not is_wrong[i].any()][:MAX_TOPS]

    for top in tops:
        if is_late():
            return
        layers = _layers(top, is_right, is_shown, is_wrong, targets.group.costs[:MAX_PIECES])
        if layers:
            yield _fit(targets, layers)


def _layers(
    top: int,
    is_right: NDArray[np.bool_],
    is_shown: NDArray[np.bool_],
    is_wrong: NDArray[np.bool_],
    costs: NDArray[np.float64],
) -> list[int]:
    """The pieces from top to bottom; empty where no stack of few layers is right."""
    layers = [top]
    is_open = ~is_shown[top]

    for _ in range(MAX_DEPTH):
        bottoms = np.flatnonzero((is_right | ~is_open).all(axis=1))
        if len(bottoms):
            return [*layers, int(bottoms[costs[bottoms].argmin()])]

        covered = (is_shown & is_open).sum(axis=1)
        usable = (covered > 0) & ~(is_wrong & is_open).any(axis=1)
        if not usable.any():
            return []
        scores = np.where(usable, covered / is_open.sum() - COST_WEIGHT * costs, -np.inf)
        layers.append(int(scores.argmax()))
        is_open &= ~is_shown[layers[-1]]

    return []


def _fit(targets: Targets, layers: list[int]) -> Fit:
    *upper, bottom = layers
    cells = targets.group.test[bottom]
    text = targets.text(bottom)
    for layer in upper[::-1]:
        above = targets.group.test[layer]
        cells = np.where(above != 0, above, cells)
        text = f"overlay({text}, {targets.text(layer)})"

    return Fit(targets.cost(*layers) + LAYER_COST * len(layers), "stack", cells, text)
