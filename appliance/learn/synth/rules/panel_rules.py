"""Rules about panels: halves that are compared, panels of which one is the answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.things import Mask, Unsuited
from appliance.learn.synth.scene import between, colours, pick

_OPERATIONS: dict[str, Callable[[Mask, Mask], Mask]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "nor": lambda a, b: ~(a | b),
    "nand": lambda a, b: ~(a & b),
    "less": lambda a, b: a & ~b,
    "equal": lambda a, b: a == b,
}


def halves(rng: Rng) -> Rule:
    """Two panels beside or below each other become one: a Boolean operation, or one over the
    other."""
    one, other, line, out = colours(rng, 4)
    if rng.random() < 0.3:
        other = one
    how = pick(rng, (*_OPERATIONS, "over", "under", "both"))
    is_row, separated = rng.random() < 0.5, rng.random() < 0.7
    low = between(rng, 3, 5)

    def show(rng: Rng) -> Shown:
        size = between(rng, low, low + 3), between(rng, low, low + 3)
        a, b = rng.random(size) < 0.5, rng.random(size) < 0.5
        if how == "over":
            after = np.where(a, one, np.where(b, other, 0))
        elif how == "under":
            after = np.where(b, other, np.where(a, one, 0))
        elif how == "both":
            after = np.where(a & b, out, np.where(a, one, np.where(b, other, 0)))
        else:
            after = np.where(_OPERATIONS[how](a, b), out, 0)
        axis = int(is_row)
        middle = [np.full((1, size[1]) if not is_row else (size[0], 1), line)] if separated else []
        before = np.concatenate([np.where(a, one, 0), *middle, np.where(b, other, 0)], axis=axis)
        return Shown(before, after)

    return Rule(f"halves {int(is_row)} {separated} | {how} | {one} {other} {out}", show)


def layers(rng: Rng) -> Rule:
    """Three or four panels in a row, laid over each other in one order."""
    num = between(rng, 3, 4)
    palette = colours(rng, num + 1)
    order = [int(i) for i in rng.permutation(num)]
    is_row, separated = rng.random() < 0.5, rng.random() < 0.8
    low = between(rng, 3, 4)

    def show(rng: Rng) -> Shown:
        size = between(rng, low, low + 2), between(rng, low, low + 2)
        panels = [np.where(rng.random(size) < 0.45, palette[i], 0) for i in range(num)]
        after = np.zeros(size, dtype=np.int64)
        for i in order:
            after = np.where(panels[i] != 0, panels[i], after)
        line = np.full((size[0], 1) if is_row else (1, size[1]), palette[-1])
        parts: list[Cells] = []
        for panel in panels:
            parts += [line, panel] if separated and parts else [panel]
        return Shown(np.concatenate(parts, axis=int(is_row)), after)

    return Rule(f"layers {int(is_row)} {separated} | {order}", show)


def _num_parts(mask: Mask) -> int:
    """Cells have neighbours or not: parts connected by sides, counted by spreading."""
    left = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    num = 0
    while left:
        num += 1
        open_cells = [left.pop()]
        while open_cells:
            r, c = open_cells.pop()
            for step in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                if step in left:
                    left.remove(step)
                    open_cells.append(step)
    return num


_MEASURES: dict[str, Callable[[Cells], int]] = {
    "cells": lambda p: int((p != 0).sum()),
    "colours": lambda p: len(np.unique(p[p != 0])),
    "parts": lambda p: _num_parts(p != 0),
    "mirrored": lambda p: int(np.array_equal(p, np.fliplr(p))),
    "mirrored down": lambda p: int(np.array_equal(p, np.flipud(p))),
    "top row": lambda p: int((p[0] != 0).sum()),
    "middle": lambda p: int(p[p.shape[0] // 2, p.shape[1] // 2] != 0),
}


def panels(rng: Rng) -> Rule:
    """Panels between lines; the one that is first by a measure is the answer, or is marked."""
    rows, cols = pick(rng, ((1, 3), (3, 1), (2, 2), (1, 4), (4, 1), (2, 3), (3, 2), (3, 3)))
    side = between(rng, 3, 4 if rows * cols < 6 else 3)
    measure = pick(rng, (*_MEASURES, "alone"))
    largest = rng.random() < 0.6 or "mirrored" in measure or measure == "middle"
    palette = colours(rng, 4 if measure == "colours" else between(rng, 1, 3))
    line, mark = colours(rng, 2, without=palette)
    how = pick(rng, ("cut", "cut", "cut", "fill", "keep", "mask", "recolour"))

    def show(rng: Rng) -> Shown:
        parts = [_panel(rng, side, palette, measure) for _ in range(rows * cols)]
        if measure == "alone":  # all but one are equal
            common, odd = parts[0], between(rng, 0, len(parts) - 1)
            parts = [parts[1] if i == odd else common for i in range(len(parts))]
            if np.array_equal(parts[1 if odd != 1 else 0], parts[odd]) or len(parts) < 3:
                raise Unsuited
            best = odd
        else:
            values = [_MEASURES[measure](p) for p in parts]
            wanted = max(values) if largest else min(values)
            if values.count(wanted) != 1:
                raise Unsuited
            best = values.index(wanted)

        after = parts[best]
        if how == "recolour":
            after = np.where(after != 0, mark, 0)
        elif how in ("fill", "keep", "mask"):
            empty = np.zeros_like(after)
            new = [p if how == "fill" else empty for p in parts]
            new[best] = np.full_like(after, mark) if how != "keep" else after
            if how == "fill":
                new[best] = np.where(after == 0, mark, after)
            after = _joined(new, rows, cols, line)
        return Shown(_joined(parts, rows, cols, line), after)

    return Rule(f"panels {rows} {cols} | {measure} {int(largest)} | {how} {mark}", show)


def _panel(rng: Rng, side: int, palette: list[int], measure: str) -> Cells:
    cells = rng.choice(np.array(palette), size=(side, side))
    cells[rng.random((side, side)) < rng.uniform(0.3, 0.8)] = 0
    if measure.startswith("mirrored") and rng.random() < 0.3:
        half = (side + 1) // 2
        if measure == "mirrored":
            cells[:, -half:] = np.fliplr(cells[:, :half])
        else:
            cells[-half:] = np.flipud(cells[:half])
    if not cells.any():
        raise Unsuited
    return cells


def _joined(parts: list[Cells], rows: int, cols: int, line: int) -> Cells:
    height, width = parts[0].shape
    cells = np.full((rows * (height + 1) - 1, cols * (width + 1) - 1), line)
    for index, part in enumerate(parts):
        row, col = index // cols * (height + 1), index % cols * (width + 1)
        cells[row : row + height, col : col + width] = part
    return cells


def panel_summary(rng: Rng) -> Rule:
    """One cell for each panel between lines: its colour, or whether it has enough cells."""
    rows, cols = between(rng, 2, 4), between(rng, 2, 4)
    side = between(rng, 2, 4)
    palette = colours(rng, between(rng, 1, 3))
    line, mark = colours(rng, 2, without=palette)
    how = pick(rng, ("block", "count", "middle", "full", "empty"))
    least = between(rng, 2, 4)

    def show(rng: Rng) -> Shown:
        parts, values = [], []
        for _ in range(rows * cols):
            colour = pick(rng, palette)
            if how == "block":
                colour = 0 if rng.random() < 0.4 else colour
                part = np.full((side, side), colour)
            else:
                part = np.where(rng.random((side, side)) < rng.choice((0.1, 0.5, 1.0)), colour, 0)
            parts.append(part)
            num = int((part != 0).sum())
            values.append({
                "block": colour, "count": mark if num >= least else 0,
                "middle": int(part[side // 2, side // 2]), "full": colour * (num == side * side),
                "empty": mark * (num == 0),
            }[how])  # fmt: skip
        if len(set(values)) < 2:
            raise Unsuited
        return Shown(_joined(parts, rows, cols, line), np.array(values).reshape(rows, cols))

    return Rule(f"panel summary | {how} {least} | {mark} {line}", show)
