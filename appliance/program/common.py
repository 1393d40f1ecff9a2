"""The library `common` that programs of BARC import, written anew from what it does.

Over 400 lines, because programs import it as one module.

A grid is indexed [x, y] here, and x is the row. An object is an array of the grid's size with the
background around it; a sprite is a cut-out. Functions that draw work in place, as in the library
that the models learnt. Plain numpy, so that the sandbox can load it without scipy.

Not here: show_colored_grid, visualize, generate_sprite, apply_symmetry, apply_diagonal_symmetry
(for debugging, and parts of random_sprite; BARC's prompts call them internal).

Not the same: `detect_objects` resolves overlaps greedily, largest first, where the original tries
all choices; `random_sprite` draws other sprites.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence

# Programs expect the old names of typing.
from typing import Any, ClassVar, Dict, List, Optional, Set, Tuple, Union  # noqa: UP035

import numpy as np
from numpy.typing import NDArray

from appliance.program.dsl.base import components

Cells = NDArray[Any]
FOUR = ((0, 1), (0, -1), (1, 0), (-1, 0))
EIGHT = (*FOUR, (1, 1), (1, -1), (-1, 1), (-1, -1))

__all__ = [
    "Color", "Symmetry", "blit", "blit_object", "blit_sprite", "bounding_box", "collision",
    "contact", "crop", "detect_mirror_symmetry", "detect_objects", "detect_rotational_symmetry",
    "detect_translational_symmetry", "draw_line", "find_connected_components", "flood_fill",
    "is_contiguous", "object_boundary", "object_interior", "object_neighbors", "object_position",
    "orbit", "random_free_location_for_object", "random_free_location_for_sprite", "random_sprite",
    "translate", "np", "random", "math", "Callable", "Dict", "List", "Optional", "Set", "Tuple",
    "Union", "Any",
]  # fmt: skip


class Color:
    """Colours by name. 8 and 9 have two names each, because the original renamed them."""

    BLACK, BLUE, RED, GREEN, YELLOW, GREY, PINK, ORANGE, PURPLE, BROWN = range(10)
    GRAY, TEAL, MAROON, TRANSPARENT, BACKGROUND = 5, 8, 9, 0, 0
    ALL_COLORS: ClassVar = list(range(10))
    NOT_BLACK: ClassVar = list(range(1, 10))


def flood_fill(grid: Cells, x: int, y: int, color: int, connectivity: int = 4) -> None:
    """The connected area of one colour that holds (x, y) takes the new colour, in place."""
    old = grid[x, y]
    steps = _steps(connectivity)
    open_cells = [(x, y)] if old != color else []

    while open_cells:
        row, col = open_cells.pop()
        if 0 <= row < grid.shape[0] and 0 <= col < grid.shape[1] and grid[row, col] == old:
            grid[row, col] = color
            open_cells += [(row + dx, col + dy) for dx, dy in steps]


def draw_line(
    grid: Cells,
    x: int,
    y: int,
    end_x: int | None = None,
    end_y: int | None = None,
    length: int | None = None,
    direction: Sequence[int] | None = None,
    color: int | None = None,
    stop_at_color: Iterable[int] = (),
) -> Cells:
    """Draws a line from (x, y), in place: to the end, or `length` cells in the direction.

    Without a length it goes to the edge. It stops before a cell of a colour in `stop_at_color`.
    """
    if end_x is not None and end_y is not None:
        direction, length = (end_x - x, end_y - y), max(abs(end_x - x), abs(end_y - y)) + 1

    if direction is None:
        raise ValueError("draw_line: neither an end nor a direction")

    dx, dy = (int(np.sign(part)) for part in direction)
    stops = set(stop_at_color)
    for step in range(2 * max(grid.shape) if length is None else length):
        row, col = x + step * dx, y + step * dy
        if 0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]:
            if grid[row, col] in stops:
                break
            grid[row, col] = color

    return grid


def find_connected_components(
    grid: Cells, background: int = Color.BLACK, connectivity: int = 4, monochromatic: bool = True
) -> list[Cells]:
    """Objects, by rising colour and in reading order.

    Without `monochromatic` an object may have several colours; then only reading order counts.
    """
    grid = np.asarray(grid)
    if monochromatic:
        masks = [grid == c for c in np.unique(grid) if c != background]
    else:
        masks = [grid != background]

    found = []
    for mask in masks:
        diagonal = len(_steps(connectivity)) == 8
        for rows, cols in components(np.where(mask, 0, -1), diagonal=diagonal):
            obj = np.full_like(grid, background)
            obj[rows, cols] = grid[rows, cols]
            found.append(obj)

    return found


def blit(
    grid: Cells, sprite: Cells, x: int = 0, y: int = 0, background: int | None = None
) -> Cells:
    """Copies the sprite into the grid, in place; its background, if one is named, is left out."""
    for (row, col), cell in np.ndenumerate(sprite):
        inside = 0 <= x + row < grid.shape[0] and 0 <= y + col < grid.shape[1]
        if inside and (background is None or cell != background):
            grid[x + row, y + col] = cell

    return grid


def blit_object(grid: Cells, obj: Cells, background: int = Color.BLACK) -> Cells:
    """Draws an object where it is."""
    return blit(grid, obj, background=background)


def blit_sprite(grid: Cells, sprite: Cells, x: int, y: int, background: int = Color.BLACK) -> Cells:
    """Draws a sprite with its upper left corner at (x, y)."""
    return blit(grid, sprite, x, y, background)


def bounding_box(grid: Cells, background: int = Color.BLACK) -> tuple[int, int, int, int]:
    """(x, y, rows, columns) of the smallest box around all but the background; zeros if empty."""
    rows, cols = np.nonzero(np.asarray(grid) != background)
    if not rows.size:
        return 0, 0, 0, 0
    x, y = int(rows.min()), int(cols.min())
    return x, y, int(rows.max()) - x + 1, int(cols.max()) - y + 1


def object_position(
    obj: Cells, background: int = Color.BLACK, anchor: str = "upper left"
) -> tuple[int | float, int | float]:
    """(x, y) of a corner, of the centre or of the middle of a side.

    Halves where the middle lies between cells. In the words of the original, "left" and "right" are
    ends along x, which is the row, and "upper" and "lower" along y.
    """
    x, y, rows, cols = bounding_box(obj, background)
    words = anchor.lower().replace(" ", "")

    at_x, at_y = x + (rows - 1) / 2, y + (cols - 1) / 2  # the middle, where no end is named
    if "left" in words:
        at_x = x
    elif "right" in words:
        at_x = x + rows - 1
    if "upper" in words:
        at_y = y
    elif "lower" in words:
        at_y = y + cols - 1

    if words not in _ANCHORS:
        raise ValueError(f"object_position: no anchor {anchor}")

    return _whole(at_x), _whole(at_y)


_ANCHORS = {a + b for a in ("upper", "lower") for b in ("left", "right", "center")} | {
    "center", "leftcenter", "rightcenter",
}  # fmt: skip


def crop(grid: Cells, background: int = Color.BLACK) -> Cells:
    """What lies in the bounding box."""
    x, y, rows, cols = bounding_box(grid, background)
    return grid[x : x + rows, y : y + cols]


def translate(obj: Cells, x: int, y: int, background: int = Color.BLACK) -> Cells:
    """The object moved by (x, y); what leaves the grid is lost."""
    return blit(np.full_like(obj, background), obj, int(x), int(y))


def collision(
    _: Any = None,
    object1: Cells | None = None,
    object2: Cells | None = None,
    x1: int = 0,
    y1: int = 0,
    x2: int = 0,
    y2: int = 0,
    background: int = Color.BLACK,
) -> bool:
    """Whether the two share a cell when they are put at (x1, y1) and (x2, y2)."""
    return bool(_places(object1, x1, y1, background) & _places(object2, x2, y2, background))


def contact(
    _: Any = None,
    object1: Cells | None = None,
    object2: Cells | None = None,
    x1: int = 0,
    y1: int = 0,
    x2: int = 0,
    y2: int = 0,
    background: int = Color.BLACK,
    connectivity: int = 4,
) -> bool:
    """Whether the two share a cell or touch."""
    first, second = _places(object1, x1, y1, background), _places(object2, x2, y2, background)
    near = {(x + dx, y + dy) for x, y in first for dx, dy in (*_steps(connectivity), (0, 0))}
    return bool(near & second)


def object_interior(grid: Cells, background: int = Color.BLACK) -> NDArray[np.bool_]:
    """True on the object and on what it encloses."""
    # A flood from the margin reaches all that is outside.
    padded = np.pad(np.asarray(grid) != background, 1).astype(np.int64)
    flood_fill(padded, 0, 0, 2)
    return np.asarray(padded[1:-1, 1:-1] != 2)


def object_boundary(grid: Cells, background: int = Color.BLACK) -> NDArray[np.bool_]:
    """True on cells of the object beside the outside or at the edge of the grid."""
    outside = np.pad(~object_interior(grid, background), 1, constant_values=True)
    return np.asarray((np.asarray(grid) != background) & _grown(outside, FOUR)[1:-1, 1:-1])


def object_neighbors(
    grid: Cells, background: int = Color.BLACK, connectivity: int = 4
) -> NDArray[np.bool_]:
    """True on background cells beside the boundary of the object."""
    near = _grown(object_boundary(grid, background), _steps(connectivity))
    return np.asarray(near & (np.asarray(grid) == background))


def is_contiguous(bitmask: Cells, background: int = Color.BLACK, connectivity: int = 4) -> bool:
    """Whether there is exactly one connected area besides the background."""
    return (
        len(find_connected_components(bitmask, background, connectivity, monochromatic=False)) == 1
    )


class Symmetry:
    """A map of the plane onto itself that leaves a picture as it is."""

    def apply(self, x: Any, y: Any, iters: int = 1) -> tuple[Any, Any]:
        """Where (x, y), numbers or arrays, ends up after `iters` applications."""
        raise NotImplementedError


class TranslationalSymmetry(Symmetry):
    def __init__(self, translate_x: int, translate_y: int) -> None:
        self.translate_x, self.translate_y = translate_x, translate_y

    def apply(self, x: Any, y: Any, iters: int = 1) -> tuple[Any, Any]:
        return _whole(x + iters * self.translate_x), _whole(y + iters * self.translate_y)


class MirrorSymmetry(Symmetry):
    """Mirrors x, y or both."""

    def __init__(self, mirror_x: float | None, mirror_y: float | None) -> None:
        # The coordinate that stays in place; None where nothing is mirrored.
        self.mirror_x, self.mirror_y = mirror_x, mirror_y

    def apply(self, x: Any, y: Any, iters: int = 1) -> tuple[Any, Any]:
        if iters % 2 == 0:
            return x, y
        x = x if self.mirror_x is None else 2 * self.mirror_x - x
        return _whole(x), _whole(y if self.mirror_y is None else 2 * self.mirror_y - y)


class RotationalSymmetry(Symmetry):
    """Quarter turns about a centre, clockwise for positive `iters`."""

    def __init__(self, center_x: float, center_y: float) -> None:
        self.center_x, self.center_y = center_x, center_y

    def apply(self, x: Any, y: Any, iters: int = 1) -> tuple[Any, Any]:
        x, y = x - self.center_x, y - self.center_y
        for _ in range(iters % 4):
            x, y = y, -x
        return _whole(x + self.center_x), _whole(y + self.center_y)


def orbit(grid: Cells, x: int, y: int, symmetries: Sequence[Symmetry]) -> list[tuple[int, int]]:
    """All places inside the grid to which the symmetries can bring (x, y), itself included."""
    found, fresh = {(int(x), int(y))}, [(int(x), int(y))]
    while fresh:
        here = fresh.pop()
        for symmetry in symmetries:
            for iters in (1, -1):
                row, col = symmetry.apply(*here, iters)
                inside = 0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]
                if inside and (row, col) not in found:
                    found.add((row, col))
                    fresh.append((row, col))

    return sorted(found)


def detect_translational_symmetry(
    grid: Cells, ignore_colors: Iterable[int] = (0,)
) -> list[Symmetry]:
    """The best shift along x and the best along y; the best slanting one where there is neither.

    Of equally good shifts the smallest one wins.
    """
    rows, cols = grid.shape

    def best(shifts: Iterable[tuple[int, int]]) -> list[Symmetry]:
        scored = [(_score(grid, TranslationalSymmetry(*s), ignore_colors, 0.01), s) for s in shifts]
        good = [(score, s) for score, s in scored if score > 0]
        if not good:
            return []
        _, shift = max(good, key=lambda g: (g[0], -sum(g[1])))
        return [TranslationalSymmetry(*shift)]

    straight = best((x, 0) for x in range(1, rows)) + best((0, y) for y in range(1, cols))
    return straight or best((x, y) for x in range(1, rows) for y in range(1, cols))


def detect_mirror_symmetry(grid: Cells, ignore_colors: Iterable[int] = (0,)) -> list[Symmetry]:
    """The mirrors that keep most cells and break none; all of them where several keep as many."""
    xs, ys = ([i / 2 for i in range(2 * side)] for side in grid.shape)
    both = [MirrorSymmetry(x, y) for x in xs for y in ys if x % 1 == y % 1]
    mirrors = [MirrorSymmetry(x, None) for x in xs] + [MirrorSymmetry(None, y) for y in ys] + both
    scored = [(_score(grid, mirror, ignore_colors, 0.01), mirror) for mirror in mirrors]
    top = max((score for score, _ in scored), default=0.0)
    return [mirror for score, mirror in scored if score == top and top > 0]


def detect_rotational_symmetry(grid: Cells, ignore_colors: Iterable[int] = (0,)) -> Symmetry | None:
    """The turns about the centre that keeps most cells and breaks none; None without such one."""
    xs, ys = ([i / 2 for i in range(2 * side)] for side in grid.shape)
    turns = [RotationalSymmetry(x, y) for x in xs for y in ys if x % 1 == y % 1]
    scored = [(_score(grid, turn, ignore_colors, 5.0), -i) for i, turn in enumerate(turns)]
    score, index = max(scored, default=(0.0, 0))
    return turns[-index] if score > 0 else None


def detect_objects(
    grid: Cells,
    _: Any = None,
    predicate: Callable[[Cells], bool] | None = None,
    background: int = Color.BLACK,
    monochromatic: bool = False,
    connectivity: int | None = None,
    allowed_dimensions: Iterable[tuple[int, int]] | None = None,
    colors: Iterable[int] | None = None,
    can_overlap: bool = False,
) -> list[Cells]:
    """Objects that meet all demands: connected ones, and windows of the allowed dimensions.

    Where they may not overlap, the largest are taken first.
    """
    palette = None if colors is None else {*colors, background}
    found: list[Cells] = []

    def take(obj: Cells, sprite: Cells) -> None:
        has_only_colors = palette is None or set(np.unique(sprite).tolist()) <= palette
        if not has_only_colors or (predicate is not None and not predicate(sprite)):
            return
        if not any(np.array_equal(obj, other) for other in found):
            found.append(obj)

    if connectivity:
        for obj in find_connected_components(grid, background, connectivity, monochromatic):
            take(obj, crop(obj, background))

    if allowed_dimensions:
        sizes = {tuple(size) for size in allowed_dimensions}
        found[:] = [obj for obj in found if crop(obj, background).shape in sizes]
        for rows, cols in sorted(sizes):
            for x in range(grid.shape[0] - rows + 1):
                for y in range(grid.shape[1] - cols + 1):
                    sprite = grid[x : x + rows, y : y + cols]
                    if np.any(sprite != background):
                        take(blit(np.full_like(grid, background), sprite, x, y), sprite)

    return found if can_overlap else _apart(found, background)


def random_sprite(
    n: int | list[int],
    m: int | list[int],
    density: float = 0.5,
    symmetry: str | None = None,
    color_palette: Sequence[int] | None = None,
    connectivity: int = 4,
    background: int = Color.BLACK,
) -> Cells:
    """A connected sprite that reaches all four sides, drawn by a random walk.

    `symmetry` ("horizontal", "vertical") mirrors it.
    """
    rows = random.choice(n) if isinstance(n, list) else n
    cols = random.choice(m) if isinstance(m, list) else m
    others = [c for c in Color.ALL_COLORS if c != background]
    palette = list(color_palette or [random.choice(others)])

    def is_done() -> bool:
        reaches_all_sides = bounding_box(sprite, background)[2:] == (rows, cols)
        return reaches_all_sides and bool(np.mean(sprite != background) >= min(density, 0.95))

    sprite = np.full((rows, cols), background)
    x, y = rows // 2, cols // 2
    while not is_done():
        sprite[x, y] = random.choice(palette)
        dx, dy = random.choice(_steps(connectivity))
        x, y = min(max(x + dx, 0), rows - 1), min(max(y + dy, 0), cols - 1)

    mirrored = {"horizontal": sprite[::-1], "vertical": sprite[:, ::-1]}.get(symmetry or "")
    return sprite if mirrored is None else np.where(sprite == background, mirrored, sprite)


def random_free_location_for_sprite(
    grid: Cells,
    sprite: Cells,
    background: int = Color.BLACK,
    border_size: int = 0,
    padding: int = 0,
    padding_connectivity: int = 8,
) -> tuple[int, int]:
    """A place where the sprite, with a margin, meets nothing. Raises ValueError without one."""
    taken = np.asarray(grid) != background
    for _ in range(padding):
        taken = taken | _grown(taken, _steps(padding_connectivity))

    last_x, last_y = (g - s - border_size for g, s in zip(grid.shape, sprite.shape, strict=True))
    places = [
        (x, y) for x in range(border_size, last_x + 1) for y in range(border_size, last_y + 1)
    ]
    mask = sprite != background
    free = [
        (x, y)
        for x, y in places
        if not np.any(taken[x : x + mask.shape[0], y : y + mask.shape[1]] & mask)
    ]
    if not free:
        raise ValueError("No free location for sprite found.")

    return random.choice(free)


random_free_location_for_object = random_free_location_for_sprite


def _steps(connectivity: int) -> tuple[tuple[int, int], ...]:
    if connectivity not in (4, 8):
        raise ValueError("Connectivity must be 4 or 8.")
    return FOUR if connectivity == 4 else EIGHT


def _places(obj: Cells | None, x: int, y: int, background: int) -> set[tuple[int, int]]:
    if obj is None:
        raise ValueError("two objects are needed")
    rows, cols = np.nonzero(obj != background)
    return set(zip((rows + x).tolist(), (cols + y).tolist(), strict=True))


def _grown(mask: NDArray[np.bool_], steps: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """True beside a True cell."""
    padded, (rows, cols) = np.pad(mask, 1), mask.shape
    shifted = [padded[1 + dx : 1 + dx + rows, 1 + dy : 1 + dy + cols] for dx, dy in steps]
    return np.asarray(np.logical_or.reduce(shifted))


def _whole(value: Any) -> Any:
    """The value in integers where it is whole; arrays are always whole here."""
    if isinstance(value, np.ndarray):
        return value.astype(int)
    return int(value) if float(value).is_integer() else value


def _score(
    grid: Cells, symmetry: Symmetry, ignore_colors: Iterable[int], price_outside: float
) -> float:
    """Cells that the symmetry keeps, less a price for each that it takes out of the grid.

    -inf where a cell meets another colour.
    """
    ignored = list(ignore_colors)
    rows, cols = np.nonzero(~np.isin(grid, ignored))
    to_rows, to_cols = symmetry.apply(rows, cols)
    inside = (to_rows >= 0) & (to_rows < grid.shape[0]) & (to_cols >= 0) & (to_cols < grid.shape[1])
    here, there = grid[rows[inside], cols[inside]], grid[to_rows[inside], to_cols[inside]]
    if np.any((here != there) & ~np.isin(there, ignored)):
        return -math.inf

    return float(np.sum(here == there) - price_outside * np.sum(~inside))


def _apart(objects: list[Cells], background: int) -> list[Cells]:
    """Objects of which no two share a cell: larger boxes first, then those of more cells."""
    chosen: list[Cells] = []
    taken: NDArray[np.bool_] | None = None

    def rank(obj: Cells) -> tuple[int, int]:
        return (-crop(obj, background).size, -int(np.sum(obj != background)))

    for obj in sorted(objects, key=rank):
        mask = obj != background
        if taken is None or not np.any(taken & mask):
            chosen.append(obj)
            taken = mask if taken is None else taken | mask

    return chosen
