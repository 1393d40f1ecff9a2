"""Rules about things: a kind of scene, which things, what happens to them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

import numpy as np

from appliance.learn.synth.family import Rng
from appliance.learn.synth.rules.actions import ACTIONS, Action
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.selectors import Chosen, Selector, draw_selector
from appliance.learn.synth.rules.things import SHAPES, Scene, SceneKind, Thing, Unsuited, scene
from appliance.learn.synth.scene import between, colours, pick, shuffled

_FORMS = tuple(SHAPES)

_ON_OTHERS = ("paint-others", "recolour-both")
"""Names of actions that change things which are not chosen."""

EVERYTHING = Selector("all", lambda s: (True,) * len(s.things))
"""Takes every thing; the one selector that need not discriminate."""


def draw_object_maker(rng: Rng) -> Callable[[Rng], Rule]:
    """What draws rules about things, of a random kind."""
    return pick(
        rng,
        (_act_on_chosen,) * 10
        + (_two_actions,) * 3
        + (_act_on_all,) * 3
        + (_by_property,) * 4
        + (_in_order,),
    )


def _act_on_chosen(rng: Rng) -> Rule:
    palette, new = _split_colours(rng)
    selector = draw_selector(rng, palette)
    action = _draw_action(rng, new)
    if selector.key and action.key:  # the key would choose and paint
        return _act_on_chosen(rng)

    kind = _scene_kind(rng, palette, selector, action)
    mode = pick(rng, ("", "", "", "", "delete others", "paint others"))
    if action.crops or action.name in ("delete", "keep") or action.name.startswith(_ON_OTHERS):
        mode = ""
    grey = next(new)

    def show(rng: Rng) -> Shown:
        shown = scene(rng, kind)
        chosen = selector.choose(shown)
        if all(chosen) or not any(chosen) or (action.single and sum(chosen) != 1):
            raise Unsuited

        start = shown
        if mode:
            start, chosen_now = _others(shown, chosen, mode, grey)
        else:
            chosen_now = chosen
        return Shown(shown.grid, action.act(start, chosen_now), shown, chosen)

    return Rule(f"{_name(kind)} | {selector.name} | {action.name} | {mode}", show)


def _others(shown: Scene, chosen: Chosen, mode: str, grey: int) -> tuple[Scene, Chosen]:
    """The scene with the things that are not chosen deleted or painted."""
    pairs = list(zip(shown.things, chosen, strict=True))
    if mode == "delete others":
        kept = tuple(t for t, c in pairs if c)
        return replace(shown, things=kept), (True,) * len(kept)

    return replace(shown, things=tuple(t if c else t.painted(grey) for t, c in pairs)), chosen


def _act_on_all(rng: Rng) -> Rule:
    palette, new = _split_colours(rng)
    action = _draw_action(rng, new)
    while action.single or action.name in ("delete", "keep") or action.name.startswith(_ON_OTHERS):
        action = _draw_action(rng, new)
    kind = _scene_kind(rng, palette, EVERYTHING, action)
    kind = replace(kind, num=(1, max(2, kind.num[1] - 1)))

    def show(rng: Rng) -> Shown:
        shown = scene(rng, kind)
        chosen = (True,) * len(shown.things)
        return Shown(shown.grid, action.act(shown, chosen), shown, chosen)

    return Rule(f"{_name(kind)} | all | {action.name}", show)


def _two_actions(rng: Rng) -> Rule:
    """One action for the chosen things, another for the others; both leave a scene."""
    palette, new = _split_colours(rng, 3)
    selector = draw_selector(rng, palette)
    one, other = _draw_action(rng, new), _draw_action(rng, new)
    names = {one.name.split("-")[0], other.name.split("-")[0]}
    if any(a.crops or a.key or a.single for a in (one, other)) or len(names) < 2:
        raise Unsuited
    if (
        "keep" in names
        or "delete" in names
        or any(a.name.startswith(_ON_OTHERS) for a in (one, other))
        or selector.key
    ):
        raise Unsuited

    both = replace(
        one,
        forms=one.forms + other.forms if one.forms and other.forms else one.forms or other.forms,
        gap=max(one.gap, other.gap),
        room=one.room or other.room,
    )
    kind = _scene_kind(rng, palette, selector, both)

    def show(rng: Rng) -> Shown:
        shown = scene(rng, kind)
        chosen = selector.choose(shown)
        if all(chosen) or not any(chosen):
            raise Unsuited
        before = shown.grid
        first = one.act(shown, chosen)
        second = other.act(shown, tuple(not c for c in chosen))
        if ((first != before) & (second != before) & (first != second)).any():
            raise Unsuited
        after = np.where(first != before, first, second)
        if np.array_equal(first, before) or np.array_equal(second, before):
            raise Unsuited
        return Shown(before, after, shown, chosen)

    return Rule(f"{_name(kind)} | {selector.name} | {one.name} | others {other.name}", show)


_PROPERTIES: dict[str, tuple[Callable[[Thing, Scene], Hashable], tuple[str, ...]]] = {
    "size": (lambda t, s: min(t.size, 5), ("line", "blob", "dot")),
    "height": (lambda t, s: min(t.height, 4), ("rectangle", "line")),
    "width": (lambda t, s: min(t.width, 4), ("rectangle", "line")),
    "holes": (lambda t, s: t.holes, ("holed", "frame", "rectangle")),
    "mirrored": (lambda t, s: t.is_mirrored, ("mirrored", "blob")),
    "full": (lambda t, s: t.is_full, ("blob", "rectangle", "corner")),
    "direction": (lambda t, s: (t.height > t.width) - (t.height < t.width), ("line", "rectangle")),
    "rank": (lambda t, s: _rank(t, s, lambda o: o.size), ("line", "rectangle", "blob")),
    "height rank": (lambda t, s: _rank(t, s, lambda o: o.height), ("line", "rectangle")),
    "width rank": (lambda t, s: _rank(t, s, lambda o: o.width), ("line", "rectangle")),
    "row rank": (lambda t, s: _rank(t, s, lambda o: o.row), ()),
    "column rank": (lambda t, s: _rank(t, s, lambda o: o.col), ()),
    "column parity": (lambda t, s: t.col % 2, ("dot", "line")),
    "row parity": (lambda t, s: t.row % 2, ("dot", "line")),
    "size parity": (lambda t, s: t.size % 2, ("line", "blob")),
    "half": (lambda t, s: 2 * t.row + t.height > s.height, ()),
    "side": (lambda t, s: 2 * t.col + t.width > s.width, ()),
    "form": (lambda t, s: t.shape, ("form",)),
    "colour": (lambda t, s: t.colour, ()),
}
"""A value of things that decides their colour, and forms that show it."""


def _rank(thing: Thing, shown: Scene, value: Callable[[Thing], int]) -> int:
    values = sorted((value(t) for t in shown.things), reverse=True)
    if len(set(values)) < len(values):
        raise Unsuited
    return min(3, values.index(value(thing)))


def _by_property(rng: Rng) -> Rule:
    """Every thing gets the colour that its value has in this rule."""
    name = pick(rng, tuple(_PROPERTIES))
    value, forms = _PROPERTIES[name]
    order = colours(rng, 9)
    palette, table = tuple(order[:1]), order[1:]
    some_forms = tuple(pick(rng, ("plus", "corner", "frame", "square")) for _ in range(3))
    if name == "form":
        if len(set(some_forms)) < 2:
            return _by_property(rng)
        forms = some_forms
    if name == "colour":
        palette, table = tuple(order[:3]), order[3:]
    kind = _scene_kind(rng, palette, Selector("", EVERYTHING.choose, forms), None)
    kind = replace(kind, num=(3, min(4, kind.num[1])) if "rank" in name else (3, 7))
    if name == "form":  # fixed sizes, so that a form is always the same
        kind = replace(kind, most=3)
    seen: dict[Hashable, int] = {}

    def show(rng: Rng) -> Shown:
        shown = scene(rng, kind)
        values = [value(t, shown) for t in shown.things]
        if len(set(values)) < 2:
            raise Unsuited
        for v in values:
            if len(seen) == len(table) and v not in seen:
                raise Unsuited
            seen.setdefault(v, table[len(seen)] if len(seen) < len(table) else 0)
        painted = [t.painted(seen[v]) for t, v in zip(shown.things, values, strict=True)]
        return Shown(shown.grid, shown.drawn(painted), must_show=frozenset(values))

    return Rule(f"{_name(kind)} | all | colour by {name} {table}", show)


def _in_order(rng: Rng) -> Rule:
    """The output lists the things by size or place: their colours, or bars as long as they are
    large."""
    by = pick(rng, ("size", "row", "col", "height", "width"))
    down, back = rng.random() < 0.5, rng.random() < 0.5
    how = pick(rng, ("colours", "bars", "thick"))
    palette, _ = _split_colours(rng, 6)
    kind = _scene_kind(rng, palette, Selector("", EVERYTHING.choose, (), colouring="each"), None)
    kind = replace(kind, num=(3, 5))
    values_of: dict[str, Callable[[Thing], int]] = {
        "size": lambda t: t.size, "row": lambda t: t.row, "col": lambda t: t.col,
        "height": lambda t: t.height, "width": lambda t: t.width,
    }  # fmt: skip
    value = values_of[by]

    def show(rng: Rng) -> Shown:
        shown = scene(rng, kind)
        values = [value(t) for t in shown.things]
        if len(set(values)) < len(values):
            raise Unsuited
        things = sorted(shown.things, key=value, reverse=back)
        if how == "bars":
            sizes = [t.size for t in things]
            if max(sizes) > 15:
                raise Unsuited
            cells = np.zeros((len(things), max(sizes)), dtype=np.int64)
            for row, thing in enumerate(things):
                cells[row, : thing.size] = thing.colour
        else:
            wide = 1 if how == "colours" else 2
            cells = np.array([[t.colour] * wide for t in things])
        return Shown(shown.grid, cells if down else cells.T)

    return Rule(f"{_name(kind)} | all by {by} {int(back)} | {how} {int(down)}", show)


def _split_colours(rng: Rng, most: int = 4) -> tuple[tuple[int, ...], Iterator[int]]:
    """Colours of the things, and those that only a rule brings in."""
    order = colours(rng, 9)
    num = between(rng, 2, most)
    return tuple(order[:num]), iter(order[num:])


def _draw_action(rng: Rng, new: Iterator[int]) -> Action:
    makers, weights = zip(*ACTIONS, strict=True)
    shares = np.array(weights) / sum(weights)
    make: Callable[[Rng, Iterator[int]], Action] = makers[int(rng.choice(len(makers), p=shares))]
    try:
        return make(rng, new)
    except StopIteration:
        raise Unsuited from None


def _scene_kind(
    rng: Rng, palette: tuple[int, ...], selector: Selector, action: Action | None
) -> SceneKind:
    """A kind of scene on which both can be seen."""
    forms = action.forms if action and action.forms else selector.forms
    if action and action.forms and selector.forms:
        # The action must be able to act; the selector needs both kinds of things.
        shared = [f for f in selector.forms if f in action.forms]
        forms = tuple(shared) if len(shared) > 1 else (*selector.forms, *action.forms)
    if not forms:
        forms = tuple(shuffled(rng, _FORMS)[: between(rng, 1, 3)])

    gap = action.gap if action else 1
    room = bool(action and (action.room or gap > 1))
    low = between(rng, 10, 13) if room else between(rng, 7, 12)
    most = between(rng, 2, 3) if room else between(rng, 3, 5)
    if set(forms) == {"dot"}:
        low -= 2
    if low <= 8:
        most = min(most, 3)
    has_key = selector.key or bool(action and action.key)
    colouring = selector.colouring or pick(rng, ("one", "each", "each", "each"))
    if action and action.varied and colouring == "one":
        colouring = "each"
    return SceneKind(
        forms=forms,
        palette=palette,
        colouring=colouring,
        sides=(low, low + between(rng, 1, 5)),
        num=(2 if room else 3, between(rng, 3, 4) if room else between(rng, 4, 7)),
        most=most,
        gap=gap,
        margin=int(has_key or (action is not None and rng.random() < 0.3)),
        key=(palette if selector.key else _keys(rng, palette)) if has_key else (),
        copies=selector.copies,
    )


def _keys(rng: Rng, palette: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(colours(rng, 4, without=palette))


def _name(kind: SceneKind) -> str:
    return f"{'+'.join(sorted(set(kind.forms)))} {kind.colouring}{' key' if kind.key else ''}"
