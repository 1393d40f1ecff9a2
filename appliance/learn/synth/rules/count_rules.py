"""Rules that count, sort or list: bars, colours, boxes within boxes, things in order."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.grid_rules import TURNS
from appliance.learn.synth.rules.line_rules import empty, sprinkle
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.things import SceneKind, Unsuited, scene
from appliance.learn.synth.scene import between, colours, pick


def bars(rng: Rng) -> Rule:
    """Bars that stand on a side: ranked by colour, sorted, marked, or mirrored."""
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    colour, *table = colours(rng, 5)
    how = pick(rng, ("rank", "sort", "sort back", "highest", "lowest", "even", "top", "fill"))
    varied = how.startswith("sort") and rng.random() < 0.5
    gap = between(rng, 0, 1)

    def show(rng: Rng) -> Shown:
        num, height = between(rng, 3, 5), between(rng, 6, 11)
        sizes = [int(s) + 1 for s in rng.permutation(height - 1)[:num]]
        inks = colours(rng, num) if varied else [colour] * num
        order = list(range(num))
        if how.startswith("sort"):
            order = sorted(order, key=lambda i: sizes[i] * (-1 if how == "sort back" else 1))
        width = num * (1 + gap) + gap
        before = np.zeros((height, width), dtype=np.int64)
        after = before.copy()
        ranked = sorted(sizes, reverse=True)
        for place in range(num):
            col = gap + place * (1 + gap)
            before[height - sizes[place] :, col] = inks[place]
            size, ink = sizes[order[place]], inks[order[place]]
            if how == "rank":
                ink = table[min(3, ranked.index(size))]
            elif how == "even":
                ink = table[0] if size % 2 == 0 else ink
            elif size == (ranked[-1] if how == "lowest" else ranked[0]) and how.endswith("est"):
                ink = table[0]
            if how == "fill":
                after[: height - size, col] = table[0]
            after[height - size :, col] = ink
            if how == "top":
                after[height - size, col] = table[0]
        return Shown(TURNS[turn](before), TURNS[turn](after))

    return Rule(f"bars {turn} {gap} | {how} {varied} | {colour} {table}", show)


def count_colours(rng: Rng) -> Rule:
    """Colours by how often they occur: bars, a list, or the most frequent one alone."""
    how = pick(rng, ("bars", "list", "most", "least", "rows"))
    back = rng.random() < 0.5
    turn = pick(rng, ("same", "rot90", "rot180", "transposed"))
    by = pick(rng, ("cells", "dots"))

    def show(rng: Rng) -> Shown:
        num = between(rng, 2, 4)
        palette = colours(rng, num)
        counts = sorted((int(c) + 1 for c in rng.permutation(9)[:num]), reverse=not back)
        cells = empty(rng, 5, 10)
        for colour, count in zip(palette, counts, strict=True):
            sprinkle(rng, cells, colour, count)
        if how == "list":
            after = np.array([[c] for c in palette])
        elif how in ("most", "least"):
            best = palette[int((np.argmax if how == "most" else np.argmin)(counts))]
            side = 1 if by == "cells" else 2
            after = np.full((side, side), best)
        else:
            after = np.zeros((num, max(counts)), dtype=np.int64)
            for row, (colour, count) in enumerate(zip(palette, counts, strict=True)):
                after[row, : count if how == "bars" else None] = colour
        return Shown(cells, TURNS[turn](after))

    return Rule(f"count colours | {how} {back} {by} {turn}", show)


def nested(rng: Rng) -> Rule:
    """Boxes within boxes: their colours in order, reversed, moved by one, or as a list."""
    how = pick(rng, ("list", "reverse", "shift", "core", "swap ends", "stacked"))
    back = rng.random() < 0.5

    def show(rng: Rng) -> Shown:
        num = between(rng, 2 if how != "shift" else 3, 4)
        inks = colours(rng, num)
        thick = [between(rng, 1, 2) for _ in range(num)]
        core = between(rng, 1, 3), between(rng, 1, 3)
        new = {
            "reverse": inks[::-1], "shift": [inks[-1], *inks[:-1]],
            "swap ends": [inks[-1], *inks[1:-1], inks[0]],
        }.get(how, inks)  # fmt: skip

        def drawn(palette: list[int]) -> Cells:
            cells = np.full(core, palette[-1])
            for ink, width in zip(palette[-2::-1], thick, strict=False):
                cells = np.pad(cells, width, constant_values=ink)
            return cells

        top = between(rng, 0, 3)
        around = ((top, between(rng, 0, 3)), (between(rng, 0, 3), between(rng, 0, 3)))
        before = np.pad(drawn(inks), around)
        if how == "list":
            return Shown(before, np.array([[c] for c in (inks[::-1] if back else inks)]))
        if how == "stacked":
            listed = inks[::-1] if back else inks
            return Shown(before, _concentric(listed))
        if how == "core":
            return Shown(before, np.full((2, 2), inks[-1 if back else 0]))
        return Shown(before, np.pad(drawn(new), around))

    return Rule(f"nested | {how} {back}", show)


def _concentric(palette: list[int]) -> Cells:
    """The thinnest boxes in these colours, from outside."""
    cells = np.full((1, 1), palette[-1])
    for ink in palette[-2::-1]:
        cells = np.pad(cells, 1, constant_values=ink)
    return cells


def join_things(rng: Rng) -> Rule:
    """Things are cut out and put beside each other, in the order of their places."""
    turn = pick(rng, tuple(TURNS))
    by = pick(rng, ("col", "row", "size"))
    vertical, back = rng.random() < 0.5, rng.random() < 0.5
    forms = tuple(pick(rng, ("blob", "frame", "plus", "corner")) for _ in range(2))
    gap = between(rng, 0, 1)

    def show(rng: Rng) -> Shown:
        palette = tuple(colours(rng, 4))
        shown = scene(rng, SceneKind(forms, palette, "each", (9, 14), (2, 3), 3, 1, 0))
        values = [{"col": t.col, "row": t.row, "size": t.size}[by] for t in shown.things]
        if len(set(values)) < len(values) or any(t.part.shape != (3, 3) for t in shown.things):
            raise Unsuited
        things = [shown.things[i] for i in np.argsort(values)][:: -1 if back else 1]
        parts: list[Cells] = []
        for thing in things:
            if parts and gap:
                parts.append(np.zeros((1, 3) if vertical else (3, 1), dtype=np.int64))
            parts.append(TURNS[turn](thing.part))
        return Shown(shown.grid, np.concatenate(parts, axis=0 if vertical else 1))

    return Rule(f"join {forms} {by} {back} | {turn} {vertical} {gap}", show)


def legend(rng: Rng) -> Rule:
    """Pairs of cells beside the grid's edge say which colour becomes which."""
    horizontal, first = rng.random() < 0.5, between(rng, 0, 1)
    corner = pick(rng, ("same", "fliplr", "flipud", "rot180"))
    keeps = rng.random() < 0.7
    forms = tuple(pick(rng, ("blob", "rectangle", "frame", "plus", "line")) for _ in range(2))

    def show(rng: Rng) -> Shown:
        num = between(rng, 1, 3)
        old = colours(rng, num)
        new = colours(rng, num, without=old)
        kind = SceneKind(forms, tuple(old), "each", (9, 14), (2, 6), 4, 1, 0)
        shown = scene(rng, kind)
        table = dict(zip(old, new, strict=True))
        things = [t for t in shown.things if t.row > 3 or t.col > 3]
        if len(things) < 2:
            raise Unsuited
        pairs = np.array([[o, n] if first == 0 else [n, o] for o, n in table.items()])
        pairs = pairs if horizontal else pairs.T
        before = shown.drawn(things)
        after = shown.drawn([t.painted(table[t.colour]) for t in things])
        window = before[: pairs.shape[0] + 1, : pairs.shape[1] + 1]
        if window.any():
            raise Unsuited
        for cells in (before, after)[: 2 if keeps else 1]:
            cells[: pairs.shape[0], : pairs.shape[1]] = pairs
        return Shown(TURNS[corner](before), TURNS[corner](after))

    return Rule(f"legend {horizontal} {first} {corner} | {keeps} | {forms}", show)
