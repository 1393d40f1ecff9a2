"""Families that pick one thing out of several."""

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
    some,
)
from appliance.program.dsl import DOWN, LEFT, RIGHT, SIDES, UP


def _only(parts: list[Part]) -> Part:
    """The part, if it is the only one. Raises ValueError if the input leaves a choice."""
    if len(parts) != 1:
        raise ValueError(f"{len(parts)} parts to choose from")
    return parts[0]


def _by_size(cells: Cells, params: Params) -> Part:
    size = (max if params["function"] == "largest" else min)(part.size for part in parts_of(cells))
    return _only([part for part in parts_of(cells) if part.size == size])


def _by_side(cells: Cells, params: Params) -> Cells:
    """The part that alone reaches farthest to the side."""

    def reach(part: Part) -> int:
        rows, cols = part.box
        return int(
            {UP: -rows.start, DOWN: rows.stop, LEFT: -cols.start, RIGHT: cols.stop}[params["side"]]
        )

    parts = parts_of(cells)
    farthest = max(map(reach, parts))
    return cut(cells, _only([part for part in parts if reach(part) == farthest]))


def _twins_and_one(rng: Rng, params: Params) -> Cells:
    """Several copies of one shape in different colours, and one other shape."""
    usual, other = blob(rng, between(rng, 3, 6), [1]), blob(rng, between(rng, 3, 6), [1])
    if np.array_equal(usual, other):
        raise ValueError("equal shapes")

    parts = [other * colour(rng), *(usual * c for c in colours(rng, between(rng, 2, 4)))]
    grid = blank(rng, 11, 15)

    for part in parts:
        put(rng, grid, part)

    return grid


def _same(first: Cells, second: Cells) -> bool:
    return np.array_equal(first != 0, second != 0)


def _odd_shape(cells: Cells, params: Params) -> Cells:
    shapes = [cut(cells, part) for part in parts_of(cells)]
    return next(shape for shape in shapes if sum(_same(shape, other) for other in shapes) == 1)


def _colour_and_others(rng: Rng, params: Params) -> Cells:
    parts = [blob(rng, between(rng, 3, 7), [params["colour"]])]
    parts += [
        blob(rng, between(rng, 3, 7), colours(rng, 1, without=[params["colour"]])) for _ in range(3)
    ]
    return put_all(rng, blank(rng, 10, 14), parts)


def _of_colour(cells: Cells, params: Params) -> Cells:
    return cut(cells, _only([part for part in parts_of(cells) if part.colour == params["colour"]]))


def _odd_coloured(rng: Rng, params: Params) -> Cells:
    usual, odd = colours(rng, 2)
    parts = [blob(rng, between(rng, 3, 7), [c]) for c in (odd, usual, usual, usual)]
    grid = blank(rng, 11, 15)

    for part in parts:
        put(rng, grid, part)

    return grid


def _rare_colour(cells: Cells, params: Params) -> Cells:
    parts = parts_of(cells)
    found = [part.colour for part in parts]
    return cut(cells, _only([part for part in parts if found.count(part.colour) == 1]))


def _one_ring(rng: Rng, params: Params) -> Cells:
    """One ring among filled boxes and shapes."""
    parts = [ring(between(rng, 3, 5), between(rng, 3, 5), colour(rng))]
    parts += [block(between(rng, 2, 4), between(rng, 2, 5), colour(rng)) for _ in range(2)]
    return put_all(rng, blank(rng, 10, 15), [*parts, blob(rng, 3, [colour(rng)])])


def _with_hole(cells: Cells, params: Params) -> Cells:
    return cut(cells, _only([part for part in parts_of(cells) if num_holes(part)]))


def _one_square(rng: Rng, params: Params) -> Cells:
    """One filled square among boxes that are none."""
    side = between(rng, 2, 4)
    parts = [block(side, side, colour(rng))]

    for _ in range(3):
        height, width = pick(rng, ((2, 4), (3, 5), (4, 2), (2, 3), (5, 3), (1, 3)))
        parts.append(block(height, width, colour(rng)))

    return put_all(rng, blank(rng, 11, 15), parts)


def _square(cells: Cells, params: Params) -> Cells:
    shapes = [cut(cells, part) for part in parts_of(cells) if part.is_full()]
    return next(shape for shape in shapes if shape.shape[0] == shape.shape[1])


def _one_at_edge(rng: Rng, params: Params) -> Cells:
    grid = blank(rng, 10, 14)
    part = blob(rng, between(rng, 3, 6), [colour(rng)])
    row = between(rng, 0, grid.shape[0] - part.shape[0])
    grid[row : row + part.shape[0], : part.shape[1]] = part
    others = [blob(rng, between(rng, 3, 6), [colour(rng)]) for _ in range(3)]

    return np.rot90(put_all(rng, grid, others, margin=1), between(rng, 0, 3))


def _at_edge(part: Part) -> bool:
    where = part.where
    return bool(where[0].any() or where[-1].any() or where[:, 0].any() or where[:, -1].any())


def _many_coloured(rng: Rng, params: Params) -> Cells:
    """Shapes with two colours each, and one with three or more."""
    grid = blank(rng, 10, 14)
    for num in (between(rng, 3, 4), 2, 2):
        part = blob(rng, between(rng, 5, 8), [1])
        palette = colours(rng, num)
        part[part > 0] = [*palette, *rng.choice(palette, size=int((part > 0).sum()) - num)]
        put(rng, grid, part)

    return grid


def _most_coloured(cells: Cells, params: Params) -> Cells:
    shapes = [cut(cells, part) for part in parts_of(cells, any_colour=True)]
    return max(shapes, key=lambda shape: len(set(shape.ravel().tolist()) - {0}))


def _framed_picture(rng: Rng, params: Params) -> Cells:
    """A frame with noise in it, and loose cells around."""
    height, width, line = between(rng, 4, 8), between(rng, 4, 8), colour(rng)
    picture = np.pad(
        noise(rng, height - 2, width - 2, colours(rng, 3, without=[line]), density=0.5),
        1,
        constant_values=line,
    )
    grid = blank(rng, 10, 15)
    put(rng, grid, picture)

    return put_all(rng, grid, [block(1, 1, c) for c in colours(rng, 5, without=[line])])


def _content(cells: Cells, params: Params) -> Cells:
    return cells[max(parts_of(cells), key=lambda part: part.size).box][1:-1, 1:-1]


FAMILIES = (
    Family("cut_by_size", "select", some(function=("largest", "smallest")),
           blobs(9, 14, num=(3, 5), cells=(2, 9)),
           "return $function(objects(grid)).grid", lambda g, p: cut(g, _by_size(g, p))),
    Family("keep_by_size", "select", some(function=("largest", "smallest")),
           blobs(9, 14, num=(3, 5), cells=(2, 9)),
           "return paint(canvas(height(grid), width(grid)), $function(objects(grid)))",
           lambda g, p: g * _by_size(g, p).where),
    Family("erase_by_size", "select", some(function=("largest", "smallest")),
           blobs(9, 14, num=(3, 5), cells=(2, 9)),
           "return erase(grid, $function(objects(grid)))", lambda g, p: g * ~_by_size(g, p).where),
    Family("colour_by_size", "select", some(function=("largest", "smallest")),
           blobs(9, 14, num=(3, 5), cells=(2, 9)),
           "return canvas(1, 1, $function(objects(grid)).colour)",
           lambda g, p: block(1, 1, _by_size(g, p).colour)),
    Family("cut_farthest", "select", some(side=SIDES), blobs(9, 14, num=(3, 5)),
           "return farthest(objects(grid), $side).grid", _by_side),
    Family("cut_odd_shape", "select", nothing, _twins_and_one,
           "return odd_object(objects(grid)).grid", _odd_shape),
    Family("cut_colour", "select", some(colour=1), _colour_and_others,
           "return with_colour(objects(grid), $colour)[0].grid", _of_colour),
    Family("cut_odd_colour", "select", nothing, _odd_coloured,
           "found = objects(grid)\n"
           "return [obj for obj in found if len(with_colour(found, obj.colour)) == 1][0].grid",
           _rare_colour),
    Family("cut_with_hole", "select", nothing, _one_ring,
           "return [obj for obj in objects(grid) if num_holes(obj)][0].grid", _with_hole),
    Family("cut_square", "select", nothing, _one_square,
           "return [obj for obj in objects(grid) if is_square(obj)][0].grid", _square),
    Family("cut_at_edge", "select", nothing, _one_at_edge,
           "return [obj for obj in objects(grid) if touches_edge(grid, obj)][0].grid",
           lambda g, p: cut(g, _only([part for part in parts_of(g) if _at_edge(part)]))),
    Family("erase_at_edge", "select", nothing, _one_at_edge,
           "for obj in objects(grid):\n    if touches_edge(grid, obj):\n"
           "        grid = erase(grid, obj)\nreturn grid",
           lambda g, p: g * ~_only([part for part in parts_of(g) if _at_edge(part)]).where),
    Family("cut_most_coloured", "select", nothing, _many_coloured,
           "return max([obj.grid for obj in shapes(grid)], key=num_colours)", _most_coloured),
    Family("cut_frame_content", "select", nothing, _framed_picture,
           "obj = largest(objects(grid))\n"
           "return peel(crop(grid, obj.row, obj.col, obj.height, obj.width))",
           _content),
)  # fmt: skip
