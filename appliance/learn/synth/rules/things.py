"""Scenes of separate things on an empty grid: what rules about things are told on.

0 is the background of every scene; `draw.py` may swap it with a colour at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.scene import between, pick

Mask = NDArray[np.bool_]

PLACES = 20
"""Random places that are tried for a thing."""


class Unsuited(ValueError):
    """This draw does not show the rule; another may."""


@dataclass(frozen=True, eq=False)
class Thing:
    """A part of a scene, in a place."""

    part: Cells  # (height, width), 0 where it has no cell
    row: int  # of its first row in the scene
    col: int

    @cached_property
    def mask(self) -> Mask:
        found: Mask = self.part != 0
        return found

    @cached_property
    def size(self) -> int:
        return int(self.mask.sum())

    @property
    def height(self) -> int:
        return int(self.part.shape[0])

    @property
    def width(self) -> int:
        return int(self.part.shape[1])

    @property
    def bottom(self) -> int:
        """The row after its last."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """The column after its last."""
        return self.col + self.width

    @cached_property
    def colour(self) -> int:
        """The most frequent one."""
        return int(np.bincount(self.part[self.mask]).argmax())

    @cached_property
    def num_colours(self) -> int:
        return len(np.unique(self.part[self.mask]))

    @cached_property
    def shape(self) -> tuple[int, bytes]:
        """Equal for things of the same form, whatever their colours."""
        return self.width, self.mask.tobytes()

    @cached_property
    def holes(self) -> int:
        """Areas that it encloses: 1 minus the Euler number (see parts.num_holes)."""
        where = np.pad(self.mask, 1).astype(np.int64)
        corners = where[:-1, :-1], where[:-1, 1:], where[1:, :-1], where[1:, 1:]
        filled = corners[0] + corners[1] + corners[2] + corners[3]
        diagonal = (filled == 2) & (corners[0] == corners[3])
        euler = int((filled == 1).sum() - (filled == 3).sum() - 2 * diagonal.sum()) // 4
        return 1 - euler

    @cached_property
    def is_mirrored(self) -> bool:
        """Whether its left and right halves mirror each other."""
        return bool((self.mask == self.mask[:, ::-1]).all())

    @cached_property
    def is_mirrored_down(self) -> bool:
        return bool((self.mask == self.mask[::-1]).all())

    @property
    def is_full(self) -> bool:
        return self.size == self.part.size

    def painted(self, colour: int) -> Thing:
        return replace(self, part=np.where(self.mask, colour, 0))


@dataclass(frozen=True, eq=False)
class Scene:
    """Things on a grid of this size, and a key: a single cell in a corner that names a colour."""

    height: int
    width: int
    things: tuple[Thing, ...]
    key: int = 0  # 0: none

    @property
    def grid(self) -> Cells:
        return self.drawn(self.things)

    def drawn(self, things: Sequence[Thing]) -> Cells:
        """The grid with these things instead, the last on top. Raises Unsuited outside it."""
        cells = np.zeros((self.height, self.width), dtype=np.int64)
        cells[0, 0] = self.key
        for thing in things:
            lay(cells, thing)
        return cells


def lay(cells: Cells, thing: Thing) -> None:
    """Draw the thing. Raises Unsuited when it does not lie inside."""
    if thing.row < 0 or thing.col < 0:
        raise Unsuited

    window = cells[thing.row : thing.bottom, thing.col : thing.right]
    if window.shape != thing.part.shape:
        raise Unsuited
    window[thing.mask] = thing.part[thing.mask]


def _rectangle(rng: Rng, most: int) -> Mask:
    return np.ones((between(rng, 2, most), between(rng, 2, most)), dtype=bool)


def _square(rng: Rng, most: int) -> Mask:
    side = between(rng, 1, most)
    return np.ones((side, side), dtype=bool)


def _frame(rng: Rng, most: int) -> Mask:
    mask = np.ones((between(rng, 3, max(3, most)), between(rng, 3, max(3, most))), dtype=bool)
    mask[1:-1, 1:-1] = False
    return mask


def _line(rng: Rng, most: int) -> Mask:
    length = between(rng, 2, most + 1)
    return np.ones((1, length) if rng.random() < 0.5 else (length, 1), dtype=bool)


def _dot(rng: Rng, most: int) -> Mask:
    return np.ones((1, 1), dtype=bool)


def blob(rng: Rng, most: int) -> Mask:
    """A random shape connected by sides, at most `most` a side."""
    side = between(rng, 2, most)
    wanted = between(rng, 3, max(3, side * side * 2 // 3))
    cells = [(side // 2, side // 2)]
    seen = set(cells)
    for index in rng.random((wanted * 4, 2)).tolist():
        row, col = cells[int(index[0] * len(cells))]
        down, across = ((0, 1), (1, 0), (0, -1), (-1, 0))[int(index[1] * 4)]
        step = row + down, col + across
        if 0 <= step[0] < side and 0 <= step[1] < side and step not in seen:
            seen.add(step)
            cells.append(step)
        if len(cells) >= wanted:
            break

    rows, cols = np.array(cells).T
    mask = np.zeros((int(rows.max() - rows.min()) + 1, int(cols.max() - cols.min()) + 1), bool)
    mask[rows - rows.min(), cols - cols.min()] = True
    return mask


def _mirrored(rng: Rng, most: int) -> Mask:
    half = blob(rng, max(2, (most + 1) // 2))
    shared = int(rng.random() < 0.5)
    if not half[:, -1].any() or (not shared and not half[:, -1].any()):
        raise Unsuited
    return np.hstack([half, half[:, ::-1][:, shared:]])


def _plus(rng: Rng, most: int) -> Mask:
    arm = between(rng, 1, max(1, (most - 1) // 2))
    mask = np.zeros((2 * arm + 1, 2 * arm + 1), dtype=bool)
    mask[arm] = mask[:, arm] = True
    return mask


def _corner(rng: Rng, most: int) -> Mask:
    mask = np.zeros((between(rng, 2, most), between(rng, 2, most)), dtype=bool)
    mask[0] = mask[:, 0] = True
    return np.rot90(mask, between(rng, 0, 3))


def _holed(rng: Rng, most: int) -> Mask:
    """A box with one to three holes of one cell."""
    num = between(rng, 1, 3)
    mask = np.ones((3, 2 * num + 1), dtype=bool)
    mask[1, 1::2] = False
    return np.rot90(mask, between(rng, 0, 1))


SHAPES: dict[str, Callable[[Rng, int], Mask]] = {
    "rectangle": _rectangle,
    "square": _square,
    "frame": _frame,
    "line": _line,
    "dot": _dot,
    "blob": blob,
    "mirrored": _mirrored,
    "plus": _plus,
    "corner": _corner,
    "holed": _holed,
}
"""Forms of things by name; each takes the longest side wanted. "sprite" repeats a few forms."""


@dataclass(frozen=True)
class SceneKind:
    """What the scenes of one rule have in common."""

    forms: tuple[str, ...]  # of SHAPES, or "sprite"
    palette: tuple[int, ...]
    colouring: str  # "one" (for the whole scene), "each" (thing its own), "spotted"
    sides: tuple[int, int]
    num: tuple[int, int]  # things
    most: int  # longest side of a thing
    gap: int  # free cells around a thing
    margin: int  # free cells along the edge
    key: tuple[int, ...] = ()  # colours of the key cell; empty: there is none
    copies: bool = False  # forms are drawn from two or three a scene


def scene(rng: Rng, kind: SceneKind) -> Scene:
    """A scene of this kind. Raises Unsuited where there is no room for enough things."""
    height, width = between(rng, *kind.sides), between(rng, *kind.sides)
    taken = np.zeros((height, width), dtype=bool)
    key = pick(rng, kind.key) if kind.key else 0
    if key:
        taken[:2, :2] = True

    forms = [SHAPES[pick(rng, kind.forms)](rng, kind.most) for _ in range(3)] if kind.copies else []
    colour = pick(rng, kind.palette)
    spot = pick(rng, kind.palette)
    wanted = between(rng, *kind.num)
    things: list[Thing] = []
    for _ in range(2 * wanted):
        mask = pick(rng, forms) if forms else SHAPES[pick(rng, kind.forms)](rng, kind.most)
        if kind.colouring != "one":
            colour = pick(rng, kind.palette)
        part = np.where(mask, colour, 0)
        if kind.colouring == "spotted" and rng.random() < 0.5:
            rows, cols = np.nonzero(mask)
            at = between(rng, 0, len(rows) - 1)
            part[rows[at], cols[at]] = spot

        thing = _placed(rng, part, taken, kind.gap, kind.margin)
        if thing is not None:
            things.append(thing)
            taken[thing.row : thing.bottom, thing.col : thing.right] = True
            if len(things) == wanted:
                break

    if len(things) < kind.num[0]:
        raise Unsuited
    return Scene(height, width, tuple(things), key)


def _placed(rng: Rng, part: Cells, taken: Mask, gap: int, margin: int) -> Thing | None:
    rows = taken.shape[0] - part.shape[0] - 2 * margin
    cols = taken.shape[1] - part.shape[1] - 2 * margin
    if rows < 0 or cols < 0:
        return None

    for r, c in rng.random((PLACES, 2)).tolist():
        row, col = margin + int(r * (rows + 1)), margin + int(c * (cols + 1))
        near = taken[
            max(0, row - gap) : row + part.shape[0] + gap,
            max(0, col - gap) : col + part.shape[1] + gap,
        ]
        if not near.any():
            return Thing(part, row, col)
    return None
