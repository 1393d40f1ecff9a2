"""What a rule does with the chosen things of a scene: many small functions, and one table of them.

The file is long because it is a list: no function needs another beyond the first few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.selectors import Chosen
from appliance.learn.synth.rules.things import Mask, Scene, Thing, Unsuited, lay
from appliance.learn.synth.scene import between, pick

Act = Callable[[Scene, Chosen], Cells]

RIGHT, UP, LEFT, DOWN = range(4)
"""Directions: quarter turns (clockwise) that make each of them RIGHT."""

STEPS = {RIGHT: (0, 1), UP: (-1, 0), LEFT: (0, -1), DOWN: (1, 0)}
DIAGONALS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


@dataclass(frozen=True)
class Action:
    name: str
    act: Act
    forms: tuple[str, ...] = ()  # of things it can be seen on; empty: any
    gap: int = 1  # free cells around things
    margin: int = 0
    key: bool = False  # the scene has a key
    single: bool = False  # exactly one thing must be chosen
    varied: bool = False  # things need different colours
    crops: bool = False  # the output is no scene
    room: bool = False  # needs a large scene with few things


def changing(change: Callable[[Thing, Scene], Thing | None]) -> Act:
    """Draws the scene with each chosen thing changed, or gone where the change is None."""

    def act(scene: Scene, chosen: Chosen) -> Cells:
        result: list[Thing] = []
        for thing, is_chosen in zip(scene.things, chosen, strict=True):
            new = change(thing, scene) if is_chosen else thing
            if new is not None:
                result.append(new)
        return scene.drawn(result)

    return act


def painting(paint: Callable[[Cells, Thing], None]) -> Act:
    """Draws on the grid for each chosen thing."""

    def act(scene: Scene, chosen: Chosen) -> Cells:
        cells = scene.grid
        for thing in selected(scene, chosen):
            paint(cells, thing)
        return cells

    return act


def selected(scene: Scene, chosen: Chosen) -> list[Thing]:
    return [thing for thing, is_chosen in zip(scene.things, chosen, strict=True) if is_chosen]


def only(scene: Scene, chosen: Chosen) -> Thing:
    """The one chosen thing. Raises Unsuited where there are more."""
    (thing, *more) = selected(scene, chosen)
    if more:
        raise Unsuited
    return thing


# Recolouring


def _recolour(rng: Rng, new: Iterator[int]) -> Action:
    colour = next(new)
    return Action(f"recolour-{colour}", changing(lambda t, s: t.painted(colour)))


def _recolour_by_key(rng: Rng, new: Iterator[int]) -> Action:
    return Action("recolour-by-key", changing(lambda t, s: t.painted(s.key)), key=True)


def _recolour_both(rng: Rng, new: Iterator[int]) -> Action:
    one, other = next(new), next(new)

    def act(scene: Scene, chosen: Chosen) -> Cells:
        pairs = zip(scene.things, chosen, strict=True)
        return scene.drawn([t.painted(one if c else other) for t, c in pairs])

    return Action(f"recolour-both-{one}-{other}", act)


def _inside(rng: Rng, new: Iterator[int]) -> Action:
    colour = next(new)

    def change(thing: Thing, scene: Scene) -> Thing:
        inner = thing.part[1:-1, 1:-1]
        if min(thing.part.shape) < 3 or not inner.any():
            raise Unsuited
        part = thing.part.copy()
        part[1:-1, 1:-1] = np.where(inner != 0, colour, 0)
        return replace(thing, part=part)

    return Action(f"inside-{colour}", changing(change), ("rectangle", "square"))


def _rim(rng: Rng, new: Iterator[int]) -> Action:
    colour = next(new)

    def change(thing: Thing, scene: Scene) -> Thing:
        if min(thing.part.shape) < 3:
            raise Unsuited
        part = thing.painted(colour).part
        part[1:-1, 1:-1] = thing.part[1:-1, 1:-1]
        return replace(thing, part=part)

    return Action(f"rim-{colour}", changing(change), ("rectangle", "square"))


def _hollow(rng: Rng, new: Iterator[int]) -> Action:
    def change(thing: Thing, scene: Scene) -> Thing:
        if not thing.part[1:-1, 1:-1].any():
            raise Unsuited
        part = thing.part.copy()
        part[1:-1, 1:-1] = 0
        return replace(thing, part=part)

    return Action("hollow", changing(change), ("rectangle", "square"))


def _stripes(rng: Rng, new: Iterator[int]) -> Action:
    colour, across, odd = next(new), rng.random() < 0.5, between(rng, 0, 1)
    chequered = rng.random() < 0.3

    def change(thing: Thing, scene: Scene) -> Thing:
        rows, cols = np.indices(thing.part.shape)
        steps = rows + cols if chequered else cols if across else rows
        return replace(thing, part=np.where(thing.mask & (steps % 2 == odd), colour, thing.part))

    how = "chequer" if chequered else "columns" if across else "rows"
    return Action(f"{how}-{odd}-{colour}", changing(change), ("rectangle", "square", "frame"))


def _fill_holes(rng: Rng, new: Iterator[int]) -> Action:
    colour = next(new)

    def change(thing: Thing, scene: Scene) -> Thing:
        outside = enclosed(thing.mask)
        if not outside.any():
            raise Unsuited
        return replace(thing, part=np.where(outside, colour, thing.part))

    return Action(f"fill-holes-{colour}", changing(change), ("frame", "holed"))


def enclosed(mask: Mask) -> Mask:
    """Cells off the mask from which no path along sides leads outside."""
    free = np.pad(~mask, 1, constant_values=True)
    outside = np.zeros_like(free)
    outside[0] = outside[-1] = outside[:, 0] = outside[:, -1] = True
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= free
        if np.array_equal(grown, outside):
            found: Mask = (free & ~outside)[1:-1, 1:-1]
            return found
        outside = grown


# Deleting, keeping


def _delete(rng: Rng, new: Iterator[int]) -> Action:
    return Action("delete", changing(lambda t, s: None))


def _keep(rng: Rng, new: Iterator[int]) -> Action:
    return Action("keep", lambda scene, chosen: scene.drawn(selected(scene, chosen)))


def _grey_others(rng: Rng, new: Iterator[int]) -> Action:
    colour = next(new)

    def act(scene: Scene, chosen: Chosen) -> Cells:
        pairs = zip(scene.things, chosen, strict=True)
        return scene.drawn([t if c else t.painted(colour) for t, c in pairs])

    return Action(f"paint-others-{colour}", act)


# Turning in place


def _turn(rng: Rng, new: Iterator[int]) -> Action:
    how = pick(rng, ("fliplr", "flipud", "rot180"))
    turn = {"fliplr": np.fliplr, "flipud": np.flipud, "rot180": lambda p: np.rot90(p, 2)}[how]

    def change(thing: Thing, scene: Scene) -> Thing:
        part = turn(thing.part)
        if np.array_equal(part, thing.part):
            raise Unsuited
        return replace(thing, part=part)

    return Action(how, changing(change), ("blob", "corner"))


def _copy_beside(rng: Rng, new: Iterator[int]) -> Action:
    """A copy or mirror image right beside each chosen thing."""
    way, mirror = pick(rng, tuple(STEPS)), rng.random() < 0.6
    distance = between(rng, 0, 1)

    def act(scene: Scene, chosen: Chosen) -> Cells:
        things = []
        for thing in selected(scene, chosen):
            down, across = STEPS[way]
            part = thing.part
            if mirror:
                part = np.fliplr(part) if across else np.flipud(part)
            far = thing.height + distance, thing.width + distance
            things.append(Thing(part, thing.row + down * far[0], thing.col + across * far[1]))
        return _added(scene, things)

    return Action(
        f"{'mirror' if mirror else 'copy'}-{way}-{distance}", act, ("blob", "corner"), room=True
    )


def _added(scene: Scene, things: Sequence[Thing]) -> Cells:
    """The scene with more things. Raises Unsuited where they overlap others."""
    cells = scene.grid
    for thing in things:
        if thing.row < 0 or thing.col < 0:
            raise Unsuited
        window = cells[thing.row : thing.bottom, thing.col : thing.right]
        if window.shape != thing.part.shape or window[thing.mask].any():
            raise Unsuited
        lay(cells, thing)
    return cells


# Moving


def _shift(rng: Rng, new: Iterator[int]) -> Action:
    down, across = pick(
        rng, [(r, c) for r in range(-3, 4) for c in range(-3, 4) if (r, c) != (0, 0)]
    )

    def act(scene: Scene, chosen: Chosen) -> Cells:
        return _moved(scene, chosen, lambda t: (down, across))

    return Action(f"shift-{down}-{across}", act, room=True)


def _shift_by_length(rng: Rng, new: Iterator[int]) -> Action:
    way = pick(rng, tuple(STEPS))
    measure = pick(rng, ("size", "length"))
    down, across = STEPS[way]

    def by(thing: Thing) -> tuple[int, int]:
        far = thing.size if measure == "size" else thing.width if across else thing.height
        return down * far, across * far

    return Action(f"shift-{way}-by-{measure}", lambda s, c: _moved(s, c, by), room=True)


def _moved(scene: Scene, chosen: Chosen, by: Callable[[Thing], tuple[int, int]]) -> Cells:
    rest = Scene(
        scene.height,
        scene.width,
        tuple(t for t, c in zip(scene.things, chosen, strict=True) if not c),
        scene.key,
    )
    things = []
    for thing in selected(scene, chosen):
        down, across = by(thing)
        things.append(replace(thing, row=thing.row + down, col=thing.col + across))
    return _added(rest, things)


def _slide(rng: Rng, new: Iterator[int]) -> Action:
    """Until the edge or another thing, which stay where they are unless chosen."""
    way = pick(rng, tuple(STEPS))
    colour = next(new) if rng.random() < 0.25 else 0

    def act(scene: Scene, chosen: Chosen) -> Cells:
        down, across = STEPS[way]
        taken = np.zeros((scene.height, scene.width), dtype=bool)
        taken[0, 0] = scene.key != 0
        result = []
        order = sorted(
            zip(scene.things, chosen, strict=True), key=lambda e: _reach(e[0], way), reverse=True
        )
        for thing, is_chosen in [e for e in order if not e[1]] + [e for e in order if e[1]]:
            moved = thing
            while is_chosen:
                step = replace(moved, row=moved.row + down, col=moved.col + across)
                if step.row < 0 or step.col < 0:
                    break
                window = taken[step.row : step.bottom, step.col : step.right]
                if window.shape != step.part.shape or window[step.mask].any():
                    break
                moved = step
            window = taken[moved.row : moved.bottom, moved.col : moved.right]
            window |= moved.mask
            result.append(moved.painted(colour) if is_chosen and colour else moved)
        return scene.drawn(result)

    return Action(f"slide-{way}-{colour}", act, room=True)


def _reach(thing: Thing, way: int) -> int:
    """How far it reaches in that direction."""
    return {RIGHT: thing.right, UP: -thing.row, LEFT: -thing.col, DOWN: thing.bottom}[way]


# Drawing


def _outline(rng: Rng, new: Iterator[int]) -> Action:
    colour = next(new)
    corners = rng.random() < 0.7

    def paint(cells: Cells, thing: Thing) -> None:
        mask = np.zeros((cells.shape[0] + 2, cells.shape[1] + 2), dtype=bool)
        mask[thing.row + 1 : thing.bottom + 1, thing.col + 1 : thing.right + 1] = thing.mask
        near = mask.copy()
        for down, across in [*STEPS.values(), *(DIAGONALS if corners else ())]:
            near |= np.roll(mask, (down, across), (0, 1))
        cells[near[1:-1, 1:-1] & (cells == 0)] = colour

    return Action(f"outline-{colour}-{int(corners)}", painting(paint), gap=3)


def _box(rng: Rng, new: Iterator[int]) -> Action:
    """Fill the rest of the bounding box."""
    colour = next(new)

    def change(thing: Thing, scene: Scene) -> Thing:
        if thing.is_full:
            raise Unsuited
        return replace(thing, part=np.where(thing.mask, thing.part, colour))

    return Action(f"fill-box-{colour}", changing(change), ("blob", "corner", "plus", "frame"))


def _corners(rng: Rng, new: Iterator[int]) -> Action:
    """Cells at the corners, inside or just outside."""
    colour, out = next(new), between(rng, 0, 1)

    def paint(cells: Cells, thing: Thing) -> None:
        for row in (thing.row - out, thing.bottom - 1 + out):
            for col in (thing.col - out, thing.right - 1 + out):
                if 0 <= row < cells.shape[0] and 0 <= col < cells.shape[1]:
                    cells[row, col] = colour

    return Action(f"corners-{colour}-{out}", painting(paint), ("rectangle", "frame", "dot"), gap=3)


def _ray(rng: Rng, new: Iterator[int]) -> Action:
    """From all cells on a side, to the edge or the first other thing."""
    ways = pick(rng, ((RIGHT,), (UP,), (LEFT,), (DOWN,), (LEFT, RIGHT), (UP, DOWN), tuple(STEPS)))
    stops = rng.random() < 0.4
    colour = next(new) if rng.random() < 0.6 else 0

    def paint(cells: Cells, thing: Thing) -> None:
        before = cells.copy()
        for way in ways:
            down, across = STEPS[way]
            for row, col in np.argwhere(thing.mask).tolist():
                row, col = row + thing.row + down, col + thing.col + across
                left = False
                while 0 <= row < cells.shape[0] and 0 <= col < cells.shape[1]:
                    inside = thing.row <= row < thing.bottom and thing.col <= col < thing.right
                    if before[row, col] == 0:
                        cells[row, col] = colour or thing.colour
                        left = left or not inside
                    elif stops and not inside:
                        break
                    row, col = row + down, col + across

    forms = ("dot",) if rng.random() < 0.5 else ("dot", "line", "rectangle")
    name = "".join(map(str, ways))
    return Action(f"ray-{name}-{colour}-{int(stops)}", painting(paint), forms)


def _diagonal_ray(rng: Rng, new: Iterator[int]) -> Action:
    ways = pick(rng, (*((d,) for d in DIAGONALS), DIAGONALS, DIAGONALS[:2], DIAGONALS[2:]))
    colour = next(new) if rng.random() < 0.6 else 0

    def paint(cells: Cells, thing: Thing) -> None:
        for down, across in ways:
            row = thing.row - 1 if down < 0 else thing.bottom
            col = thing.col - 1 if across < 0 else thing.right
            while 0 <= row < cells.shape[0] and 0 <= col < cells.shape[1]:
                if cells[row, col] == 0:
                    cells[row, col] = colour or thing.colour
                row, col = row + down, col + across

    return Action(f"diagonal-{ways}-{colour}", painting(paint), ("dot", "square"), gap=2)


def _through(rng: Rng, new: Iterator[int]) -> Action:
    """The rows or columns of the thing, from edge to edge, below all things."""
    across = rng.random() < 0.5
    colour = next(new) if rng.random() < 0.7 else 0

    def paint(cells: Cells, thing: Thing) -> None:
        band = cells[thing.row : thing.bottom] if across else cells[:, thing.col : thing.right]
        band[band == 0] = colour or thing.colour

    return Action(f"band-{int(across)}-{colour}", painting(paint), ("dot", "rectangle", "square"))


def _stamp(rng: Rng, new: Iterator[int]) -> Action:
    """Cells around a dot."""
    colour = next(new)
    around = [*STEPS.values(), *DIAGONALS, (0, 2), (0, -2), (2, 0), (-2, 0)]
    cells_of = {around[int(i)] for i in rng.permutation(len(around))[: between(rng, 2, 6)]}

    def paint(cells: Cells, thing: Thing) -> None:
        for down, across in cells_of:
            row, col = thing.row + down, thing.col + across
            if 0 <= row < cells.shape[0] and 0 <= col < cells.shape[1]:
                cells[row, col] = colour

    name = "".join(str(int(a in cells_of)) for a in around)
    return Action(f"stamp-{name}-{colour}", painting(paint), ("dot",), gap=4)


# Answers that are no scene


def _crop(rng: Rng, new: Iterator[int]) -> Action:
    how = pick(rng, CROPS)

    def act(scene: Scene, chosen: Chosen) -> Cells:
        return CROPS_BY_NAME[how](only(scene, chosen).part)

    return Action(f"crop-{how}", act, crops=True, single=True)


def _twice(part: Cells) -> Cells:
    return np.kron(part, np.ones((2, 2), dtype=np.int64))


CROPS_BY_NAME: dict[str, Callable[[Cells], Cells]] = {
    "plain": lambda p: p.copy(),
    "fliplr": np.fliplr,
    "flipud": np.flipud,
    "rot180": lambda p: np.rot90(p, 2),
    "rot90": lambda p: np.rot90(p, 1),
    "rot270": lambda p: np.rot90(p, 3),
    "transposed": lambda p: p.T,
    "twice": _twice,
    "beside": lambda p: np.hstack([p, p]),
    "below": lambda p: np.vstack([p, p]),
    "beside-mirror": lambda p: np.hstack([p, np.fliplr(p)]),
    "below-mirror": lambda p: np.vstack([p, np.flipud(p)]),
    "four": lambda p: np.tile(p, (2, 2)),
    "kaleidoscope": lambda p: np.block([[p, np.fliplr(p)], [np.flipud(p), np.rot90(p, 2)]]),
    "framed": lambda p: np.pad(p, 1, constant_values=p.max()),
    "inverted": lambda p: np.where(p == 0, p.max(), 0),
}
CROPS = ("plain", "plain", "plain", *CROPS_BY_NAME)
"""Drawn from: the plain cut is the most common."""


def _crop_painted(rng: Rng, new: Iterator[int]) -> Action:
    colour = next(new)
    return Action(
        f"crop-painted-{colour}",
        lambda scene, chosen: only(scene, chosen).painted(colour).part,
        crops=True,
        single=True,
    )


def _colour_of(rng: Rng, new: Iterator[int]) -> Action:
    """A block in the colour of the chosen thing."""
    height, width = between(rng, 1, 3), between(rng, 1, 3)
    return Action(
        f"colour-of-{height}-{width}",
        lambda scene, chosen: np.full((height, width), only(scene, chosen).colour),
        crops=True,
        single=True,
        varied=True,
    )


def _count(rng: Rng, new: Iterator[int]) -> Action:
    """As many cells as things are chosen: a line, a diagonal, or the first cells of a square."""
    colour = next(new)
    how = pick(rng, ("row", "column", "diagonal", "square", "long row", "block"))

    def act(scene: Scene, chosen: Chosen) -> Cells:
        num = sum(chosen)
        if how == "row":
            return np.full((1, num), colour)
        if how == "column":
            return np.full((num, 1), colour)
        if how == "diagonal":
            return np.eye(num, dtype=np.int64) * colour
        if how == "block":
            return np.full((num, num), colour)
        cells = np.zeros((1, 8) if how == "long row" else (3, 3), dtype=np.int64)
        if num > cells.size:
            raise Unsuited
        cells.ravel()[:num] = colour
        return cells

    return Action(f"count-{how}-{colour}", act, crops=True)


ACTIONS: tuple[tuple[Callable[[Rng, Iterator[int]], Action], float], ...] = (
    (_recolour, 3), (_recolour_by_key, 1), (_recolour_both, 1.5), (_inside, 1), (_rim, 1),
    (_hollow, 0.7), (_stripes, 1), (_fill_holes, 1.5), (_delete, 1.5), (_keep, 1.5),
    (_grey_others, 1),
    (_turn, 1.5), (_copy_beside, 2), (_shift, 1.5), (_shift_by_length, 1), (_slide, 2.5),
    (_outline, 1.5), (_box, 1.5), (_corners, 1), (_ray, 3), (_diagonal_ray, 1.5), (_through, 1.5),
    (_stamp, 2),    (_crop, 3.5), (_crop_painted, 0.7), (_colour_of, 0.7), (_count, 1.5),
)  # fmt: skip
"""What draws an action, and its weight. It takes colours that no scene has from an iterator."""
