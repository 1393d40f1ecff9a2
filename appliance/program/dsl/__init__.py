# fmt: off
# ruff: noqa: I001  (one theme a paragraph, not one name a line)
"""A small language of grid functions. A program: `from dsl import *`, `def transform(grid): ...`.

    geometry     turn, mirror, cut, scale, shift
    symmetry     find, make and repair symmetries and tilings
    colour       read, choose and change colours
    renaming     give colours other names and take them back
    counting     numbers of cells, and grids that show them
    drawing      lines, boxes, fills, falling cells
    lines        trails, joints and crosses of cells; what lies in a line
    object       find, describe and paint objects
    panel        cut a grid into parts that keep their places
    choice       measure, choose and sort objects, and change each of them
    layout       put objects together
    motion       move, slide, gather and copy objects; send trails out
    field        measure the objects of a grid, or its cells
    composition  join grids, combine them cell by cell, repeat functions

A grid is a 2-D array of integers (nested lists are taken too), 1 to 30 a side, colours 0 to 9.
Every function is pure: it does not change its arguments and returns fresh arrays. It gives a legal
grid or raises ValueError. The grid, object or list of them is the first argument; the background is
0 unless another one is named. "_h" means along the rows, left to right; "_v" along the columns, top
to bottom. Directions are UP, DOWN, LEFT, RIGHT and UP_LEFT ... DOWN_RIGHT.

It is written in plain numpy and imports nothing else, so that the sandbox can load it by itself as
`dsl`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from .base import (
    Colour, Direction, Field, Grid, Mask, Object, UP, DOWN, LEFT, RIGHT, UP_LEFT, UP_RIGHT,
    DOWN_LEFT, DOWN_RIGHT, SIDES, CORNERS,
)
from .geometry import (
    height, width, rot90, rot180, rot270, flip_h, flip_v, transpose, anti_transpose, crop, fit,
    pad, peel, trim, squeeze, scale_up, scale_h, scale_v, scale_down, tile, shift, roll, half,
    split_h, split_v, split_lines, scale_self, tile_self, trim_common, drop_empty_lines,
    drop_uniform_lines, unscale, corner, make_room,
)
from .symmetry import (
    is_mirror_h, is_mirror_v, mirror, mirror_four, pinwheel, symmetrize_h, symmetrize_v,
    symmetrize_d, symmetrize_turns, repair_symmetry, period_h, period_v, unit, continue_pattern,
    repair_tiling, pinwheel_back, symmetrize_both, symmetrize_half_turn, symmetrize_a,
    repair_mirrors, mirror_shared, symmetrize_around, patch, go_on,
)
from .colour import (
    palette, background, most_common, least_common, recolour, swap, map_colours, keep, dye,
    invert, rank_colours, mask_of, paint_mask, drop, keep_most_common, keep_least_common,
    keep_solid, unify,
)
from .renaming import to_ranks, from_ranks
from .counting import (
    count, num_cells, num_colours, num_objects, row_counts, col_counts, full_rows, full_cols,
    bar, stairs, counter, histogram, most_common_grid, odd_grid, fullest, emptiest,
    colour_column, colour_row, most_common_cell, most_common_colour_cell, least_common_cell,
    count_bar, count_stairs, scale_by_colours, tile_by_colours, scale_by_cells, tile_by_cells,
    sort_rows, sort_cols,
)
from .drawing import (
    canvas, checker, dot, row_line, col_line, line, ray, cross, diagonals, rect, frame, border,
    stamp, flood, fill_enclosed, outline, grow, shrink, fall, enclosed, outside, fill_own,
    fill_boxes, rim, interior, largest_rectangle, stripes_h, stripes_v, checkerboard,
)
from .lines import (
    extend, extend_many, continue_lines, connect, connect_h, connect_v, connect_diagonal,
    row_lines, col_lines, cross_lines, fill_rows, fill_cols, empty_lines, empty_squares, look,
    join_to, print_on, corner_rays, grow_corners, step_checks, middles, centre_lines, elbow,
)
from .object import (
    objects, shapes, layers, largest, smallest, farthest, sort_size, sort_along, with_colour,
    odd_object, common_object, same_shape, is_rectangle, is_square, is_line, num_holes,
    touches_edge, recolour_object, box, paint, paint_all, erase, cut, on_empty, on_empty_all,
    touching, centres, fill_layers,
)
from .panel import (
    boxes, insides, panels, strips_h, strips_v, squares, halves_h, halves_v, quarters, all_rows,
    all_cols, layer_boxes, blocks,
)
from .choice import (
    area, box_area, fullness, top, left, long_side, main_colour, minor_area, colours_in, parts_in,
    num_mirrors, same_grid, same_colour, same_size, most, least, most_alike, least_alike, first,
    second, third, last, with_most, with_least, without_most, without_least, with_twins,
    without_twins, distinct, at_edge, off_edge, sort_by, each, fill_each, number_each, rank_each,
)
from .layout import (
    compose, stack, nest, share, all_of, any_of, one_of, none_of, only_in_first, unlike,
    majority, lay_row, lay_col, compress, mark_most, tally, dots_h, dots_v, dots_d, object_bars,
    paint_by, stencil, product,
)
from .motion import (
    move, place, slide, slide_objects, gather_to, gather_own, shoot, trail, stamp_at,
    repeat_objects, move_colour, complete_copies,
)
from .field import (
    areas, ranks_from_large, ranks_from_small, where_largest, where_smallest, hole_counts,
    shape_counts, twin_counts, heights, widths, where_at_edge, where_full, where_square,
    where_mirror_h, where_mirror_v, orientations, row_order, col_order, colour_counts,
    main_colours, minor_colours, inner_colours, where_holding, near_colours, rows_inside,
    cols_inside, checks_inside, depths, side_counts, near_counts, distances, gap_areas,
    gap_ranks, where_enclosed, numbers, hole_kinds, hole_parities, corner_marks, lattice_inside,
    row_halves, col_halves, colours_ahead, middle_lines, outline_corners, rings_inside,
)
from .composition import (
    overlay, both, either, only_one, only_first, neither, difference, map_pairs, join_h, join_v,
    mosaic, fractal, repeat, until_stable, map_objects, halves_both, halves_either,
    halves_only_one, halves_neither, halves_only_first, halves_overlay,
)

__all__ = [
    # base
    "Colour", "Direction", "Field", "Grid", "Mask", "Object", "UP", "DOWN", "LEFT", "RIGHT",
    "UP_LEFT", "UP_RIGHT", "DOWN_LEFT", "DOWN_RIGHT", "SIDES", "CORNERS",
    # geometry
    "height", "width", "rot90", "rot180", "rot270", "flip_h", "flip_v", "transpose",
    "anti_transpose", "crop", "fit", "pad", "peel", "trim", "squeeze", "scale_up", "scale_h",
    "scale_v", "scale_down", "tile", "shift", "roll", "half", "split_h", "split_v",
    "split_lines", "scale_self", "tile_self", "trim_common", "drop_empty_lines",
    "drop_uniform_lines", "unscale", "corner", "make_room",
    # symmetry
    "is_mirror_h", "is_mirror_v", "mirror", "mirror_four", "pinwheel", "symmetrize_h",
    "symmetrize_v", "symmetrize_d", "symmetrize_turns", "repair_symmetry", "period_h",
    "period_v", "unit", "continue_pattern", "repair_tiling", "pinwheel_back", "symmetrize_both",
    "symmetrize_half_turn", "symmetrize_a", "repair_mirrors", "mirror_shared",
    "symmetrize_around", "patch", "go_on",
    # colour
    "palette", "background", "most_common", "least_common", "recolour", "swap", "map_colours",
    "keep", "dye", "invert", "rank_colours", "mask_of", "paint_mask", "drop",
    "keep_most_common", "keep_least_common", "keep_solid", "unify",
    # renaming
    "to_ranks", "from_ranks",
    # counting
    "count", "num_cells", "num_colours", "num_objects", "row_counts", "col_counts", "full_rows",
    "full_cols", "bar", "stairs", "counter", "histogram", "most_common_grid", "odd_grid",
    "fullest", "emptiest", "colour_column", "colour_row", "most_common_cell",
    "most_common_colour_cell", "least_common_cell", "count_bar", "count_stairs",
    "scale_by_colours", "tile_by_colours", "scale_by_cells", "tile_by_cells", "sort_rows",
    "sort_cols",
    # drawing
    "canvas", "checker", "dot", "row_line", "col_line", "line", "ray", "cross", "diagonals", "rect",
    "frame", "border", "stamp", "flood", "fill_enclosed", "outline", "grow", "shrink", "fall",
    "enclosed", "outside", "fill_own", "fill_boxes", "rim", "interior", "largest_rectangle",
    "stripes_h", "stripes_v", "checkerboard",
    # lines
    "extend", "extend_many", "continue_lines", "connect", "connect_h", "connect_v",
    "connect_diagonal", "row_lines", "col_lines", "cross_lines", "fill_rows", "fill_cols",
    "empty_lines", "empty_squares", "look", "join_to", "print_on", "corner_rays",
    "grow_corners", "step_checks", "middles", "centre_lines", "elbow",
    # object
    "objects", "shapes", "layers", "largest", "smallest", "farthest", "sort_size", "sort_along",
    "with_colour", "odd_object", "common_object", "same_shape", "is_rectangle", "is_square",
    "is_line", "num_holes", "touches_edge", "recolour_object", "box", "paint", "paint_all",
    "erase", "cut", "on_empty", "on_empty_all", "touching", "centres", "fill_layers",
    # panel
    "boxes", "insides", "panels", "strips_h", "strips_v", "squares", "halves_h", "halves_v",
    "quarters", "all_rows", "all_cols", "layer_boxes", "blocks",
    # choice
    "area", "box_area", "fullness", "top", "left", "long_side", "main_colour", "minor_area",
    "colours_in", "parts_in", "num_mirrors", "same_grid", "same_colour", "same_size", "most",
    "least", "most_alike", "least_alike", "first", "second", "third", "last", "with_most",
    "with_least", "without_most", "without_least", "with_twins", "without_twins", "distinct",
    "at_edge", "off_edge", "sort_by", "each", "fill_each", "number_each", "rank_each",
    # layout
    "compose", "stack", "nest", "share", "all_of", "any_of", "one_of", "none_of",
    "only_in_first", "unlike", "majority", "lay_row", "lay_col", "compress", "mark_most",
    "tally", "dots_h", "dots_v", "dots_d", "object_bars", "paint_by", "stencil", "product",
    # motion
    "move", "place", "slide", "slide_objects", "gather_to", "gather_own", "shoot", "trail",
    "stamp_at", "repeat_objects", "move_colour", "complete_copies",
    # field
    "areas", "ranks_from_large", "ranks_from_small", "where_largest", "where_smallest",
    "hole_counts", "shape_counts", "twin_counts", "heights", "widths", "where_at_edge",
    "where_full", "where_square", "where_mirror_h", "where_mirror_v", "orientations",
    "row_order", "col_order", "colour_counts", "main_colours", "minor_colours", "inner_colours",
    "where_holding", "near_colours", "rows_inside", "cols_inside", "checks_inside", "depths",
    "side_counts", "near_counts", "distances", "gap_areas", "gap_ranks", "where_enclosed",
    "numbers", "hole_kinds", "hole_parities", "corner_marks", "lattice_inside", "row_halves",
    "col_halves", "colours_ahead", "middle_lines", "outline_corners", "rings_inside",
    # composition
    "overlay", "both", "either", "only_one", "only_first", "neither", "difference", "map_pairs",
    "join_h", "join_v", "mosaic", "fractal", "repeat", "until_stable", "map_objects", "halves_both",
    "halves_either", "halves_only_one", "halves_neither", "halves_only_first", "halves_overlay",
]


# Not a constant: hashing the sources at import would slow every start of the sandbox.
@cache
def _version() -> str:
    sha = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return sha.hexdigest()[:16]


def __getattr__(name: str) -> str:
    """DSL_VERSION: a hash over the sources, read when it is first asked for."""
    if name == "DSL_VERSION":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
