"""Rules in which one thing tells what happens to another: what lies inside it, above it, on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.actions import STEPS
from appliance.learn.synth.rules.grid_rules import TURNS
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.things import SHAPES, SceneKind, Unsuited, scene
from appliance.learn.synth.scene import between, colours, pick


def containers(rng: Rng) -> Rule:
    """Frames with dots inside: chosen by their number, or filled with their colour."""
    frame, dot, new, *more = colours(rng, 6)
    choose = pick(rng, ("any", "none", "most", "one", "two"))
    act = pick(
        rng, ("fill", "recolour", "keep", "cut", "cut inside", "own colour", "dots to frame")
    )
    if act in ("cut", "cut inside"):
        choose = "most"
    if act in ("own colour", "dots to frame"):
        choose = "any"
    inks = [dot, *more] if act in ("own colour", "dots to frame") else [dot]
    kind = SceneKind(("frame",), (frame,), "one", (10, 15), (2, 4), 6, 1, 0)

    def show(rng: Rng) -> Shown:
        shown = scene(rng, kind)
        cells, nums, used = shown.grid, [], []
        for thing in shown.things:
            inner = cells[thing.row + 1 : thing.bottom - 1, thing.col + 1 : thing.right - 1]
            ink = pick(rng, inks)
            num = min(between(rng, 0, 3), inner.size)
            rows, cols = np.nonzero(inner == 0)
            at = rng.permutation(len(rows))[:num]
            inner[rows[at], cols[at]] = ink
            nums.append(num)
            used.append(ink)

        chosen = {
            "any": [n > 0 for n in nums], "none": [n == 0 for n in nums],
            "most": [n == max(nums) and nums.count(n) == 1 for n in nums],
            "one": [n == 1 for n in nums], "two": [n == 2 for n in nums],
        }[choose]  # fmt: skip
        if all(chosen) or not any(chosen):
            raise Unsuited

        after = cells.copy()
        for thing, is_chosen, ink in zip(shown.things, chosen, used, strict=True):
            whole = after[thing.row : thing.bottom, thing.col : thing.right]
            inner = whole[1:-1, 1:-1]
            if not is_chosen:
                if act == "keep":
                    whole[:] = 0
            elif act == "cut":
                return Shown(cells, whole.copy())
            elif act == "cut inside":
                return Shown(cells, inner.copy())
            elif act == "fill":
                inner[inner == 0] = new
            elif act == "own colour":
                inner[:] = ink
            elif act == "recolour":
                whole[whole == frame] = new
            elif act == "dots to frame":
                whole[whole == frame] = ink
                inner[:] = 0
        return Shown(cells, after)

    return Rule(f"containers {frame} {inks} | {choose} | {act} {new}", show)


def column_keys(rng: Rng) -> Rule:
    """A key above each thing, on an edge, says its colour."""
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    grey, separator = colours(rng, 2)
    form = pick(rng, ("blob", "rectangle", "plus", "frame", "mirrored", "dots"))
    lined = rng.random() < 0.5
    how = pick(rng, ("recolour", "fill column", "count", "drop keys"))

    def show(rng: Rng) -> Shown:
        num, side = between(rng, 2, 4), 3
        height = between(rng, 6, 10)
        cells = np.zeros((height, num * (side + 1) - 1), dtype=np.int64)
        inks = [pick(rng, colours(rng, 9, without=[grey, separator])) for _ in range(num)]
        top = 1
        if lined:
            cells[1] = separator
            top = 2
        after = cells.copy()
        for index, ink in enumerate(inks):
            left = index * (side + 1)
            if form == "dots":
                mask = rng.random((side, side)) < 0.4
            else:
                mask = np.zeros((side, side), dtype=bool)
                made = SHAPES[form](rng, 3)[:side, :side]
                mask[: made.shape[0], : made.shape[1]] = made
            row = between(rng, top + 1, height - side)
            window = np.s_[row : row + side, left : left + side]
            cells[window][mask] = grey
            cells[0, left + 1] = ink
            if how == "fill column":
                after[top:, left : left + side] = ink
                after[window][mask] = grey
            elif how == "count":
                after[height - min(int(mask.sum()), height - top) :, left + 1] = ink
            else:
                after[window][mask] = ink
            if how != "drop keys":
                after[0, left + 1] = ink
        return Shown(TURNS[turn](cells), TURNS[turn](after))

    return Rule(f"column keys {turn} {form} {lined} | {how} | {grey}", show)


def pointers(rng: Rng) -> Rule:
    """Things with a tip in another colour: they shoot, or move, to where the tip points."""
    how = pick(rng, ("ray", "ray back", "move", "copy", "band"))
    tip = colours(rng, 1)[0]
    body = tuple(colours(rng, 2, without=[tip]))
    steps = between(rng, 1, 3)
    own = rng.random() < 0.5

    def show(rng: Rng) -> Shown:
        cells = np.zeros((between(rng, 10, 15), between(rng, 10, 15)), dtype=np.int64)
        after = cells.copy()
        for _ in range(between(rng, 1, 3)):
            down, across = pick(rng, tuple(STEPS.values()))
            row, col = between(rng, 2, cells.shape[0] - 3), between(rng, 2, cells.shape[1] - 3)
            if cells[row - 2 : row + 3, col - 2 : col + 3].any():
                continue
            ink = pick(rng, body)
            part = np.full((3, 3), ink)
            part[1 + down, 1 + across] = tip
            cells[row - 1 : row + 2, col - 1 : col + 2] = part
            new = np.zeros_like(cells)
            if how == "move":
                r, c = row + steps * down - 1, col + steps * across - 1
                if min(r, c) < 0 or new[r : r + 3, c : c + 3].shape != (3, 3):
                    raise Unsuited
                new[r : r + 3, c : c + 3] = part
            else:
                new[row - 1 : row + 2, col - 1 : col + 2] = part
                way = -1 if how == "ray back" else 1
                r, c, count = row + 2 * way * down, col + 2 * way * across, 0
                while 0 <= r < cells.shape[0] and 0 <= c < cells.shape[1]:
                    if how == "band":  # as wide as the thing
                        wide = np.s_[r, col - 1 : col + 2] if down else np.s_[row - 1 : row + 2, c]
                        new[wide] = ink if own else tip
                    else:
                        new[r, c] = ink if own else tip
                    count += 1
                    if how == "copy" and count == steps:
                        break
                    r, c = r + way * down, c + way * across
            if ((after != 0) & (new != 0)).any():
                raise Unsuited
            after = np.where(new != 0, new, after)
        # Nothing may be drawn over a thing that was added later.
        if how != "move" and (after != cells)[cells != 0].any():
            raise Unsuited
        return Shown(cells, after)

    return Rule(f"pointers {tip} {body} | {how} {steps} {int(own)}", show)


def two_tone(rng: Rng) -> Rule:
    """Things with a core in another colour: the colours change places, or one spreads."""
    how = pick(rng, ("swap", "core", "rim", "hollow", "core out"))
    form = pick(rng, ("rectangle", "square"))
    fixed = rng.random() < 0.5
    inks = colours(rng, 2)
    change: Callable[[Cells, int, int], Cells] = {
        "swap": lambda p, a, b: np.where(p == a, b, a),
        "core": lambda p, a, b: np.full_like(p, b),
        "rim": lambda p, a, b: np.full_like(p, a),
        "hollow": lambda p, a, b: np.where(p == b, 0, p),
        "core out": lambda p, a, b: np.where(p == a, 0, p),
    }[how]

    def show(rng: Rng) -> Shown:
        kind = SceneKind((form,), (1,), "one", (9, 15), (1, 4), 6, 1, 0)
        shown = scene(rng, kind)
        before = np.zeros_like(shown.grid)
        after = before.copy()
        for thing in shown.things:
            if min(thing.part.shape) < 3:
                raise Unsuited
            rim, core = inks if fixed else colours(rng, 2)
            part = np.full(thing.part.shape, rim)
            part[1:-1, 1:-1] = core
            place = np.s_[thing.row : thing.bottom, thing.col : thing.right]
            before[place] = part
            after[place] = change(part, rim, core)
        return Shown(before, after)

    return Rule(f"two tones {form} {fixed} | {how} | {inks if fixed else ''}", show)


def grow(rng: Rng) -> Rule:
    """A row that grows, shrinks or wanders from row to row."""
    turn = pick(rng, tuple(TURNS))
    step = pick(rng, (1, 1, 2, -1))
    move = pick(rng, (0, 0, 1))
    new = colours(rng, 1)[0] if rng.random() < 0.5 else 0
    given = rng.random() < 0.5  # the rows below are there already, empty

    def show(rng: Rng) -> Shown:
        width, num = between(rng, 4, 12), between(rng, 1, 3)
        height = max(2, width // 2)
        ink = pick(rng, colours(rng, 8, without=[new]))
        if step < 0:
            num = between(rng, 3, min(width, 8))
            height = num
        after = np.zeros((height, width), dtype=np.int64)
        for row in range(height):
            length = num + step * row
            start = move * row
            after[row, start : start + max(0, length)] = new or ink
            after[row, start : start + min(num, max(0, length))] = ink
        before = np.zeros_like(after) if given else after[:1].copy()
        before[0] = after[0]
        return Shown(TURNS[turn](before), TURNS[turn](after))

    return Rule(f"grow {turn} {given} | {step} {move} | {new}", show)


def bounce(rng: Rng) -> Rule:
    """A line that starts diagonally from a cell on an edge and turns back at the sides."""
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    start, *inks = colours(rng, 3)
    inks = inks[: between(rng, 0, 2)] or [start]  # colours along the line, in turn
    behind = pick(rng, (0, 0, *colours(rng, 1, without=[start, *inks])))

    def show(rng: Rng) -> Shown:
        height, width = between(rng, 7, 14), between(rng, 2, 7)
        before = np.zeros((height, width), dtype=np.int64)
        col, across = between(rng, 0, width - 1), 1
        before[-1, col] = start
        after = before + behind * (before == 0)
        for index, row in enumerate(range(height - 2, -1, -1)):
            if not 0 <= col + across < width:
                across = -across
            col += across
            after[row, col] = inks[index % len(inks)]
        return Shown(TURNS[turn](before), TURNS[turn](after))

    return Rule(f"bounce {turn} | {start} {inks} {behind}", show)
