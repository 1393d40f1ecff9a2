"""Families that turn, cut and shift the whole grid."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.scene import (
    between,
    blob,
    blobs,
    block,
    colours,
    noise,
    noisy,
    nothing,
    some,
)
from appliance.program.dsl import CORNERS, DOWN, LEFT, RIGHT, SIDES, UP

_TURNS = {"rot90": -1, "rot180": 2, "rot270": 1}


def _framed(rng: Rng, params: Params) -> Cells:
    """Noise within frames of one colour each."""
    cells = noise(rng, between(rng, 2, 6), between(rng, 2, 6), colours(rng, 3), density=0.7)
    for ring in colours(rng, params["num"]):
        cells = np.pad(cells, 1, constant_values=ring)
    return cells


def _one_part(rng: Rng, params: Params) -> Cells:
    cells = np.zeros((between(rng, 5, 12), between(rng, 5, 12)), dtype=np.int64)
    part = blob(rng, between(rng, 4, 9), colours(rng, between(rng, 1, 3)))[
        : cells.shape[0] - 1, : cells.shape[1] - 1
    ]
    row, col = (
        between(rng, 0, cells.shape[0] - part.shape[0]),
        between(rng, 0, cells.shape[1] - part.shape[1]),
    )
    cells[row : row + part.shape[0], col : col + part.shape[1]] = part

    return cells


def _box(cells: Cells, wanted: Cells) -> tuple[slice, slice]:
    rows, cols = np.nonzero(wanted)
    return slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1)


def _with_markers(rng: Rng, params: Params) -> Cells:
    """Noise with four markers at the corners of a box of at least 3 x 3 cells."""
    mark = params["mark"]
    cells = noise(
        rng, between(rng, 7, 13), between(rng, 7, 13), colours(rng, 3, without=[mark]), density=0.6
    )
    top, left = between(rng, 0, cells.shape[0] - 5), between(rng, 0, cells.shape[1] - 5)
    bottom, right = (
        between(rng, top + 3, cells.shape[0] - 1),
        between(rng, left + 3, cells.shape[1] - 1),
    )
    cells[np.ix_([top, bottom], [left, right])] = mark

    return cells


def _between_markers(cells: Cells, params: Params) -> Cells:
    return cells[_box(cells, cells == params["mark"])][1:-1, 1:-1]


def _equal_parts(rng: Rng, params: Params) -> Cells:
    height, width = between(rng, 2, 6), between(rng, 2, 6)
    palette = colours(rng, 4)
    return np.hstack(
        [noise(rng, height, width, palette, density=0.6) for _ in range(params["num"])]
    )


def _lattice(rng: Rng, params: Params) -> Cells:
    """2 x 3 parts of noise, divided by lines."""
    line, height, width = params["line"], between(rng, 2, 5), between(rng, 2, 5)
    palette = colours(rng, 3, without=[line])
    rows = []

    for _ in range(2):
        parts = [noise(rng, height, width, palette, density=0.5) for _ in range(3)]
        rows.append(
            np.hstack([np.pad(part, ((0, 0), (0, 1)), constant_values=line) for part in parts])[
                :, :-1
            ]
        )

    return np.vstack([rows[0], block(1, rows[0].shape[1], line), rows[1]])


def _lattice_part(cells: Cells, params: Params) -> Cells:
    height, width = (cells.shape[0] - 1) // 2, (cells.shape[1] - 2) // 3
    row, col = divmod(params["index"], 3)
    return cells[row * (height + 1) :, col * (width + 1) :][:height, :width]


def _shifted(cells: Cells, params: Params) -> Cells:
    (down, across), num = params["direction"], params["num"]
    wide = np.pad(cells, num)
    return wide[num - down * num :, num - across * num :][: cells.shape[0], : cells.shape[1]]


def _half(cells: Cells, side: tuple[int, int]) -> Cells:
    down, across = side
    rows, cols = cells.shape[0] // 2, cells.shape[1] // 2
    if across:
        return cells[:, :cols] if across < 0 else cells[:, -cols:]
    return cells[:rows] if down < 0 else cells[-rows:]


def _index_params(rng: Rng) -> Params:
    num = between(rng, 2, 4)
    return {"num": num, "index": between(rng, 0, num - 1)}


FAMILIES = (
    Family("turn", "geometry", some(function=tuple(_TURNS)), noisy(), "return $function(grid)",
           lambda g, p: np.rot90(g, _TURNS[p["function"]])),
    Family("flip", "geometry", some(function=("flip_h", "flip_v")), noisy(),
           "return $function(grid)",
           lambda g, p: g[:, ::-1] if p["function"] == "flip_h" else g[::-1]),
    Family("diagonal_flip", "geometry", some(function=("transpose", "anti_transpose")), noisy(),
           "return $function(grid)",
           lambda g, p: g.T if p["function"] == "transpose" else np.rot90(g, 2).T),
    Family("shift", "geometry", some(direction=SIDES + CORNERS, num=(1, 2, 3)),
           noisy(5, 10, density=0.5),
           "return shift(grid, $direction, $num)", _shifted),
    Family("roll", "geometry", some(direction=SIDES, num=(1, 2, 3)), noisy(4, 9),
           "return roll(grid, $direction, $num)",
           lambda g, p: np.roll(g, (p["direction"][0] * p["num"], p["direction"][1] * p["num"]),
           axis=(0, 1))),
    Family("half", "geometry", some(side=SIDES), noisy(4, 12), "return half(grid, $side)",
           lambda g, p: _half(g, p["side"])),
    Family("quarter", "geometry", some(first=(UP, DOWN), second=(LEFT, RIGHT)), noisy(4, 12),
           "return half(half(grid, $first), $second)",
           lambda g, p: _half(_half(g, p["first"]), p["second"])),
    Family("peel", "geometry", some(num=(1, 2)), _framed, "return peel(grid, $num)",
           lambda g, p: g[p["num"] : -p["num"], p["num"] : -p["num"]]),
    Family("pad", "geometry", some(num=(1, 2), fill=1), noisy(2, 8),
           "return pad(grid, $num, $fill)",
           lambda g, p: np.pad(g, p["num"], constant_values=p["fill"])),
    Family("trim", "geometry", nothing, _one_part, "return trim(grid)", lambda g, p: g[_box(g, g)]),
    Family("trim_and_flip", "geometry", some(function=("flip_h", "flip_v", "rot180")), _one_part,
           "return $function(trim(grid))"),
    Family("between_markers", "geometry", some(mark=1), _with_markers,
           "marks = with_colour(layers(grid), $mark)[0]\n"
           "return peel(crop(grid, marks.row, marks.col, marks.height, marks.width))",
           _between_markers),
    Family("nth_part", "geometry", _index_params, _equal_parts,
           "return split_h(grid, $num)[$index]",
           lambda g, p: np.split(g, p["num"], axis=1)[p["index"]]),
    Family("lattice_part", "geometry", some(line=1, index=range(6)), _lattice,
           "return split_lines(grid, $line)[$index]", _lattice_part),
    Family("append_turned", "geometry",
           some(join=("join_h", "join_v"), function=("flip_h", "flip_v", "rot180")),
           noisy(2, 7), "return $join([grid, $function(grid)])"),
    Family("empty_lines_out", "geometry", nothing, blobs(7, 12, num=(2, 3)),
           "rows = [row for row in split_v(grid, height(grid)) if num_cells(row)]\n"
           "cols = [col for col in split_h(join_v(rows), width(grid)) if num_cells(col)]\n"
           "return join_h(cols)", lambda g, p: g[g.any(axis=1)][:, g.any(axis=0)]),
)  # fmt: skip
