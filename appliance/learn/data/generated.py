"""What our own generators give to a corpus: tasks of the training families, and random compositions of DSL functions.

Every task is a family of its own, since only its own pairs share its parameters, and it knows its program. Families that are
held out for experiments give nothing.
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
    """The first tasks of every training family, num_pairs pairs each."""
    for family in families_of("train"):
        for seed in range(num_per_family):
            task, answers = make_task(family, seed, num_pairs - 1)
            pairs = [*task.train, Pair(task.test[0], answers[0])]
            program = task_program(family, seed)
            yield _family(task.task_id, pairs, "" if program is None else program)


def compositions(num: int, *, num_pairs: int = 4) -> Iterator[FamilyPairs]:
    """Random programs and pairs that show what they do, the first num of an endless list."""
    for index in range(num):
        made = compose(rng_for("corpus composition", index), num_pairs=num_pairs)
        yield _family(f"composition-{index}", list(made.pairs), made.program)


def _family(name: str, pairs: list[Pair], program: str) -> FamilyPairs:
    return FamilyPairs(name, [(p.input, p.output) for p in pairs], program_body(program))


def program_body(program: str) -> str:
    """The dedented body of a program's `transform`; "" for an empty program."""
    _, _, body = program.partition("def transform(grid):\n")
    return dedent(body)
