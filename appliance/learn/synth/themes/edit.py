"""Families that change objects where they are."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.parts import Part, cut, num_holes, parts_of
from appliance.learn.synth.scene import (
    between,
    blank,
    blob,
    blobs,
    block,
    colour,
    colours,
    noise,
    nothing,
    pick,
    put,
    put_all,
    ring,
    shuffled,
    some,
)
from appliance.program.dsl import DOWN, LEFT, RIGHT, UP

_IF = (
    "for obj in objects(grid):\n"
    "    if {}:\n"
    "        grid = paint(grid, recolour_object(obj, $colour))\n"
    "return grid"
)
_FLIPS = {
    "flip_h": lambda g: g[:, ::-1],
    "flip_v": lambda g: g[::-1],
    "rot180": lambda g: g[::-1, ::-1],
}


def _painted(cells: Cells, parts: list[Part], colour: int) -> Cells:
    for part in parts:
        cells[part.where] = colour
    return cells


def _size_params(rng: Rng) -> Params:
    used, big, small = colours(rng, 3)
    return {"used": used, "num": between(rng, 3, 5), "big": big, "small": small}


def _grey_blobs(rng: Rng, params: Params) -> Cells:
    sizes = shuffled(rng, range(1, 9))[: between(rng, 3, 5)]
    return put_all(rng, blank(rng, 10, 15), [blob(rng, size, [params["used"]]) for size in sizes])


def _by_threshold(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells):
        cells[part.where] = params["big"] if part.size >= params["num"] else params["small"]
    return cells


def _rank_params(rng: Rng) -> Params:
    used, *ranks = colours(rng, 4)
    return {"used": used, "ranks": ranks}


def _three_blobs(rng: Rng, params: Params) -> Cells:
    grid = blank(rng, 9, 14)
    for size in shuffled(rng, range(1, 9))[:3]:
        put(rng, grid, blob(rng, size, [params["used"]]))
    return grid


def _by_rank(cells: Cells, params: Params) -> Cells:
    for part, new in zip(
        sorted(parts_of(cells), key=lambda part: part.size), params["ranks"], strict=True
    ):
        cells[part.where] = new
    return cells


def _extreme(cells: Cells, params: Params) -> list[Part]:
    ordered = sorted(parts_of(cells), key=lambda part: part.size)
    return [ordered[-1] if params["function"] == "largest" else ordered[0]]


def _boxes_and_blobs(rng: Rng, params: Params) -> Cells:
    """Squares, other boxes and rings in one colour that is not the new one."""
    paint = colour(rng, without=[params["colour"]])
    side = between(rng, 2, 3)
    parts = [
        block(side, side, paint),
        ring(between(rng, 3, 4), between(rng, 3, 5), paint),
        block(2, 4, paint),
    ]

    return put_all(
        rng, blank(rng, 11, 16), [*shuffled(rng, parts), blob(rng, between(rng, 3, 6), [paint])]
    )


def _is_square(part: Part) -> bool:
    height, width = part.where[part.box].shape
    return part.is_full() and height == width


def _lines_and_blobs(rng: Rng, params: Params) -> Cells:
    paint = colour(rng, without=[params["colour"]])
    line = block(1, between(rng, 2, 5), paint)
    parts = [
        line if rng.random() < 0.5 else line.T,
        *(blob(rng, between(rng, 4, 7), [paint]) for _ in range(3)),
    ]

    return put_all(rng, blank(rng, 10, 15), parts)


def _is_line(part: Part) -> bool:
    return part.is_full() and min(part.where[part.box].shape) == 1 and part.size > 1


def _some_at_edge(rng: Rng, params: Params) -> Cells:
    paint = colour(rng, without=[params["colour"]])
    grid = put_all(
        rng, blank(rng, 9, 14), [blob(rng, between(rng, 2, 6), [paint]) for _ in range(5)]
    )

    if len({_at_edge(part) for part in parts_of(grid)}) < 2:
        raise ValueError("all at the edge, or none")

    return grid


def _at_edge(part: Part) -> bool:
    inner = part.where[1:-1, 1:-1]
    return int(inner.sum()) < part.size


def _with_seed(rng: Rng, params: Params) -> Cells:
    """Shapes of one colour with one cell of another colour each."""
    base, *seeds = colours(rng, 4)
    grid = blank(rng, 9, 14)

    for seed in seeds[: between(rng, 2, 3)]:
        part = blob(rng, between(rng, 4, 8), [base])
        row, col = pick(rng, np.argwhere(part).tolist())
        part[row, col] = seed
        put(rng, grid, part)

    return grid


def _take_seed(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells, any_colour=True):
        counts = np.bincount(cells[part.where])
        cells[part.where] = np.flatnonzero(counts == 1)[0]
    return cells


def _boxed(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells):
        cells[part.box] = part.colour
    return cells


def _flipped_each(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells, any_colour=True):
        cells[part.box] = _FLIPS[params["function"]](cells[part.box].copy())
    return cells


def _two_tone_blobs(rng: Rng, params: Params) -> Cells:
    parts = [blob(rng, between(rng, 4, 7), colours(rng, 2)) for _ in range(between(rng, 2, 4))]
    return put_all(rng, blank(rng, 9, 14), parts, apart=True)


def _small_away(cells: Cells, params: Params) -> Cells:
    return _painted(cells, [part for part in parts_of(cells) if part.size < params["num"]], 0)


def _speckled(rng: Rng, params: Params) -> Cells:
    parts = [blob(rng, between(rng, 5, 9), [colour(rng)]) for _ in range(2)]
    parts += [
        blob(rng, between(rng, 1, params["num"] - 1), [colour(rng)])
        for _ in range(between(rng, 2, 5))
    ]
    return put_all(rng, blank(rng, 10, 15), parts)


def _pattern_and_markers(rng: Rng, params: Params) -> Cells:
    """A full 3 x 3 pattern, and single cells of the colour of its centre."""
    palette = colours(rng, 3)
    pattern = noise(rng, 3, 3, palette[1:])
    pattern[1, 1] = palette[0]
    grid = blank(rng, 11, 16)
    put(rng, grid, pattern)

    for _ in range(between(rng, 1, 3)):
        put(rng, grid, block(1, 1, palette[0]), gap=2, margin=1)

    return grid


def _stamped(cells: Cells, params: Params) -> Cells:
    shapes = parts_of(cells, any_colour=True)
    pattern = cut(cells, max(shapes, key=lambda part: part.size))

    for part in shapes:
        rows, cols = part.box
        if part.size == 1:
            cells[rows.start - 1 : rows.stop + 1, cols.start - 1 : cols.stop + 1] = pattern

    return cells


def _twins(rng: Rng, params: Params) -> Cells:
    """Two or three equal shapes, and others."""
    paint = colour(rng, without=[params["colour"]])
    usual = blob(rng, between(rng, 3, 5), [paint])
    grid = blank(rng, 11, 15)

    for part in [usual] * between(rng, 2, 3):
        put(rng, grid, part)

    return put_all(rng, grid, [blob(rng, between(rng, 6, 8), [paint]), blob(rng, 2, [paint])])


def _have_twins(cells: Cells) -> list[Part]:
    parts = parts_of(cells)
    looks = [(cut(cells, part) != 0).tolist() for part in parts]
    return [part for part, look in zip(parts, looks, strict=True) if looks.count(look) > 1]


def _lone_shape(rng: Rng, params: Params) -> Cells:
    grid = np.zeros((between(rng, 9, 14), between(rng, 9, 14)), dtype=np.int64)
    part = blob(rng, between(rng, 3, 6), colours(rng, between(rng, 1, 2)))
    put(rng, grid, part, margin=max(part.shape))
    return grid


def _copied(cells: Cells, params: Params) -> Cells:
    rows, cols = parts_of(cells, any_colour=True)[0].box
    (down, across), box = params["side"], cells[rows, cols].copy()
    row, col = rows.start + down * box.shape[0], cols.start + across * box.shape[1]
    cells[row : row + box.shape[0], col : col + box.shape[1]] = box
    return cells


FAMILIES = (
    Family("recolour_by_size", "edit", some(function=("largest", "smallest"), colour=1),
           blobs(9, 14, num=(3, 5), cells=(2, 9)),
           "return paint(grid, recolour_object($function(objects(grid)), $colour))",
           lambda g, p: _painted(g, _extreme(g, p), p["colour"])),
    Family("recolour_by_threshold", "edit", _size_params, _grey_blobs,
           "for obj in objects(grid):\n    colour = $big if obj.size >= $num else $small\n"
           "    grid = paint(grid, recolour_object(obj, colour))\nreturn grid", _by_threshold),
    Family("recolour_by_rank", "edit", _rank_params, _three_blobs,
           "for obj, colour in zip(sort_size(objects(grid)), $ranks):\n"
           "    grid = paint(grid, recolour_object(obj, colour))\nreturn grid", _by_rank),
    Family("recolour_squares", "edit", some(colour=1), _boxes_and_blobs,
           _IF.format("is_square(obj)"),
           lambda g, p: _painted(g, [part for part in parts_of(g) if _is_square(part)],
                              p["colour"])),
    Family("recolour_boxes", "edit", some(colour=1), _boxes_and_blobs,
           _IF.format("is_rectangle(obj)"),
           lambda g, p: _painted(g, [part for part in parts_of(g) if part.is_full()], p["colour"])),
    Family("recolour_holed", "edit", some(colour=1), _boxes_and_blobs, _IF.format("num_holes(obj)"),
           lambda g, p: _painted(g, [part for part in parts_of(g) if num_holes(part)],
                              p["colour"])),
    Family("recolour_lines", "edit", some(colour=1), _lines_and_blobs, _IF.format("is_line(obj)"),
           lambda g, p: _painted(g, [part for part in parts_of(g) if _is_line(part)], p["colour"])),
    Family("recolour_at_edge", "edit", some(colour=1), _some_at_edge,
           _IF.format("touches_edge(grid, obj)"),
           lambda g, p: _painted(g, [part for part in parts_of(g) if _at_edge(part)], p["colour"])),
    Family("recolour_twins", "edit", some(colour=1), _twins,
           "found = objects(grid)\nfor obj in found:\n"
           "    if sum(same_shape(obj, other) for other in found) > 1:\n"
           "        grid = paint(grid, recolour_object(obj, $colour))\nreturn grid",
           lambda g, p: _painted(g, _have_twins(g), p["colour"])),
    Family("take_seed_colour", "edit", nothing, _with_seed,
           "for obj in shapes(grid):\n"
           "    grid = paint(grid, recolour_object(obj, least_common(obj.grid)))\n"
           "return grid", _take_seed),
    Family("fill_boxes", "edit", nothing, blobs(9, 14, num=(2, 3), cells=(3, 6), apart=True),
           "return map_objects(grid, box)",
           _boxed),
    Family("flip_each", "edit", some(function=tuple(_FLIPS)), _two_tone_blobs,
           "for obj in shapes(grid):\n"
           "    grid = stamp(erase(grid, obj), $function(obj.grid), obj.row, obj.col)\nreturn grid",
           _flipped_each),
    Family("small_away", "edit", some(num=(2, 3, 4)), _speckled,
           "for obj in objects(grid):\n    if obj.size < $num:\n        grid = erase(grid, obj)\n"
           "return grid",
           _small_away),
    Family("stamp_at_markers", "edit", nothing, _pattern_and_markers,
           "pattern = largest(shapes(grid)).grid\nfor obj in shapes(grid):\n    if obj.size == 1:\n"
           "        grid = stamp(grid, pattern, obj.row - 1, obj.col - 1)\nreturn grid", _stamped),
    Family("copy_beside", "edit", some(side=(UP, DOWN, LEFT, RIGHT)), _lone_shape,
           "obj = shapes(grid)[0]\n"
           "return paint(grid, "
           "move(obj, $side, obj.width if $side in (LEFT, RIGHT) else obj.height))",
           _copied),
)  # fmt: skip
