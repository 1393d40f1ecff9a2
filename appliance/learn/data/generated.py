"""Generated pairs for a corpus: tasks of the training families, random compositions of DSL
functions, and random rules about scenes.

Each generated task counts as a family of its own, because only its own pairs share its parameters.
It knows its program, where it has one. Families that are held out for experiments give nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from textwrap import dedent
from typing import TypeVar

from appliance.arc.task import Pair
from appliance.learn.data.corpus import FamilyPairs, RawPair
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.compose import compose
from appliance.learn.synth.family import make_task, rng_for, task_program
from appliance.learn.synth.rules import show_rule
from appliance.learn.synth.scene import between

AT_ONCE = 200
"""Seeds that a process is handed at once."""

Seed = TypeVar("Seed")
Drawn = TypeVar("Drawn")


def family_tasks(
    num_per_family: int, *, first: int = 0, num_pairs: int = 6, processes: int = 1
) -> Iterator[FamilyPairs]:
    """A task of each of so many seeds, from `first` on, of every training family.

    Here and below, the number of processes changes nothing but the time.
    """
    seeds = range(first, first + num_per_family)
    named = [(i, seed) for i in range(len(families_of("train"))) for seed in seeds]
    for task in _drawn(partial(_family_task, num_pairs=num_pairs), named, processes):
        if task is not None:
            yield task


def compositions(
    num: int, *, first: int = 0, num_pairs: int = 4, processes: int = 1
) -> Iterator[FamilyPairs]:
    """Random programs with pairs that show what they do: so many of an endless list, from `first`
    on."""
    make = partial(_composition, num_pairs=num_pairs)
    return _drawn(make, range(first, first + num), processes)


def rules(num: int, *, first: int = 0, processes: int = 1) -> Iterator[FamilyPairs]:
    """Random rules with four or five pairs that show them, one of each of so many seeds.

    Seeds whose first pair another one of them has shown give nothing.
    """
    seen: set[bytes] = set()
    for family in _drawn(_rule, range(first, first + num), processes):
        digest = _digest(family.pairs[0])
        if digest not in seen:
            seen.add(digest)
            yield family


def _drawn(make: Callable[[Seed], Drawn], seeds: Sequence[Seed], processes: int) -> Iterator[Drawn]:
    """What is made of each seed, in their order."""
    if processes == 1:
        yield from map(make, seeds)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(make, seeds, chunksize=AT_ONCE)


def _family_task(named: tuple[int, int], *, num_pairs: int) -> FamilyPairs | None:
    """A task of a family, by its number and a seed; None for parameters without a rule, such as
    colours that stay the same."""
    number, seed = named
    family = families_of("train")[number]
    try:
        task, answers = make_task(family, seed, num_pairs - 1)
    except RuntimeError:
        return None

    program = task_program(family, seed)
    pairs = [*task.train, Pair(task.test[0], answers[0])]
    return _family(task.task_id, pairs, "" if program is None else program)


def _composition(index: int, *, num_pairs: int) -> FamilyPairs:
    made = compose(rng_for("corpus composition", index), num_pairs=num_pairs)
    return _family(f"composition-{index}", list(made.pairs), made.program)


def _rule(seed: int) -> FamilyPairs:
    rng = rng_for("corpus rule", seed)
    shows = show_rule(rng, num_pairs=between(rng, 4, 5))
    return _family(f"rule-{seed}", list(shows.pairs), "")


def _digest(pair: RawPair) -> bytes:
    before, after = pair
    shapes = bytes((*before.shape, *after.shape))
    return hashlib.blake2b(shapes + before.tobytes() + after.tobytes(), digest_size=16).digest()


def _family(name: str, pairs: list[Pair], program: str) -> FamilyPairs:
    return FamilyPairs(name, [(p.input, p.output) for p in pairs], program_body(program))


def program_body(program: str) -> str:
    """The dedented body of a program's `transform`; "" for an empty program."""
    _, _, body = program.partition("def transform(grid):\n")
    return dedent(body)
