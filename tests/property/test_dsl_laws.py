"""Laws that tie the functions of the DSL to each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.program import dsl
from appliance.program.dsl.base import components, label
from tests.support.dsl_strategies import colours, grids

some = settings(max_examples=30, deadline=None)
sides = st.sampled_from(dsl.SIDES)
any_direction = st.sampled_from(dsl.SIDES + dsl.CORNERS)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b))


@some
@given(grids())
def test_turns_and_mirrors_form_the_dihedral_group(grid: np.ndarray) -> None:
    assert same(dsl.rot90(dsl.rot270(grid)), grid)
    assert same(dsl.rot90(dsl.rot90(grid)), dsl.rot180(grid))
    assert same(dsl.flip_v(dsl.flip_h(grid)), dsl.rot180(grid))
    assert same(dsl.flip_h(dsl.transpose(grid)), dsl.rot90(grid))
    assert same(dsl.anti_transpose(grid), dsl.transpose(dsl.rot180(grid)))


@some
@given(grids())
def test_object_masks_partition_the_cells_besides_the_background(grid: np.ndarray) -> None:
    for find in (dsl.objects, dsl.shapes, lambda g: dsl.objects(g, diagonal=False), dsl.layers):
        hits = np.zeros(grid.shape, dtype=int)
        for obj in find(grid):
            np.add.at(hits, obj.cells(), 1)
            if find is not dsl.layers:  # the cells of a layer need not touch
                assert obj.mask.any(axis=0).all()
            assert (
                obj.mask[0].any()
                and obj.mask[-1].any()
                and obj.mask[:, 0].any()
                and obj.mask[:, -1].any()
            )
        assert same(hits, (grid != 0).astype(int))


@some
@given(grids())
def test_painting_all_objects_on_an_empty_grid_gives_the_grid_back(grid: np.ndarray) -> None:
    empty = dsl.canvas(*grid.shape)
    assert same(dsl.paint_all(empty, dsl.objects(grid)), grid)
    assert same(dsl.map_objects(grid, lambda obj: obj), grid)
    for obj in dsl.shapes(grid):
        assert same(dsl.paint(dsl.erase(grid, obj), obj), grid)


@some
@given(grids(), st.integers(1, 3))
def test_scaling_up_is_undone_by_scaling_down_and_by_squeezing(
    grid: np.ndarray, factor: int
) -> None:
    assert same(dsl.scale_down(dsl.scale_up(grid, factor), factor), grid)
    assert same(dsl.squeeze(dsl.scale_up(grid, factor)), dsl.squeeze(grid))


@some
@given(grids(), st.integers(0, 3), colours)
def test_padding_is_undone_by_peeling(grid: np.ndarray, num: int, fill: int) -> None:
    assert same(dsl.peel(dsl.pad(grid, num, fill), num), grid)


@some
@given(grids(max_side=5), st.integers(1, 3), st.integers(1, 3))
def test_a_tiling_is_continued_and_repaired_to_itself(
    grid: np.ndarray, rows: int, cols: int
) -> None:
    tiled = dsl.tile(grid, rows, cols)
    assert same(dsl.continue_pattern(tiled, *tiled.shape), tiled)
    assert dsl.unit(tiled).size <= grid.size
    broken = dsl.tile(grid, rows + 1, cols + 1)
    broken[0, 0] = 9
    assert not (dsl.repair_tiling(broken, 9) == 9).any()


@some
@given(grids(), sides, st.integers(0, 9))
def test_rolling_one_way_and_back_changes_nothing(
    grid: np.ndarray, direction: tuple[int, int], num: int
) -> None:
    back = (-direction[0], -direction[1])
    assert same(dsl.roll(dsl.roll(grid, direction, num), back, num), grid)


@some
@given(grids(), sides)
def test_a_fall_keeps_every_line_and_leaves_no_cell_hanging(
    grid: np.ndarray, direction: tuple[int, int]
) -> None:
    fallen = dsl.fall(grid, direction)
    axis = 0 if direction in (dsl.UP, dsl.DOWN) else 1
    assert same(np.sort(fallen, axis=axis), np.sort(grid, axis=axis))
    assert same(dsl.fall(fallen, direction), fallen)
    beyond = dsl.shift(fallen, (-direction[0], -direction[1]), 1, 9)
    assert not ((fallen != 0) & (beyond == 0)).any()


@some
@given(grids(square=True))
def test_made_symmetry_is_found(grid: np.ndarray) -> None:
    assert dsl.is_mirror_h(dsl.mirror(grid, dsl.RIGHT))
    assert dsl.is_mirror_v(dsl.mirror(grid, dsl.UP))
    wheel = dsl.pinwheel(grid)
    assert same(dsl.rot90(wheel), wheel)
    filled = dsl.symmetrize_turns(grid)
    assert same(filled != 0, dsl.rot90(filled) != 0)


@some
@given(grids(), st.integers(0, 7), st.integers(0, 7))
def test_one_hole_in_a_kaleidoscope_is_repaired(grid: np.ndarray, row: int, col: int) -> None:
    whole = dsl.mirror_four(grid)
    broken = dsl.dot(whole, row % whole.shape[0], col % whole.shape[1], 9)
    assert same(dsl.repair_symmetry(broken, 9), whole)


@some
@given(grids(), colours, colours)
def test_counts_add_up_and_swaps_undo_themselves(grid: np.ndarray, first: int, second: int) -> None:
    assert (
        sum(dsl.count(grid, c) for c in dsl.palette(grid))
        == dsl.num_cells(grid)
        == sum(dsl.row_counts(grid))
    )
    assert same(dsl.swap(dsl.swap(grid, first, second), first, second), grid)
    assert dsl.count(dsl.recolour(grid, first, second), second) == (grid == second).sum() + (
        (grid == first).sum() if first != second else 0
    )


@some
@given(grids(), grids())
def test_cellwise_logic_agrees_with_sets(grid: np.ndarray, other: np.ndarray) -> None:
    other = dsl.fit(other, *grid.shape)
    either, both = dsl.either(grid, other, 1), dsl.both(grid, other, 1)
    assert same(dsl.only_one(grid, other, 1), either - both)
    assert same(dsl.neither(grid, other, 1), 1 - either)
    assert same(
        dsl.either(dsl.only_first(grid, other, 1), dsl.only_first(other, grid, 1), 1), either - both
    )
    assert same(dsl.overlay(grid, other) != 0, either == 1)


@some
@given(grids())
def test_enclosed_cells_are_those_a_flood_from_outside_does_not_reach(grid: np.ndarray) -> None:
    outside = dsl.peel(dsl.flood(dsl.pad(grid, 1, 0), 0, 0, 9))
    reached = (outside == 9) & (grid == 0)
    assert same(dsl.fill_enclosed(grid, 8) == 8, (grid == 0) & ~reached)


@some
@given(grids(), sides)
def test_a_slid_object_is_stopped_by_something(
    grid: np.ndarray, direction: tuple[int, int]
) -> None:
    for obj in dsl.shapes(grid):
        rest = dsl.erase(grid, obj)
        once = dsl.slide(grid, obj, direction)
        moved = dsl.paint(rest, once)
        assert dsl.num_cells(moved) == dsl.num_cells(grid)
        again = dsl.slide(moved, once, direction)
        assert (again.row, again.col) == (once.row, once.col)


@some
@given(grids())
def test_split_parts_join_to_the_whole(grid: np.ndarray) -> None:
    assert same(dsl.join_h(dsl.split_h(grid, grid.shape[1])), grid)
    assert same(dsl.join_v(dsl.split_v(grid, grid.shape[0])), grid)
    cells = [grid[r : r + 1, c : c + 1] for r in range(grid.shape[0]) for c in range(grid.shape[1])]
    assert same(dsl.mosaic(cells, grid.shape[1]), grid)


@some
@given(grids())
def test_split_lines_finds_the_parts_of_a_lattice(grid: np.ndarray) -> None:
    parts = [grid, dsl.flip_h(grid), dsl.flip_v(grid), dsl.rot180(grid)]
    bar_v, bar_h = dsl.canvas(grid.shape[0], 1, 5), dsl.canvas(1, 2 * grid.shape[1] + 1, 5)
    top, bottom = dsl.join_h([parts[0], bar_v, parts[1]]), dsl.join_h([parts[2], bar_v, parts[3]])
    found = dsl.split_lines(dsl.join_v([top, bar_h, bottom]), 5)
    assert len(found) == 4 and all(same(a, b) for a, b in zip(found, parts, strict=True))


@some
@given(grids(), sides)
def test_a_half_is_the_part_that_its_mirror_image_covers(
    grid: np.ndarray, direction: tuple[int, int]
) -> None:
    doubled = dsl.mirror(grid, direction)
    near = dsl.half(doubled, (-direction[0], -direction[1]))
    assert same(near, grid)


def walk(grid: np.ndarray, row: int, col: int, direction: tuple[int, int]) -> list[int]:
    """The cells after a place, up to the edge."""
    seen = []
    row, col = row + direction[0], col + direction[1]
    while 0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]:
        seen.append(int(grid[row, col]))
        row, col = row + direction[0], col + direction[1]
    return seen


@some
@given(grids(), st.booleans())
def test_components_are_what_a_walk_over_neighbours_finds(grid: np.ndarray, diagonal: bool) -> None:
    labels = grid - 1  # 0 is in no set
    numbers, count = label(labels, diagonal=diagonal)
    sets = components(labels, diagonal=diagonal)
    steps = dsl.SIDES + dsl.CORNERS if diagonal else dsl.SIDES

    assert count == len(sets) and not numbers.flags.writeable
    assert same(numbers == 0, labels < 0)
    for number, (rows, cols) in enumerate(sets, 1):
        places = set(zip(rows.tolist(), cols.tolist(), strict=True))
        assert same(numbers == number, np.isin(numbers, numbers[rows, cols]))
        assert len(set(labels[rows, cols].tolist())) == 1

        reached = {min(places)}
        while True:
            more = {(r + down, c + across) for r, c in reached for down, across in steps} & places
            if more <= reached:
                break
            reached |= more
        assert reached == places

    firsts = [min(zip(rows.tolist(), cols.tolist(), strict=True)) for rows, cols in sets]
    assert firsts == sorted(firsts)

    # No two sets of one label touch: a margin of -1 comes round at the edges.
    wide, names = np.pad(labels, 1, constant_values=-1), np.pad(numbers, 1)
    for step in steps:
        touching = (np.roll(wide, step, axis=(0, 1)) == wide) & (wide >= 0)
        assert same(np.roll(names, step, axis=(0, 1))[touching], names[touching])


@some
@given(grids(), any_direction)
def test_a_trail_and_a_look_follow_the_line_to_the_next_cell(
    grid: np.ndarray, direction: tuple[int, int]
) -> None:
    back = (-direction[0], -direction[1])
    extended, seen = dsl.extend(grid, direction), dsl.look(grid, direction)
    for (row, col), cell in np.ndenumerate(grid):
        behind = next((c for c in walk(grid, row, col, back) if c), 0)
        assert extended[row, col] == (cell or behind)
        assert seen[row, col] == next((c for c in walk(grid, row, col, direction) if c), 0)

    assert same(dsl.extend_many(grid, [direction]), extended)


@some
@given(grids())
def test_cells_are_joined_where_both_ways_show_one_colour(grid: np.ndarray) -> None:
    def joined(first: tuple[int, int]) -> np.ndarray:
        one, other = dsl.look(grid, first), dsl.look(grid, (-first[0], -first[1]))
        return np.where((grid == 0) & (one == other), one, grid)

    level, upright = joined(dsl.LEFT), joined(dsl.UP)
    assert same(dsl.connect_h(grid), level)
    assert same(dsl.connect_v(grid), upright)
    assert same(dsl.connect(grid), dsl.overlay(level, upright))
    slanted = dsl.overlay(joined(dsl.UP_LEFT), joined(dsl.UP_RIGHT))
    assert same(dsl.connect_diagonal(grid), slanted)


@some
@given(grids(), st.booleans())
def test_every_cell_is_solid_or_enclosed_or_outside(grid: np.ndarray, diagonal: bool) -> None:
    inner = dsl.enclosed(grid, diagonal=diagonal)
    assert same((grid != 0) + inner + dsl.outside(grid, diagonal=diagonal), np.ones_like(grid))
    assert same(dsl.fill_enclosed(grid, 8, 0, diagonal) == 8, inner == 1)

    own = dsl.fill_own(grid)
    assert same(own * (grid != 0), grid)
    assert not own[(grid == 0) & (dsl.enclosed(grid) == 0)].any()


@some
@given(grids(max_side=6, num_colours=2))
def test_the_largest_empty_rectangles_are_those_that_trying_all_finds(grid: np.ndarray) -> None:
    height, width = grid.shape
    boxes = [
        (slice(top, bottom), slice(left, right))
        for top in range(height)
        for bottom in range(top + 1, height + 1)
        for left in range(width)
        for right in range(left + 1, width + 1)
        if not grid[top:bottom, left:right].any()
    ]
    best = max((grid[box].size for box in boxes), default=0)
    wanted = np.zeros_like(grid)
    for box in boxes:
        if grid[box].size == best >= 4:
            wanted[box] = 1

    assert same(dsl.largest_rectangle(grid), wanted)


@some
@given(grids())
def test_growing_outlining_and_the_rim_agree_about_neighbours(grid: np.ndarray) -> None:
    assert same(dsl.grow(grid, diagonal=True) != 0, dsl.outline(grid, 9) != 0)

    # The rim leaves out the cells whose neighbours are all there.
    padded = dsl.pad(grid)
    near_empty = dsl.grow(np.where(padded == 0, 1, 0), diagonal=True)
    assert same(dsl.rim(grid), grid * dsl.peel(near_empty))
    assert same(dsl.interior(dsl.pad(grid, 1, 3)), dsl.pad(grid, 1, 0))


@some
@given(grids(max_side=5), grids(max_side=5), st.booleans())
def test_halves_are_compared_like_two_grids(
    grid: np.ndarray, other: np.ndarray, has_line: bool
) -> None:
    other = dsl.fit(other, *grid.shape)
    line = [dsl.canvas(grid.shape[0], 1, 5)] if has_line else []
    whole = dsl.join_h([grid, *line, other])

    assert same(dsl.halves_both(whole), dsl.both(grid, other, 1))
    assert same(dsl.halves_either(whole), dsl.either(grid, other, 1))
    assert same(dsl.halves_only_one(whole), dsl.only_one(grid, other, 1))
    assert same(dsl.halves_neither(whole), dsl.neither(grid, other, 1))
    assert same(dsl.halves_only_first(whole, dsl.RIGHT), dsl.only_first(other, grid, 1))
    assert same(dsl.halves_overlay(whole, dsl.RIGHT), dsl.overlay(grid, other))
    turned = dsl.transpose(whole)
    assert same(dsl.halves_overlay(turned, dsl.UP).T, dsl.overlay(other, grid))


@some
@given(grids(max_side=6), st.integers(0, 8), st.integers(0, 11))
def test_a_hole_is_repaired_by_a_mirror_that_is_not_in_the_middle(
    grid: np.ndarray, row: int, col: int
) -> None:
    # Twelve columns, all different, and their image without the last: the axis is off the middle.
    part = np.vstack([1 + np.arange(12) % 7, dsl.fit(grid, 8, 12, 1)])
    part[:, 0] = range(9)  # no two rows are equal
    whole = np.hstack([part, part[:, ::-1]])[:, :-1]
    broken = dsl.dot(whole, row, col + 1, 9)  # the first column has no image
    assert same(dsl.repair_mirrors(broken, 9), whole)


@some
@given(grids(max_side=5))
def test_counts_of_the_grid_shape_a_new_grid(grid: np.ndarray) -> None:
    assert same(dsl.scale_down(dsl.scale_self(grid), 1)[:: grid.shape[0], :: grid.shape[1]], grid)
    assert same(dsl.tile_self(grid)[: grid.shape[0], : grid.shape[1]], grid)
    assert dsl.row_counts(dsl.sort_rows(grid)) == sorted(dsl.row_counts(grid))
    assert dsl.col_counts(dsl.sort_cols(grid)) == sorted(dsl.col_counts(grid))
    assert dsl.num_cells(dsl.drop_empty_lines(grid)) == dsl.num_cells(grid)

    if grid.any():
        ranked = dsl.colour_row(grid)[0].tolist()
        assert ranked[0] == dsl.most_common_colour_cell(grid)[0, 0] == dsl.most_common(grid)
        assert sorted(ranked) == dsl.palette(grid)
        assert dsl.count_bar(grid).size == dsl.num_objects(grid) == len(dsl.count_stairs(grid))
        assert dsl.scale_by_colours(grid).shape == tuple(n * len(ranked) for n in grid.shape)


def test_lines_go_on_until_they_meet_something() -> None:
    before = [[0, 0, 0, 0, 0], [1, 1, 0, 0, 3], [0, 0, 2, 0, 0], [0, 0, 0, 2, 0], [4, 0, 0, 0, 0]]
    after = [[0, 0, 0, 0, 0], [1, 1, 1, 1, 3], [0, 0, 2, 0, 0], [0, 0, 0, 2, 0], [4, 0, 0, 0, 2]]
    assert dsl.continue_lines(before).tolist() == after  # type: ignore[arg-type]


@some
@given(grids(max_side=5), st.integers(2, 3))
def test_what_was_scaled_up_is_scaled_back(grid: np.ndarray, factor: int) -> None:
    part = np.vstack([1 + np.arange(6) % 2, dsl.fit(grid, 4, 6, 1)])  # a prime number of rows
    assert same(dsl.unscale(dsl.scale_up(part, factor)), part)


@some
@given(grids(max_side=6), sides)
def test_mirror_images_share_a_line_and_are_found_around_it(
    grid: np.ndarray, side: dsl.Direction
) -> None:
    once = dsl.mirror_shared(grid, side)
    assert once.size == 2 * grid.size - grid.shape[0 if side[1] else 1]

    others = np.where(grid > 0, grid + 1, 0)
    whole = dsl.mirror_shared(dsl.mirror_shared(others, dsl.RIGHT), dsl.DOWN)
    middle = grid.shape[0] - 1, grid.shape[1] - 1  # in colour 1, the first one
    part = dsl.dot(dsl.fit(others, *whole.shape), *middle, 1)
    assert same(dsl.symmetrize_around(part), dsl.dot(whole, *middle, 1))
