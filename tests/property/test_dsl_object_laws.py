"""Laws of the functions of the DSL about objects: panels, fields, choices, layouts, motion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.program import dsl
from tests.support.dsl_strategies import grids

some = settings(max_examples=30, deadline=None)
sides = st.sampled_from(dsl.SIDES)
all_sides = st.sampled_from(dsl.SIDES + dsl.CORNERS)
keys = st.sampled_from([dsl.area, dsl.box_area, dsl.fullness, dsl.num_holes, dsl.main_colour])


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b))


def cells(text: str) -> np.ndarray:
    return np.array([[int(cell) for cell in row] for row in text.split("/")])


def coloured(grid: np.ndarray) -> np.ndarray:
    assume(grid.any())
    return grid


# Objects and their cache


@some
@given(grids())
def test_objects_are_the_same_when_asked_again_and_cannot_be_spoilt(grid: np.ndarray) -> None:
    before = [obj.grid.copy() for obj in dsl.objects(grid)]
    dsl.objects(grid).clear()
    again = dsl.objects(grid)
    assert len(before) == len(again)
    assert all(same(a, obj.grid) for a, obj in zip(before, again, strict=True))
    for obj in again:
        with pytest.raises(ValueError):
            obj.grid[0, 0] = 9
        dsl.cut(obj)[0, 0] = 9  # a grid of its own


@some
@given(grids())
def test_objects_put_back_on_an_empty_grid_are_the_grid(grid: np.ndarray) -> None:
    assert same(dsl.on_empty_all(dsl.objects(grid), grid), grid)
    assert same(dsl.on_empty(dsl.compose(dsl.objects(coloured(grid))), grid), grid)


# Panels


@some
@given(grids(), st.sampled_from(["h", "v", "square", "quarter", "rows", "cols"]))
def test_parts_put_back_at_their_places_are_the_grid(grid: np.ndarray, cut: str) -> None:
    grid = np.tile(grid, (2, 2))
    parts = {
        "h": lambda: dsl.strips_h(grid, 2),
        "v": lambda: dsl.strips_v(grid, 2),
        "square": lambda: dsl.squares(np.tile(grid[:4, :1], (1, len(grid[:4]) * 2))),
        "quarter": lambda: dsl.quarters(grid),
        "rows": lambda: dsl.all_rows(grid),
        "cols": lambda: dsl.all_cols(grid),
    }[cut]()

    whole = np.tile(grid[:4, :1], (1, len(grid[:4]) * 2)) if cut == "square" else grid
    assert same(dsl.on_empty_all(parts, whole), whole)
    assert sum(part.grid.size for part in parts) == whole.size


@some
@given(st.permutations(range(6)), st.integers(1, 3), st.integers(2, 3))
def test_panels_are_what_lies_between_lines(content: list[int], rows: int, cols: int) -> None:
    grid = np.array(content).reshape(2, 3)  # no row or column of one colour
    framed = np.pad(grid, ((0, 1), (0, 1)), constant_values=7)
    found = dsl.panels(np.tile(framed, (rows, cols))[:-1, :-1])

    assert len(found) == rows * cols
    assert all(same(part.grid, grid) for part in found)


def test_boxes_and_insides_hold_what_the_grid_has_there() -> None:
    grid = cells("11110/10210/11110/00033")
    assert [part.grid.tolist() for part in dsl.insides(grid)] == [[[0, 2]]]
    assert same(dsl.boxes(grid)[0].grid, grid[:3, :4])
    with pytest.raises(ValueError):
        dsl.insides(cells("111/100/111"))
    with pytest.raises(ValueError):
        dsl.panels(cells("123/321/213"))


# Fields

BY_OBJECT: dict[Callable[..., np.ndarray], Callable[[dsl.Object, np.ndarray], Any]] = {
    dsl.areas: lambda obj, grid: obj.size,
    dsl.heights: lambda obj, grid: obj.height,
    dsl.widths: lambda obj, grid: obj.width,
    dsl.hole_counts: lambda obj, grid: 1 + dsl.num_holes(obj),
    dsl.where_at_edge: lambda obj, grid: 1 + dsl.touches_edge(grid, obj),
    dsl.where_full: lambda obj, grid: 1 + dsl.is_rectangle(obj),
    dsl.where_square: lambda obj, grid: 1 + (obj.height == obj.width),
    dsl.where_mirror_h: lambda obj, grid: 1 + same(obj.grid, dsl.flip_h(obj.grid)),
    dsl.where_mirror_v: lambda obj, grid: 1 + same(obj.grid, dsl.flip_v(obj.grid)),
    dsl.main_colours: lambda obj, grid: obj.colour,
    dsl.colour_counts: lambda obj, grid: len(set(obj.grid[obj.mask].tolist())),
}


@pytest.mark.parametrize("field", BY_OBJECT, ids=lambda f: f.__name__)
@some
@given(grid=grids(), diagonal=st.booleans(), mixed=st.booleans())
def test_a_field_has_the_measure_of_its_object_at_each_cell(
    field: Callable[..., np.ndarray], grid: np.ndarray, diagonal: bool, mixed: bool
) -> None:
    found = (dsl.shapes if mixed else dsl.objects)(coloured(grid), diagonal)
    expected = np.zeros(grid.shape, dtype=int)
    for obj in found:
        expected[obj.cells()] = BY_OBJECT[field](obj, grid)
    assert same(field(grid, diagonal, mixed), expected)


@some
@given(grids())
def test_ranks_agree_with_areas(grid: np.ndarray) -> None:
    areas = dsl.areas(coloured(grid))
    sizes = sorted(set(areas[areas > 0].tolist()))
    small, large = dsl.ranks_from_small(grid), dsl.ranks_from_large(grid)
    for rank, size in enumerate(sizes, start=1):
        assert (small[areas == size] == rank).all()
        assert (large[areas == size] == len(sizes) - rank + 1).all()
    assert same(dsl.where_largest(grid) == 2, large == 1)
    assert same(dsl.where_smallest(grid) == 2, small == 1)


@some
@given(grids())
def test_depths_count_how_often_the_objects_of_the_grid_can_be_shrunk(grid: np.ndarray) -> None:
    one = (coloured(grid) != 0).astype(np.int64)
    depths, left = np.zeros_like(one), np.pad(one, 1)
    while left.any():
        depths += left[1:-1, 1:-1]
        left = np.pad(dsl.shrink(left)[1:-1, 1:-1], 1)
    assert same(dsl.depths(one, diagonal=False), depths)


@some
@given(grids())
def test_distances_count_how_often_the_cells_must_grow(grid: np.ndarray) -> None:
    steps, grown = np.zeros(grid.shape, dtype=int), coloured(grid)
    while (grown == 0).any():
        steps += grown == 0
        grown = dsl.grow(grown)
    assert same(dsl.distances(grid, diagonal=False), steps)


@some
@given(grids())
def test_gaps_are_the_regions_of_0_and_closed_where_they_can_be_filled(grid: np.ndarray) -> None:
    assume((grid == 0).any())
    assert same(dsl.gap_areas(grid) > 0, grid == 0)
    assert same(dsl.where_enclosed(grid) == 2, dsl.fill_enclosed(grid, 9) == 9)


@some
@given(grids())
def test_near_counts_are_those_of_a_grid_turned_too(grid: np.ndarray) -> None:
    for count in (dsl.near_counts, dsl.side_counts, dsl.near_colours, dsl.inner_colours):
        if grid.any():
            assert same(count(dsl.rot90(grid)), np.rot90(count(grid), -1))
    lone = np.where(dsl.near_counts(grid) == 0, grid, 0)
    assert all(obj.size == 1 for obj in dsl.shapes(lone))


# Choices


@some
@given(grids(), keys)
def test_most_and_least_are_at_the_ends_of_the_sorted_list(
    grid: np.ndarray, key: Callable[..., float]
) -> None:
    found = dsl.objects(grid)
    assume(len({key(obj) for obj in found}) > 1)
    up, down = dsl.sort_by(found, key), dsl.sort_by(found, key, True)

    assert dsl.least(found, key) is up[0]
    assert dsl.most(found, key) is down[0]
    assert Counter(map(id, up)) == Counter(map(id, found))
    kept, rest = dsl.with_most(found, key), dsl.without_most(found, key)
    assert Counter(map(id, kept + rest)) == Counter(map(id, found))
    assert dsl.with_least(found, key)[0] is dsl.least(found, key)


@some
@given(grids(), keys)
def test_equal_objects_give_nothing_to_choose(grid: np.ndarray, key: Callable[..., float]) -> None:
    one = dsl.objects(coloured(grid))[0]
    for choose in (dsl.most, dsl.least, dsl.with_most, dsl.without_least, dsl.sort_by):
        with pytest.raises(ValueError):
            choose([one, one], key)


@some
@given(grids(num_colours=3))
def test_twins_and_distinct_objects_follow_from_what_is_the_same(grid: np.ndarray) -> None:
    found = dsl.objects(grid, diagonal=False)
    assume(found)
    kinds = {(obj.grid.shape, obj.grid.tobytes()) for obj in found}
    assert len(dsl.distinct(found, dsl.same_grid)) == len(kinds)

    counts = dsl.twin_counts(grid, diagonal=False)
    assume(len(set(counts[grid > 0].tolist())) > 1)
    twins = dsl.with_twins(found, dsl.same_grid)
    assert same(dsl.on_empty_all(twins, grid) != 0, counts > 1)
    best = dsl.most_alike(found, dsl.same_grid)
    assert counts[best.cells()].max() == counts.max()


@some
@given(grids())
def test_each_does_to_every_object_what_the_function_does(grid: np.ndarray) -> None:
    found = dsl.shapes(coloured(grid))
    turned = dsl.each(found, dsl.rot180)
    assert same(dsl.on_empty_all(dsl.each(turned, dsl.rot180), grid), grid)
    with pytest.raises(ValueError):
        dsl.each(found, lambda cells: cells * 10)


# Layouts


@some
@given(grids(), st.integers(2, 3))
def test_layouts_of_equal_parts_agree_with_functions_of_two_grids(
    grid: np.ndarray, num: int
) -> None:
    parts = dsl.strips_h(np.hstack([grid, np.roll(grid, 1), np.rot90(grid, 2)][:num]), num)
    first, last = parts[0].grid, parts[-1].grid
    assert same(dsl.lay_row(parts), dsl.join_h([part.grid for part in parts]))
    assert same(dsl.lay_col(parts), dsl.join_v([part.grid for part in parts]))
    assert same(dsl.none_of(parts), 1 - dsl.any_of(parts))

    if num == 2:
        assert same(dsl.stack(parts), dsl.overlay(first, last))
        assert same(dsl.stack(parts, first_on_top=True), dsl.overlay(last, first))
        assert same(dsl.all_of(parts), dsl.both(first, last, 1))
        assert same(dsl.any_of(parts), dsl.either(first, last, 1))
        assert same(dsl.one_of(parts), dsl.only_one(first, last, 1))
        assert same(dsl.only_in_first(parts), dsl.only_first(first, last, 1))
        assert same(dsl.unlike(parts), dsl.difference(first, last, 1))
    else:
        assert same(dsl.majority([parts[0], parts[0], parts[1]]), first)


@some
@given(grids())
def test_nested_and_shared_parts_agree_with_a_stack(grid: np.ndarray) -> None:
    parts = dsl.strips_v(np.vstack([grid, np.flipud(grid)]), 2)
    assert same(dsl.nest(parts), dsl.stack(parts))
    assert all(same(part.grid, dsl.stack(parts)) for part in dsl.share(parts))
    assert [(p.row, p.col) for p in dsl.share(parts)] == [(p.row, p.col) for p in parts]
    if grid.any():
        assert same(
            np.diag(dsl.dots_d(dsl.objects(grid)[:30])), dsl.dots_h(dsl.objects(grid)[:30])[0]
        )


@some
@given(grids(max_side=6), st.integers(1, 3))
def test_compressing_a_scaled_grid_gives_it_back(grid: np.ndarray, factor: int) -> None:
    grid = grid + 1  # no 0, so that every row and column is there
    large = dsl.scale_up(grid, factor)
    squares = [
        dsl.Object(r * factor, c * factor, part, part != 0)
        for (r, c), value in np.ndenumerate(grid)
        for part in [np.full((factor, factor), value)]
    ]
    assert same(dsl.on_empty_all(squares, large), large)
    assert same(dsl.compress(squares), grid)


@some
@given(grids())
def test_overviews_have_a_cell_for_each_object(grid: np.ndarray) -> None:
    found = dsl.objects(coloured(grid))
    assume(len(found) <= 30)
    assert dsl.dots_h(found).tolist()[0] == [obj.colour for obj in found]
    assert same(dsl.dots_v(found), dsl.transpose(dsl.dots_h(found)))

    bars = dsl.object_bars(grid)
    assert np.count_nonzero(bars) == len(found)
    assert set(bars[:, 0].tolist()) == set(grid[grid > 0].tolist())


# Motion


@some
@given(grids(), all_sides, st.booleans())
def test_sliding_loses_no_cell(grid: np.ndarray, direction: dsl.Direction, mixed: bool) -> None:
    slid = dsl.slide_objects(coloured(grid), direction, mixed=mixed)
    assert Counter(slid.ravel().tolist()) == Counter(grid.ravel().tolist())


@some
@given(grids(), sides)
def test_a_lone_object_slides_to_the_edge(grid: np.ndarray, direction: dsl.Direction) -> None:
    alone = dsl.on_empty(dsl.largest(dsl.shapes(coloured(grid))), grid)
    slid = dsl.slide_objects(alone, direction, mixed=True)
    obj = dsl.largest(dsl.shapes(alone))
    assert same(slid, dsl.on_empty(dsl.slide(alone, obj, direction), grid))


@some
@given(grids(), st.integers(1, 3))
def test_gathering_leaves_the_cells_of_the_colour_alone_and_loses_none(
    grid: np.ndarray, colour: int
) -> None:
    assume((grid == colour).any())
    gathered = dsl.gather_to(grid, colour)
    assert same(gathered == colour, grid == colour)
    assert Counter(gathered.ravel().tolist()) == Counter(grid.ravel().tolist())


@some
@given(grids(), st.integers(1, 3), all_sides)
def test_a_ray_is_what_extending_the_colour_gives_up_to_the_next_cell(
    grid: np.ndarray, colour: int, direction: dsl.Direction
) -> None:
    assume((grid == colour).any())
    shot = dsl.shoot(grid, colour, [direction])
    assert same(np.where(grid != 0, grid, 0), np.where(grid != 0, shot, 0))
    alone = dsl.keep(grid, colour)
    assert same(dsl.shoot(alone, colour, [direction]), dsl.extend(alone, direction))
    assert ((shot == grid) | (shot == colour)).all()


def test_trails_leave_from_the_small_part() -> None:
    grid = cells("00000/00210/00110/00000")
    assert same(
        dsl.trail(cells("000000/002110/000110/000000")), cells("000000/222110/000110/000000")
    )
    assert dsl.trail(grid)[0].tolist() == [0, 2, 0, 0, 0]  # from a corner: along the diagonal
    assert dsl.trail(grid, away=False)[3].tolist() == [0, 0, 0, 0, 2]


def test_a_shape_is_copied_to_the_marks() -> None:
    out = dsl.stamp_at(cells("0300000/3430040/0300000"), 4)
    assert same(out, cells("0300030/3430343/0300030"))
    with pytest.raises(ValueError):
        dsl.stamp_at(cells("0300000/3430000/0300000"), 4)

    moved = dsl.stamp_at(cells("1200880/2300880/0000000"), 8, keep_first=False)
    assert same(moved, cells("0000120/0000230/0000000"))


def test_what_has_no_larger_object_of_its_colour_may_be_lost() -> None:
    grid = cells("0020005/3330000/0002000/0000000/2222000")
    assert same(dsl.gather_own(grid), cells("0020005/3330000/0000000/0002000/2222000"))
    assert same(dsl.gather_own(grid, False), cells("0020000/3330000/0000000/0002000/2222000"))


@some
@given(grids(max_side=4), sides)
def test_an_object_repeated_without_a_gap_tiles_the_way_to_the_edge(
    grid: np.ndarray, direction: dsl.Direction
) -> None:
    grid = grid + 1
    start = np.zeros((grid.shape[0] * 3, grid.shape[1] * 3), dtype=np.int64)
    start[grid.shape[0] : grid.shape[0] * 2, grid.shape[1] : grid.shape[1] * 2] = grid

    expected = start | np.roll(
        start, (direction[0] * grid.shape[0], direction[1] * grid.shape[1]), axis=(0, 1)
    )
    assert same(dsl.repeat_objects(start, direction), expected)


@some
@given(grids(), all_sides)
def test_a_colour_moved_there_and_back_is_where_it_was(
    grid: np.ndarray, direction: dsl.Direction
) -> None:
    colour = int(coloured(grid).max())
    alone = np.pad(dsl.keep(grid, colour), 1)
    back = (-direction[0], -direction[1])
    assert same(dsl.move_colour(dsl.move_colour(alone, colour, direction), colour, back), alone)
