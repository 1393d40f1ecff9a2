"""Generated pairs for a corpus: tasks of the training families, random compositions of DSL
functions, and random rules about scenes.

Each generated task counts as a family of its own, because only its own pairs share its parameters.
It knows its program, where it has one. Families that are held out for experiments give nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from multiprocessing import get_context
from textwrap import dedent

from appliance.arc.task import Pair
from appliance.learn.data.corpus import FamilyPairs, RawPair
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.compose import compose
from appliance.learn.synth.family import make_task, rng_for, task_program
from appliance.learn.synth.rules import show_rule
from appliance.learn.synth.scene import between


def family_tasks(num_per_family: int, *, num_pairs: int = 6) -> Iterator[FamilyPairs]:
    """The tasks of the first `num_per_family` seeds of every training family."""
    for family in families_of("train"):
        for seed in range(num_per_family):
            try:
                task, answers = make_task(family, seed, num_pairs - 1)
            except RuntimeError:  # parameters without a rule, such as colours that stay the same
                continue
            pairs = [*task.train, Pair(task.test[0], answers[0])]
            program = task_program(family, seed)
            yield _family(task.task_id, pairs, "" if program is None else program)


def compositions(num: int, *, num_pairs: int = 4) -> Iterator[FamilyPairs]:
    """Random programs with pairs that show what they do: the first `num` of an endless list."""
    for index in range(num):
        made = compose(rng_for("corpus composition", index), num_pairs=num_pairs)
        yield _family(f"composition-{index}", list(made.pairs), made.program)


def rules(num: int, *, processes: int = 1) -> Iterator[FamilyPairs]:
    """Random rules with four or five pairs that show them: those of the first `num` seeds.

    Seeds whose first pair another seed has shown give nothing. The number of processes changes
    nothing but the time.
    """
    seen: set[bytes] = set()
    with ExitStack() as stack:
        chosen: Iterable[FamilyPairs] = map(_rule, range(num))
        if processes > 1:
            pool = stack.enter_context(get_context("spawn").Pool(processes))
            chosen = pool.imap(_rule, range(num), chunksize=200)

        for family in chosen:
            digest = _digest(family.pairs[0])
            if digest not in seen:
                seen.add(digest)
                yield family


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
