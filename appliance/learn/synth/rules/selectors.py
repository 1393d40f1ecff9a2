"""Which things of a scene a rule is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from appliance.learn.synth.family import Rng
from appliance.learn.synth.rules.things import Scene, Thing
from appliance.learn.synth.scene import pick

Chosen = tuple[bool, ...]
Choose = Callable[[Scene], Chosen]


@dataclass(frozen=True)
class Selector:
    name: str
    choose: Choose
    forms: tuple[str, ...] = ()  # that a scene needs to have both kinds of things; empty: any
    copies: bool = False  # the scene repeats forms
    colouring: str = ""  # that the scene needs; "": any
    key: bool = False  # the scene has a key


def where(test: Callable[[Thing], bool]) -> Choose:
    return lambda scene: tuple(test(thing) for thing in scene.things)


def extreme(value: Callable[[Thing], int], *, largest: bool) -> Choose:
    """The one thing with the largest (smallest) value; none where two share it."""

    def choose(scene: Scene) -> Chosen:
        values = [value(thing) for thing in scene.things]
        best = max(values) if largest else min(values)
        return tuple(v == best and values.count(best) == 1 for v in values)

    return choose


def frequency(value: Callable[[Thing], Hashable], *, common: bool) -> Choose:
    """The things whose value is the most common one, or the only one of its kind."""

    def choose(scene: Scene) -> Chosen:
        values = [value(thing) for thing in scene.things]
        counts = Counter(values)
        ranked = counts.most_common()
        if common:
            clear = len(ranked) > 1 and ranked[0][1] > ranked[1][1]
            return tuple(clear and v == ranked[0][0] for v in values)
        alone = [v for v, n in ranked if n == 1]
        return tuple(len(alone) == 1 and v == alone[0] for v in values)

    return choose


def _edge(scene: Scene) -> Chosen:
    return tuple(
        t.row == 0 or t.col == 0 or t.bottom == scene.height or t.right == scene.width
        for t in scene.things
    )


_VARIED = ("blob", "rectangle")
_HOLED = ("frame", "rectangle", "holed", "blob")

FIXED: tuple[Selector, ...] = (
    Selector("largest", extreme(lambda t: t.size, largest=True)),
    Selector("smallest", extreme(lambda t: t.size, largest=False)),
    Selector("tallest", extreme(lambda t: t.height, largest=True)),
    Selector("widest", extreme(lambda t: t.width, largest=True)),
    Selector("shortest", extreme(lambda t: t.height, largest=False)),
    Selector("narrowest", extreme(lambda t: t.width, largest=False)),
    Selector("top", extreme(lambda t: t.row, largest=False)),
    Selector("bottom", extreme(lambda t: t.bottom, largest=True)),
    Selector("leftmost", extreme(lambda t: t.col, largest=False)),
    Selector("rightmost", extreme(lambda t: t.right, largest=True)),
    Selector("most-holes", extreme(lambda t: t.holes, largest=True), ("holed", "frame", "blob")),
    Selector("holed", where(lambda t: t.holes > 0), _HOLED),
    Selector("one-hole", where(lambda t: t.holes == 1), ("holed", "frame")),
    Selector("two-holes", where(lambda t: t.holes == 2), ("holed",)),
    Selector("mirrored", where(lambda t: t.is_mirrored), ("mirrored", "blob")),
    Selector("mirrored-down", where(lambda t: t.is_mirrored_down), ("mirrored", "blob", "corner")),
    Selector(
        "only-mirrored", frequency(lambda t: t.is_mirrored, common=False), ("mirrored", "blob")
    ),
    Selector("edge", _edge),
    Selector("full", where(lambda t: t.is_full), ("rectangle", "blob", "corner", "frame")),
    Selector("square", where(lambda t: t.is_full and t.height == t.width), ("square", "rectangle")),
    Selector("square-box", where(lambda t: t.height == t.width), ("blob", "rectangle", "plus")),
    Selector("tall", where(lambda t: t.height > t.width), ("line", "rectangle", "blob")),
    Selector("wide", where(lambda t: t.height < t.width), ("line", "rectangle", "blob")),
    Selector("dot", where(lambda t: t.size == 1), ("dot", "blob", "line")),
    Selector("line", where(lambda t: 1 in (t.height, t.width)), ("line", "rectangle", "corner")),
    Selector("plus", where(lambda t: t.shape[1] == b"\0\1\0\1\1\1\0\1\0"), ("plus", "blob")),
    Selector("odd-form", frequency(lambda t: t.shape, common=False), copies=True),
    Selector("common-form", frequency(lambda t: t.shape, common=True), copies=True),
    Selector("odd-colour", frequency(lambda t: t.colour, common=False), colouring="each"),
    Selector("common-colour", frequency(lambda t: t.colour, common=True), colouring="each"),
    Selector("odd-size", frequency(lambda t: t.size, common=False)),
    Selector("spotted", where(lambda t: t.num_colours > 1), _VARIED, colouring="spotted"),
    Selector("plain", where(lambda t: t.num_colours == 1), _VARIED, colouring="spotted"),
    Selector("even", where(lambda t: t.size % 2 == 0), ("line", "blob")),
    Selector(
        "key-colour",
        lambda s: tuple(t.colour == s.key for t in s.things),
        colouring="each",
        key=True,
    ),
    Selector("upper-half", lambda s: tuple(2 * t.bottom <= s.height for t in s.things)),
    Selector("left-half", lambda s: tuple(2 * t.right <= s.width for t in s.things)),
)
"""Selectors without parameters."""


def draw_selector(rng: Rng, palette: tuple[int, ...]) -> Selector:
    """A random selector; often turned round, or by a colour or size that is drawn."""
    roll = rng.random()
    if roll < 0.12:
        colour = pick(rng, palette)
        return Selector(f"colour-{colour}", where(lambda t: t.colour == colour), colouring="each")
    if roll < 0.22:
        size = pick(rng, range(2, 7))
        return Selector(f"size-over-{size}", where(lambda t: t.size > size), ("blob", "line"))
    if roll < 0.28:
        size = pick(rng, range(2, 5))
        forms = ("line",) if rng.random() < 0.5 else ("blob",)
        return Selector(f"size-{size}", where(lambda t: t.size == size), forms)

    fixed = pick(rng, FIXED)
    if rng.random() < 0.25:
        inner = fixed.choose
        return Selector(
            f"not-{fixed.name}",
            lambda scene: opposite(inner(scene)),
            fixed.forms,
            fixed.copies,
            fixed.colouring,
            fixed.key,
        )
    return fixed


def opposite(chosen: Chosen) -> Chosen:
    """The others; still none where none was chosen: such a scene does not discriminate."""
    return tuple(not c for c in chosen) if any(chosen) else chosen


def rivals(scenes: Sequence[Scene], chosen: Sequence[Chosen]) -> bool:
    """Whether a selector without parameters agrees on all scenes but the last, where it differs.

    Then the demonstrations do not tell the rule.
    """
    for rival in FIXED:
        for choose in (rival.choose, lambda s, r=rival: opposite(r.choose(s))):
            if all(choose(s) == c for s, c in zip(scenes[:-1], chosen[:-1], strict=True)):
                other = choose(scenes[-1])
                if other != chosen[-1] and any(other):
                    return True
    return False
