"""Learn a task cell by cell: the colour of an output cell from what stands at its place.

All cells of the demonstrations are the rows of one table; trees learn the output's colour from a
cell's features in a base grid, from the values of pieces there (grids that short programs give), or
from both. How far to trust an answer is measured: each demonstration is left out once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.seeds import generator

from .features import cell_features
from .trees import Features, Forest, grow_forest

Grid = NDArray[np.int64]

_MOST_VALUE = 9999  # of a measure that is a piece; larger ones are cut to fit 16 bits
NUM_TREES = 40
NUM_TREES_LEFT_OUT = 16
NUM_TREES_FLIPS = 30
MOST_FLIPPED_CELLS = 16_000  # cells of all flipped demonstrations; larger tasks go without flips

# For each flip and turn of a square: how it is done, and how it is undone.
_FLIPS: tuple[tuple[Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    (lambda a: a, lambda a: a),
    (lambda a: a[:, ::-1], lambda a: a[:, ::-1]),
    (lambda a: a[::-1], lambda a: a[::-1]),
    (lambda a: a[::-1, ::-1], lambda a: a[::-1, ::-1]),
    (lambda a: a.swapaxes(0, 1), lambda a: a.swapaxes(0, 1)),
    (np.rot90, partial(np.rot90, k=-1)),
    (partial(np.rot90, k=-1), np.rot90),
    (lambda a: a[::-1, ::-1].swapaxes(0, 1), lambda a: a[::-1, ::-1].swapaxes(0, 1)),
)


@dataclass(frozen=True, eq=False)
class CellAnswer:
    """One answer to all test inputs, and how well its kind did on left-out demonstrations."""

    variant: str  # "both", "pieces", "features", "flips": what the trees learnt from
    grids: tuple[Grid, ...]  # one for each test input
    share_left_out: float  # of the demonstrations that were exactly right when left out
    accuracy: float  # mean share of right cells of a left-out demonstration

    @property
    def cost(self) -> float:
        """Comparable with the cost of a program: its weight is 0.5 to the power of this."""
        extra = 0.4 if self.variant == "flips" else 0.0
        return 5.5 - 3 * self.share_left_out + 6 * (1 - self.accuracy) + extra


def cell_answers(
    bases: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
    pieces: Sequence[NDArray[Any]],
    *,
    seed: int = 0,
    is_out_of_time: Callable[[], bool] = lambda: False,
) -> list[CellAnswer]:
    """At most three answers; fewer where time runs out, none where there is too little to learn.

    bases: a grid for each demonstration, then for each test input; those of the demonstrations have
    their output's shape. outputs: of the demonstrations. pieces: for each base the values of the
    pieces at its cells in reading order, (cells, pieces), 0 pieces allowed.

    Raises ValueError where the shapes do not fit together.
    """
    _check(bases, outputs, pieces)
    looks = []
    for base in bases:
        if is_out_of_time():
            return []
        looks.append(cell_features(base))

    values = [np.minimum(table.astype(np.int64), _MOST_VALUE).astype(np.int16) for table in pieces]
    tables = {"features": looks}
    if values[0].shape[1]:
        both = [np.hstack(pair) for pair in zip(looks, values, strict=True)]
        tables = {"both": both, "pieces": values}

    learner = _Learner(bases, outputs, seed, is_out_of_time)
    answers = [learner.answer(variant, table) for variant, table in tables.items()]
    found = [answer for answer in answers if answer]
    if found:
        flips = learner.flipped(min(found, key=lambda answer: answer.cost))
        found += [flips] if flips else []
    return found


def _check(
    bases: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
    pieces: Sequence[NDArray[Any]],
) -> None:
    for number, (base, output) in enumerate(zip(bases, outputs, strict=False)):
        if base.shape != output.shape:
            raise ValueError(
                f"base {number} has shape {base.shape}, expected {output.shape} as its output has"
            )

    sizes = [base.size for base in bases]
    if not outputs or len(bases) <= len(outputs) or [len(table) for table in pieces] != sizes:
        raise ValueError(
            f"{len(bases)} bases, {len(outputs)} outputs, pieces for {len(pieces)} grids; expected"
            " a base and a table of pieces for each output and at least one test"
        )


@dataclass(frozen=True, eq=False)
class _Learner:
    bases: Sequence[NDArray[Any]]
    outputs: Sequence[NDArray[Any]]
    seed: int
    is_out_of_time: Callable[[], bool]

    def grow(
        self, tables: list[Features], answers: list[NDArray[Any]], num_trees: int, *what: object
    ) -> Forest | None:
        return grow_forest(
            np.concatenate(tables),
            np.concatenate([answer.ravel() for answer in answers]).astype(np.int64),
            num_trees=num_trees,
            rng=generator("cells", self.seed, *what),
            is_out_of_time=self.is_out_of_time,
        )

    def answer(self, variant: str, tables: list[Features]) -> CellAnswer | None:
        """What trees on these tables say of the tests; None where time ran out."""
        num = len(self.outputs)
        forest = self.grow(tables[:num], list(self.outputs), NUM_TREES, variant)
        if forest is None:
            return None

        shares = self.left_out(variant, tables[:num])
        if shares is None:
            return None
        is_right = [share == 1 for share in shares]
        grids = [
            forest.predict(table).reshape(base.shape)
            for table, base in zip(tables[num:], self.bases[num:], strict=True)
        ]
        # One demonstration cannot be left out; nothing is known then, and half right is assumed.
        accuracy = float(np.mean(shares)) if shares else 0.5
        return CellAnswer(variant, tuple(grids), sum(is_right) / num, accuracy)

    def left_out(self, variant: str, tables: list[Features]) -> list[float] | None:
        """For each demonstration the share of its cells that the others foretell."""
        shares = []
        for out in range(len(tables)) if len(tables) > 1 else ():
            others = [k for k in range(len(tables)) if k != out]
            forest = self.grow(
                [tables[k] for k in others],
                [self.outputs[k] for k in others],
                NUM_TREES_LEFT_OUT,
                variant,
                out,
            )
            if forest is None:
                return None
            right = forest.predict(tables[out]) == self.outputs[out].ravel()
            shares.append(float(right.mean()))
        return shares

    def flipped(self, best: CellAnswer) -> CellAnswer | None:
        """Trees on the features of all eight flips; each test's flips are asked and added up.

        Trusted as the best other answer is: leaving out would cost too much here.
        """
        num = len(self.outputs)
        if len(_FLIPS) * sum(output.size for output in self.outputs) > MOST_FLIPPED_CELLS:
            return None

        tables, answers = [], []
        for flip, _ in _FLIPS:
            for base, output in zip(self.bases, self.outputs, strict=False):
                if self.is_out_of_time():
                    return None
                tables.append(cell_features(flip(base)))
                answers.append(flip(output))

        forest = self.grow(tables, answers, NUM_TREES_FLIPS, "flips")
        if forest is None:
            return None
        grids = []
        for base in self.bases[num:]:
            chances = sum(
                undo(forest.chances(cell_features(flip(base))).reshape(*flip(base).shape, -1))
                for flip, undo in _FLIPS
            )
            grids.append(forest.classes[np.asarray(chances).argmax(-1)])
        return CellAnswer("flips", tuple(grids), best.share_left_out, best.accuracy)
