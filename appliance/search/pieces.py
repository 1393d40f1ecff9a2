"""Pieces: grids and fields of the outputs' shapes, from which the fits make answers.

The cells of all demonstrations stand in one row of bytes, those of the tests in another, so that a
fit compares a piece with the outputs in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from appliance.search.enumerate import State

Cells = NDArray[np.uint8]
Shapes = tuple[tuple[int, int], ...]

MAX_VALUE = 255
"""Larger measures are cut off: no rule needs to tell them apart."""

MAX_PIECES = 4000
"""Pieces of one group that the fits look at, the cheapest first."""

MAX_CELLS = 30_000_000
"""And no more than have so many cells together, a byte each: a task may have 50 demonstrations of
900 cells."""

MAX_GROUPS = 6
"""Groups that the fits look at: those with the cheapest pieces."""


@dataclass(frozen=True, eq=False)
class Group:
    """Pieces that give outputs of the same shapes for the tests, the cheapest first."""

    states: list[State]
    costs: NDArray[np.float64]
    train: Cells  # (pieces, cells of all demonstrations)
    test: Cells  # (pieces, cells of all tests)
    test_shapes: Shapes
    penalty: float  # added to the cost of every answer: a group of late pieces is less likely


@dataclass(eq=False)
class _Collected:
    states: list[State] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)


class Pieces:
    """Collects pieces while the enumeration goes on."""

    def __init__(self, outputs: Sequence[NDArray[np.int64]]) -> None:
        self._shapes: Shapes = tuple(o.shape for o in outputs)
        self._num_cells = sum(o.size for o in outputs)
        self._groups: dict[Shapes, _Collected] = {}
        self._seen: set[tuple[Shapes, bytes]] = set()
        self._num_kept = 0  # cells of all pieces

    def take(self, state: State, values: Sequence[Any]) -> None:
        """Keep a state whose values have the shapes of the outputs."""
        shapes: Shapes = tuple(v.shape for v in values)
        if shapes[: len(self._shapes)] != self._shapes:
            return

        cells = np.concatenate([v.ravel() for v in values])
        row = np.minimum(cells, MAX_VALUE).astype(np.uint8).tobytes()
        if (shapes, row) in self._seen or self._num_kept > 2 * MAX_CELLS:
            return
        self._seen.add((shapes, row))
        self._num_kept += len(row)

        group = self._groups.setdefault(shapes, _Collected())
        group.states.append(state)
        group.rows.append(row)

    def groups(self) -> list[Group]:
        """What was collected, the group with the cheapest piece first."""
        ordered = sorted(self._groups.items(), key=lambda g: min(s.cost for s in g[1].states))
        return [
            self._group(shapes, found, penalty=0.3 * number)
            for number, (shapes, found) in enumerate(ordered[:MAX_GROUPS])
        ]

    def _group(self, shapes: Shapes, found: _Collected, *, penalty: float) -> Group:
        costs = np.array([s.cost for s in found.states])
        most = min(MAX_PIECES, MAX_CELLS // len(found.rows[0]))
        order = np.argsort(costs, kind="stable")[:most]
        cells = np.frombuffer(b"".join(found.rows[i] for i in order), np.uint8)
        cells = cells.reshape(len(order), -1)

        return Group(
            [found.states[i] for i in order],
            costs[order],
            cells[:, : self._num_cells],
            cells[:, self._num_cells :],
            shapes[len(self._shapes) :],
            penalty,
        )
