"""Programs that a search found for ARC-AGI-1 evaluation tasks of which settings were chosen.

Each gives the right answer. They are shown in docs/search.md, a long line wrapped.
"""

from __future__ import annotations

_HEAD = "from dsl import *\n\n\ndef transform(grid):\n"

SOLVED = {
    "1d0a4b61": f"""{_HEAD}\
    return repair_tiling(grid, 0)
""",
    "d282b262": f"""{_HEAD}\
    return slide_objects(grid, RIGHT, mixed=True)
""",
    "140c817e": f"""{_HEAD}\
    original, grid = grid, swap(grid, background(grid), 0)
    table = {{(0, 1): 3, (1, 0): 2}}
    out = map_pairs(cross_lines(grid), distances(grid, True), table)
    return swap(out, background(original), 0)
""",
    "d37a1ef5": f"""{_HEAD}\
    out = connect(connect_h(grid))
    out = paint_mask(out, mask_of(shoot(grid, 2, (LEFT, RIGHT)), 0), 0)
    out = paint_mask(out, mask_of(shoot(grid, 2, (UP, DOWN)), 0), 0)
    return out
""",
    "27f8ce4f": f"""{_HEAD}\
    original, grid = grid, to_ranks(grid, (0,))
    out = tile(grid, 3, 3)
    out = paint_mask(out, mask_of(keep(scale_up(grid, 3), 1), 0), 0)
    return from_ranks(out, original, (0,))
""",
}
"""By the task."""
