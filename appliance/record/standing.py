"""What stands for a task by now: its attempts, where they come from, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from appliance.arc.grid import Grid, grid_key, same_grid
from appliance.arc.vote import SECOND, Candidate, is_proven
from appliance.record.attempts import attempts_of
from appliance.record.confidence import chances

SOURCES = {
    "program": "model's program",
    "search": "search",
    "cells": "search, no program",
    "trained": "trained model",
    "plain": "plain model",
    "guess": "guess",
}
"""Where an answer may come from, in words for people, the most trusted source first.

program   written by the model, and right on every demonstration
search    found without a model, by a program
cells     found without a model, by trees that learn cells
trained   a grid of the model, after training on the task
plain     a grid of the model as it was loaded
guess     made from the demonstrations, because nothing else answered
"""


SOURCES_FACT = "sources"
"""The fact of the journal that holds, at the end of a run, the source of each task's answer."""


@dataclass(frozen=True)
class Standing:
    """Of one task."""

    attempts: tuple[tuple[Grid, ...], ...] = ()  # for each test input, the first one first
    source: str = "guess"  # the least trusted of its first attempts, one of SOURCES
    chance: float = 0.0  # that its least certain first attempt is right, by `record.confidence`


GUESS = Standing()
"""Nothing has answered."""


def standing_of(
    task_id: str, num_tests: int, candidates: Mapping[str, Sequence[Candidate]], selector: str
) -> Standing:
    """candidates: of this task, by stage."""
    voted = attempts_of(candidates, selector)
    attempts = tuple(voted.get((task_id, index), ()) for index in range(num_tests))

    answers = [c for found in candidates.values() for c in found]
    least = 1.0
    for index, grids in enumerate(attempts):
        likely = chances(c for c in answers if c.test_index == index)
        least = min(least, likely.get(grid_key(grids[0]), 0.0) if grids else 0.0)
    return Standing(attempts, source_of(attempts, answers), least)


def source_of(attempts: Sequence[Sequence[Grid]], answers: Sequence[Candidate]) -> str:
    """The least trusted source among the first attempts of a task.

    attempts: for each test input. answers: all candidates of the task.
    """
    trust = list(SOURCES)
    found = [
        source_of_grid(grids[0], [c for c in answers if c.test_index == i]) if grids else "guess"
        for i, grids in enumerate(attempts)
    ]
    return max(found, key=trust.index, default="guess")


def source_of_grid(grid: Grid, answers: Iterable[Candidate]) -> str:
    """Whose grid it is: the most trusted of those that give it."""
    giving = [c for c in answers if c.grid is not None and same_grid(c.grid, grid)]
    searched = [c for c in giving if c.is_searched]
    written = [c for c in giving if not c.is_searched]

    if any(is_proven(c) for c in written):
        return "program"
    # Below that a search has one vote, so the grid is there because of the model's.
    if searched and (not written or math.fsum(c.weight or 0.0 for c in searched) > SECOND):
        return "search" if any(c.program for c in searched) else "cells"
    return "trained" if any(c.adapter for c in written) else "plain"
