"""A family of tasks: parameters, an input sampler and a rule. A seed makes a task of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import Template
from textwrap import indent
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.arc.grid import Grid, as_grid, grid_fault, same_grid
from appliance.arc.task import Pair, Task
from appliance.program import dsl

Cells = NDArray[np.int64]
Params = Mapping[str, Any]
Rng = np.random.Generator

HEADER = "from dsl import *\n\n\n"
"""First lines of every program."""

MAX_ATTEMPTS = 200
"""Draws of one pair before its family is called faulty."""

HELD_OUT_PERCENT = 15
"""Share of the families, outside the held-out themes, that are kept out of training."""

HELD_OUT_THEMES = ("sketch",)
"""Themes that are kept out of training as a whole."""

_DIRECTION_NAMES = {
    value: name
    for name, value in vars(dsl).items()
    if name in dsl.__all__ and value in dsl.SIDES + dsl.CORNERS
}
"""Names of the directions in the DSL, by their values."""


@dataclass(frozen=True)
class Family:
    """Tasks whose rules are the same but for parameters. It has a program, a rule, or both."""

    name: str
    theme: str

    # Draws the parameters of one task, which all its pairs share.
    params: Callable[[Rng], Params]

    # Draws an input grid. A pair on which the rule does nothing is drawn again.
    sample_input: Callable[[Rng, Params], Cells]

    # Body of `transform(grid)` in the DSL, $name standing for the parameter of that name. None
    # where the DSL cannot say the rule.
    program: str | None = None

    # Input and parameters to output, written without the DSL so that rule and program check each
    # other. It may write into the input, which is its own copy. None where the program is the rule.
    rule: Callable[[Cells, Params], Cells] | None = None

    def __post_init__(self) -> None:
        if self.program is None and self.rule is None:
            raise ValueError(f"family {self.name} has neither a program nor a rule")

    @property
    def is_held_out(self) -> bool:
        """Whether the family is kept out of training, so that rules a model has not seen can be
        measured.

        Outside the held-out themes a hash of the name decides, so a new family moves no other.
        """
        if self.theme in HELD_OUT_THEMES:
            return True

        digest = hashlib.sha256(f"held out|{self.name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT

    def apply(self, cells: Cells, params: Params) -> Cells:
        """The output of the rule. Raises ValueError where the rule has no answer."""
        if self.rule is not None:
            return self.rule(cells.copy(), params)

        source = self.program_text(params)
        assert source is not None
        return run_program(source, cells)

    def program_text(self, params: Params) -> str | None:
        """The whole program of a task with these parameters, or None."""
        if self.program is None:
            return None

        literals = {name: _literal(value) for name, value in params.items()}
        body = Template(self.program).substitute(literals)
        return HEADER + "def transform(grid):\n" + indent(body, "    ") + "\n"


def make_task(
    family: Family, seed: int, num_train: int = 3, *, num_test: int = 1
) -> tuple[Task, tuple[Grid, ...]]:
    """The task of that seed and the answers to its test inputs.

    The same for the same arguments and version of numpy. In every pair the output is a legal grid,
    not empty and unlike the input; inputs differ from each other, and so do the first two outputs.

    Raises RuntimeError when the family draws no such pair in MAX_ATTEMPTS attempts.
    """
    params = task_params(family, seed)
    pairs: list[Pair] = []
    for index in range(num_train + num_test):
        pairs.append(_draw_pair(family, params, seed, index, pairs))

    train, test = tuple(pairs[:num_train]), pairs[num_train:]
    task = Task(f"{family.name}-{seed}", train, tuple(pair.input for pair in test))
    return task, tuple(pair.output for pair in test)


def task_params(family: Family, seed: int) -> Params:
    """The parameters that the task of that seed has."""
    return family.params(rng_for(seed, family.name, "params"))


def task_program(family: Family, seed: int) -> str | None:
    """The program that solves the task of that seed, or None where the family has none."""
    return family.program_text(task_params(family, seed))


def rng_for(*parts: object) -> Rng:
    """A generator that depends on the parts and on nothing else."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def run_program(source: str, grid: Any) -> Cells:
    """What a program of a family gives for a grid.

    It runs in this process. Programs from anywhere else belong in the sandbox.
    """
    return np.asarray(_compiled(source)(np.array(grid, dtype=np.int64)))


@lru_cache(maxsize=1024)
def _compiled(source: str) -> Callable[[Cells], Cells]:
    names: dict[str, Any] = {name: getattr(dsl, name) for name in dsl.__all__}
    exec(source.removeprefix(HEADER), names)
    transform: Callable[[Cells], Cells] = names["transform"]
    return transform


def _draw_pair(family: Family, params: Params, seed: int, index: int, before: list[Pair]) -> Pair:
    for attempt in range(MAX_ATTEMPTS):
        try:
            cells = family.sample_input(rng_for(seed, family.name, index, attempt), params)
            result = family.apply(cells, params)
        except ValueError:
            continue
        if grid_fault(cells) or grid_fault(result) or not np.any(result):
            continue

        pair = Pair(as_grid(cells), as_grid(result))
        if same_grid(pair.input, pair.output):
            continue
        if any(same_grid(pair.input, other.input) for other in before):
            continue
        if index == 1 and same_grid(pair.output, before[0].output):
            continue
        return pair

    raise RuntimeError(
        f"family {family.name}, seed {seed}: no pair {index} in {MAX_ATTEMPTS} attempts"
    )


def _literal(value: Any) -> str:
    """A parameter as the program writes it: directions by name, text as it is, else as a
    literal."""
    if isinstance(value, tuple) and value in _DIRECTION_NAMES:
        return _DIRECTION_NAMES[value]
    return value if isinstance(value, str) else repr(value)
