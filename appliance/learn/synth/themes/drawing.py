"""Families that draw lines, boxes and fillings into the input."""

from __future__ import annotations

import numpy as np

from appliance.learn.synth.family import Cells, Family, Params, Rng
from appliance.learn.synth.parts import parts_of
from appliance.learn.synth.scene import (
    between,
    blank,
    blob,
    blobs,
    block,
    colour,
    colours,
    dots,
    nothing,
    pick,
    put,
    put_all,
    ring,
    some,
)
from appliance.program.dsl import CORNERS, SIDES

_EACH = "for obj in objects(grid):\n    grid = {}\nreturn grid"
_EACH_OF_INPUT = "out = grid\nfor obj in objects(grid):\n    out = {}\nreturn out"


def _crosses(cells: Cells, params: Params) -> Cells:
    out = cells.copy()
    for row, col in np.argwhere(cells):
        out[row, :] = out[:, col] = cells[row, col]
    return out


def _diagonals(cells: Cells, params: Params) -> Cells:
    rows, cols = np.indices(cells.shape)
    out = cells.copy()
    for row, col in np.argwhere(cells):
        out[abs(rows - row) == abs(cols - col)] = cells[row, col]
    return out


def _lines(cells: Cells, params: Params) -> Cells:
    out = cells.copy()
    for row, col in np.argwhere(cells):
        line = (row, slice(None)) if params["function"] == "row_line" else (slice(None), col)
        out[line] = cells[row, col]
    return out


def _trails(cells: Cells, params: Params) -> Cells:
    (down, across), out = params["direction"], cells.copy()
    for row, col in np.argwhere(cells):
        r, c = row + down, col + across
        while 0 <= r < cells.shape[0] and 0 <= c < cells.shape[1] and not cells[r, c]:
            out[r, c] = cells[row, col]
            r, c = r + down, c + across

    return out


def _bordered(cells: Cells, params: Params) -> Cells:
    return np.pad(cells[1:-1, 1:-1], 1, constant_values=params["colour"])


def _halo(cells: Cells, params: Params) -> Cells:
    out = cells.copy()
    for row, col in np.argwhere(cells):
        near = out[max(0, row - 1) : row + 2, max(0, col - 1) : col + 2]
        near[near == 0] = params["colour"]
    return out


def _rings(rng: Rng, params: Params) -> Cells:
    """Closed and open outlines of boxes in one colour."""
    grid, line = blank(rng, 10, 15), colour(rng, without=[params["colour"]])
    parts = [ring(between(rng, 3, 6), between(rng, 3, 6), line) for _ in range(between(rng, 2, 4))]

    for part in parts[1:]:
        if rng.random() < 0.5:
            part[0, between(rng, 1, part.shape[1] - 2)] = 0

    return put_all(rng, grid, parts)


def _closed_filled(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells):
        box = cells[part.box]
        if part.size == 2 * sum(box.shape) - 4:
            box[1:-1, 1:-1] = params["colour"]
    return cells


def _facing_pairs(rng: Rng, params: Params) -> Cells:
    """Pairs of dots in one row or in one column each, no pair in the way of another."""
    grid = blank(rng, 7, 12)
    across = rng.random() < 0.5
    lines = rng.permutation(range(0, grid.shape[0] if across else grid.shape[1], 2))[
        : between(rng, 1, 3)
    ]

    for line, paint in zip(lines, colours(rng, len(lines)), strict=True):
        row = grid[line] if across else grid[:, line]
        first = between(rng, 0, len(row) - 4)
        row[[first, between(rng, first + 2, len(row) - 1)]] = paint

    return grid


def _joined(cells: Cells, params: Params) -> Cells:
    for lines in (cells, cells.T):
        for line in lines:
            ends = np.flatnonzero(line)
            if len(ends) == 2 and line[ends[0]] == line[ends[1]]:
                line[ends[0] : ends[1]] = line[ends[0]]

    return cells


def _diagonal_pair(rng: Rng, params: Params) -> Cells:
    grid, mark = blank(rng, 6, 12), colour(rng, without=[params["colour"]])
    length, down = between(rng, 3, 5), rng.random() < 0.5
    row, col = (
        between(rng, 0, grid.shape[0] - length - 1),
        between(rng, 0, grid.shape[1] - length - 1),
    )
    grid[row, col if down else col + length] = grid[row + length, col + length if down else col] = (
        mark
    )

    return grid


def _diagonal_joined(cells: Cells, params: Params) -> Cells:
    (top, left), (bottom, right) = np.argwhere(cells)
    for i in range(1, bottom - top):
        cells[top + i, left + i * (1 if right > left else -1)] = params["colour"]
    return cells


def _with_margin(rng: Rng, params: Params) -> Cells:
    """Shapes with room for a frame around each."""
    parts = [
        blob(rng, between(rng, 2, 6), [colour(rng, without=[params["colour"]])]) for _ in range(3)
    ]
    return put_all(rng, blank(rng, 10, 16), parts, gap=3, margin=1, apart=True)


def _framed(cells: Cells, params: Params) -> Cells:
    out = cells.copy()
    for part in parts_of(cells):
        (top, bottom), (left, right) = ((side.start - 1, side.stop) for side in part.box)
        out[[top, bottom], left : right + 1] = out[top : bottom + 1, [left, right]] = params[
            "colour"
        ]

    return out


def _diamonds(cells: Cells, params: Params) -> Cells:
    rows, cols = np.indices(cells.shape)
    out = cells.copy()
    for row, col in np.argwhere(cells):
        out[abs(rows - row) + abs(cols - col) <= params["num"]] = cells[row, col]
    return out


def _rooms(rng: Rng, params: Params) -> Cells:
    """Rooms between full lines, with a marker in one of them."""
    wall = colour(rng, without=[params["mark"]])
    cells = np.zeros((between(rng, 8, 13), between(rng, 8, 13)), dtype=np.int64)
    cells[between(rng, 2, cells.shape[0] - 3)] = wall
    cells[:, between(rng, 2, cells.shape[1] - 3)] = wall
    row, col = pick(rng, np.argwhere(cells == 0).tolist())
    cells[row, col] = params["mark"]

    return cells


def _flooded(cells: Cells, params: Params) -> Cells:
    [[row, col]] = np.argwhere(cells == params["mark"])
    wall = cells.max() if cells.max() != params["mark"] else np.unique(cells)[1]
    line_row, line_col = (cells == wall).all(axis=1).argmax(), (cells == wall).all(axis=0).argmax()
    rows, cols = np.indices(cells.shape)
    same = ((rows < line_row) == (row < line_row)) & ((cols < line_col) == (col < line_col))

    return np.where(same & (cells != wall), params["mark"], cells)


def _boxes(rng: Rng, params: Params) -> Cells:
    """Filled boxes with odd sides, of at least 3 x 3 cells."""
    paint = colour(rng, without=[params["colour"]])
    parts = [block(pick(rng, (3, 5)), pick(rng, (3, 5)), paint) for _ in range(between(rng, 1, 3))]
    return put_all(rng, blank(rng, 11, 16), parts)


def _centres(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells):
        rows, cols = part.box
        cells[(rows.start + rows.stop) // 2, (cols.start + cols.stop) // 2] = params["colour"]
    return cells


def _corners(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells):
        rows, cols = part.box
        cells[np.ix_([rows.start, rows.stop - 1], [cols.start, cols.stop - 1])] = params["colour"]
    return cells


def _hollow(cells: Cells, params: Params) -> Cells:
    for part in parts_of(cells):
        cells[part.box][1:-1, 1:-1] = params["colour"]
    return cells


def _one_box(rng: Rng, params: Params) -> Cells:
    grid = blank(rng, 8, 14)
    put(
        rng,
        grid,
        block(
            between(rng, 3, 7), between(rng, 3, 7), colours(rng, 1, without=[params["colour"]])[0]
        ),
    )
    return grid


FAMILIES = (
    Family("cross_at_dots", "drawing", nothing, dots(num=(1, 3), one_colour=True),
           _EACH_OF_INPUT.format("cross(out, obj.row, obj.col, obj.colour)"), _crosses),
    Family("diagonals_at_dots", "drawing", nothing, dots(num=(1, 2), one_colour=True),
           _EACH_OF_INPUT.format("diagonals(out, obj.row, obj.col, obj.colour)"), _diagonals),
    Family("lines_at_dots", "drawing", some(function=("row_line", "col_line")),
           dots(num=(1, 3), one_colour=True),
           "out = grid\nfor obj in objects(grid):\n"
           "    out = $function(out, obj.row if $function is row_line else obj.col, obj.colour)\n"
           "return out", _lines),
    Family("trails", "drawing", some(direction=SIDES), dots(num=(1, 4)),
           "return extend(grid, $direction)", _trails),
    Family("slanted_trails", "drawing", some(direction=CORNERS), dots(num=(1, 3), one_colour=True),
           "return extend(grid, $direction)", _trails),
    Family("border", "drawing", some(colour=1), blobs(5, 12, num=(2, 3)),
           "return border(grid, $colour)", _bordered),
    Family("halo", "drawing", some(colour=1), dots(num=(1, 4)), "return outline(grid, $colour)",
           _halo),
    Family("fill_closed", "drawing", some(colour=1), _rings, "return fill_enclosed(grid, $colour)",
           _closed_filled),
    Family("join_pairs", "drawing", nothing, _facing_pairs, "return connect(grid)", _joined),
    Family("join_diagonal", "drawing", some(colour=1), _diagonal_pair,
           "first, second = objects(grid)\n"
           "out = line(grid, first.row, first.col, second.row, second.col, $colour)\n"
           "return overlay(out, grid)",
           _diagonal_joined),
    Family("frame_each", "drawing", some(colour=1), _with_margin,
           _EACH_OF_INPUT.format(
               "frame(out, obj.row - 1, obj.col - 1, obj.height + 2, obj.width + 2, $colour)"),
           _framed),
    Family("diamonds", "drawing", some(num=(1, 2, 3)), dots(7, 13, num=(1, 3), one_colour=True),
           "return repeat(grid, grow, $num)", _diamonds),
    Family("flood_room", "drawing", some(mark=1), _rooms,
           "mark = with_colour(objects(grid), $mark)[0]\n"
           "return flood(erase(grid, mark), mark.row, mark.col, $mark)", _flooded),
    Family("mark_centres", "drawing", some(colour=1), _boxes,
           _EACH.format("dot(grid, *obj.centre, $colour)"),
           _centres),
    Family("mark_corners", "drawing", some(colour=1), _boxes,
           "for obj in objects(grid):\n    for row in (obj.row, obj.bottom):\n"
           "        grid = dot(dot(grid, row, obj.col, $colour), row, obj.right, $colour)\n"
           "return grid", _corners),
    Family("hollow_boxes", "drawing", some(colour=range(0, 1)), _boxes,
           _EACH.format(
               "rect(grid, obj.row + 1, obj.col + 1, obj.height - 2, obj.width - 2, $colour)"),
           _hollow),
    Family("refill_boxes", "drawing", some(colour=1), _boxes,
           _EACH.format(
               "rect(grid, obj.row + 1, obj.col + 1, obj.height - 2, obj.width - 2, $colour)"),
           _hollow),
    Family("box_with_border", "drawing", some(colour=1), _one_box,
           "return border(trim(grid), $colour)"),
)  # fmt: skip
