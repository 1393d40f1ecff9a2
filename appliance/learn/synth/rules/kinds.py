"""All kinds of rules that are not about chosen things, with their weights."""

from __future__ import annotations

from collections.abc import Callable

from appliance.learn.synth.family import Rng
from appliance.learn.synth.rules.cell_rules import (
    fall,
    fill_enclosed,
    gravitate,
    neighbours,
    rooms,
    swap_colours,
    uncover,
)
from appliance.learn.synth.rules.count_rules import bars, count_colours, join_things, legend, nested
from appliance.learn.synth.rules.grid_rules import (
    complete_symmetry,
    continue_pattern,
    cut_by_marks,
    mirror_half,
    odd_shape_key,
    repair,
    scaled,
    tile_by_mask,
    tiling,
)
from appliance.learn.synth.rules.key_rules import (
    bounce,
    column_keys,
    containers,
    grow,
    pointers,
    two_tone,
)
from appliance.learn.synth.rules.line_rules import (
    around_dot,
    bands,
    connect,
    lines_on_rows,
    path,
    rays_by_colour,
    stamps,
)
from appliance.learn.synth.rules.panel_rules import halves, layers, panel_summary, panels
from appliance.learn.synth.rules.rule import Rule

KINDS: tuple[tuple[Callable[[Rng], Rule], float], ...] = (
    (halves, 3), (layers, 1), (panels, 3.5), (panel_summary, 1.5), (tiling, 2), (tile_by_mask, 1.5),
    (repair, 3), (complete_symmetry, 1.5), (mirror_half, 1.5), (continue_pattern, 2), (scaled, 2),
    (cut_by_marks, 2), (odd_shape_key, 0.3), (connect, 2), (rays_by_colour, 3), (fall, 1.5),
    (gravitate, 1.5), (stamps, 2.5), (neighbours, 2), (rooms, 1.5), (bars, 1.5),
    (count_colours, 1.5), (nested, 1.5), (legend, 1.5), (path, 1.5), (fill_enclosed, 1.5),
    (around_dot, 1.5), (lines_on_rows, 2), (swap_colours, 1), (uncover, 1.5), (join_things, 1),
    (bands, 0.7), (containers, 2.5), (column_keys, 2), (pointers, 2), (two_tone, 1.5), (grow, 1),
    (bounce, 1),
)  # fmt: skip
"""What draws a rule, and its weight."""
