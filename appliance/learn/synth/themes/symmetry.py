"""Families about mirrors, turns and tilings."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.scene import between, block, colours, noise, noisy, nothing, pick, some
from appliance.program.dsl import SIDES


def _mirrored(cells: Cells, params: Params) -> Cells:
    down, across = params["side"]
    if across:
        return np.hstack([cells, cells[:, ::-1]] if across > 0 else [cells[:, ::-1], cells])
    return np.vstack([cells, cells[::-1]] if down > 0 else [cells[::-1], cells])


def _kaleidoscope(rng: Rng, params: Params) -> Cells:
    without = [params["hole"]] if "hole" in params else []
    part = noise(
        rng, between(rng, 3, 6), between(rng, 3, 6), colours(rng, 4, without=without), density=0.9
    )
    return np.block([[part, part[:, ::-1]], [part[::-1], part[::-1, ::-1]]])


def _half_erased(rng: Rng, params: Params) -> Cells:
    """A mirror image from left to right, or from top to bottom, with cells erased on one side."""
    half = noise(rng, between(rng, 4, 10), between(rng, 3, 5), colours(rng, 3), density=0.7)
    erased = np.where(rng.random(half.shape) < 0.6, 0, half[:, ::-1])
    cells = np.hstack([half, erased] if rng.random() < 0.5 else [erased, half])
    return cells if params["axis"] == "h" else cells.T


def _turned_erased(rng: Rng, params: Params) -> Cells:
    side = between(rng, 2, 5)
    part = noise(rng, side, side, colours(rng, 3), density=0.7)
    cells = np.block([[part, np.rot90(part, -1)], [np.rot90(part), np.rot90(part, 2)]])
    row, col = pick(rng, ((0, 0), (0, side), (side, 0), (side, side)))
    cells[row : row + side, col : col + side] = 0

    return cells


def _with_hole(rng: Rng, params: Params) -> Cells:
    """A kaleidoscope with a box of the hole colour; each hidden cell has a visible mirror image."""
    cells = _kaleidoscope(rng, params)
    rows, cols = cells.shape[0] // 2, cells.shape[1] // 2
    height, width = between(rng, 2, rows), between(rng, 2, cols)
    row, col = between(rng, 0, rows - height), between(rng, 0, cols - width)
    cells[row : row + height, col : col + width] = params["hole"]

    return np.rot90(cells, between(rng, 0, 3))


def _filled(cells: Cells, params: Params) -> Cells:
    for image in (cells[:, ::-1], cells[::-1]):
        cells = np.where(cells == params["hole"], image, cells)
    return cells


def _hole_content(cells: Cells, params: Params) -> Cells:
    rows, cols = np.nonzero(cells == params["hole"])
    return _filled(cells, params)[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]


def _maybe_symmetric(rng: Rng, params: Params) -> Cells:
    height, width = between(rng, 3, 6), between(rng, 2, 3)
    part = noise(rng, height, width, colours(rng, 2), density=0.6)
    if rng.random() < 0.5:
        return np.hstack([part, part[:, ::-1]])
    return noise(rng, height, 2 * width, colours(rng, 2), density=0.6)


def _tiling(rng: Rng, params: Params) -> Cells:
    palette = colours(rng, between(rng, 2, 4), without=[params["hole"]] if "hole" in params else [])
    part = noise(rng, between(rng, 2, 4), between(rng, 2, 4), palette)
    return np.tile(part, (between(rng, 2, 4), between(rng, 2, 4)))


def _worn_tiling(rng: Rng, params: Params) -> Cells:
    palette = colours(rng, between(rng, 3, 5), without=[params["hole"]])
    cells = np.tile(noise(rng, between(rng, 2, 3), between(rng, 2, 3), palette), (5, 5))
    cells = cells[: between(rng, 8, 12), : between(rng, 8, 12)]

    for _ in range(between(rng, 1, 3)):
        row, col = between(rng, 0, cells.shape[0] - 4), between(rng, 0, cells.shape[1] - 4)
        cells[row : row + between(rng, 1, 3), col : col + between(rng, 1, 3)] = params["hole"]

    return cells


def _one_symmetric(rng: Rng, params: Params) -> Cells:
    """Parts of equal size, one of which is a mirror image of itself."""
    height, width, palette = between(rng, 3, 5), between(rng, 3, 5), colours(rng, 2)
    parts = [noise(rng, height, width, palette, density=0.6) for _ in range(3)]
    left = parts[0][:, : (width + 1) // 2]
    parts[0] = np.hstack([left, left[:, ::-1][:, width % 2 :]])

    if any(np.array_equal(part, part[:, ::-1]) for part in parts[1:]):
        raise ValueError("more than one symmetric part")

    return np.hstack([parts[int(i)] for i in rng.permutation(3)])


def _symmetric_part(cells: Cells, params: Params) -> Cells:
    return next(part for part in np.split(cells, 3, axis=1) if np.array_equal(part, part[:, ::-1]))


def _yes_no(cells: Cells, params: Params) -> Cells:
    return block(1, 1, params["yes"] if np.array_equal(cells, cells[:, ::-1]) else params["no"])


FAMILIES = (
    Family("mirror_side", "symmetry", some(side=SIDES), noisy(2, 8), "return mirror(grid, $side)",
           _mirrored),
    Family("mirror_four", "symmetry", nothing, noisy(2, 7), "return mirror_four(grid)",
           lambda g, p: np.block([[g, g[:, ::-1]], [g[::-1], g[::-1, ::-1]]])),
    Family("pinwheel", "symmetry", nothing, noisy(2, 6, square=True), "return pinwheel(grid)",
           lambda g, p: np.block([[g, np.rot90(g, 3)], [np.rot90(g, 1), np.rot90(g, 2)]])),
    Family("complete_mirror", "symmetry", some(axis=("h", "v")), _half_erased,
           "return symmetrize_$axis(grid)",
           lambda g, p: np.where(g, g, g[:, ::-1] if p["axis"] == "h" else g[::-1])),
    Family("complete_turns", "symmetry", nothing, _turned_erased, "return symmetrize_turns(grid)",
           lambda g, p: np.maximum.reduce([g, np.rot90(g), np.rot90(g, 2), np.rot90(g, 3)])),
    Family("repair_hole", "symmetry", some(hole=1), _with_hole,
           "return repair_symmetry(grid, $hole)", _filled),
    Family("read_hole", "symmetry", some(hole=1), _with_hole,
           "hole = with_colour(layers(grid), $hole)[0]\nwhole = repair_symmetry(grid, $hole)\n"
           "return crop(whole, hole.row, hole.col, hole.height, hole.width)", _hole_content),
    Family("is_symmetric", "symmetry", some(yes=1, no=1), _maybe_symmetric,
           "return canvas(1, 1, $yes if is_mirror_h(grid) else $no)", _yes_no),
    Family("repair_tiling", "symmetry", some(hole=1), _worn_tiling,
           "return repair_tiling(grid, $hole)"),
    Family("tiling_unit", "symmetry", nothing, _tiling, "return unit(grid)"),
    Family("continue_tiling", "symmetry", some(rows=(1, 2), cols=(2,)), _tiling,
           "return continue_pattern(grid, height(grid) * $rows, width(grid) * $cols)",
           lambda g, p: np.tile(g, (p["rows"], p["cols"]))),
    Family("symmetric_part", "symmetry", nothing, _one_symmetric,
           "return [part for part in split_h(grid, 3) if is_mirror_h(part)][0]", _symmetric_part),
)  # fmt: skip
