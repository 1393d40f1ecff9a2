"""Rules that draw, move or count cells: lines, rays, falling, paths, stamps, bars."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.actions import DIAGONALS, STEPS, enclosed
from appliance.learn.synth.rules.grid_rules import TURNS
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.things import SHAPES, Scene, SceneKind, Thing, Unsuited, scene
from appliance.learn.synth.scene import between, colours, noise, pick


def empty(rng: Rng, low: int, high: int) -> Cells:
    return np.zeros((between(rng, low, high), between(rng, low, high)), dtype=np.int64)


def sprinkle(rng: Rng, cells: Cells, colour: int, num: int, *, margin: int = 0) -> list[list[int]]:
    """Put that many cells on empty places; their rows and columns."""
    inner = cells[margin : cells.shape[0] - margin, margin : cells.shape[1] - margin]
    free = np.argwhere(inner == 0) + margin
    if len(free) < num:
        raise Unsuited
    places: list[list[int]] = free[rng.permutation(len(free))[:num]].tolist()
    for row, col in places:
        cells[row, col] = colour
    return places


def connect(rng: Rng) -> Rule:
    """Lines between dots of one colour in one row, column or diagonal; crossings may differ."""
    dot, other, line, crossing = colours(rng, 4)
    ways = pick(rng, ("rows", "columns", "both", "both", "diagonals"))
    line = dot if rng.random() < 0.3 else line
    mixed = rng.random() < 0.4  # dots of another colour, which nothing connects
    crossing = crossing if rng.random() < 0.3 else 0

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 8, 14)
        for _ in range(between(rng, 1, 4)):
            length = between(rng, 3, 8)
            down, across = {
                "rows": (0, 1), "columns": (1, 0), "both": pick(rng, ((0, 1), (1, 0))),
                "diagonals": pick(rng, ((1, 1), (1, -1))),
            }[ways]  # fmt: skip
            row, col = between(rng, 0, cells.shape[0] - 1), between(rng, 0, cells.shape[1] - 1)
            end = row + length * down, col + length * across
            if 0 <= end[0] < cells.shape[0] and 0 <= end[1] < cells.shape[1]:
                cells[row, col] = cells[end] = dot
        if mixed:
            sprinkle(rng, cells, other, between(rng, 2, 4))
        dots = np.argwhere(cells == dot).tolist()
        times = np.zeros_like(cells)
        for index, (r, c) in enumerate(dots):
            for r2, c2 in dots[index + 1 :]:
                straight = (r == r2 and ways in ("rows", "both")) or (
                    c == c2 and ways in ("columns", "both")
                )
                if straight or (ways == "diagonals" and abs(r - r2) == abs(c - c2)):
                    num = max(abs(r2 - r), abs(c2 - c))
                    rows = np.linspace(r, r2, num + 1).round().astype(int)[1:-1]
                    cols = np.linspace(c, c2, num + 1).round().astype(int)[1:-1]
                    if cells[rows, cols].any():
                        raise Unsuited
                    times[rows, cols] += 1
        if not times.any():
            raise Unsuited
        after = np.where(times > 0, line, cells)
        if crossing:
            after[times > 1] = crossing
        return Shown(cells, after)

    return Rule(f"connect {ways} {mixed} | {dot} {line} {crossing}", show)


def rays_by_colour(rng: Rng) -> Rule:
    """Dots of each colour send a ray, or lines, in the directions of that colour."""
    num = between(rng, 1, 3)
    palette = colours(rng, num + 1)
    wall = palette.pop()
    choices: list[tuple[tuple[int, int], ...]] = [
        *((d,) for d in STEPS.values()), *((d,) for d in DIAGONALS),
        ((0, 1), (0, -1)), ((1, 0), (-1, 0)), DIAGONALS, tuple(STEPS.values()),
        ((1, 1), (-1, -1)), ((-1, 1), (1, -1)),
    ]  # fmt: skip
    ways = {c: pick(rng, choices) for c in palette}
    step = pick(rng, (1, 1, 1, 2))
    trail = {c: c for c in palette}
    if rng.random() < 0.3:
        trail = dict(zip(palette, colours(rng, num, without=[*palette, wall]), strict=True))
    stops = rng.random() < 0.35

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 7, 14)
        dots = []
        for colour in palette:
            places = sprinkle(rng, cells, colour, between(rng, 1, 2))
            dots += [(r, c, colour) for r, c in places]
        if stops:
            sprinkle(rng, cells, wall, between(rng, 3, 8))
        after = cells.copy()
        for row, col, colour in dots:
            for down, across in ways[colour]:
                r, c = row + step * down, col + step * across
                while 0 <= r < cells.shape[0] and 0 <= c < cells.shape[1]:
                    if after[r, c] and not (stops and cells[r, c] == wall):
                        raise Unsuited  # which line is on top would be left open
                    if after[r, c]:
                        break
                    after[r, c] = trail[colour]
                    r, c = r + step * down, c + step * across
        return Shown(cells, after)

    return Rule(f"rays {step} {stops} | {ways} | {trail}", show)


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


def stamps(rng: Rng) -> Rule:
    """At each dot a pattern, which depends on the colour of the dot, or is given in the grid."""
    given = rng.random() < 0.45
    dots = colours(rng, 1 if given else between(rng, 1, 3))
    own = rng.random() < 0.5
    ink = colours(rng, len(dots), without=dots)
    patterns = [_pattern(rng) for _ in dots]
    keeps = rng.random() < 0.6

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 9, 16)
        after = cells.copy()
        forms = patterns
        if given:
            forms = [_pattern(rng) * pick(rng, colours(rng, 4, without=dots))]
            row, col = between(rng, 0, cells.shape[0] - 3), between(rng, 0, cells.shape[1] - 3)
            for target in (cells, after):
                target[row : row + 3, col : col + 3] = forms[0]
            if not keeps:
                after[:] = 0
        taken = np.zeros_like(cells, dtype=bool)
        taken[[0, -1]] = True
        taken[:, [0, -1]] = True
        if given:
            taken[max(0, row - 2) : row + 5, max(0, col - 2) : col + 5] = True
        placed = 0
        for _ in range(12):
            r, c = between(rng, 1, cells.shape[0] - 2), between(rng, 1, cells.shape[1] - 2)
            if taken[r, c]:
                continue
            taken[max(0, r - 3) : r + 4, max(0, c - 3) : c + 4] = True
            which = between(rng, 0, len(dots) - 1)
            cells[r, c] = dots[which]
            form = forms[which]
            if not given:
                form = form * (dots[which] if own else ink[which])
            window = after[r - 1 : r + 2, c - 1 : c + 2]
            window[form != 0] = form[form != 0]
            if not given and not own:
                after[r, c] = dots[which]
            placed += 1
        if placed < 2:
            raise Unsuited
        return Shown(cells, after)

    shapes = "given" if given else [p.ravel().tolist() for p in patterns]
    return Rule(f"stamps {dots} | {own} {ink} {keeps} | {shapes}", show)


def _pattern(rng: Rng) -> Cells:
    """3 x 3, the centre filled."""
    form = (rng.random((3, 3)) < 0.5).astype(np.int64)
    form[1, 1] = 1
    if form.sum() < 3:
        form[1] = 1
    return form


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


def path(rng: Rng) -> Rule:
    """A line starts at a dot and turns at cells of two colours, one for each way."""
    start, right, left = colours(rng, 3)
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    mirror = rng.random() < 0.3  # bounces to one side only
    ink = start if rng.random() < 0.7 else colours(rng, 1, without=[start, right, left])[0]

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 8, 14)
        row, col = between(rng, 1, cells.shape[0] - 2), 0
        before = cells.copy()
        before[row, col] = start
        down, across = 0, 1
        after = before.copy()
        turns = 0
        for _ in range(6):
            length = between(rng, 2, 6)
            for step in range(length):
                row, col = row + down, col + across
                if not (0 <= row < cells.shape[0] and 0 <= col < cells.shape[1]):
                    break
                if after[row, col]:
                    raise Unsuited
                if step < length - 1:
                    after[row, col] = ink
                else:
                    kind = right if mirror or rng.random() < 0.5 else left
                    before[row, col] = after[row, col] = kind
                    down, across = (across, -down) if kind == right else (-across, down)
                    turns += 1
            else:
                continue
            break
        else:
            raise Unsuited  # it has to end at the edge
        if turns < 1:
            raise Unsuited
        return Shown(TURNS[turn](before), TURNS[turn](after))

    return Rule(f"path {turn} {mirror} | {start} {right} {left} {ink}", show)


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


def spiral_rings(rng: Rng) -> Rule:
    """Rings, crosses or a chequer around a dot, to the edge, in a colour order of the rule."""
    how = pick(rng, ("rings", "diamond", "cross rings", "columns", "chequer", "every other ring"))
    order = colours(rng, between(rng, 2 if how in ("rings", "diamond") else 1, 3))
    dot = colours(rng, 1, without=order)[0]
    step = between(rng, 2, 3)

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 6, 13)
        row, col = between(rng, 0, cells.shape[0] - 1), between(rng, 0, cells.shape[1] - 1)
        rows, cols = np.indices(cells.shape)
        down, across = np.abs(rows - row), np.abs(cols - col)
        far = {
            "rings": np.maximum(down, across), "diamond": down + across,
            "cross rings": np.where((down == 0) | (across == 0), down + across, 0),
            "columns": across, "chequer": (down + across) % 2,
            "every other ring": np.maximum(down, across),
        }[how]  # fmt: skip
        inks = np.array(order)[(far - 1) % len(order)]
        if how in ("every other ring", "columns"):
            inks = np.where(far % step == 0, inks, 0)
        after = np.where(far > 0, inks, 0)
        cells[row, col] = after[row, col] = dot
        return Shown(cells, after)

    return Rule(f"around | {how} {step} | {dot} {order}", show)


def lines_on_rows(rng: Rng) -> Rule:
    """Cells on an edge tell their row or column what to do: fill, alternate, shift or stay."""
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    how = pick(rng, ("fill", "every other", "half", "to partner", "repaint"))
    mark, ink = colours(rng, 2)
    own = rng.random() < 0.6

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 6, 13)
        height, width = cells.shape
        rows = rng.permutation(height)[: between(rng, 1, height // 2)]
        if how == "repaint":
            cells[:, 1:] = noise(rng, height, width - 1, [mark], density=0.5)
        after = cells.copy()
        for row in rows:
            colour = pick(rng, colours(rng, 4, without=[ink, mark]))
            new = colour if own else ink
            cells[row, 0] = after[row, 0] = colour
            if how == "fill":
                after[row, 1:] = new
            elif how == "every other":
                after[row, 2::2] = new
            elif how == "half":
                after[row, 1 : width // 2] = new
            elif how == "to partner":
                if rng.random() < 0.6:
                    cells[row, -1] = after[row, -1] = colour
                    after[row, 1:-1] = new
            else:
                after[row] = np.where(after[row] == mark, new, after[row])
        return Shown(TURNS[turn](cells), TURNS[turn](after))

    return Rule(f"rows {turn} | {how} {own} | {mark} {ink}", show)


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


def odd_cell(rng: Rng) -> Rule:
    """Lines across a grid of one colour pattern; the thing that breaks a rule is shown."""
    form = pick(rng, tuple(f for f in SHAPES if f != "dot"))
    ink, base = colours(rng, 2)
    how = pick(rng, ("cross", "row", "column", "around"))

    def show(rng: Rng) -> Shown:
        cells = empty(rng, 7, 13)
        mask = SHAPES[form](rng, 3)
        rows, cols = mask.shape
        row = between(rng, 1, max(1, cells.shape[0] - rows - 1))
        col = between(rng, 1, max(1, cells.shape[1] - cols - 1))
        thing = Thing(np.where(mask, base, 0), row, col)
        if thing.bottom > cells.shape[0] or thing.right > cells.shape[1]:
            raise Unsuited
        cells[row : thing.bottom, col : thing.right] = thing.part
        after = cells.copy()
        bands: dict[str, list[Any]] = {
            "cross": [np.s_[row : thing.bottom], np.s_[:, col : thing.right]],
            "row": [np.s_[row : thing.bottom]], "column": [np.s_[:, col : thing.right]],
            "around": [
                np.s_[row - 1 : thing.bottom + 1, col - 1 : thing.right + 1],
            ],
        }  # fmt: skip
        for band in bands[how]:
            window = after[band]
            window[window == 0] = ink
        return Shown(cells, after)

    return Rule(f"band {form} | {how} | {base} {ink}", show)


LINE_RULES = (
    (connect, 2), (rays_by_colour, 3), (fall, 1.5), (gravitate, 1.5), (stamps, 2.5),
    (neighbours, 2), (rooms, 1.5), (bars, 1.5), (count_colours, 1.5), (nested, 1.5), (legend, 1.5),
    (path, 1.5), (fill_enclosed, 1.5), (spiral_rings, 1.5), (lines_on_rows, 2), (swap_colours, 1),
    (uncover, 1.5), (join_things, 1), (odd_cell, 0.7),
)  # fmt: skip
