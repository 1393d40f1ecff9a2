"""Fits of a default and rules: cells where another piece has a certain value take a certain colour.

A rule is pure: it is right at every cell of the demonstrations that it touches, so the order of
rules does not matter. For a default piece the rules are chosen greedily, each the one that mends
most wrong cells for its cost, from several first choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.search.fits.fit import Fit
from appliance.search.fits.targets import Targets
from appliance.search.pieces import Cells

MAX_RULES = 3000
MAX_CELLS = 30_000_000
"""Cells that all rules look at together."""

MAX_DEFAULTS = 40
MAX_FIRSTS = 12
MAX_CHOSEN = 5

MAX_WORK = 400_000_000
"""Cells that choosing may look at in one group: about a second."""

FITS_COST = 0.5
RULE_COST = 0.5
VALUE_COST = 0.3
"""Of a rule about one value, against one that takes all coloured cells of a piece."""

COST_WEIGHT = 0.06
"""A rule that costs 1 more must mend this share of the wrong cells more."""


@dataclass(frozen=True, eq=False)
class _Rule:
    piece: int
    value: int | None  # None: every coloured cell takes its own colour
    cost: float
    train: NDArray[np.bool_]  # the cells that it touches
    test: NDArray[np.bool_]
    test_colours: Cells  # what they become, for all cells of the tests
    colour: int

    def line(self, targets: Targets) -> str:
        text = targets.text(self.piece)
        if self.value is None:
            return f"out = overlay(out, {text})"
        return f"out = paint_mask(out, mask_of({text}, {self.value}), {self.colour})"


def rule_fits(targets: Targets, is_late: Callable[[], bool]) -> Iterator[Fit]:
    rules = _rules(targets) if not is_late() else []
    if not rules:
        return
    touched = np.stack([r.train for r in rules])
    costs = np.array([r.cost for r in rules])

    work = 0
    for default in _defaults(targets):
        wrong = targets.group.train[default] != targets.outputs
        if not wrong.any():
            continue

        mends = touched[:, wrong].astype(np.float32)
        for chosen in _choices(mends, costs):
            yield _fit(targets, int(default), [rules[i] for i in chosen])

        work += mends.size * MAX_FIRSTS
        if work > MAX_WORK or is_late():
            return


def _rules(targets: Targets) -> list[_Rule]:
    """The cheapest ones, without those that do the same on all grids."""
    group, found, seen = targets.group, [], set()
    most = min(MAX_RULES, MAX_CELLS // targets.num_cells)

    def keep(rule: _Rule) -> None:
        key = rule.train.tobytes(), rule.test.tobytes(), rule.test_colours[rule.test].tobytes()
        if key not in seen:
            seen.add(key)
            found.append(rule)

    for piece in range(len(group.costs)):
        if len(found) >= most:
            break
        train, test, cost = group.train[piece], group.test[piece], float(group.costs[piece])

        values = np.flatnonzero(
            targets.is_pure[piece] & (targets.totals[piece] < targets.num_cells)
        )
        for value in values.tolist():
            colour = int(targets.colours[piece, value])
            colours = np.full(len(test), colour, np.uint8)
            keep(
                _Rule(
                    piece, value, cost + VALUE_COST, train == value, test == value, colours, colour
                )
            )

        coloured = train != 0
        if coloured.any() and not coloured.all() and (train == targets.outputs)[coloured].all():
            keep(_Rule(piece, None, cost, coloured, test != 0, test, 0))

    return found


def _defaults(targets: Targets) -> NDArray[np.int64]:
    """Pieces that are right on most cells, the cheaper of equals first."""
    cost_cells = max(1.0, 0.002 * targets.num_cells)
    order = np.argsort(targets.group.costs * cost_cells - targets.num_right, kind="stable")
    return order[:MAX_DEFAULTS]


def _choices(mends: NDArray[np.float32], costs: NDArray[np.float64]) -> Iterator[list[int]]:
    """Sets of rules that mend all wrong cells. mends: (rules, wrong cells)."""
    num_wrong = mends.shape[1]
    alone = mends.sum(axis=1)
    if not alone.any() or not mends.any(axis=0).all():
        return

    firsts = np.argsort(costs * COST_WEIGHT - alone / num_wrong, kind="stable")[:MAX_FIRSTS]
    for first in firsts.tolist():
        chosen = [first]
        left = mends[first] == 0
        while left.any() and len(chosen) < MAX_CHOSEN:
            gains = mends @ left.astype(np.float32)
            scores = np.where(gains > 0, gains / left.sum() - costs * COST_WEIGHT, -np.inf)
            best = int(scores.argmax())
            chosen.append(best)
            left &= mends[best] == 0

        if alone[first] and not left.any():
            yield chosen


def _fit(targets: Targets, default: int, rules: list[_Rule]) -> Fit:
    cells = targets.group.test[default].copy()
    for rule in rules:
        cells[rule.test] = rule.test_colours[rule.test]

    cost = targets.cost(default) + FITS_COST + sum(RULE_COST + r.cost for r in rules)
    lines = (f"out = {targets.text(default)}", *(r.line(targets) for r in rules))
    return Fit(cost, "rules", cells, "out", lines)
