"""Families that enlarge, shrink and repeat."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.scene import (
    between,
    blank,
    blob,
    colours,
    noise,
    noisy,
    nothing,
    put,
    some,
)


def _few(rng: Rng, params: Params) -> Cells:
    """Two to four colours on a small grid."""
    return noise(
        rng, between(rng, 2, 5), between(rng, 2, 5), colours(rng, between(rng, 2, 4)), density=0.8
    )


def _enlarged(rng: Rng, params: Params) -> Cells:
    factor = params["factor"]
    small = noise(rng, between(rng, 2, 6), between(rng, 2, 6), colours(rng, 3), density=0.7)
    return np.kron(small, np.ones((factor, factor), dtype=np.int64))


def _uneven(rng: Rng, params: Params) -> Cells:
    """A small grid whose rows and columns are repeated at random."""
    cells = noise(rng, between(rng, 2, 5), between(rng, 2, 5), colours(rng, 4), density=0.8)
    cells = np.repeat(cells, rng.integers(1, 4, cells.shape[0]), axis=0)
    return np.repeat(cells, rng.integers(1, 4, cells.shape[1]), axis=1)


def _unrepeated(cells: Cells) -> Cells:
    return np.array(
        [row for i, row in enumerate(cells) if i == 0 or list(row) != list(cells[i - 1])]
    )


def _clear_majority(rng: Rng, params: Params) -> Cells:
    """Square noise with one colour that is more frequent than all others."""
    cells = noise(rng, 3, 3, colours(rng, 3))
    counts = np.sort(np.bincount(cells.ravel(), minlength=10))
    if counts[-1] == counts[-2]:
        raise ValueError("no clear majority")
    return cells


def _copies_at(cells: Cells, wanted: Cells) -> Cells:
    return np.kron(wanted.astype(np.int64), cells)


def _big_shape(rng: Rng, params: Params) -> Cells:
    part = blob(rng, between(rng, 3, 6), colours(rng, between(rng, 1, 2)))
    grid = blank(rng, 12, 16)
    put(rng, grid, np.kron(part, np.ones((params["factor"],) * 2, dtype=np.int64)))
    return grid


def _scaled(cells: Cells, factor: int) -> Cells:
    return np.kron(cells, np.ones((factor, factor), dtype=np.int64))


def _num_colours(cells: Cells) -> int:
    return len(set(cells.ravel().tolist()) - {0})


FAMILIES = (
    Family("scale_up", "scaling", some(factor=(2, 3, 4)), noisy(2, 6),
           "return scale_up(grid, $factor)",
           lambda g, p: _scaled(g, p["factor"])),
    Family("stretch", "scaling", some(function=("scale_h", "scale_v"), factor=(2, 3, 4)),
           noisy(2, 7),
           "return $function(grid, $factor)",
           lambda g, p: np.kron(g,
           np.ones((1, p["factor"]) if p["function"] == "scale_h" else (p["factor"], 1), int))),
    Family("scale_down", "scaling", some(factor=(2, 3)), _enlarged,
           "return scale_down(grid, $factor)",
           lambda g, p: g[:: p["factor"], :: p["factor"]]),
    Family("scale_by_colours", "scaling", nothing, _few, "return scale_up(grid, num_colours(grid))",
           lambda g, p: _scaled(g, _num_colours(g))),
    Family("scale_by_cells", "scaling", nothing, noisy(2, 4, num=2, density=0.35),
           "return scale_up(grid, num_cells(grid))", lambda g, p: _scaled(g, int((g > 0).sum()))),
    Family("tile", "scaling", some(rows=(1, 2, 3), cols=(2, 3)), noisy(2, 6),
           "return tile(grid, $rows, $cols)",
           lambda g, p: np.tile(g, (p["rows"], p["cols"]))),
    Family("tile_by_colours", "scaling", nothing, _few,
           "return tile(grid, num_colours(grid), num_colours(grid))",
           lambda g, p: np.tile(g, (_num_colours(g),) * 2)),
    Family("tile_flipped", "scaling", some(flip=("flip_h", "flip_v")), noisy(2, 5),
           "row = join_h([grid, $flip(grid), grid])\nreturn join_v([row, $flip(row), row])"),
    Family("squeeze", "scaling", nothing, _uneven, "return squeeze(grid)",
           lambda g, p: _unrepeated(_unrepeated(g).T).T),
    Family("fractal", "scaling", nothing, noisy(2, 4, num=2, density=0.6), "return fractal(grid)",
           lambda g, p: _copies_at(g, g != 0)),
    Family("fractal_inverse", "scaling", nothing, noisy(2, 4, num=2, density=0.5, square=True),
           "blocks = scale_up(invert(grid, 1), width(grid))\n"
           "return paint_mask(tile(grid, height(grid), width(grid)), mask_of(blocks, 0), 0)",
           lambda g, p: _copies_at(g, g == 0)),
    Family("fractal_majority", "scaling", nothing, _clear_majority,
           "kept = keep(grid, most_common(grid))\nblocks = scale_up(kept, width(grid))\n"
           "return paint_mask(tile(grid, height(grid), width(grid)), mask_of(blocks, 0), 0)",
           lambda g, p: _copies_at(g, g == np.bincount(g.ravel()).argmax())),
    Family("shape_to_pixels", "scaling", some(factor=(2, 3)), _big_shape,
           "return scale_down(trim(grid), $factor)"),
    Family("trim_and_scale", "scaling", some(factor=(1, 2)), _big_shape,
           "return scale_up(trim(grid), 2)"),
)  # fmt: skip
