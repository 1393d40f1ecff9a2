"""Random rules show legal pairs that change something, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.grid import grid_fault, same_grid
from appliance.learn.data.generated import compositions, family_tasks, rules
from appliance.learn.synth.rules import show_rule
from appliance.learn.synth.rules.selectors import FIXED, rivals
from appliance.learn.synth.rules.things import Scene, SceneKind, Thing, Unsuited, scene

seeds = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(3, 6))
def test_pairs_are_legal_differ_and_are_not_trivial(seed: int, num: int) -> None:
    shows = show_rule(np.random.default_rng(seed), num_pairs=num)
    assert len(shows.pairs) == num

    for index, pair in enumerate(shows.pairs):
        assert grid_fault(pair.input) is None and grid_fault(pair.output) is None, shows.name
        assert not same_grid(pair.input, pair.output), shows.name
        assert len(np.unique(pair.input)) > 1, shows.name
        assert not any(same_grid(pair.input, other.input) for other in shows.pairs[:index])
    assert any(not same_grid(pair.output, shows.pairs[-1].output) for pair in shows.pairs)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_same_generator_state_gives_the_same_pairs(seed: int) -> None:
    one, other = (show_rule(np.random.default_rng(seed)) for _ in range(2))
    assert one.name == other.name
    for a, b in zip(one.pairs, other.pairs, strict=True):
        assert same_grid(a.input, b.input) and same_grid(a.output, b.output)


def test_rules_are_varied() -> None:
    names = {show_rule(np.random.default_rng(seed)).name for seed in range(300)}
    assert len(names) > 280


def test_processes_change_nothing_and_no_first_pair_comes_twice() -> None:
    alone, shared = list(rules(250)), list(rules(250, processes=2))
    assert [family.name for family in alone] == [family.name for family in shared]
    for one, other in zip(alone, shared, strict=True):
        for (a, b), (c, d) in zip(one.pairs, other.pairs, strict=True):
            assert same_grid(a, c) and same_grid(b, d)

    firsts = {(a.shape, a.tobytes(), b.shape, b.tobytes()) for a, b in (f.pairs[0] for f in alone)}
    assert len(firsts) == len(alone)


@pytest.mark.parametrize("draw", [rules, compositions, family_tasks])
def test_a_second_pack_begins_where_the_first_ended(draw: Callable[..., Any]) -> None:
    whole = {family.name for family in draw(6)}
    first, second = ({f.name for f in draw(3, first=n)} for n in (0, 3))
    assert first and second and not first & second
    assert first | second == whole


def test_processes_change_no_task_and_no_program() -> None:
    for draw in (family_tasks, compositions):
        alone, shared = draw(3, first=5), draw(3, first=5, processes=2)
        assert [(f.name, f.program) for f in alone] == [(f.name, f.program) for f in shared]


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_things_of_a_scene_lie_inside_and_apart(seed: int) -> None:
    kind = SceneKind(("blob", "frame", "line"), (1, 2), "each", (10, 14), (2, 6), 4, 1, 0)
    try:
        drawn = scene(np.random.default_rng(seed), kind)
    except Unsuited:
        return

    taken = np.zeros((drawn.height + 2, drawn.width + 2), dtype=int)
    for thing in drawn.things:
        taken[thing.row : thing.bottom + 2, thing.col : thing.right + 2] += 1
        assert drawn.grid[thing.row : thing.bottom, thing.col : thing.right].shape == (
            thing.part.shape
        )
    for thing in drawn.things:  # no box within a cell of another
        assert (taken[thing.row + 1 : thing.bottom + 1, thing.col + 1 : thing.right + 1] == 1).all()


def test_selectors_choose_what_they_say() -> None:
    def block(height: int, width: int, colour: int, row: int, col: int) -> Thing:
        return Thing(np.full((height, width), colour), row, col)

    frame = np.ones((3, 3), dtype=np.int64)
    frame[1, 1] = 0
    things = (block(2, 4, 1, 0, 0), block(1, 1, 1, 5, 1), Thing(frame * 2, 6, 6))
    drawn = Scene(12, 12, things)
    choose = {selector.name: selector.choose(drawn) for selector in FIXED}

    assert choose["smallest"] == choose["dot"] == choose["shortest"] == (False, True, False)
    assert choose["holed"] == choose["one-hole"] == choose["odd-colour"] == (False, False, True)
    assert choose["widest"] == choose["top"] == choose["edge"] == (True, False, False)
    assert not any(choose["largest"])  # two things have eight cells
    assert choose["common-colour"] == choose["full"] == (True, True, False)


def test_a_choice_that_fits_all_but_the_last_scene_is_a_rival() -> None:
    def drawn(first: int, second: int) -> Scene:
        one = Thing(np.ones((1, first), dtype=np.int64), 0, 2)
        return Scene(12, 12, (one, Thing(np.ones((1, second), dtype=np.int64), 4, 2)))

    scenes = [drawn(4, 2), drawn(5, 3), drawn(2, 6)]
    top = [(True, False)] * 3
    assert rivals(scenes, top)  # the largest is the top one but in the last scene
    assert not rivals([*scenes, drawn(3, 2)], [*top, (True, False)])
