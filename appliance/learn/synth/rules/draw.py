"""A random rule and the pairs that show it: the first of a random number generator that do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from appliance.arc.grid import MAX_SIDE, Grid, freeze
from appliance.arc.task import Pair
from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.grid_rules import TURNS
from appliance.learn.synth.rules.kinds import KINDS
from appliance.learn.synth.rules.object_rules import draw_object_maker
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.selectors import rivals
from appliance.learn.synth.rules.things import Unsuited
from appliance.learn.synth.scene import colours, pick

MAX_DRAWS = 40
"""Draws of one pair before another rule is drawn."""

SLOW_DRAWS = 120
"""Draws of all pairs of a rule together."""

MAX_SECOND = 24
"""Longest side after a second step."""

OBJECT_SHARE = 0.5
"""Share of rules about things in a scene."""


@dataclass(frozen=True)
class Shows:
    """A rule's name and pairs that show it."""

    name: str
    pairs: tuple[Pair, ...]


def show_rule(rng: Rng, *, num_pairs: int = 5) -> Shows:
    """A random rule with num_pairs pairs.

    Outputs are legal, unlike their inputs, and not all the same; inputs differ. Each case of the
    rule that the last pair shows, another pair shows too; and where things are chosen, no simpler
    choice that fits the others differs on the last.
    """
    make = _draw_maker(rng)  # kept, so that kinds which are hard to show are not rare
    while True:
        try:
            rule = _changed(rng, make(rng))
        except ValueError:
            continue

        shown = _pairs(rng, rule, num_pairs)
        if shown is not None and _is_told(shown):
            return Shows(rule.name, tuple(Pair(_frozen(s.before), _frozen(s.after)) for s in shown))


def _draw_maker(rng: Rng) -> Callable[[Rng], Rule]:
    if rng.random() < OBJECT_SHARE:
        return draw_object_maker(rng)

    makers, weights = zip(*KINDS, strict=True)
    make: Callable[[Rng], Rule] = makers[
        int(rng.choice(len(makers), p=np.array(weights) / sum(weights)))
    ]
    return make


def _changed(rng: Rng, rule: Rule) -> Rule:
    """Sometimes with another background, or with a second step: a turn, a mirror image, a
    frame."""
    if rng.random() < 0.15:
        rule = _on_background(rule, colours(rng, 1)[0])
    roll = rng.random()
    if roll < 0.09:
        rule = _then(rng, rule)
    elif roll < 0.14:
        rule = _in_border(rule, colours(rng, 1)[0])
    return rule


def _on_background(rule: Rule, colour: int) -> Rule:
    """The rule with 0 and the colour swapped."""
    table = np.arange(10)
    table[[0, colour]] = colour, 0

    def show(rng: Rng) -> Shown:
        s = rule.show(rng)
        return Shown(table[s.before], table[s.after], s.scene, s.chosen, s.must_show)

    return Rule(f"{rule.name} | on {colour}", show)


def _in_border(rule: Rule, colour: int) -> Rule:
    """The input has a border, which stays where the output is as large as the input."""

    def show(rng: Rng) -> Shown:
        s = rule.show(rng)
        before = np.pad(s.before, 1, constant_values=colour)
        stays = s.before.shape == s.after.shape
        after = np.pad(s.after, 1, constant_values=colour) if stays else s.after
        return Shown(before, after, s.scene, s.chosen, s.must_show)

    return Rule(f"{rule.name} | in border {colour}", show)


def _then(rng: Rng, rule: Rule) -> Rule:
    ink = colours(rng, 1)[0]
    steps: dict[str, Callable[[Cells], Cells]] = {
        **{name: turn for name, turn in TURNS.items() if name != "same"},
        "mirror beside": lambda g: np.hstack([g, np.fliplr(g)]),
        "mirror below": lambda g: np.vstack([g, np.flipud(g)]),
        "twice beside": lambda g: np.hstack([g, g]),
        "framed": lambda g: np.pad(g, 1, constant_values=ink),
    }
    name = pick(rng, tuple(steps))

    def show(rng: Rng) -> Shown:
        s = rule.show(rng)
        after = steps[name](s.after)
        if max(after.shape) > MAX_SECOND:
            raise Unsuited
        return Shown(s.before, after, s.scene, s.chosen, s.must_show)

    return Rule(f"{rule.name} | then {name}{ink if name == 'framed' else ''}", show)


def _pairs(rng: Rng, rule: Rule, num: int) -> list[Shown] | None:
    """Pairs, or None where too many draws do not show the rule."""
    found: list[Shown] = []
    left = SLOW_DRAWS
    for _ in range(num):
        for _ in range(min(MAX_DRAWS, left)):
            left -= 1
            try:
                shown = rule.show(rng)
            except ValueError:
                continue
            if _is_worth_it(shown, found):
                found.append(shown)
                break
        else:
            return None
    return found


def _is_worth_it(shown: Shown, before: list[Shown]) -> bool:
    sides = (*shown.before.shape, *shown.after.shape)
    if max(sides) > MAX_SIDE or min(sides) < 1 or max(shown.before.shape) < 2:
        return False
    if np.array_equal(shown.before, shown.after):
        return False
    # A plain input shows nothing, nor does a large plain output.
    if shown.before.min() == shown.before.max():
        return False
    if shown.after.size > 16 and shown.after.min() == shown.after.max():
        return False
    return not any(np.array_equal(shown.before, other.before) for other in before)


def _is_told(shown: list[Shown]) -> bool:
    """Whether the pairs tell the rule, as far as cheap checks say."""
    *first, last = shown
    if all(np.array_equal(s.after, last.after) for s in first):
        return False
    if not last.must_show <= frozenset().union(*(s.must_show for s in first)):
        return False
    if last.scene is None or all(last.chosen):
        return True
    return not rivals([s.scene for s in shown if s.scene], [s.chosen for s in shown])


def _frozen(cells: Cells) -> Grid:
    return freeze(cells.astype(np.int8))
