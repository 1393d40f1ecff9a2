"""Families that change colours."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.scene import between, blobs, colours, noise, noisy, nothing, some


def _distinct_counts(rng: Rng, params: Params) -> Cells:
    """Noise in which no two colours, 0 aside, are equally frequent."""
    cells = noise(
        rng, between(rng, 3, 8), between(rng, 3, 8), colours(rng, between(rng, 2, 4)), density=0.8
    )
    counts = np.bincount(cells.ravel(), minlength=10)[1:]
    counts = counts[counts > 0]

    if len(set(counts.tolist())) < len(counts):
        raise ValueError("two colours are equally frequent")

    return cells


def _ranked(cells: Cells) -> list[int]:
    """Colours from the most to the least frequent, without 0."""
    counts = np.bincount(cells.ravel(), minlength=10)
    return sorted((c for c in range(1, 10) if counts[c]), key=lambda c: -counts[c])


def _mapped(cells: Cells, table: dict[int, int]) -> Cells:
    return np.array([[table.get(int(c), int(c)) for c in row] for row in cells])


def _table_params(rng: Rng) -> Params:
    old = colours(rng, 3)
    return {"old": old, "table": dict(zip(old, colours(rng, 3), strict=True))}


def _two_colours(rng: Rng, params: Params) -> Cells:
    return noise(rng, between(rng, 3, 9), between(rng, 3, 9), colours(rng, 2))


def _with_legend(rng: Rng, params: Params) -> Cells:
    """Shapes in one colour; the first two cells of the grid say which colour becomes which."""
    old, new = colours(rng, 2)
    cells = np.zeros((between(rng, 6, 11), between(rng, 6, 11)), dtype=np.int64)
    cells[2:] = noise(rng, cells.shape[0] - 2, cells.shape[1], [old], density=0.4)
    cells[0, :2] = old, new
    return cells


def _legend(cells: Cells, params: Params) -> Cells:
    old, new = cells[0, :2]
    return np.where(cells == old, new, cells)


def _cell_params(rng: Rng) -> Params:
    old, new = colours(rng, 2)
    return {"old": old, "new": new, "first": between(rng, 0, 1)}


def _chequered(cells: Cells, params: Params) -> Cells:
    rows, cols = np.indices(cells.shape)
    return np.where(
        (cells == params["old"]) & ((rows + cols) % 2 == params["first"]), params["new"], cells
    )


def _striped(cells: Cells, params: Params) -> Cells:
    wanted = cells == params["old"]
    wanted[:, 1 - params["first"] :: 2] = False
    return np.where(wanted, params["new"], cells)


def _is_most(cells: Cells, new: int) -> Cells:
    return np.where(cells == _ranked(cells)[0], new, cells)


FAMILIES = (
    Family("recolour", "colour", some(old=1, new=1), noisy(num=2, has="old"),
           "return recolour(grid, $old, $new)",
           lambda g, p: np.where(g == p["old"], p["new"], g)),
    Family("swap_colours", "colour", some(first=1, second=1), noisy(num=2, has="first second"),
           "return swap(grid, $first, $second)",
           lambda g, p: _mapped(g, {p["first"]: p["second"], p["second"]: p["first"]})),
    Family("swap_the_two", "colour", nothing, _two_colours,
           "first, second = palette(grid)\nreturn swap(grid, first, second)",
           lambda g, p: g.max() + g.min() - g),
    Family("map_colours", "colour", _table_params, noisy(4, 9, num=0, has="old"),
           "return map_colours(grid, $table)", lambda g, p: _mapped(g, p["table"])),
    Family("keep_colour", "colour", some(colour=1), noisy(num=3, has="colour"),
           "return keep(grid, $colour)",
           lambda g, p: g * (g == p["colour"])),
    Family("remove_colour", "colour", some(colour=1), noisy(num=3, has="colour"),
           "return recolour(grid, $colour, 0)", lambda g, p: g * (g != p["colour"])),
    Family("dye", "colour", some(colour=1), blobs(), "return dye(grid, $colour)",
           lambda g, p: (g != 0) * p["colour"]),
    Family("invert", "colour", some(colour=1), noisy(3, 9, num=1, density=0.5),
           "return invert(grid, $colour)",
           lambda g, p: (g == 0) * p["colour"]),
    Family("fill_background", "colour", some(colour=1), blobs(6, 12),
           "return recolour(grid, 0, $colour)",
           lambda g, p: np.where(g, g, p["colour"])),
    Family("recolour_majority", "colour", some(new=1), _distinct_counts,
           "return recolour(grid, most_common(grid), $new)", lambda g, p: _is_most(g, p["new"])),
    Family("remove_rarest", "colour", nothing, _distinct_counts,
           "return recolour(grid, least_common(grid), 0)",
           lambda g, p: g * (g != _ranked(g)[-1])),
    Family("keep_majority", "colour", nothing, _distinct_counts,
           "return keep(grid, most_common(grid))",
           lambda g, p: g * (g == _ranked(g)[0])),
    Family("rank_colours", "colour", nothing, _distinct_counts, "return rank_colours(grid)",
           lambda g, p: _mapped(g, {c: i + 1 for i, c in enumerate(_ranked(g))})),
    Family("swap_extremes", "colour", nothing, _distinct_counts,
           "return swap(grid, most_common(grid), least_common(grid))",
           lambda g, p: _mapped(g, {_ranked(g)[0]: _ranked(g)[-1], _ranked(g)[-1]: _ranked(g)[0]})),
    Family("all_majority", "colour", nothing, _distinct_counts,
           "return canvas(height(grid), width(grid), most_common(grid))",
           lambda g, p: np.full_like(g, _ranked(g)[0])),
    Family("legend", "colour", nothing, _with_legend,
           "return recolour(grid, grid[0][0], grid[0][1])", _legend),
    Family("chequered_recolour", "colour", _cell_params, noisy(4, 10, num=1, has="old"),
           "pattern = checker(height(grid), width(grid), 1 - $first, $first)\n"
           "return paint_mask(grid, mask_of(grid, $old) & mask_of(pattern, 1), $new)", _chequered),
    Family("striped_recolour", "colour", _cell_params, noisy(4, 10, num=1, has="old"),
           "pattern = canvas(height(grid), width(grid))\n"
           "for col in range($first, width(grid), 2):\n    pattern = col_line(pattern, col, 1)\n"
           "return paint_mask(grid, mask_of(grid, $old) & mask_of(pattern, 1), $new)", _striped),
)  # fmt: skip
