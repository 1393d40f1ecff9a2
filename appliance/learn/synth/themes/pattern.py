"""Families that continue, order or thin out a pattern."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.scene import (
    between,
    blob,
    block,
    colours,
    noise,
    noisy,
    nothing,
    put,
    some,
)
from appliance.program.dsl import DOWN, LEFT, RIGHT


def _begun(rng: Rng, params: Params) -> Cells:
    """The first rows of a pattern; the rest of the grid is empty."""
    num = between(rng, 2, 4)
    cells = np.zeros((between(rng, 2 * num, 14), between(rng, 4, 10)), dtype=np.int64)
    cells[:num] = noise(rng, num, cells.shape[1], colours(rng, 3))
    return cells


def _continued(cells: Cells, params: Params) -> Cells:
    num = int(cells.any(axis=1).sum())
    continued: Cells = cells[np.arange(cells.shape[0]) % num]
    return continued


def _one_row(rng: Rng, params: Params) -> Cells:
    return noise(rng, 1, between(rng, 3, 8), colours(rng, between(rng, 2, 3)), density=0.7)


def _row_start(rng: Rng, params: Params) -> Cells:
    width = 2 * between(rng, 2, 5)
    cells = np.zeros((1, width), dtype=np.int64)
    cells[0, : between(rng, 1, width // 2)] = colours(rng, 1)
    return cells


def _stairs(cells: Cells, params: Params) -> Cells:
    width, num = cells.shape[1], int((cells > 0).sum())
    lengths = num + params["step"] * np.arange(width // 2)
    return np.where(np.arange(width) < lengths[:, None], cells[0, 0], 0)


def _nested(rng: Rng, params: Params) -> Cells:
    """Squares in squares, all in different colours."""
    palette = colours(rng, between(rng, 2, 5))
    cells = block(*(between(rng, 1, 2),) * 2, palette[0])
    for colour in palette[1:]:
        cells = np.pad(cells, 1, constant_values=colour)
    return cells


def _reversed_rings(cells: Cells, params: Params) -> Cells:
    rings = [int(cells[i, i]) for i in range((len(cells) + 1) // 2)]
    table = dict(zip(rings, rings[::-1], strict=True))
    return np.array([[table[int(c)] for c in row] for row in cells])


def _colour_row(rng: Rng, params: Params) -> Cells:
    return np.array([colours(rng, between(rng, 2, 5))])


def _rings_of(cells: Cells, params: Params) -> Cells:
    out = cells[:, -1:]
    for colour in cells[0, -2::-1]:
        out = np.pad(out, 1, constant_values=colour)
    return out


def _lattice(rng: Rng, params: Params) -> Cells:
    """Parts between lines, each mostly in one colour."""
    line, num, side = params["line"], params["num"], between(rng, 2, 4)
    palette = colours(rng, 4, without=[line])
    small = noise(rng, num, num, palette[:3])
    cells = np.kron(small, np.ones((side + 1, side + 1), dtype=np.int64))

    for row in range(num):
        for col in range(num):
            spot = (
                row * (side + 1) + between(rng, 0, side - 1),
                col * (side + 1) + between(rng, 0, side - 1),
            )
            cells[spot] = palette[3]

    cells[side :: side + 1] = line
    cells[:, side :: side + 1] = line
    return cells[:-1, :-1]


def _lattice_majority(cells: Cells, params: Params) -> Cells:
    side, num = (cells.shape[0] + 1) // params["num"], params["num"]
    out = np.zeros((num, num), dtype=np.int64)

    for row, col in np.ndindex(num, num):
        part = cells[row * side : row * side + side - 1, col * side : col * side + side - 1]
        out[row, col] = np.bincount(part.ravel()).argmax()

    return out


def _at_left_edge(rng: Rng, params: Params) -> Cells:
    grid = np.zeros((between(rng, 5, 10), between(rng, 10, 18)), dtype=np.int64)
    part = blob(rng, between(rng, 2, 5), colours(rng, between(rng, 1, 2)))
    put(rng, grid[:, : part.shape[1] + 1], part)
    return grid if params["direction"] == RIGHT else np.ascontiguousarray(grid.T)


def _repeated(cells: Cells, params: Params) -> Cells:
    cells = cells if params["direction"] == RIGHT else cells.T
    cols = np.flatnonzero(cells.any(axis=0))
    out, step = cells.copy(), len(cols) + params["gap"]

    for col in range(int(cols[0]) + step, cells.shape[1]):
        out[:, col] = out[:, col - step]

    return out if params["direction"] == RIGHT else out.T


def _interleaved(cells: Cells, params: Params) -> Cells:
    half = cells.shape[0] // 2
    out = np.empty_like(cells)
    out[::2], out[1::2] = cells[:half], cells[half:]
    return out


def _even_rows(rng: Rng, params: Params) -> Cells:
    return noise(rng, 2 * between(rng, 2, 5), between(rng, 3, 8), colours(rng, 3), density=0.8)


def _row_pyramid(cells: Cells, params: Params) -> Cells:
    order = np.argsort((cells != 0).sum(axis=1), kind="stable")
    return cells[order]


FAMILIES = (
    Family("continue_rows", "pattern", nothing, _begun,
           "part = crop(grid, 0, 0, height(trim(grid)), width(grid))\n"
           "return join_v((split_v(part, height(part)) * height(grid))[:height(grid)])",
           _continued),
    Family("row_to_diagonals", "pattern", some(direction=(LEFT, RIGHT), num=(4, 5, 6)), _one_row,
           "return join_v([roll(grid, $direction, num) for num in range($num)])",
           lambda g, p: np.array([np.roll(g[0], i * p["direction"][1]) for i in range(p["num"])])),
    Family("grow_row", "pattern", some(step=(1, 2)), _row_start,
           "rows = [counter(num_cells(grid) + $step * num, 1, width(grid), most_common(grid))"
           " for num in range(width(grid) // 2)]\nreturn join_v(rows)", _stairs),
    Family("reverse_rings", "pattern", nothing, _nested,
           "rings = [grid[i][i] for i in range((height(grid) + 1) // 2)]\n"
           "return map_colours(grid, dict(zip(rings, rings[::-1])))", _reversed_rings),
    Family("row_to_rings", "pattern", nothing, _colour_row,
           "out = fit(flip_h(grid), 1, 1)\nfor num in range(1, width(grid)):\n"
           "    out = pad(out, 1, flip_h(grid)[0][num])\nreturn out", _rings_of),
    Family("lattice_to_pixels", "pattern", some(line=1, num=(2, 3, 4)), _lattice,
           "parts = split_lines(grid, $line)\n"
           "return mosaic([canvas(1, 1, most_common(part)) for part in parts], $num)",
           _lattice_majority),
    Family("repeat_object", "pattern", some(direction=(RIGHT, DOWN), gap=(0, 1, 2)), _at_left_edge,
           "obj = shapes(grid)[0]\n"
           "step = $gap + (obj.width if $direction == RIGHT else obj.height)\n"
           "for num in range(30):\n"
           "    grid = paint(grid, move(obj, $direction, step * num))\nreturn grid", _repeated),
    Family("interleave_rows", "pattern", nothing, _even_rows,
           "rows = split_v(grid, height(grid))\nhalf = height(grid) // 2\n"
           "return join_v([row for num in range(half) for row in (rows[num], rows[num + half])])",
           _interleaved),
    Family("every_other_row", "pattern", some(first=(0, 1)), noisy(4, 11, density=0.8),
           "return join_v(split_v(grid, height(grid))[$first::2])",
           lambda g, p: g[p["first"] :: 2]),
    Family("every_other_col", "pattern", some(first=(0, 1)), noisy(4, 11, density=0.8),
           "return join_h(split_h(grid, width(grid))[$first::2])",
           lambda g, p: g[:, p["first"] :: 2]),
    Family("order_rows", "pattern", nothing, noisy(4, 8, num=2, density=0.4),
           "return join_v(sorted(split_v(grid, height(grid)), key=num_cells))", _row_pyramid),
)  # fmt: skip
