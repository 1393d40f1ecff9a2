"""Families whose answer is a number, shown as a grid."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.parts import num_holes, parts_of
from appliance.learn.synth.scene import (
    between,
    blank,
    blob,
    blobs,
    block,
    colours,
    dots,
    noise,
    nothing,
    pick,
    put,
    put_all,
    shuffled,
    some,
)


def _counted_dots(rng: Rng, params: Params) -> Cells:
    """Dots of the wanted colour among dots of other colours."""
    wanted, others = params["colour"], colours(rng, 2, without=[params["colour"]])
    palette = [wanted] * between(rng, 1, 6) + [pick(rng, others) for _ in range(between(rng, 1, 4))]
    return put_all(rng, blank(rng, 8, 12), [block(1, 1, c) for c in palette])


def _strip(num: int, colour: int) -> Cells:
    if num < 1:
        raise ValueError("nothing to count")
    return block(1, num, colour)


def _distinct_bars(rng: Rng, params: Params) -> Cells:
    palette = colours(rng, between(rng, 2, 4))
    counts = shuffled(rng, range(1, 9))[: len(palette)]
    values = [c for c, n in zip(palette, counts, strict=True) for _ in range(n)]
    cells = np.zeros((between(rng, 6, 9), between(rng, 6, 9)), dtype=np.int64)
    cells.ravel()[rng.permutation(cells.size)[: len(values)]] = values

    return cells


def _ranked(cells: Cells) -> list[tuple[int, int]]:
    """(count, colour), the highest count first."""
    counts = np.bincount(cells.ravel(), minlength=10)
    return sorted(((int(counts[c]), c) for c in range(1, 10) if counts[c]), reverse=True)


def _bars(cells: Cells, params: Params) -> Cells:
    ranked = _ranked(cells)
    out = np.zeros((len(ranked), ranked[0][0]), dtype=np.int64)
    for row, (num, colour) in enumerate(ranked):
        out[row, :num] = colour
    return out


def _first_cells(cells: Cells, params: Params) -> Cells:
    out = np.zeros(9, dtype=np.int64)
    out[: len(parts_of(cells))] = params["colour"]
    return out.reshape(3, 3)


def _odd_one(rng: Rng, params: Params) -> Cells:
    """Equal parts side by side, one of which differs."""
    num, palette = params["num"], colours(rng, 2)
    height, width = between(rng, 2, 5), between(rng, 2, 4)
    usual, odd = (noise(rng, height, width, palette, density=0.6) for _ in range(2))

    if np.array_equal(usual, odd):
        raise ValueError("no odd part")

    at = between(rng, 0, num - 1)
    return np.hstack([odd if i == at else usual for i in range(num)])


def _odd_part(cells: Cells, params: Params) -> Cells:
    parts = np.split(cells, params["num"], axis=1)
    return next(p for p in parts if sum(np.array_equal(p, other) for other in parts) == 1)


def _lattice_of_counts(rng: Rng, params: Params) -> Cells:
    """2 x 2 parts with different numbers of cells, divided by lines."""
    line, side = params["line"], between(rng, 3, 5)
    counts, colour = (
        shuffled(rng, range(1, side * side))[:4],
        colours(rng, 1, without=[params["line"]])[0],
    )
    cells = block(2 * side + 1, 2 * side + 1, line)

    for (row, col), num in zip(
        ((0, 0), (0, side + 1), (side + 1, 0), (side + 1, side + 1)), counts, strict=True
    ):
        part = np.zeros(side * side, dtype=np.int64)
        part[rng.permutation(part.size)[:num]] = colour
        cells[row : row + side, col : col + side] = part.reshape(side, side)

    return cells


def _extreme_part(cells: Cells, params: Params) -> Cells:
    side = cells.shape[0] // 2
    parts = [cells[r : r + side, c : c + side] for r in (0, side + 1) for c in (0, side + 1)]
    ordered = sorted(parts, key=lambda part: int((part > 0).sum()))
    return ordered[-1] if params["function"] == "fullest" else ordered[0]


def _one_fullest_row(rng: Rng, params: Params) -> Cells:
    cells = noise(
        rng,
        between(rng, 5, 9),
        between(rng, 5, 9),
        colours(rng, 1, without=[params["colour"]]),
        density=0.3,
    )
    counts = np.sort((cells > 0).sum(axis=1))

    if counts[-1] == counts[-2]:
        raise ValueError("two rows are equally full")

    return cells


def _marked_row(cells: Cells, params: Params) -> Cells:
    cells[(cells > 0).sum(axis=1).argmax()] = params["colour"]
    return cells


def _ladder(rng: Rng, params: Params) -> Cells:
    """A row of rings that share their walls: as many holes as rings."""
    num, side = between(rng, 1, 4), between(rng, 1, 2)
    part = block(side + 2, num * (side + 1) + 1, colours(rng, 1, without=[params["colour"]])[0])

    for i in range(num):
        part[1:-1, i * (side + 1) + 1 : (i + 1) * (side + 1)] = 0

    grid = blank(rng, 14, 16)
    put(rng, grid, part if rng.random() < 0.5 else part.T)
    return grid


def _most_parts(rng: Rng, params: Params) -> Cells:
    """One colour has more shapes than each other colour."""
    palette, num = colours(rng, 3), between(rng, 3, 4)
    grid = blank(rng, 10, 14)

    for colour, count in zip(
        palette, (num, between(rng, 1, num - 1), between(rng, 1, num - 1)), strict=True
    ):
        for _ in range(count):
            put(rng, grid, blob(rng, between(rng, 1, 4), [colour]))

    return grid


def _most_frequent_part(cells: Cells, params: Params) -> Cells:
    found = [part.colour for part in parts_of(cells)]
    return block(1, 1, max(set(found), key=found.count))


def _sparse(rng: Rng, params: Params) -> Cells:
    return noise(rng, between(rng, 5, 10), between(rng, 5, 10), colours(rng, 2), density=0.4)


FAMILIES = (
    Family("count_colour", "counting", some(colour=1), _counted_dots,
           "return bar(count(grid, $colour), $colour)",
           lambda g, p: _strip(int((g == p["colour"]).sum()), p["colour"])),
    Family("count_objects", "counting", some(colour=1), blobs(10, 14, num=(1, 6)),
           "return bar(num_objects(grid), $colour)",
           lambda g, p: _strip(len(parts_of(g)), p["colour"])),
    Family("count_colours", "counting", some(colour=1), dots(num=(2, 7)),
           "return bar(num_colours(grid), $colour)",
           lambda g, p: _strip(len(np.unique(g)) - 1, p["colour"])),
    Family("histogram", "counting", nothing, _distinct_bars, "return histogram(grid)", _bars),
    Family("count_stairs", "counting", some(colour=1), dots(7, 12, num=(2, 8), one_colour=True),
           "return stairs(num_cells(grid), $colour)",
           lambda g, p: np.eye(int((g > 0).sum()), dtype=np.int64) * p["colour"]),
    Family("count_square", "counting", some(colour=1), blobs(10, 15, num=(2, 7), cells=(1, 7)),
           "return canvas(num_objects(grid), num_objects(grid), $colour)",
           lambda g, p: block(len(parts_of(g)), len(parts_of(g)), p["colour"])),
    Family("counter", "counting", some(colour=1), dots(8, 12, num=(1, 9)),
           "return counter(num_objects(grid), 3, 3, $colour)", _first_cells),
    Family("majority", "counting", nothing, _distinct_bars,
           "return canvas(1, 1, most_common(grid))",
           lambda g, p: block(1, 1, _ranked(g)[0][1])),
    Family("colours_by_count", "counting", nothing, _distinct_bars,
           "found = sorted(palette(grid), key=lambda colour: -count(grid, colour))\n"
           "return join_v([canvas(1, 1, colour) for colour in found])",
           lambda g, p: np.array([[colour] for _, colour in _ranked(g)])),
    Family("odd_part", "counting", some(num=(3, 4, 5)), _odd_one,
           "return odd_grid(split_h(grid, $num))", _odd_part),
    Family("extreme_part", "counting", some(line=1, function=("fullest", "emptiest")),
           _lattice_of_counts,
           "return $function(split_lines(grid, $line))", _extreme_part),
    Family("fullest_row", "counting", some(colour=1), _one_fullest_row,
           "counts = row_counts(grid)\nreturn row_line(grid, counts.index(max(counts)), $colour)",
           _marked_row),
    Family("count_holes", "counting", some(colour=1), _ladder,
           "return bar(num_holes(largest(objects(grid))), $colour)",
           lambda g, p: _strip(num_holes(parts_of(g)[0]), p["colour"])),
    Family("most_objects", "counting", nothing, _most_parts,
           "found = objects(grid)\n"
           "best = max(palette(grid), key=lambda colour: len(with_colour(found, colour)))\n"
           "return canvas(1, 1, best)", _most_frequent_part),
    Family("full_enough_rows", "counting", some(num=(2, 3)), _sparse,
           "for row, num in enumerate(row_counts(grid)):\n    if num < $num:\n"
           "        grid = row_line(grid, row, 0)\n"
           "return grid", lambda g, p: g * ((g > 0).sum(axis=1) >= p["num"])[:, None]),
)  # fmt: skip
