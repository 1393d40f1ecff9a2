"""Rules that draw lines and stamps: between dots, from dots, along rows, around a cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.actions import DIAGONALS, STEPS
from appliance.learn.synth.rules.grid_rules import TURNS
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.things import SHAPES, Thing, Unsuited
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


def around_dot(rng: Rng) -> Rule:
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


def bands(rng: Rng) -> Rule:
    """Bands through one thing to the edges, or a box around it."""
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
