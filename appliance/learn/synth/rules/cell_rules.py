"""Rules about single cells and areas: falling, neighbours, rooms, noise, colours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from appliance.learn.synth.family import Rng
from appliance.learn.synth.rules.actions import DIAGONALS, STEPS, enclosed
from appliance.learn.synth.rules.grid_rules import TURNS
from appliance.learn.synth.rules.line_rules import empty, sprinkle
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.things import Scene, SceneKind, Unsuited, scene
from appliance.learn.synth.scene import between, colours, noise, pick


def fall(rng: Rng) -> Rule:
    """Loose cells of a colour fall to a side, on what lies there."""
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    loose, fixed, other = colours(rng, 3)
    walls = pick(rng, ("none", "bar", "cells", "bar"))
    two = rng.random() < 0.4
    paint = rng.random() < 0.2

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 5, 12)
        if walls == "bar":
            cells[-between(rng, 1, 2) :] = fixed
        if walls == "cells":
            sprinkle(rng, cells, fixed, between(rng, 2, 6))
        sprinkle(rng, cells, loose, between(rng, 3, cells.size // 4))
        if two:
            sprinkle(rng, cells, other, between(rng, 2, cells.size // 8 + 2))
        after = cells.copy()
        for col in range(cells.shape[1]):
            floor = cells.shape[0] - 1
            for row in range(cells.shape[0] - 1, -1, -1):
                value = int(after[row, col])
                if value == fixed:
                    floor = row - 1
                elif value:
                    after[row, col] = 0
                    after[floor, col] = other if paint else value
                    floor -= 1
        return Shown(TURNS[turn](cells), TURNS[turn](after))

    return Rule(f"fall {turn} {walls} {two} | {paint} | {loose} {fixed} {other}", show)


def gravitate(rng: Rng) -> Rule:
    """Dots in the rows and columns of a block move to it; others stay or vanish."""
    block, dot = colours(rng, 2)
    others_vanish = rng.random() < 0.5
    lines = rng.random() < 0.4  # a line to the block instead of a move
    sides = pick(rng, ("both", "both", "rows", "columns"))

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 9, 15)
        height, width = between(rng, 2, 4), between(rng, 2, 4)
        row = between(rng, 2, cells.shape[0] - height - 2)
        col = between(rng, 2, cells.shape[1] - width - 2)
        cells[row : row + height, col : col + width] = block
        start = cells.copy()
        num = between(rng, 3, 7)
        places = sprinkle(rng, cells, dot, num)
        after = start.copy()
        for r, c in places:
            if row <= r < row + height and sides != "columns":
                near = col - 1 if c < col else col + width
                target = (r, near)
            elif col <= c < col + width and sides != "rows":
                target = (row - 1 if r < row else row + height, c)
            else:
                if not others_vanish:
                    after[r, c] = dot
                continue
            after[target] = dot
            if lines:
                low_r, high_r = sorted((r, target[0]))
                low_c, high_c = sorted((c, target[1]))
                after[low_r : high_r + 1, low_c : high_c + 1] = dot
        return Shown(cells, after)

    return Rule(f"gravitate {sides} {lines} {others_vanish} | {block} {dot}", show)


def neighbours(rng: Rng) -> Rule:
    """A cell changes by what is around it: alone, with k neighbours, enclosed, or in a block."""
    colour, new = colours(rng, 2)
    diagonal = rng.random() < 0.5
    how = pick(
        rng, ("alone", "equal", "least", "empty equal", "empty least", "not alone", "denoise")
    )
    num = between(rng, 2, 3)
    density = 0.3 if how in ("alone", "empty equal", "not alone") else 0.5
    to = 0 if how == "denoise" else new

    def show(rng: Rng) -> Shown:
        cells = noise(rng, between(rng, 5, 12), between(rng, 5, 12), [colour], density=density)
        if how == "denoise":
            cells[:] = 0
            for _ in range(between(rng, 2, 4)):
                row, col = between(rng, 0, cells.shape[0] - 3), between(rng, 0, cells.shape[1] - 3)
                cells[row : row + between(rng, 2, 4), col : col + between(rng, 2, 4)] = colour
            sprinkle(rng, cells, colour, between(rng, 3, 6))
        filled = np.pad((cells == colour).astype(np.int64), 1)
        steps = [*STEPS.values(), *(DIAGONALS if diagonal else ())]
        near = np.sum([np.roll(filled, s, (0, 1)) for s in steps], axis=0)[1:-1, 1:-1]
        is_filled = cells == colour
        where = {
            "alone": is_filled & (near == 0), "equal": is_filled & (near == num),
            "least": is_filled & (near >= num), "empty equal": ~is_filled & (near == num),
            "empty least": ~is_filled & (near >= num), "not alone": is_filled & (near > 0),
            "denoise": is_filled & (near == 0),
        }[how]  # fmt: skip
        after = np.where(where, to, cells)
        if not where.any() or not after.any():
            raise Unsuited
        return Shown(cells, after)

    return Rule(f"neighbours {diagonal} | {how} {num} | {colour} {to}", show)


def rooms(rng: Rng) -> Rule:
    """Lines from edge to edge make rooms; they are filled by size, place or what is inside."""
    line, *table = colours(rng, 5)
    how = pick(rng, ("largest and smallest", "largest", "smallest", "corners", "inner", "dot"))
    square = rng.random() < 0.3

    def show(rng: Rng) -> Shown:
        side = between(rng, 9, 16)
        cells = np.zeros((side, side if square else between(rng, 9, 16)), dtype=np.int64)
        rows, cols = _cuts(rng, cells.shape[0]), _cuts(rng, cells.shape[1])
        cells[rows] = line
        cells[:, cols] = line
        spans = [
            [(a + 1, b) for a, b in zip([-1, *cut], [*cut, n], strict=True)]
            for cut, n in zip((rows, cols), cells.shape, strict=True)
        ]
        boxes = [(r, c) for r in spans[0] for c in spans[1]]
        areas = [(r[1] - r[0]) * (c[1] - c[0]) for r, c in boxes]
        after = cells.copy()
        if how == "dot":
            marked = {int(i) for i in rng.permutation(len(boxes))[: between(rng, 1, 4)]}
            for index in marked:
                (top, bottom), (left, right) = boxes[index]
                ink = pick(rng, table)
                cells[between(rng, top, bottom - 1), between(rng, left, right - 1)] = ink
                after[top:bottom, left:right] = ink
            return Shown(cells, after)

        for (r, c), area in zip(boxes, areas, strict=True):
            ends = (r in (spans[0][0], spans[0][-1])) + (c in (spans[1][0], spans[1][-1]))
            ink = 0
            if ends == {"corners": 2, "inner": 0}.get(how):
                ink = table[0]
            elif how.startswith("largest") and area == max(areas):
                ink = table[1]
            elif how.endswith("smallest") and area == min(areas):
                ink = table[2]
            after[r[0] : r[1], c[0] : c[1]] = ink
        return Shown(cells, after)

    return Rule(f"rooms {square} | {how} | {line} {table}", show)


def _cuts(rng: Rng, length: int) -> list[int]:
    """Two or three places with at least a cell between, and not at the ends."""
    places = sorted(int(i) + 1 for i in rng.permutation(length - 2)[: between(rng, 2, 3)])
    if any(b - a < 2 for a, b in pairwise(places)):
        raise Unsuited
    return places


def fill_enclosed(rng: Rng) -> Rule:
    """What outlines of any form enclose is filled, by the size of the area or by a dot inside."""
    line, *table = colours(rng, 4)
    how = pick(rng, ("all", "size", "parity", "outside", "square"))
    limit = between(rng, 2, 4)

    def show(rng: Rng) -> Shown:
        kind = SceneKind(("frame",), (line,), "one", (9, 15), (2, 5), 6, 0, 0)
        shown = scene(rng, kind)
        before = shown.grid
        # Gaps in some frames, so that not every outline encloses something.
        for thing in shown.things:
            if rng.random() < 0.35:
                before[thing.row, thing.col + 1] = 0
        closed = enclosed(before == line)
        if how == "outside":
            after = np.where((before == 0) & ~closed, table[0], before)
        else:
            after = before.copy()
            seen = set()
            for thing in shown.things:
                inner = np.s_[thing.row + 1 : thing.bottom - 1, thing.col + 1 : thing.right - 1]
                if not closed[inner].all():
                    continue
                area = (thing.height - 2) * (thing.width - 2)
                which = {
                    "all": 0, "size": int(area > limit), "parity": area % 2,
                    "square": int(thing.height == thing.width),
                }[how]  # fmt: skip
                seen.add(which)
                after[inner] = table[which]
            return Shown(before, after, must_show=frozenset(seen))
        return Shown(before, after)

    return Rule(f"enclosed | {how} {limit} | {line} {table}", show)


def swap_colours(rng: Rng) -> Rule:
    """Colours become others everywhere, on things or on noise."""
    num = between(rng, 2, 4)
    old = colours(rng, num)
    new = [old[i] for i in rng.permutation(num)] if rng.random() < 0.6 else colours(rng, num)
    if old == new:
        raise Unsuited
    table = np.arange(10)
    table[old] = new
    turn = pick(rng, ("same", "same", "fliplr", "flipud", "rot180", "transposed", "rot90"))
    dense = rng.random() < 0.5

    def show(rng: Rng) -> Shown:
        if dense:
            cells = noise(rng, between(rng, 3, 9), between(rng, 3, 9), old, density=0.8)
        else:
            forms = ("blob", "rectangle", "frame")
            cells = scene(rng, SceneKind(forms, tuple(old), "each", (7, 13), (3, 6), 4, 1, 0)).grid
            if not set(old) & set(np.unique(cells).tolist()):
                raise Unsuited
        shown = frozenset(np.unique(cells).tolist())
        return Shown(cells, TURNS[turn](table[cells]), must_show=shown)

    return Rule(f"colours {turn} {dense} | {old} {new}", show)


def uncover(rng: Rng) -> Rule:
    """Noise of one colour over things; it goes away, whole rectangles come back."""
    over = colours(rng, 1)[0]
    palette = tuple(colours(rng, 3, without=[over]))
    how = pick(rng, ("off things", "holes in things", "only crop"))
    turn = pick(rng, tuple(TURNS))

    def show(rng: Rng) -> Shown:
        num = (1, 1) if how == "only crop" else (2, 4)
        kind = SceneKind(("rectangle",), palette, "each", (9, 14), num, 5, 1, 0)
        shown = scene(rng, kind)
        clean = shown.grid
        before = clean.copy()
        if any(t.size < 6 for t in shown.things):
            raise Unsuited
        where = rng.random(clean.shape) < 0.12
        if how == "holes in things":
            before[where & (clean != 0)] = over
            inner = Scene(shown.height, shown.width, shown.things)
            for thing in inner.things:  # the corners stay, so that its box is seen
                window = before[thing.row : thing.bottom, thing.col : thing.right]
                window[np.ix_([0, -1], [0, -1])] = thing.colour
        else:
            before[where & (clean == 0)] = over
        if how == "only crop":
            return Shown(before, TURNS[turn](shown.things[0].part))
        return Shown(before, clean)

    name = turn if how == "only crop" else ""
    return Rule(f"uncover {over} {sorted(palette)} | {how} {name}", show)
