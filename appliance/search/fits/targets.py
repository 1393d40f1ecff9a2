"""What the cells of pieces must become: the table that all fits read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from appliance.search.pieces import Cells, Group

NUM_VALUES = 64
"""Values of a piece that fits tell apart; a piece with larger ones only fits exactly."""

NUM_COLOURS = 10

CHUNK_CELLS = 2_000_000
"""Cells that are counted in one step."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The pieces of a group beside the outputs of the demonstrations."""

    group: Group
    outputs: Cells  # cells of all demonstrations, in one row
    counts: NDArray[np.int32]  # (pieces, values, colours): cells of a value that must be a colour

    @staticmethod
    def of(group: Group, outputs: bytes) -> Targets:
        wanted = np.frombuffer(outputs, np.uint8)
        num_pieces, num_cells = group.train.shape
        counts = np.empty((num_pieces, NUM_VALUES, NUM_COLOURS), np.int32)

        step = max(1, CHUNK_CELLS // max(1, num_cells))
        for start in range(0, num_pieces, step):
            values = np.minimum(group.train[start : start + step], NUM_VALUES - 1).astype(np.int64)
            places = np.arange(len(values))[:, None] * NUM_VALUES * NUM_COLOURS
            places = places + values * NUM_COLOURS + wanted
            size = len(values) * NUM_VALUES * NUM_COLOURS
            found = np.bincount(places.ravel(), minlength=size)
            counts[start : start + step] = found.reshape(-1, NUM_VALUES, NUM_COLOURS)

        return Targets(group, wanted, counts)

    @cached_property
    def totals(self) -> NDArray[np.int32]:
        """(pieces, values): cells that have the value."""
        totals: NDArray[np.int32] = self.counts.sum(axis=2, dtype=np.int32)
        return totals

    @cached_property
    def is_pure(self) -> NDArray[np.bool_]:
        """(pieces, values): all cells of that value become one colour."""
        pure: NDArray[np.bool_] = (self.counts.max(axis=2) == self.totals) & (self.totals > 0)
        pure[:, NUM_VALUES - 1] = False  # stands for several values
        return pure

    @cached_property
    def colours(self) -> NDArray[np.int64]:
        """(pieces, values): the colour that most cells of the value become."""
        colours: NDArray[np.int64] = np.argmax(self.counts, axis=2)
        return colours

    @cached_property
    def num_right(self) -> NDArray[np.int64]:
        """(pieces,): cells that are right as they are."""
        right: NDArray[np.int64] = np.count_nonzero(self.group.train == self.outputs, axis=1)
        return right

    @property
    def num_cells(self) -> int:
        return len(self.outputs)

    def text(self, piece: int) -> str:
        """The expression that gives the piece."""
        return self.group.states[piece].text()

    def cost(self, *pieces: int) -> float:
        """Of these pieces, with the penalty of their group."""
        return float(self.group.costs[list(pieces)].sum()) + self.group.penalty
