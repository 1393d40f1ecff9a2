"""Families in which cells and objects move."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.scene import (
    between,
    blank,
    blob,
    blobs,
    colour,
    colours,
    noise,
    noisy,
    nothing,
    put,
    put_all,
    shuffled,
    some,
)
from appliance.program.dsl import DOWN, LEFT, RIGHT, SIDES, UP


def _fallen(cells: Cells, params: Params) -> Cells:
    down, across = params["direction"]
    lines = cells.T if down else cells
    out = []

    for line in lines:
        kept = line[line != 0]
        gap = np.zeros(len(line) - len(kept), dtype=np.int64)
        out.append(np.concatenate([gap, kept] if down + across > 0 else [kept, gap]))

    return np.array(out).T if down else np.array(out)


def _mover(rng: Rng, params: Params) -> Cells:
    """One shape of the moving colour among others, with room around it."""
    grid, moving = blank(rng, 9, 14), params["colour"]
    put(rng, grid, blob(rng, between(rng, 2, 5), [moving]), margin=params["num"])
    others = [
        blob(rng, between(rng, 2, 5), colours(rng, 1, without=[moving]))
        for _ in range(between(rng, 1, 3))
    ]

    return put_all(rng, grid, others, gap=params["num"] + 1)


def _moved(cells: Cells, params: Params) -> Cells:
    (down, across), num = params["direction"], params["num"]
    moving = np.roll(cells == params["colour"], (down * num, across * num), axis=(0, 1))
    rest = np.where(cells == params["colour"], 0, cells)
    return np.where(moving, params["colour"], rest)


def _towards_wall(rng: Rng, params: Params) -> Cells:
    """A shape and, on the side to which it moves, a wall across the grid."""
    moving = params["colour"]
    grid = np.zeros((between(rng, 9, 13), between(rng, 6, 12)), dtype=np.int64)
    grid[between(rng, 6, grid.shape[0] - 1)] = colour(rng, without=[moving])
    put(rng, grid[:6], blob(rng, between(rng, 2, 5), [moving]))
    return np.rot90(grid, {DOWN: 0, RIGHT: 1, UP: 2, LEFT: 3}[params["direction"]])


def _slid(cells: Cells, params: Params) -> Cells:
    while True:
        moved = _moved(cells, {**params, "num": 1})
        if (moved > 0).sum() < (cells > 0).sum():
            return cells
        cells = moved


def _bars(rng: Rng, params: Params) -> Cells:
    """Bars of different heights that stand on the bottom."""
    heights = shuffled(rng, range(1, between(rng, 5, 9)))[: between(rng, 3, 6)]
    grid = np.zeros((max(heights) + 1, len(heights)), dtype=np.int64)
    palette = colours(rng, between(rng, 1, 3))

    for col, num in enumerate(heights):
        grid[-num:, col] = palette[col % len(palette)]

    return grid


def _sorted_columns(cells: Cells, params: Params) -> Cells:
    order = np.argsort((cells != 0).sum(axis=0))
    return cells[:, order if params["step"] == 1 else order[::-1]]


def _shape_alone(rng: Rng, params: Params) -> Cells:
    grid = blank(rng, 6, 12)
    put(rng, grid, blob(rng, between(rng, 3, 8), colours(rng, between(rng, 1, 2))))
    return grid


def _in_corner(cells: Cells, params: Params) -> Cells:
    rows, cols = np.nonzero(cells)
    down = 0 if params["row"] == "0" else cells.shape[0] - int(np.ptp(rows)) - 1
    across = 0 if params["col"] == "0" else cells.shape[1] - int(np.ptp(cols)) - 1
    out = np.zeros_like(cells)
    out[rows - rows.min() + down, cols - cols.min() + across] = cells[rows, cols]

    return out


def _two_shapes(rng: Rng, params: Params) -> Cells:
    """Two shapes that face each other along the rows, the moving one left of the other."""
    moving = params["colour"]
    grid = np.zeros((between(rng, 5, 9), between(rng, 10, 15)), dtype=np.int64)
    row = between(rng, 0, grid.shape[0] - 3)
    put(rng, grid[row : row + 3, :4], blob(rng, between(rng, 2, 3), [moving]))
    grid[row : row + 3, between(rng, 7, grid.shape[1] - 1)] = colour(rng, without=[moving])

    return grid


def _swapped_halves(rng: Rng, params: Params) -> Cells:
    half = [noise(rng, 4, 3, colours(rng, 2), density=0.6) for _ in range(2)]
    height, width = between(rng, 2, 4), between(rng, 2, 3)
    return np.hstack([part[:height, :width] for part in half])


FAMILIES = (
    Family("gravity", "motion", some(direction=SIDES), noisy(4, 10, num=3, density=0.35),
           "return fall(grid, $direction)", _fallen),
    Family("move_colour", "motion", some(colour=1, direction=SIDES, num=(1, 2, 3)), _mover,
           "obj = with_colour(objects(grid), $colour)[0]\n"
           "return paint(erase(grid, obj), move(obj, $direction, $num))", _moved),
    Family("slide_to_wall", "motion", some(colour=1, direction=SIDES), _towards_wall,
           "obj = with_colour(objects(grid), $colour)[0]\n"
           "return paint(erase(grid, obj), slide(grid, obj, $direction))", _slid),
    Family("slide_together", "motion", some(colour=1, direction=(RIGHT,)), _two_shapes,
           "obj = with_colour(objects(grid), $colour)[0]\n"
           "return paint(erase(grid, obj), slide(grid, obj, RIGHT))", _slid),
    Family("objects_fall", "motion", nothing, blobs(8, 13, num=(2, 4), cells=(2, 5)),
           "for obj in sort_along(objects(grid), UP):\n"
           "    grid = paint(erase(grid, obj), slide(grid, obj, DOWN))\nreturn grid"),
    Family("sort_bars", "motion", some(step=(1, -1)), _bars,
           "cols = sorted(split_h(grid, width(grid)), key=num_cells)\nreturn join_h(cols[::$step])",
           _sorted_columns),
    Family("to_corner", "motion",
           some(row=("0", "height(grid) - obj.height"), col=("0", "width(grid) - obj.width")),
           _shape_alone, "obj = shapes(grid)[0]\n"
           "return paint(canvas(height(grid), width(grid)), place(obj, $row, $col))", _in_corner),
    Family("swap_halves", "motion", nothing, _swapped_halves,
           "return join_h(split_h(grid, 2)[::-1])",
           lambda g, p: np.roll(g, g.shape[1] // 2, axis=1)),
    Family("slanted_rows", "motion", some(direction=(LEFT, RIGHT)), noisy(3, 8, density=0.6),
           "rows = split_v(grid, height(grid))\n"
           "return join_v([roll(row, $direction, num) for num, row in enumerate(rows)])",
           lambda g, p: np.array([np.roll(row, i * p["direction"][1]) for i, row in enumerate(g)])),
    Family("first_row_last", "motion", nothing, noisy(3, 8, density=0.8),
           "rows = split_v(grid, height(grid))\nreturn join_v(rows[1:] + rows[:1])",
           lambda g, p: np.vstack([g[1:], g[:1]])),
)  # fmt: skip
