"""What a search gives: answers, each with its weight and, where it has one, its program."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.arc.grid import Grid


@dataclass(frozen=True, eq=False)
class Answer:
    """One answer to all test inputs of a task."""

    grids: tuple[Grid, ...]  # one for each test input
    weight: float  # 0.5 to the power of its cost; equal answers add up to a confidence
    kind: str  # exact, colours, pairs, rules, stack: how the program ends; or cells
    program: str  # a module with `transform(grid)` in the DSL; empty for `cells`, which has none


@dataclass(frozen=True)
class Limits:
    """What the search of one task may use. The first one reached ends it."""

    expansions: (
        int  # states that all functions are tried on; the same number gives the same answers
    )
    cpu_s: float  # CPU seconds of this process


@dataclass(frozen=True, eq=False)
class Found:
    """What came of the search of one task."""

    answers: tuple[Answer, ...]  # the heaviest first
    expansions: int
    applications: int  # calls of a function on all grids of the task
    cpu_s: float
    bound: str  # what ended it: "expansions", "time", or "" when nothing was left to try
