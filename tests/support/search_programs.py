"""Runs a program of a search in this process: it is our own text, not a model's."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import numpy as np

from appliance.arc.grid import Grid, freeze
from appliance.arc.task import Pair, Task
from appliance.program import dsl


def run_program(source: str, grid: np.ndarray) -> np.ndarray:
    """What its `transform` gives. Raises what the program raises."""
    names: dict[str, Any] = {}
    with mock.patch.dict(sys.modules, {"dsl": dsl}):
        exec(source, names)
    output: np.ndarray = names["transform"](grid.astype(np.int64))
    return output


def random_task(rng: np.random.Generator, *, most_side: int = 30, most_pairs: int = 10) -> Task:
    """A task that asks for nothing sensible: noise, empty grids, one cell, equal pairs."""
    num_pairs = int(rng.integers(1, most_pairs + 1))
    kind = int(rng.integers(5))
    # Outputs of the inputs' shapes, of one shape, or of any shapes.
    one_shape = tuple(rng.integers(1, most_side + 1, 2).tolist())

    def noise(shape: tuple[int, ...]) -> Grid:
        num_colours, share = int(rng.integers(1, 11)), rng.random()
        cells = rng.integers(0, num_colours, shape) * (rng.random(shape) < share)
        return freeze(cells.astype(np.int8))

    pairs = []
    for _ in range(num_pairs):
        grid = noise(tuple(rng.integers(1, most_side + 1, 2).tolist()))
        outputs = {0: grid.shape, 1: one_shape, 2: grid.shape}
        shape = outputs.get(kind, tuple(rng.integers(1, most_side + 1, 2).tolist()))
        pairs.append(Pair(grid, grid if kind == 2 else noise(shape)))
    if kind == 4:
        pairs += pairs[:1]

    tests = tuple(noise(tuple(rng.integers(1, most_side + 1, 2).tolist())) for _ in range(2))
    return Task("random", tuple(pairs), tests)
