"""Rules about whole grids: tilings, symmetry, repetition, scaling, cutting out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.rule import Rule, Shown
from appliance.learn.synth.rules.things import Mask, Unsuited, blob
from appliance.learn.synth.scene import between, colours, noise, pick

Step = Callable[[Cells], Cells]

TURNS: dict[str, Step] = {
    "same": lambda g: g,
    "fliplr": np.fliplr,
    "flipud": np.flipud,
    "rot180": lambda g: np.rot90(g, 2),
    "rot90": lambda g: np.rot90(g, 1),
    "rot270": lambda g: np.rot90(g, 3),
    "transposed": lambda g: g.T,
}


def tiling(rng: Rng) -> Rule:
    """Copies of the grid, each turned as its place says."""
    rows, cols = pick(rng, ((1, 2), (2, 1), (2, 2), (2, 2), (1, 3), (3, 1), (3, 3), (2, 3)))
    ways = [pick(rng, ("same", "fliplr", "flipud", "rot180")) for _ in range(rows * cols)]
    square = rng.random() < 0.4
    if square:
        ways = [pick(rng, tuple(TURNS)) for _ in ways]
    if rng.random() < 0.2:
        ways = ["same"] * len(ways)
    blanks = {int(i) for i in rng.permutation(len(ways))[:1]} if rng.random() < 0.25 else set()
    num = between(rng, 1, 4)

    def show(rng: Rng) -> Shown:
        height = between(rng, 2, 4)
        width = height if square else between(rng, 2, 4)
        part = noise(rng, height, width, colours(rng, num), density=0.7)
        made = [
            np.zeros_like(part) if i in blanks else TURNS[way](part) for i, way in enumerate(ways)
        ]
        return Shown(part, np.block([made[r * cols : (r + 1) * cols] for r in range(rows)]))

    return Rule(f"tiling {rows} {cols} {square} | {ways} {sorted(blanks)}", show)


def tile_by_mask(rng: Rng) -> Rule:
    """A copy of the grid (or a block) for each of its cells of a kind, scaled up."""
    kind = pick(rng, ("filled", "empty", "most", "least"))
    what = pick(rng, ("itself", "itself", "turned", "negative", "its colour"))
    way = pick(rng, ("fliplr", "flipud", "rot180"))
    side = pick(rng, (2, 3, 3, 3, 4))

    def show(rng: Rng) -> Shown:
        palette = colours(rng, 1 if what == "negative" or kind == "empty" else 3)
        part = noise(rng, side, side, palette, density=0.65)
        counts = np.bincount(part.ravel(), minlength=10)
        present = [int(c) for c in np.flatnonzero(counts) if c]
        if kind in ("most", "least"):
            ranked = sorted(present, key=lambda c: counts[c])
            if len(ranked) < 2 or counts[ranked[0]] == counts[ranked[1]]:
                raise Unsuited
            if counts[ranked[-1]] == counts[ranked[-2]]:
                raise Unsuited
            mask = part == ranked[-1 if kind == "most" else 0]
        else:
            mask = (part != 0) == (kind == "filled")
        if not mask.any() or mask.all():
            raise Unsuited
        stamp = {
            "itself": part, "turned": TURNS[way](part),
            "negative": np.where(part == 0, palette[0], 0), "its colour": np.ones_like(part),
        }[what]  # fmt: skip
        if what == "its colour":
            return Shown(part, np.kron(np.where(mask, part, 0), stamp))
        return Shown(part, np.kron(mask.astype(np.int64), stamp))

    return Rule(f"tile by mask {side} | {kind} | {what} {way if what == 'turned' else ''}", show)


_MIRRORS = ("lr", "ud", "both", "diagonal", "turn")


def mirrored(rng: Rng, how: str, side: int, palette: list[int], density: float) -> Cells:
    """A random pattern with that symmetry."""
    cells = rng.choice(np.array(palette), size=(side, side)).astype(np.int64)
    cells[rng.random((side, side)) >= density] = 0
    half = (side + 1) // 2
    if how in ("lr", "both"):
        cells[:, -half:] = np.fliplr(cells[:, :half])
    if how in ("ud", "both"):
        cells[-half:] = np.flipud(cells[:half])
    if how == "diagonal":
        cells = np.triu(cells) + np.triu(cells, 1).T
    if how == "turn":
        corner = cells[:half, : side // 2]
        cells = np.zeros_like(cells)
        for _ in range(4):
            cells = np.rot90(cells)
            cells[:half, : side // 2] = corner
    return cells


def repair(rng: Rng) -> Rule:
    """A pattern that is symmetric or repeats, covered in part: the whole, or what is covered."""
    how = pick(rng, (*_MIRRORS, "tiles", "tiles", "diagonals"))
    answer = pick(rng, ("whole", "whole", "whole", "patch"))
    cover = pick(rng, (0, *colours(rng, 3)))
    num = between(rng, 2, 5)
    palette = colours(rng, num, without=[cover])
    low = between(rng, 7, 12)

    def show(rng: Rng) -> Shown:
        side = between(rng, low, low + 4)
        rows, cols = np.indices((side, side))
        if how == "tiles":
            height, width = between(rng, 2, 4), between(rng, 2, 4)
            tile = rng.choice(np.array(palette), size=(height, width))
            whole = tile[rows % height, cols % width]
        elif how == "diagonals":
            order = np.array([palette[int(i)] for i in rng.permutation(num)])
            whole = order[(rows + cols) % num]
        else:
            whole = mirrored(rng, how, side, palette, 1.0)

        before = whole.copy()
        for _ in range(1 if answer == "patch" else between(rng, 1, 3)):
            height, width = between(rng, 2, side // 3), between(rng, 2, side // 3)
            row, col = between(rng, 0, side - height), between(rng, 0, side - width)
            before[row : row + height, col : col + width] = cover
        if how in _MIRRORS and not _can_repair(before == cover, how):
            raise Unsuited
        if answer == "patch":
            return Shown(before, whole[row : row + height, col : col + width])
        return Shown(before, whole)

    return Rule(f"repair {how} | {answer} {cover} | {sorted(palette)}", show)


def _can_repair(hidden: Mask, how: str) -> bool:
    """Whether each hidden cell has an image that is seen."""
    images = {
        "lr": [np.fliplr(hidden)],
        "ud": [np.flipud(hidden)],
        "both": [np.fliplr(hidden), np.flipud(hidden), np.rot90(hidden, 2)],
        "diagonal": [hidden.T],
        "turn": [np.rot90(hidden, k) for k in (1, 2, 3)],
    }[how]
    return not (hidden & np.all(images, axis=0)).any()


def complete_symmetry(rng: Rng) -> Rule:
    """A symmetric thing of which cells are missing; they come back, perhaps in another colour."""
    how = pick(rng, ("lr", "ud", "both", "turn", "diagonal"))
    palette = colours(rng, between(rng, 1, 3))
    mark = pick(rng, (0, *colours(rng, 1, without=palette)))
    low = between(rng, 7, 11)
    most = between(rng, 2, 5)

    def show(rng: Rng) -> Shown:
        side, size = between(rng, low, low + 4), between(rng, 4, 6)
        part = mirrored(rng, how, size, palette, 0.8)
        left = part.copy()
        filled = np.argwhere(part)
        for index in rng.permutation(len(filled))[: between(rng, 1, most)]:
            left[tuple(filled[index])] = 0
        hidden = (left == 0) & (part != 0)
        if not _can_repair(hidden, how) or len(filled) < 2 * most:
            raise Unsuited
        row, col = between(rng, 0, side - size), between(rng, 0, side - size)
        before = np.zeros((side, side), dtype=np.int64)
        after = before.copy()
        before[row : row + size, col : col + size] = left
        after[row : row + size, col : col + size] = np.where(hidden & (mark > 0), mark, part)
        return Shown(before, after)

    return Rule(f"complete {how} | {mark} | {sorted(palette)}", show)


def mirror_half(rng: Rng) -> Rule:
    """One half of the grid has cells; the other gets their mirror image or copy."""
    way = pick(rng, ("fliplr", "same", "rot180", "flipud"))
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    line, colour = colours(rng, 2)
    line = line if rng.random() < 0.6 else 0
    new = colour if rng.random() < 0.3 else 0

    def show(rng: Rng) -> Shown:
        part = noise(
            rng, between(rng, 4, 9), between(rng, 3, 6), colours(rng, 3, without=[line, new]),
            density=0.35,
        )  # fmt: skip
        image = TURNS[way](part)
        image = np.where(image != 0, new, 0) if new else image
        middle = [np.full((part.shape[0], 1), line)] if line else []
        before = np.hstack([part, *middle, np.zeros_like(part)])
        return Shown(TURNS[turn](before), TURNS[turn](np.hstack([part, *middle, image])))

    return Rule(f"half {turn} {line} | {way} | {new}", show)


def continue_pattern(rng: Rng) -> Rule:
    """The first rows of a pattern that repeats; it goes on to the other end."""
    turn = pick(rng, ("same", "rot90", "rot180", "rot270"))
    kind = pick(rng, ("tile", "stripes", "shifted"))
    step = pick(rng, (-1, 1))
    lengthened = rng.random() < 0.3
    table = dict(zip(range(1, 10), colours(rng, 9), strict=True)) if rng.random() < 0.25 else {}

    def show(rng: Rng) -> Shown:
        period, width = between(rng, 2, 4), between(rng, 3, 9)
        height = between(rng, 3 * period, 3 * period + 5)
        tile = noise(rng, period, width, colours(rng, 3), density=0.6)
        if kind == "stripes":
            tile = np.repeat(
                rng.choice(np.array([0, *colours(rng, 3)]), size=(period, 1)), width, 1
            )
        if kind == "shifted":
            first = noise(rng, 1, width, colours(rng, 2), density=0.3)[0]
            whole = np.array([np.roll(first, step * r) for r in range(height)])
            period = 2
        else:
            whole = tile[np.arange(height) % period]
        before = whole.copy()
        seen = 2 * period if kind == "tile" else period + 1
        before[seen:] = 0
        if lengthened:
            before = before[:seen]
        if table:
            whole = np.array([0, *table.values()])[whole]
        return Shown(TURNS[turn](before), TURNS[turn](whole))

    if lengthened:  # the height must be told by something: twice what is seen
        inner = show

        def show_twice(rng: Rng) -> Shown:
            shown = inner(rng)
            before = TURNS[_BACK[turn]](shown.before)
            after = TURNS[_BACK[turn]](shown.after)
            if len(after) < 2 * len(before):
                raise Unsuited
            return Shown(shown.before, TURNS[turn](after[: 2 * len(before)]))

        return Rule(f"continue {turn} | {kind} {step} | twice {table}", show_twice)
    return Rule(f"continue {turn} | {kind} {step} | {table}", show)


_BACK = {"same": "same", "rot90": "rot270", "rot180": "rot180", "rot270": "rot90"}


def scaled(rng: Rng) -> Rule:
    """Each cell becomes a block, whose side the rule or the number of colours says; or back."""
    how = pick(rng, ("up", "down", "by colours", "by cells"))
    rows, cols = between(rng, 1, 4), between(rng, 1, 4)
    pattern = rng.random((rows, cols)) < 0.7 if rng.random() < 0.4 else np.ones((rows, cols), bool)
    if rows * cols == 1 or not pattern.any():
        pattern = np.ones((2, 2), dtype=bool)
    framed = rng.random() < 0.3
    frame = colours(rng, 1)[0]

    def show(rng: Rng) -> Shown:
        side = between(rng, 2, 4)
        part = noise(rng, side, between(rng, 2, 4), colours(rng, between(rng, 1, 3)), density=0.7)
        if how == "by colours":
            factor = len(np.unique(part[part != 0]))
            large = np.kron(part, np.ones((factor, factor), dtype=np.int64))
        elif how == "by cells":
            part = np.zeros((3, 3), dtype=np.int64)
            num = between(rng, 2, 5)
            part.ravel()[rng.permutation(9)[:num]] = colours(rng, 1)[0]
            large = np.kron(part, np.ones((num, num), dtype=np.int64))
        else:
            large = np.kron(part, pattern.astype(np.int64))
        if framed:
            large = np.pad(large, 1, constant_values=frame)
        return Shown(large, part) if how == "down" else Shown(part, large)

    return Rule(f"scaled {how} | {pattern.astype(int).tolist()} | {framed} {frame}", show)


def cut_by_marks(rng: Rng) -> Rule:
    """What lies between four corner cells (or in a frame), perhaps changed."""
    mark = colours(rng, 1)[0]
    framed, with_marks = rng.random() < 0.5, rng.random() < 0.3
    change = pick(rng, ("same", "same", *TURNS))
    swap = colours(rng, 2, without=[mark]) if rng.random() < 0.3 else []

    def show(rng: Rng) -> Shown:
        height, width = between(rng, 9, 15), between(rng, 9, 15)
        palette = swap or colours(rng, between(rng, 1, 3), without=[mark])
        before = noise(rng, height, width, palette, density=0.4)
        rows, cols = between(rng, 4, 7), between(rng, 4, 7)
        row, col = between(rng, 0, height - rows), between(rng, 0, width - cols)
        window = before[row : row + rows, col : col + cols]
        if framed:
            window[[0, -1]] = mark
            window[:, [0, -1]] = mark
        else:
            window[np.ix_([0, -1], [0, -1])] = mark
        after = window if with_marks else window[1:-1, 1:-1]
        if swap:
            after = np.where(after == swap[0], swap[1], np.where(after == swap[1], swap[0], after))
        return Shown(before, TURNS[change](after))

    return Rule(f"cut {framed} {with_marks} {mark} | {change} | {swap}", show)


def odd_shape_key(rng: Rng) -> Rule:
    """A small shape among noise names the answer: shapes of a table have each their colour."""
    num = between(rng, 2, 3)
    shapes = [blob(rng, 3) for _ in range(num)]
    old, *table = colours(rng, num + 1)
    if len({(s.shape, s.tobytes()) for s in shapes}) < num:
        raise Unsuited
    height, width = between(rng, 1, 3), between(rng, 1, 3)

    def show(rng: Rng) -> Shown:
        case = between(rng, 0, num - 1)
        before = np.zeros((between(rng, 3, 7), between(rng, 3, 7)), dtype=np.int64)
        shape = shapes[case]
        row = between(rng, 0, before.shape[0] - shape.shape[0])
        col = between(rng, 0, before.shape[1] - shape.shape[1])
        before[row : row + shape.shape[0], col : col + shape.shape[1]][shape] = old
        return Shown(before, np.full((height, width), table[case]), must_show=frozenset({case}))

    return Rule(f"form table | {num} | {height} {width} {table}", show)
