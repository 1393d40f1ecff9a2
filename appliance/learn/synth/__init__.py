"""Families of generated tasks, to train models on rules that no benchmark contains.

    >>> from appliance.learn.synth import families, make_task, task_program
    >>> task, answers = make_task(families()[0], seed=7, num_train=3)
    >>> program = task_program(families()[0], seed=7)

Nothing here is taken from an ARC evaluation task: the rules are the common stock of grid puzzles
(turn, count, fill, select, ...). docs/families.md shows demonstrations of each family.
"""

from __future__ import annotations

from appliance.learn.synth.catalogue import families, families_of
from appliance.learn.synth.check import check_family
from appliance.learn.synth.compose import Composition, compose, random_composition
from appliance.learn.synth.family import (
    HEADER,
    Family,
    make_task,
    run_program,
    task_params,
    task_program,
)

__all__ = [
    "HEADER",
    "Composition",
    "Family",
    "check_family",
    "compose",
    "families",
    "families_of",
    "make_task",
    "random_composition",
    "run_program",
    "task_params",
    "task_program",
]
