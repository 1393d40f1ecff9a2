"""Generated pairs for a corpus: tasks of the training families, and random compositions of DSL
functions.

Each generated task counts as a family of its own, because only its own pairs share its parameters.
It knows its program. Families that are held out for experiments give nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import dedent

from appliance.arc.task import Pair
from appliance.learn.data.corpus import FamilyPairs
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.compose import compose
from appliance.learn.synth.family import make_task, rng_for, task_program


def family_tasks(num_per_family: int, *, num_pairs: int = 6) -> Iterator[FamilyPairs]:
    """The first `num_per_family` tasks of every training family."""
    for family in families_of("train"):
        for seed in range(num_per_family):
            task, answers = make_task(family, seed, num_pairs - 1)
            pairs = [*task.train, Pair(task.test[0], answers[0])]
            program = task_program(family, seed)
            yield _family(task.task_id, pairs, "" if program is None else program)


def compositions(num: int, *, num_pairs: int = 4) -> Iterator[FamilyPairs]:
    """Random programs with pairs that show what they do: the first `num` of an endless list."""
    for index in range(num):
        made = compose(rng_for("corpus composition", index), num_pairs=num_pairs)
        yield _family(f"composition-{index}", list(made.pairs), made.program)


def _family(name: str, pairs: list[Pair], program: str) -> FamilyPairs:
    return FamilyPairs(name, [(p.input, p.output) for p in pairs], program_body(program))


def program_body(program: str) -> str:
    """The dedented body of a program's `transform`; "" for an empty program."""
    _, _, body = program.partition("def transform(grid):\n")
    return dedent(body)
